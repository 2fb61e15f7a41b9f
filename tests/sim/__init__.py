"""The simulated world itself: that it repeats itself, and finds what is planted in it."""
