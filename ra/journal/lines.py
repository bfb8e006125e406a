"""The driver's side of a connection to PostgreSQL, and a way to end the waiting of a thread that gets no answer."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any

import psycopg
from sqlalchemy import Connection

from ra.errors import Unavailable

CONNECT_TIMEOUT_SECONDS = 5


class Line:
    """What one thread asks over its connection, and another thread can break off."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._socket: int | None = None
        self._is_over = False

    @contextmanager
    def over(self, driver: psycopg.Connection[Any]) -> Iterator[None]:
        """For as long as the block lasts, `hang_up` ends the connection.

        Raises:
            Unavailable: it was hung up before it began, or the connection is lost.
        """
        with self._lock:
            if self._is_over:
                raise Unavailable("nobody waits for the database's answer any more")
            # A descriptor of its own: the driver's may be closed, and its number another's, at any moment.
            try:
                self._socket = own = os.dup(driver.fileno())
            except (OSError, psycopg.Error) as error:
                raise Unavailable(f"the database: {error}") from error
        try:
            yield
        finally:
            with self._lock:
                os.close(own)
                self._socket = None

    def hang_up(self) -> None:
        """Whoever waits for the server finds the connection lost; without effect once the block has been left."""
        with self._lock:
            self._is_over = True
            if self._socket is not None:
                with socket.socket(fileno=os.dup(self._socket)) as line, suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)


def driver_of(connection: Connection) -> psycopg.Connection[Any]:
    """Of a connection of PostgreSQL's."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 - the engine is PostgreSQL's
    return driver
