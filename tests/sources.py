"""Source files as tests read them."""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    with collector_waiting():
        return ast.parse(path.read_text("utf-8"))


@contextmanager
def collector_waiting() -> Iterator[None]:
    """What a collection finalizes while CPython 3.11 builds a tree may parse too, and then its count of depths is wrong."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
