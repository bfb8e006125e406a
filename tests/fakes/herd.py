"""Devices that ask a served scep-ra over HTTP at the same time, each in a thread of its own."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx

from ra.client.authority import CaCertificates, read_ca_certificates
from tests.fakes.device import Device, pooled_key

_SECONDS = 30.0


@dataclass
class Herd(AbstractContextManager["Herd"]):
    """`url` is where the profile answers; the challenge is the one that `init` wrote."""

    url: str
    challenge: str
    ca: CaCertificates
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(16))

    @classmethod
    def of(cls, url: str, directory: Path) -> Self:
        ca = read_ca_certificates(httpx.get(f"{url}?operation=GetCACert").content)
        return cls(url=url, challenge=(directory / "challenge.txt").read_text("utf-8").strip(), ca=ca)

    def __exit__(self, *_: object) -> None:
        self.threads.shutdown(cancel_futures=True)

    def device(self, number: int) -> tuple[Device, bytes]:
        """A device, the same for the same number, and a request of its own."""
        device = Device(key=pooled_key(number))
        return device, device.enrol_message(self.ca, challenge=self.challenge)

    def send(self, message: bytes) -> Future[httpx.Response]:
        """Posts it; the answer comes when it comes."""
        return self.threads.submit(post, self.url, message)


def post(url: str, message: bytes) -> httpx.Response:
    return httpx.post(f"{url}?operation=PKIOperation", content=message, timeout=_SECONDS)
