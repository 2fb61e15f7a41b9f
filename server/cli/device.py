"""`syncline device`: who has connected, and who may no longer."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from server.cli.options import AsJson, takes_settings
from server.cli.store import perform
from server.cli.table import print_table
from server.config import StoreSettings

app = typer.Typer(help="Who has connected, and who may no longer.", rich_markup_mode=None)

Devices = Annotated[list[str], typer.Argument(help="user/device ...", metavar="DEVICE...", show_default=False)]


@app.command("list")
@takes_settings(StoreSettings)
def list_devices(
    settings: StoreSettings,
    user: Annotated[str, typer.Option(help="The devices of this user alone.", show_default=False)] = "",
    revoked: Annotated[bool, typer.Option("--revoked", help="Those alone that are shut out.")] = False,
    as_json: AsJson = False,
) -> int:
    """Devices with their software, and when (UTC) each was first and last seen, and shut out."""
    infos = [info for info in perform(settings, "devices", user=user) if info["revoked_ms"] is not None or not revoked]
    if as_json:
        typer.echo(json.dumps(infos))
        return 0
    rows = [
        [info["device"], info["agent"], *(_time(info[f"{what}_ms"]) for what in ("first_seen", "last_seen", "revoked"))]
        for info in infos
    ]
    print_table(("device", "agent", "first seen", "last seen", "revoked"), rows)
    return 0


@app.command()
@takes_settings(StoreSettings)
def revoke(settings: StoreSettings, devices: Devices) -> int:
    """Shut devices out, known or not: their connections are closed, and they wipe what they hold."""
    return _tell(devices, perform(settings, "revoke", devices=devices), "revoked", "was revoked before")


@app.command()
@takes_settings(StoreSettings)
def restore(settings: StoreSettings, devices: Devices) -> int:
    """Let devices in again."""
    return _tell(devices, perform(settings, "restore", devices=devices), "restored", "was not revoked")


def _tell(devices: list[str], changed: list[str], done: str, otherwise: str) -> int:
    for device in dict.fromkeys(devices):
        typer.echo(f"{device}: {done if device in changed else otherwise}")
    return 0


def _time(time_ms: int | None) -> str | None:
    return None if time_ms is None else f"{datetime.fromtimestamp(time_ms // 1000, UTC):%Y-%m-%d %H:%M:%S}"
