"""How a device is driven: the one way for all drivers."""

from __future__ import annotations

from collections.abc import Callable

from client_sim.core.device import Device
from client_sim.core.effects import Effect
from client_sim.core.events import Event


def drive(device: Device, event: Event, now: float, execute: Callable[[Effect], object]) -> None:
    """Let `device` handle `event`, and execute what it asks for, in order: also where it raises, which comes last.

    `execute` may drive the device with other events, and lets what it raises itself end the rest.
    """
    try:
        device.handle(event, now)
    finally:
        for effect in device.take_effects():
            execute(effect)
