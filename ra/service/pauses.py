"""How long to wait before trying again: twice as long each time, and never at the same moment as everybody else."""

from __future__ import annotations

from datetime import timedelta

from ra.service.ports import Entropy

_LIMIT = 1 << 32


def pause(attempts: int, entropy: Entropy, *, first_seconds: float, longest_seconds: float) -> timedelta:
    """A random time up to a bound that doubles with every attempt (full jitter); `attempts` counts from 0."""
    bound = min(longest_seconds, first_seconds * 2 ** min(attempts, 32))
    return timedelta(seconds=bound * int.from_bytes(entropy(4)) / _LIMIT)
