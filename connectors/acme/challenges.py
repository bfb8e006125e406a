"""Proves that a name is ours by a TXT record (dns-01, RFC 8555 §8.4) that a command of the operator's sets and removes.

    COMMAND… present _acme-challenge.device.example.org VALUE       returns once the record can be seen
    COMMAND… cleanup _acme-challenge.device.example.org VALUE

No other challenge makes sense: http-01 and tls-alpn-01 are answered by the device, which has no certificate yet.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from connectors.acme.answers import Authorization, Challenge, NotIssuable, authorization, refusal
from connectors.acme.session import Session, watch
from connectors.api import BackendUnavailable, ConnectorError, Misconfigured
from connectors.transport import shown

Argument = Annotated[str, Field(min_length=1)]
Seconds = Annotated[float, Field(gt=0, le=300)]


class Dns01(BaseModel):
    """The command, and how long it and the server may take; keep the sum below `issue_timeout_seconds`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    command: Annotated[tuple[Argument, ...], Field(min_length=1)]
    """Program and first arguments, as a list; no shell reads them. `present` or `cleanup`, name and value follow."""
    command_timeout_seconds: Seconds = 15.0
    """Then it is killed, with what it has started."""
    validation_timeout_seconds: Seconds = 15.0
    """How long the server may take to see the record."""


@dataclass(frozen=True, slots=True)
class Hook:
    """The operator's command, run in the directory of the configuration."""

    options: Dns01
    directory: Path

    async def run(self, action: str, name: str, value: str) -> None:
        """Runs it to its end.

        Raises:
            Misconfigured: it does not run, takes too long, or says by its status that it has failed.
        """
        command = f"dns01: {self.options.command[0]} {action} {name}"
        try:
            process = await asyncio.create_subprocess_exec(
                *self.options.command,
                action,
                name,
                value,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                cwd=self.directory,
                start_new_session=True,
            )
        except OSError as error:
            raise Misconfigured(f"{command} cannot be run: {error.strerror}") from error
        try:
            async with asyncio.timeout(self.options.command_timeout_seconds):
                _, complaint = await process.communicate()
        except TimeoutError as error:
            await _kill(process)
            seconds = self.options.command_timeout_seconds
            raise Misconfigured(f"{command} was not done after {seconds:g} s") from error
        except asyncio.CancelledError:
            await _kill(process)
            raise
        if process.returncode:
            raise Misconfigured(f"{command} ended with status {process.returncode}: {shown(complaint)}")


async def _kill(process: asyncio.subprocess.Process) -> None:
    """Ends it, and what it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


class Authoriser:
    """Sees to it that an order's names are authorised."""

    def __init__(self, session: Session, hook: Hook | None) -> None:
        self._session = session
        self._hook = hook

    async def authorise(self, urls: tuple[str, ...]) -> None:
        """Every authorization is valid afterwards. One after the other, for two may want the same TXT record.

        Raises:
            NotIssuable: the CA must not certify a name.
            ConnectorError: a name cannot be authorised.
        """
        for url in urls:
            found = await self._look(url)
            if found.status == "pending":
                found = await self._prove(found)
            if found.status != "valid":
                raise self._unproved(found)

    def _unproved(self, found: Authorization) -> NotIssuable | ConnectorError:
        where = self._session.where("authorization", found.url)
        error = refusal(found.problem, where)
        if isinstance(error, NotIssuable | BackendUnavailable):
            return error
        return Misconfigured(
            f"{where}: {_name(found)} is not proved to be ours; look at what dns01 set: {found.problem}"
        )

    async def _prove(self, wanted: Authorization) -> Authorization:
        challenge = wanted.dns01
        if self._hook is None or challenge is None:
            raise Misconfigured(
                f"the CA wants {_name(wanted)} to be proved: authorise it there beforehand, "
                "keep it out of the profile, or set dns01 (which serves host names alone)"
            )
        record = f"_acme-challenge.{wanted.identifier.value}"
        value = self._session.key.key_authorization(challenge.token)
        try:
            await self._hook.run("present", record, value)
            return await self._validated(wanted, challenge, self._hook.options.validation_timeout_seconds)
        finally:
            await self._hook.run("cleanup", record, value)

    async def _validated(self, wanted: Authorization, challenge: Challenge, seconds: float) -> Authorization:
        if challenge.status == "pending":
            await self._session.ask("challenge", challenge.url, {})
        found = await watch(lambda: self._look(wanted.url), seconds)
        if not found.is_settled:
            raise BackendUnavailable(
                f"the CA has not looked for the record of {_name(wanted)} in {seconds:g} s", maybe_issued=False
            )
        return found

    async def _look(self, url: str) -> Authorization:
        return authorization(await self._session.ask("authorization", url), url)


def _name(of: Authorization) -> str:
    return shown(of.identifier.value)
