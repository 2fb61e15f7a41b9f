"""How values lie in a store's file: checked, and encrypted where the app gave a key.

SQLite notices damage to its own structure, not to what it was given. So each value carries a seal, which says too where
it belongs: no byte, and no row in another's place, is taken for good.

With a key (AES-256-GCM, a random nonce for each value, the value's place as associated data) the file hides what
documents hold, what they are called, whose they are, and where they stand with their server. It does not hide how many
documents, updates and pending edits there are, how long they are (to the byte), which belong to one document, in which
order they came, and when the file was written; nor that a row was put back to what it was before, or taken out. Nothing
protects from somebody who reads the running process. The key is for one store: at 2**32 values a key is used up, after
decades of an edit each second.
"""

from __future__ import annotations

import secrets
from hashlib import blake2b
from hmac import compare_digest
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from client_sim.core.ports import StoreDamaged

KEY_BYTES = 32
KEY_ID_BYTES = 16
CHECK_BYTES = 8
NONCE_BYTES = 12
NAME_BYTES = 16


class Seal(Protocol):
    """One way of sealing. `key_id` tells keys apart, and says nothing of them."""

    @property
    def key_id(self) -> bytes: ...

    def name(self, document: str) -> bytes:
        """What a document is called in the file's indexes."""
        ...

    def close(self, place: bytes, value: bytes) -> bytes: ...

    def open(self, place: bytes, sealed: bytes) -> bytes:
        """The value that was sealed for this place. Raises StoreDamaged."""
        ...


def seal_of(key: bytes | None) -> Seal:
    """The seal for a store with this key. Raises ValueError for a key that has not 32 bytes."""
    return CheckedSeal() if key is None else EncryptingSeal(key)


def checksum(*parts: bytes) -> bytes:
    """Over parts with their lengths: none can pass for the end of another."""
    lengths = b"".join(len(part).to_bytes(8, "big") for part in parts)
    return blake2b(b"".join((lengths, *parts)), digest_size=CHECK_BYTES).digest()


class CheckedSeal:
    """A checksum before each value, which can be read by anybody."""

    key_id = bytes(KEY_ID_BYTES)

    def name(self, document: str) -> bytes:
        return document.encode()

    def close(self, place: bytes, value: bytes) -> bytes:
        return checksum(place, value) + value

    def open(self, place: bytes, sealed: bytes) -> bytes:
        check, value = sealed[:CHECK_BYTES], sealed[CHECK_BYTES:]
        if check != checksum(place, value):
            raise StoreDamaged("a value is not what was written there")
        return value


class EncryptingSeal:
    """AES-256-GCM under keys that are derived (HKDF-SHA256) from the app's."""

    def __init__(self, key: bytes) -> None:
        """Raises ValueError."""
        if len(key) != KEY_BYTES:
            raise ValueError(f"a store's key has {KEY_BYTES} bytes, not {len(key)}")
        self._cipher = AESGCM(_derived(key, b"values"))
        self._names = _derived(key, b"names")
        self.key_id = _derived(key, b"id")[:KEY_ID_BYTES]

    def name(self, document: str) -> bytes:
        return blake2b(document.encode(), key=self._names, digest_size=NAME_BYTES).digest()

    def close(self, place: bytes, value: bytes) -> bytes:
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, value, place)

    def open(self, place: bytes, sealed: bytes) -> bytes:
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], place)
        except (InvalidTag, ValueError) as exc:  # the latter: it is too short
            raise StoreDamaged("a value is not what was written there, or not under this key") from exc


def _derived(key: bytes, purpose: bytes) -> bytes:
    info = b"syncline device store: " + purpose
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=info).derive(key)


def recorded(key_id: bytes) -> bytes:
    """A key's id as a file has it."""
    return key_id + checksum(key_id)


def is_recorded(record: bytes, key_id: bytes) -> bool | None:
    """True if a file is of the key with this id, False if of another; None where that can not be read."""
    found, check = record[:KEY_ID_BYTES], record[KEY_ID_BYTES:]
    return compare_digest(found, key_id) if check == checksum(found) else None
