"""A configuration that `init` has made, with another CA in it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def with_connector(directory: Path, kind: str, options: Mapping[str, Any]) -> Path:
    """The configuration file, in which `lab` is now a connector of this kind."""
    path = directory / "ra.toml"
    block = f"[connectors.lab]\n{as_toml({'type': kind, **options})}\n\n"
    changed, count = re.subn(
        r"\[connectors\.lab\].*?(?=^\[)", lambda _: block, path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    assert count == 1
    path.write_text(changed, "utf-8")
    return path


def as_toml(table: Mapping[str, Any]) -> str:
    """A table's keys and values, one a line. Strings of TOML are those of JSON, as far as ours go."""
    return "\n".join(f"{name} = {_value(value)}" for name, value in table.items())


def _value(value: object) -> str:
    match value:
        case Mapping():
            return "{ " + ", ".join(f"{name} = {_value(each)}" for name, each in value.items()) + " }"
        case list() | tuple():
            return "[" + ", ".join(map(_value, value)) + "]"
        case Path():
            return json.dumps(str(value))
        case _:
            return json.dumps(value)
