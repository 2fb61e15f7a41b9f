"""WebSocket bytes as a light device needs them: the request that opens one, messages in cut from the stream."""

from __future__ import annotations

from benchmarks.client import pong

PING = 0x89


def upgrade(host: str, port: int, path: str, subprotocol: str | None) -> bytes:
    """The request that opens a WebSocket."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]
    if subprotocol is not None:
        lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def pong_to(data: bytes) -> bytes | None:
    """The answer to a ping that came alone, as pings do."""
    if len(data) >= 2 and data[0] == PING and len(data) == 2 + data[1]:
        return pong(data[2:])
    return None


class Messages:
    """Cuts a server's stream into the payloads of its binary messages, whatever pieces it arrives in."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that are whole now. Control frames are passed over. No server here sends fragments."""
        if self._rest:
            data = self._rest + data
        size = len(data)
        at = 0
        payloads = []
        while size - at >= 2:
            length, start = data[at + 1], at + 2
            if length > 125:
                width = 2 if length == 126 else 8
                if size - start < width:
                    break
                length, start = int.from_bytes(data[start : start + width], "big"), start + width
            end = start + length
            if end > size:
                break
            if data[at] == 0x82:
                payloads.append(data[start:end])
            at = end
        self._rest = data[at:]
        return payloads
