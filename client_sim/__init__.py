"""Syncline's device: an offline-first client, its own durable store, and a driver over real sockets."""

from client_sim.core.values import Array, Map, Text
from client_sim.live import (
    AsyncDevice,
    AsyncDocument,
    Blocked,
    Device,
    DeviceEnded,
    DeviceKey,
    Document,
    Done,
    EditTooBig,
    Explanation,
    LoginRefused,
    NotOpen,
    Outcome,
    Pending,
    Policy,
    Problem,
    Roots,
    State,
    Status,
    StoreDamaged,
    StoreError,
    StoreLocked,
    StoreRefused,
    explain,
)

__all__ = [
    "Array", "AsyncDevice", "AsyncDocument", "Blocked", "Device", "DeviceEnded", "DeviceKey", "Document", "Done",
    "EditTooBig", "Explanation", "LoginRefused", "Map", "NotOpen", "Outcome", "Pending", "Policy", "Problem", "Roots",
    "State", "Status", "StoreDamaged", "StoreError", "StoreLocked", "StoreRefused", "Text", "explain",
]  # fmt: skip
