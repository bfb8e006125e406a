"""One connection to an LDAP server: TLS first, then a bind, a search, and the end. Its deadlines are the caller's."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from connectors.api import BackendUnavailable, ProtocolViolation
from ra.challenge.directory.ldap import messages
from ra.challenge.directory.ldap.messages import Answer, Entry, Reference, Result, SearchRequest

_LONGEST_MESSAGE = 1 << 20
_MOST_ANSWERS = 100
"""Entries, and references to other servers, of one search for a few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server is; `starts_plain`: StartTLS comes first (RFC 4511 §4.14)."""

    host: str
    port: int
    starts_plain: bool


class Connection:
    """A connection that is under TLS."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._number = 0

    async def bind(self, dn: str, password: str) -> Result:
        """A simple bind."""
        self._number += 1
        answer = await self._ask(messages.write_bind(self._number, dn, password))
        if not isinstance(answer, Result):
            raise ProtocolViolation("an LDAP server answers a bind with an entry")
        return answer

    async def search(self, request: SearchRequest) -> tuple[tuple[Entry, ...], Result]:
        """What was found, and how the search ended. References to other servers are left where they are."""
        self._number += 1
        answer = await self._ask(messages.write_search(self._number, request))
        entries: list[Entry] = []
        for _ in range(_MOST_ANSWERS):
            match answer:
                case Result():
                    return tuple(entries), answer
                case Entry():
                    entries.append(answer)
                case Reference():
                    pass
            answer = await self._receive()
        raise ProtocolViolation("an LDAP server answers a search for a few with many")

    def unbind(self) -> None:
        """Says that this was all; nobody waits for it to arrive."""
        self._writer.write(messages.write_unbind(self._number + 1))

    async def _ask(self, request: bytes) -> Answer:
        self._writer.write(request)
        await self._writer.drain()
        return await self._receive()

    async def _receive(self) -> Answer:
        head = await self._reader.readexactly(2)
        head += await self._reader.readexactly(messages.length_bytes(head))
        number, answer = messages.read_message(await self._reader.readexactly(_bounded(head)))
        return _of(self._number, number, answer)


@asynccontextmanager
async def opened(address: Address, *, tls: ssl.SSLContext, seconds: float) -> AsyncIterator[Connection]:
    """A connection for as long as the block lasts; `seconds` for it to be there, TLS included.

    Raises:
        BackendUnavailable: it cannot be had, or breaks off within the block.
        ProtocolViolation: what is there does not speak LDAP.
    """
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await _connect(address, tls)
    except TimeoutError:
        raise BackendUnavailable(f"no connection within {seconds:g} s", maybe_issued=False) from None
    except (OSError, EOFError) as error:  # ssl.SSLError is an OSError; asyncio.IncompleteReadError an EOFError
        raise BackendUnavailable(f"no connection: {error}", maybe_issued=False) from error
    try:
        connection = Connection(reader, writer)
        yield connection
        connection.unbind()
    except (OSError, EOFError) as error:
        raise BackendUnavailable(f"the connection broke off: {error}", maybe_issued=False) from error
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _connect(address: Address, tls: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    connected = await _reach(address)
    try:
        if address.starts_plain:
            await _start_tls(connected)
        return await asyncio.open_connection(sock=connected, ssl=tls, server_hostname=address.host)
    except BaseException:
        connected.close()
        raise


async def _reach(address: Address) -> socket.socket:
    """Every address that the host has is tried."""
    loop = asyncio.get_running_loop()
    fault = OSError(f"{address.host} has no address")
    for family, kind, protocol, _, where in await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM):
        found = socket.socket(family, kind, protocol)
        found.setblocking(False)
        try:
            await loop.sock_connect(found, where)
        except OSError as error:
            found.close()
            fault = error
        except BaseException:
            found.close()
            raise
        else:
            return found
    raise fault


async def _start_tls(plain: socket.socket) -> None:
    """Asks for TLS. Not a byte is read beyond the answer: what somebody has put behind it would pass for the server's."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(plain, messages.write_start_tls(1))
    head = await _read_exactly(plain, 2)
    head += await _read_exactly(plain, messages.length_bytes(head))
    number, answer = messages.read_message(await _read_exactly(plain, _bounded(head)))
    answer = _of(1, number, answer)
    if not isinstance(answer, Result) or answer.code != 0:
        raise BackendUnavailable(f"it refuses StartTLS: {answer}", maybe_issued=False)


async def _read_exactly(plain: socket.socket, count: int) -> bytes:
    read = b""
    while len(read) < count:
        piece = await asyncio.get_running_loop().sock_recv(plain, count - len(read))
        if not piece:
            raise EOFError("the server hung up")
        read += piece
    return read


def _bounded(head: bytes) -> int:
    length = messages.content_length(head)
    if length > _LONGEST_MESSAGE:
        raise ProtocolViolation(f"an LDAP message has {length} bytes")
    return length


def _of(asked: int, number: int, answer: Answer) -> Answer:
    """Number 0 is the server's own word that it is about to hang up (RFC 4511 §4.4.1)."""
    if number == 0:
        raise BackendUnavailable(f"it hangs up: {answer}", maybe_issued=False)
    if number != asked:
        raise ProtocolViolation("an LDAP server answers what was not asked")
    return answer
