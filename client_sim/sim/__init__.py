"""A deterministic world that tries to break the promises: real hubs and real devices under a virtual clock.

Everything that happens follows from a seed. `plan` draws what people and machines will do, `weather` how the network,
the disks and the processes behave, `world` plays it, `truth` says what must hold.
"""
