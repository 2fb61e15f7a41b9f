"""The device as functions of events and time. Nothing here reads a clock, draws randomness or does I/O."""
