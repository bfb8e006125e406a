"""The HTTP edge: what arrives over a socket becomes a call of a use case, and its result an answer. No decision is made here."""

from __future__ import annotations
