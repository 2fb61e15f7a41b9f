"""A fuzzer of updates, state vectors and frames: `python -m tests.fuzz --help`."""
