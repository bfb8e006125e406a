"""`scep-ra connectors …`: which of them are asked for nothing new, and what they have issued that nobody may have."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ra.cli.accounts import day, with_operations
from ra.cli.opened import local_user
from ra.cli.output import DEFAULT_CONFIG, AsJson, ConfigPath, show, table
from ra.journal.strays import Stray
from ra.service.operate import Standing
from ra.settings.load import load

command = typer.Typer(no_args_is_help=True)

_COLUMNS = ("connector", "state", "since", "because", "to_revoke")


@command.command("list")
def list_connectors(config: ConfigPath = DEFAULT_CONFIG, *, as_json: AsJson = False) -> None:
    """List the connectors, whether they are stopped, and which of their certificates nobody may have."""
    names = tuple(load(config).settings.connectors)
    standings = with_operations(config, lambda operations: operations.standings(names))
    value = {"connectors": [_as_value(each) for each in standings]}
    show(value, table(_COLUMNS, [_row(each) for each in standings]), as_json=as_json)


@command.command()
def resume(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As the configuration calls it.")],
    config: ConfigPath = DEFAULT_CONFIG,
    *,
    as_json: AsJson = False,
) -> None:
    """Have a stopped connector asked again: what has waited is sent to the CA."""
    with_operations(config, lambda operations: operations.resume(name, local_user()))
    show({"connector": name, "state": "in use"}, f"The CA {name} is asked again.", as_json=as_json)


def _as_value(one: Standing) -> dict[str, Any]:
    return {
        "connector": one.name,
        "state": "stopped" if one.stop else "in use",
        "since": one.stop.at.isoformat() if one.stop else None,
        "because": one.stop.detail if one.stop else None,
        "transaction": str(one.stop.transaction) if one.stop else None,
        "to_revoke": [_stray(each) for each in one.strays],
    }


def _stray(stray: Stray) -> dict[str, Any]:
    return {
        "serial": stray.serial,
        "transaction": str(stray.transaction),
        "because": stray.reason,
        "due_at": stray.due_at.isoformat() if stray.due_at else None,
        "attempts": stray.attempts,
        "detail": stray.detail,
    }


def _row(one: Standing) -> dict[str, object]:
    value = _as_value(one)
    since = {"since": day(one.stop.at) if one.stop else None}
    return value | since | {"to_revoke": [each.serial or "?" for each in one.strays]}
