"""Syncline's device: an offline-first client, its own durable store, and a driver over real sockets."""

from client_sim.live import AsyncDevice, AsyncDocument, Blocked, DeviceKey, LoginRefused, Problem, Roots, State, Status

__all__ = [
    "AsyncDevice", "AsyncDocument", "Blocked", "DeviceKey", "LoginRefused", "Problem", "Roots", "State", "Status",
]  # fmt: skip
