"""The use cases: one file each. They take clock, metrics, entropy and every adapter as arguments."""

from __future__ import annotations
