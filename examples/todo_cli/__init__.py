"""A to-do list for the command line that needs no network."""
