"""Fleets: many real devices in one process, each on a network of its own, with people who come and go."""
