"""Notes in a terminal, on as many devices as you like."""
