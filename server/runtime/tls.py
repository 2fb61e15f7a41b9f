"""TLS: what a certificate and its key make."""

from __future__ import annotations

import ssl
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates

from server.config import bad_setting


def server_tls(certificate: Path, key: Path) -> ssl.SSLContext:
    """A context for `--tls-cert` (the chain, PEM) and `--tls-key`: TLS 1.3, or 1.2 with forward secrecy.

    Python's defaults for a server have no compression and OpenSSL's secure ciphers. Raises BadSetting.
    """
    _check(certificate, key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as exc:
        if exc.reason == "KEY_VALUES_MISMATCH":
            raise bad_setting(["tls_key"], f"{key} is not the key of {certificate}") from exc
        raise bad_setting(["tls_cert", "tls_key"], f"OpenSSL does not take them: {exc.reason}") from exc
    return context


def _check(certificate: Path, key: Path) -> None:
    """OpenSSL does not say which file is wrong, and asks at the terminal for the password of a key that has one."""
    try:
        load_pem_x509_certificates(_read("tls_cert", certificate))
    except ValueError as exc:
        raise bad_setting(["tls_cert"], f"{certificate} has no certificate in PEM") from exc
    try:
        load_pem_private_key(_read("tls_key", key), password=None)
    except TypeError as exc:
        raise bad_setting(["tls_key"], f"{key} is encrypted: give one without a password") from exc
    except ValueError as exc:
        raise bad_setting(["tls_key"], f"{key} has no private key in PEM") from exc


def _read(setting: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as exc:
        raise bad_setting([setting], f"{file}: {exc.strerror}") from exc
