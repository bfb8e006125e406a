"""`scep-ra backup`: a copy of the journal in a file, made while the service runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ra.bootstrap.journal import journal_place
from ra.cli.copying import announce, with_bar
from ra.cli.output import DEFAULT_CONFIG, AsJson, ConfigPath
from ra.journal.copy import back_up
from ra.settings.load import load


def command(
    file: Annotated[Path, typer.Argument(help="The file to write; it must not be there yet.")],
    config: ConfigPath = DEFAULT_CONFIG,
    *,
    as_json: AsJson = False,
) -> None:
    """Write the journal, as it is at this moment, into a file that `scep-ra restore` reads."""
    source = journal_place(load(config))

    rows = with_bar(lambda progress: back_up(source, file, progress))

    sentence = f"{source} is backed up in {file}. The journal's key is not in it: keep that elsewhere."
    announce({"from": str(source), "to": str(file)}, rows, sentence, as_json=as_json)
