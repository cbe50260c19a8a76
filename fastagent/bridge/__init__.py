"""The call's brain, sans-I/O: events and the time go in, commands for both sides come out."""
