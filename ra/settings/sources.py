"""Where values come from: environment `SCEP_RA_…` over secret files over TOML; and what a secret reference points to.

A nested key joins its parts with two underscores, `SCEP_RA_SERVER__LISTEN`; a secret file bears the same name. The
command line stands above all of them: it writes its options into the environment, where worker processes find them.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from connectors.api import Secret
from ra.errors import Misconfigured

PREFIX = "SCEP_RA_"
CONFIG_VARIABLE = "SCEP_RA_CONFIG"
"""Names the configuration file for a server's workers, and for commands where `--config` is not given."""
SECRETS_VARIABLE = "SCEP_RA_SECRETS_DIR"
"""Names the directory of secret files, for instance `/run/secrets`."""

Origins = dict[tuple[str, ...], str]
"""Which variable or secret file a key was set by."""


class Text(str):
    """A value of a variable or a secret file: these have no other way to write a number, or true."""

    __slots__ = ()


_RESERVED = {CONFIG_VARIABLE, SECRETS_VARIABLE}


def process_environment() -> MutableMapping[str, str]:
    """The environment of this process: the one place where it is reached for."""
    return os.environ  # noqa: TID251 - this is where the others read it


def read(path: Path, variables: Mapping[str, str]) -> tuple[dict[str, Any], Origins]:
    """All sources, merged, the stronger over the weaker, and where the values that no file holds came from."""
    data = _toml(path)
    secret_files = dict(_secret_files(variables.get(SECRETS_VARIABLE)))
    named = {key: value for key, value in variables.items() if key.startswith(PREFIX) and key not in _RESERVED}
    origins: Origins = {}
    for source in (secret_files, named):
        for variable, value in source.items():
            keys = tuple(variable.removeprefix(PREFIX).lower().split("__"))
            origins[keys] = variable
            _put(data, keys, _value(value), variable)
    return data, origins


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise Misconfigured(
            f"{path} cannot be read: {error.strerror}; `scep-ra init DIR` writes a configuration to start from"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{path} is not TOML: {error}") from None


def _secret_files(directory: str | None) -> Iterator[tuple[str, str]]:
    for each in sorted(Path(directory).iterdir()) if directory else ():
        if each.name.upper().startswith(PREFIX) and each.is_file():
            yield each.name.upper(), each.read_text("utf-8").rstrip("\r\n")


def _put(data: dict[str, Any], keys: tuple[str, ...], value: object, variable: str) -> None:
    *path, last = keys
    for key in path:
        data = data.setdefault(key, {})
        if not isinstance(data, dict):
            raise Misconfigured(f"{variable} cannot be set: {key} is not a table")
    data[last] = value


def _value(text: str) -> object:
    """Lists and tables are written as JSON; anything else is text that pydantic reads as its field demands."""
    if not text.startswith(("[", "{")):
        return Text(text)
    try:
        value: object = json.loads(text)
    except ValueError:
        return Text(text)
    return value


def read_secret(reference: str, directory: Path) -> Secret:
    """What a secret reference points to, without the line end that editors add.

    Raises:
        Misconfigured: there is no such file or variable, or it is empty.
    """
    kind, _, place = reference.partition(":")
    try:
        value = {"file": _from_file, "env": _from_environment}[kind](place, directory)
    except KeyError:
        raise Misconfigured('a secret is written as "file:PATH" or "env:NAME"') from None
    if not value:
        raise Misconfigured(f"the secret {reference} is empty")
    return Secret(value)


def _from_file(place: str, directory: Path) -> str:
    try:
        return (directory / place).read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise Misconfigured(f"the secret file:{place} cannot be read: {reason}") from None


def _from_environment(place: str, _: Path) -> str:
    value = process_environment().get(place)
    if value is None:
        raise Misconfigured(f"the secret env:{place} is not set")
    return value
