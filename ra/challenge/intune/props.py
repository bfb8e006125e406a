"""Reads `com.microsoft.intune.props`, which Microsoft's own library and connectors built on it are configured by."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from ra.challenge.intune.options import CLOUDS
from ra.errors import Misconfigured

_LINE = re.compile(r"((?:\\.|[^\s:=\\])+)\s*[:=]?\s*(.*)")
_ESCAPE = re.compile(r"\\(.)")
_WANTED = ("TENANT", "AAD_APP_ID", "AAD_APP_KEY")
_URLS = {
    "AUTH_AUTHORITY": ("authority", "authority"),
    "MSAL_GRAPH_RESOURCE_URL": ("graph_url", "graph"),
    "MS_GRAPH_RESOURCE_URL": ("graph_url", "graph"),
    "INTUNE_RESOURCE_URL": ("intune_resource", "intune"),
}
"""Names of the file, of the option, and of the field of a Cloud."""

_INTUNE_APP_ID = "0000000a-0000-0000-c000-000000000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What a file says, in our words.

    Attributes:
        options: of the challenge, without the credential.
        secret: the client secret.
        proxy_credentials: `user:password`, where the file has them.
        ignored: names that mean nothing here.
    """

    options: Mapping[str, Any]
    secret: str = field(repr=False)
    proxy_credentials: str | None = field(repr=False)
    ignored: tuple[str, ...]


def read_props(text: str) -> Imported:
    """What a properties file says.

    Raises:
        Misconfigured: something that is needed is missing.
    """
    said = dict(_lines(text))
    if missing := [name for name in _WANTED if not said.get(name)]:
        raise Misconfigured(f"the file does not say {', '.join(missing)}")
    options: dict[str, Any] = {"type": "intune", "tenant": said.pop("TENANT"), "client_id": said.pop("AAD_APP_ID")}
    options |= _addresses(said)
    if provider := said.pop("PROVIDER_NAME_AND_VERSION", ""):
        options["provider_name"] = provider
    if (app := said.pop("INTUNE_APP_ID", "")) and app.lower() != _INTUNE_APP_ID:
        options["intune_app_id"] = app
    host, port = said.pop("PROXY_HOST", ""), said.pop("PROXY_PORT", "")
    user, password = said.pop("PROXY_USER", ""), said.pop("PROXY_PASS", "")
    if host:
        options["proxy"] = f"http://{host}:{port or 80}"
    return Imported(
        options=options,
        secret=said.pop("AAD_APP_KEY"),
        proxy_credentials=f"{user}:{password}" if host and user else None,
        ignored=tuple(sorted(name for name, value in said.items() if value)),
    )


def _lines(text: str) -> list[tuple[str, str]]:
    """Names and values of a Java properties file, continued lines joined."""
    joined = re.sub(r"\\\r?\n[ \t]*", "", text)
    lines = (each.strip() for each in joined.splitlines())
    found = (_LINE.fullmatch(each) for each in lines if each and each[0] not in "#!")
    return [(_ESCAPE.sub(r"\1", each[1]), _ESCAPE.sub(r"\1", each[2].strip())) for each in found if each]


def _addresses(said: dict[str, str]) -> dict[str, str]:
    """The cloud that the addresses are those of; those that are no cloud's own, as they are."""
    given = {
        option: (each, value.rstrip("/")) for name, (option, each) in _URLS.items() if (value := said.pop(name, ""))
    }
    for name, cloud in CLOUDS.items():
        if given and all(_same(value, getattr(cloud, each)) for each, value in given.values()):
            return {} if name == "public" else {"cloud": name}
    return {
        option: value for option, (each, value) in given.items() if not _same(value, getattr(CLOUDS["public"], each))
    }


def _same(one: str, other: str) -> bool:
    try:
        return httpx.URL(one).host == httpx.URL(other).host
    except httpx.InvalidURL:
        return False
