"""Yjs clients as devices: what y-websocket and Hocuspocus say, made into frames of our protocol, and back.

No I/O, no clock, no chance: `server.runtime.yjs` ties it to sockets.
"""
