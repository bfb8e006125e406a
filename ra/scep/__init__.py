"""The codec: bytes to messages and back, for RFC 8894. Pure: no clock, no randomness, no log, no framework.

`transport` reads the HTTP shape, `decode` opens requests, `encode` seals replies, `explain` says in words what a
message is. Start with `messages`: the values that pass between them.
"""

from __future__ import annotations
