"""What both ends of Syncline agree on: identifiers, limits, the wire protocol, updates and replicas.

Nothing here reads a clock, draws randomness or does I/O.
"""
