"""What FastAgent costs beside a relay that only copies bytes: CPU, latency and memory of many calls."""
