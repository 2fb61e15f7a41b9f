"""Real devices over real sockets.

async with AsyncDevice(url, token=token, device="phone", store="phone.db") as phone:
    notes = await phone.open("main")
    notes.edit(lambda roots: roots.text("body").append("Hello"))
    await notes.wait_durable()
    print(notes.values())
"""

from client_sim.core.copy import EditTooBig
from client_sim.core.documents import NotOpen
from client_sim.core.effects import Problem
from client_sim.core.errand import Done, Outcome
from client_sim.core.pacing import Policy
from client_sim.core.pending import Pending
from client_sim.core.ports import StoreDamaged, StoreError, StoreLocked, StoreRefused
from client_sim.core.reasons import Explanation, explain
from client_sim.core.roots import Roots
from client_sim.core.status import State, Status
from client_sim.live.blocking import Device, Document
from client_sim.live.device import AsyncDevice
from client_sim.live.document import AsyncDocument, Blocked
from client_sim.live.ending import DeviceEnded
from client_sim.live.keys import DeviceKey
from client_sim.live.tokens import LoginRefused

__all__ = [
    "AsyncDevice", "AsyncDocument", "Blocked", "Device", "DeviceEnded", "DeviceKey", "Document", "Done", "EditTooBig",
    "Explanation", "LoginRefused", "NotOpen", "Outcome", "Pending", "Policy", "Problem", "Roots", "State", "Status",
    "StoreDamaged", "StoreError", "StoreLocked", "StoreRefused", "explain",
]  # fmt: skip
