"""Syncline beside other sync servers: same machine, same cores, same updates, runs in turn."""
