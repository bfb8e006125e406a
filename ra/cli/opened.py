"""The journal, opened by a command: all that the commands which look into it, or change it, have in common."""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from ra.bootstrap.journal import opened
from ra.journal.database import Journal
from ra.journal.sealing import JournalKey
from ra.settings.load import load

T = TypeVar("T")


def with_journal(config: Path, work: Callable[[Journal, JournalKey], Awaitable[T]]) -> T:
    """What `work` makes of the journal that the configuration file names, while `serve` may run beside.

    Raises:
        Misconfigured: there is no journal, its key cannot be read, or it was made with another one.
    """

    async def run() -> T:
        async with opened(load(config)) as (journal, key):
            return await work(journal, key)

    return asyncio.run(run())


def local_user() -> str:
    """Who asks, for the audit: the name of the account that the process runs as, which no variable can change."""
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"uid {number}"
