"""What watches the process: figures, metrics, health, logs, traces, stalls."""
