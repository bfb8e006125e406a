"""Writes docs/configuration.md (`make schema`): every key of ra.toml, from where the code declares and describes it."""
# ruff: noqa: INP001 - a program, no package

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import connectors.registry
from ra.challenge import registry as challenges
from ra.policy.profile import EXTENDED_KEY_USAGES, SUBJECT_ATTRIBUTES
from ra.settings.schema import json_schema

INTRODUCTION = """\
# Configuration

One TOML file, `ra.toml`; [config/ra.toml](../config/ra.toml) is the one that `scep-ra init` writes, and
[config/examples](../config/examples) has more. This page is made from the code by `make schema`.

- `scep-ra check-config --config ra.toml` checks the file, the keys and the certificates it names, and that they go
  together. `serve` checks the same before it starts. A key that is not known is an error.
- Relative paths lie beside the file.
- A secret is never written into it: `file:PATH` or `env:NAME` points to one. The line end of a file does not count.
- Stronger sources stand above weaker ones: command line, environment, secret files, `ra.toml`, defaults. In the
  environment a key is written `SCEP_RA_SERVER__LISTEN`, lists and tables as JSON. `SCEP_RA_SECRETS_DIR` names a directory
  whose files bear such names. Other variables that begin with `SCEP_RA_` are errors, but for `SCEP_RA_CONFIG`, the path
  of the file.
- `NAME` in `[connectors.NAME]` and the like is yours to choose: small letters, digits, `-` and `_`. A challenge cannot be
  called `none` or `renewal`.
- An API key for `/api/v1/scep/configuration` is any random text; `[[server.api_keys]]` has its HMAC, which
  `printf %s "$KEY" | openssl dgst -sha256 -hmac "$(cat api-keys.secret)"` prints. `init` makes one, in `api-key.txt`.
"""

SECTIONS = {
    "[server]": "Server",
    "[server.tls]": "Tls",
    "[[server.api_keys]]": "ApiKey",
    "[database]": "Database",
    "[retention]": "RetentionSettings",
    "[identities.NAME]": "IdentitySettings",
    "managed, in [identities.NAME]": "ManagedSettings",
    "pkcs11, in [identities.NAME]": "TokenSettings",
    "[profiles.NAME]": "ProfileSettings",
    "Each of `renewal_authorities`": "RenewalAuthority",
    "A combination of challenges": "Combination",
    "[connectors.NAME] of any type": "ConnectorSettings",
}

_NAMES_OF_USAGES = {oid: name for name, oid in EXTENDED_KEY_USAGES.items()}


def main() -> None:
    sys.stdout.write("\n".join(page()))


def page() -> Iterator[str]:
    schema = json_schema()
    yield INTRODUCTION
    for title, name in SECTIONS.items():
        yield from section(title, schema["$defs"][name], schema["$defs"])
    yield from plugins("connectors", connectors.registry)
    yield from plugins("challenges", challenges)
    yield from names("Extended key usages by name", EXTENDED_KEY_USAGES)
    yield from names("Subject attributes by name", SUBJECT_ATTRIBUTES)


def plugins(table: str, registry: Any) -> Iterator[str]:
    """The keys of each type that comes with scep-ra; those that a package brings are documented there."""
    for entry in registry.built_in():
        schema = registry.load(entry.name).options.model_json_schema()
        yield from section(f'[{table}.NAME] of type = "{entry.name}"', schema, schema.get("$defs", {}))
        for definition in schema.get("$defs", {}).values():
            if "properties" in definition:
                yield from section(_inner_title(entry.name, definition), definition, schema["$defs"])


def _inner_title(kind: str, definition: Mapping[str, Any]) -> str:
    """A table inside a plugin's own: one of several kinds, which a constant tells apart, or each of a list."""
    constants = (f'{key} = "{each["const"]}"' for key, each in definition["properties"].items() if "const" in each)
    told_apart = next(constants, None)
    return f'With {told_apart}, in type = "{kind}"' if told_apart else f'Each of them, in type = "{kind}"'


def section(title: str, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[str]:
    required = schema.get("required", ())
    yield f"## {title}\n\n{schema['description'].splitlines()[0]}\n"
    yield "| key | type | default | |\n|---|---|---|---|"
    for key, each in schema["properties"].items():
        default = "required" if key in required else _default(each.get("default"))
        yield f"| `{key}` | {_type(each, definitions)} | {default} | {_cell(each['description'])} |"
    yield ""


def names(title: str, oids: Mapping[str, str]) -> Iterator[str]:
    yield f"## {title}\n\nA dotted OID may be written in place of a name.\n\n| name | OID |\n|---|---|"
    yield from (f"| `{name}` | {oid} |" for name, oid in oids.items())
    yield ""


def _default(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        if set(value) == set(SUBJECT_ATTRIBUTES.values()):
            return "all that have a name, below"
        value = [_NAMES_OF_USAGES.get(each, each) for each in value]
    return f"`{_cell(json.dumps(value))}`"


def _type(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """In words: text, number, one of …, a list of them."""
    match schema:
        case {"$ref": str(reference)}:
            return _type(definitions[reference.rpartition("/")[2]], definitions)
        case {"anyOf": alternatives}:
            return " or ".join(_type(each, definitions) for each in alternatives if each.get("type") != "null")
        case {"oneOf": alternatives}:
            return " or ".join(dict.fromkeys(_type(each, definitions) for each in alternatives))
        case {"const": value}:
            return f"`{value}`"
        case {"enum": values}:
            return " / ".join(f"`{each}`" for each in values)
        case {"type": "array", "items": items}:
            return f"list of {_type(items, definitions)}"
        case {"type": "string", "format": ("path" | "date-time") as kind}:
            return {"path": "path", "date-time": "time"}[kind]
        case _:
            words = {
                "string": "text",
                "integer": "whole number",
                "number": "number",
                "boolean": "true / false",
                "object": "table",
            }
            return words.get(kind := str(schema.get("type", "")), kind) + _range(schema)


def _range(schema: Mapping[str, Any]) -> str:
    least = schema.get("minimum", schema.get("exclusiveMinimum"))
    most = schema.get("maximum")
    if least is None:
        return ""
    return f", {least} to {most}" if most is not None else f", {least} or more"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    main()
