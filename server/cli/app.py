"""The commands that are not of a group, and what becomes of errors."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Final

import typer
from typer.exceptions import Abort, TyperException

from crdt.ids import DocumentId
from crdt.protocol.frames import PROTOCOL_VERSION, Access
from server.cli import db, device, doc
from server.cli.moving import import_store
from server.cli.options import takes_settings
from server.cli.welcome import announce
from server.config import BadSetting, KeySettings, ServeSettings, StoreSettings, misspelled
from server.core.ports import CorruptDocument, StorageError
from server.keys import BadKeys, key_thumbprint, signing_secret
from server.runtime.control import ControlUnavailable
from server.runtime.operations import OperationRefused
from server.runtime.serve import run
from server.runtime.telemetry import configure_logging
from server.storage import database_file
from server.tokens import mint

NOT_DONE: Final = 2
"""The exit code of what could not be done."""

_FORESEEN: Final = (
    TyperException,
    BadSetting,
    BadKeys,
    OperationRefused,
    ControlUnavailable,
    StorageError,
    CorruptDocument,
    OSError,
)

app = typer.Typer(
    help="A sync server for CRDT documents of mobile apps.",
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(db.app, name="db")
app.add_typer(doc.app, name="doc")
app.add_typer(device.app, name="device")
app.command("import")(import_store)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command (of `sys.argv` by default); the exit code. What is foreseen to fail says so in one line."""
    configure_logging("console", "warning")
    try:
        return typer.main.get_command(app).main(arguments, "syncline", standalone_mode=False) or 0
    except Abort as exc:
        raise KeyboardInterrupt from exc
    except Exception as exc:
        cause = _cause(exc)
        if not isinstance(cause, _FORESEEN):
            raise
        _complain(_line(cause))
        return NOT_DONE


@app.command()
@takes_settings(ServeSettings)
def serve(settings: ServeSettings) -> int:
    """Serve devices until SIGTERM. Every option is an environment variable too; the option counts."""
    for warning in misspelled(os.environ):
        _complain(warning)
    _make_default_directory(settings)
    return run(settings, lambda address: announce(settings, address))


@app.command()
@takes_settings(KeySettings, ("database_url", "jwt_audience", "jwt_issuer"))
def token(
    settings: KeySettings,
    user: Annotated[str, typer.Option(help="Whose token it is.")],
    device: Annotated[str, typer.Option(help="The device that may use it.")],
    ttl: Annotated[float, typer.Option(help="Seconds until it expires.", min=1)] = 3600,
    grant: Annotated[list[str] | None, typer.Option(help="owner/name=rw, or =r: another's document.")] = None,
    key_file: Annotated[Path | None, typer.Option(help="Bind it to a device's public key: JWK or PEM.")] = None,
    jkt: Annotated[str | None, typer.Option(help="Bind it to the key with this thumbprint.")] = None,
) -> int:
    """Write a token for development, signed with SYNCLINE_JWT_SECRET or the secret of `serve --insecure-dev`."""
    try:
        minted = mint(
            user,
            device,
            ttl_s=ttl,
            secret=signing_secret(settings),
            audience=settings.jwt_audience,
            issuer=settings.jwt_issuer,
            now_s=time.time(),
            token_id=secrets.token_hex(16),
            grants=dict(map(_read_grant, grant or ())),
            key_thumbprint=jkt if key_file is None else key_thumbprint(key_file.read_text()),
        )
    except ValueError as exc:
        raise BadSetting(str(exc)) from exc
    typer.echo(minted)
    return 0


@app.command()
def version() -> int:
    """The versions of the program and of the protocol that it speaks."""
    typer.echo(f"syncline {installed_version('syncline')}, protocol {PROTOCOL_VERSION}")
    return 0


def _make_default_directory(settings: StoreSettings) -> None:
    """Only the default's: where a directory that was asked for is missing, a disk may not be mounted."""
    file = database_file(settings.database_url)
    if file is not None and file == database_file(StoreSettings.model_fields["database_url"].default):
        file.parent.mkdir(mode=0o700, exist_ok=True)


def _read_grant(text: str) -> tuple[DocumentId, Access]:
    """Raises ValueError."""
    document, _, access = text.rpartition("=")
    if access not in list(Access):
        raise ValueError(f"--grant {text}: write owner/name=r or owner/name=rw")
    return DocumentId.parse(document), Access(access)


def _cause(exc: BaseException) -> BaseException:
    """The exception itself, where it came through a group of tasks."""
    while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
        (exc,) = exc.exceptions
    return exc


def _line(exc: BaseException) -> str:
    match exc:
        case TyperException():
            text = f"{exc.format_message()} Try --help."
        case OSError(filename=str(name), strerror=str(reason)):
            text = f"{name}: {reason}"
        case OSError(strerror=str(reason)):
            text = reason
        case _:
            text = str(exc)
    return " ".join(text.split())


def _complain(text: str) -> None:
    typer.echo(f"syncline: {text}", err=True)
