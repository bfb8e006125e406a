"""How a copy of the journal looks while it is made, and afterwards: what `db copy`, `backup` and `restore` share."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from ra.cli.output import show, table
from ra.journal.copy import Progress


def with_bar(work: Callable[[Progress], Mapping[str, int]]) -> Mapping[str, int]:
    """What `work` copies, with a bar for each table where somebody watches."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def progress(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done)

        return work(progress)


def announce(value: Mapping[str, str], rows: Mapping[str, int], sentence: str, *, as_json: bool) -> None:
    """Says what was copied, and what is to be done next."""
    counted = table(("table", "rows"), [{"table": name, "rows": str(count)} for name, count in rows.items()])
    show({**value, "rows": dict(rows)}, f"{counted}\n{sentence}", as_json=as_json)
