from __future__ import annotations

import io
from contextlib import redirect_stdout

from rich.console import Console

from ra.cli.output import printable, table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


ROWS = [{"id": "0f8c", "subject": "CN=[bold]\x1b[31mdevice", "detail": "word " * 40}]


def test_a_table_that_is_piped_has_everything_in_one_line() -> None:
    with redirect_stdout(io.StringIO()):
        head, row = table(("id", "subject", "detail"), ROWS).splitlines()

    assert head.startswith("id    subject")
    assert row.endswith("word ".rstrip())
    assert 40 == row.count("word")


def test_a_table_on_a_terminal_fits_it_and_nothing_in_it_is_markup() -> None:
    with redirect_stdout(Terminal()):
        lines = table(("id", "subject", "detail"), ROWS).splitlines()

    assert "CN=[bold]?[31mdevice" in lines[1]
    assert 40 == sum(line.count("word") for line in lines)
    assert all(len(line) <= Console().width for line in lines[1:])


def test_what_cannot_be_seen_is_a_question_mark() -> None:
    assert "a?b ö" == printable("a\x1bb ö")
