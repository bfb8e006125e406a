"""API keys: kept as HMAC-SHA-256 under a server key, so that neither the configuration nor its backup holds one."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping

MAX_KEY_CHARACTERS = 512


def digest(server_key: bytes, api_key: str) -> str:
    """What is kept of an API key: HMAC-SHA-256, lower-case hex."""
    return hmac.new(server_key, api_key.encode(), hashlib.sha256).hexdigest()


class ApiKeys:
    """The callers that are known, by label."""

    def __init__(self, server_key: bytes, digests: Mapping[str, str], minters: Collection[str] = ()) -> None:
        """`digests` are by label, as `digest` makes them; `minters` are the labels that may mint one-time secrets."""
        self._server_key = server_key
        self._digests = dict(digests)
        self._minters = frozenset(minters)

    def may_mint(self, label: str) -> bool:
        """Whether the caller of that label may mint one-time secrets."""
        return label in self._minters

    def label_of(self, api_key: str) -> str | None:
        """Whose key this is. Every one is compared, each in constant time, so that time tells nothing about any."""
        if not 0 < len(api_key) <= MAX_KEY_CHARACTERS:
            return None
        presented = digest(self._server_key, api_key)
        labels = [label for label, kept in self._digests.items() if hmac.compare_digest(presented, kept)]
        return labels[0] if labels else None
