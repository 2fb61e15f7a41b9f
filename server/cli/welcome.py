"""What `syncline serve` prints once devices can connect."""

from __future__ import annotations

import secrets
import sys
import time

import typer

from crdt.protocol.frames import PATH
from server.config import ServeSettings
from server.keys import signing_secret
from server.storage import database_file
from server.tokens import mint

DEV_USER = "alice"
DEV_DEVICES = ("phone", "laptop")
DEV_TTL_S = 24 * 3600.0


def announce(settings: ServeSettings, address: tuple[str, int]) -> None:
    """The address, where the data is, and with `--insecure-dev` how to try it out at once."""
    host, port = address
    url = f"{'wss' if settings.tls_cert else 'ws'}://{f'[{host}]' if ':' in host else host}:{port}{PATH}"
    typer.echo(f"Syncline listens on {url}")
    typer.echo(f"Data is in {database_file(settings.database_url)}")
    if settings.insecure_dev and not (settings.jwt_public_key or settings.jwks):
        tokens = [_dev_token(settings, device) for device in DEV_DEVICES]
        arguments = " ".join(f"--token {token}" for token in tokens)
        typer.echo(f"A token for {DEV_USER}'s {DEV_DEVICES[0]}, good for a day:\n  {tokens[0]}")
        typer.echo(f"To see two simulated devices edit one document, run in another terminal:\n"
                   f"  {sys.executable} -m client_sim pair --url {url} {arguments}")  # fmt: skip
    sys.stdout.flush()


def _dev_token(settings: ServeSettings, device: str) -> str:
    return mint(
        DEV_USER,
        device,
        ttl_s=DEV_TTL_S,
        secret=signing_secret(settings),
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
        now_s=time.time(),
        token_id=secrets.token_hex(16),
    )
