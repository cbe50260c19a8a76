"""Agents to read, run and start from: one file each."""
