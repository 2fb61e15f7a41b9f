"""Syncline's device: an offline-first client, its own durable store, and a driver over real sockets."""
