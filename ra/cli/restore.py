"""`scep-ra restore`: brings back what `scep-ra backup` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ra.bootstrap.journal import journal_place
from ra.cli.copying import announce, with_bar
from ra.cli.output import DEFAULT_CONFIG, AsJson, ConfigPath
from ra.journal.copy import at_rest, restore
from ra.settings.load import load


def command(
    file: Annotated[Path, typer.Argument(help="What `scep-ra backup` wrote, with this program or an older one.")],
    config: ConfigPath = DEFAULT_CONFIG,
    *,
    as_json: AsJson = False,
) -> None:
    """Fill the configured database, which must be empty, from a backup."""
    target = journal_place(load(config))

    with at_rest(target):
        rows = with_bar(lambda progress: restore(file, target, progress))

    sentence = f"{file} is restored to {target}. It works with the key that it was made with."
    announce({"from": str(file), "to": str(target)}, rows, sentence, as_json=as_json)
