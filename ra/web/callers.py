"""Who is calling a page that is not for everybody."""

from __future__ import annotations

from collections.abc import Mapping

from ra.web.api_keys import ApiKeys
from ra.web.replies import HttpRefusal


class Callers:
    """Tells callers by their API key; in debug mode everybody is known as `debug`."""

    def __init__(self, api_keys: ApiKeys, *, debug: bool) -> None:
        self._api_keys = api_keys
        self._debug = debug

    def label_of(self, headers: Mapping[str, str]) -> str | None:
        """The label of the key in `Authorization: Bearer` or `X-API-Key`; None for a stranger."""
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        bearer = credentials.strip() if scheme.lower() == "bearer" else ""
        label = self._api_keys.label_of(bearer or headers.get("x-api-key", ""))
        return label or ("debug" if self._debug else None)

    def require(self, headers: Mapping[str, str]) -> str:
        """The caller's label.

        Raises:
            HttpRefusal: 401, for a stranger.
        """
        label = self.label_of(headers)
        if label is None:
            challenge = (b"www-authenticate", b'Bearer realm="scep-ra"')
            raise HttpRefusal(401, "This page needs an API key: Authorization: Bearer KEY, or X-API-Key.", (challenge,))
        return label

    def require_minter(self, headers: Mapping[str, str]) -> str:
        """The label of a caller that may mint; for a listener that knows no debug mode.

        Raises:
            HttpRefusal: 401, for a stranger; 403, for a caller that may not.
        """
        label = self.require(headers)
        if not self._api_keys.may_mint(label):
            raise HttpRefusal(403, "This API key may not mint: its table [[server.api_keys]] needs mints = true.")
        return label
