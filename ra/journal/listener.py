"""What PostgreSQL tells of other processes: that there is work."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from functools import partial

import psycopg
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from ra.errors import Unavailable
from ra.journal.lines import CONNECT_TIMEOUT_SECONDS, Line, driver_of
from ra.journal.wakeup import Bell

CHANNEL = "scep_ra"
_LISTEN_SECONDS = 0.5
_PAUSE_SECONDS = 2.0


class Listener:
    """Rings when any process announces work: a thread with a connection of its own."""

    def __init__(self, engine: Engine, bell: Bell, loop: asyncio.AbstractEventLoop) -> None:
        self._engine = engine
        self._ring = partial(loop.call_soon_threadsafe, bell.ring)
        self._is_closing = threading.Event()
        self._line = Line()
        self._thread = threading.Thread(target=self._run, name="journal listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._is_closing.set()
        self._line.hang_up()
        self._thread.join(CONNECT_TIMEOUT_SECONDS)

    def _run(self) -> None:
        while not self._is_closing.is_set():
            with suppress(DBAPIError, psycopg.Error, Unavailable):
                self._listen()
            self._is_closing.wait(_PAUSE_SECONDS)

    def _listen(self) -> None:
        with self._engine.connect() as connection:
            driver = driver_of(connection)
            with self._line.over(driver):
                driver.execute(f"LISTEN {CHANNEL}")
                while not self._is_closing.is_set():
                    for _ in driver.notifies(timeout=_LISTEN_SECONDS, stop_after=1):
                        self._ring()
