"""A key in a token is no oracle: what does not open is answered exactly as with the same key in a file.

SoftHSM tells bad padding from good by an error, and knows no OAEP with SHA-256; none of that may be seen from outside.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import padding

from connectors.api import Capability, Secret
from ra.client.replies import Failure, Success
from ra.keyring import files
from ra.scep.keys import Identity
from ra.scep.names import KeyTransport
from ra.service.ring import Ring
from tests.fakes import pki, softhsm
from tests.fakes.assembled import CHALLENGE, FLOOR_SECONDS, Assembled, assembled
from tests.fakes.device import Device, pooled_key
from tests.fakes.issuing import IssuingCa
from tests.fakes.messages import Envelope, Message, SoftKey, challenge, csr, ra_identity
from tests.fakes.softhsm import LABEL, PIN, SoftHsm

pkcs11: Any = pytest.importorskip("ra.keyring.pkcs11", reason="python-pkcs11 is missing: see requirements-dev.txt")

pytestmark = [pytest.mark.anyio, pytest.mark.peer]

PKCS1 = padding.PKCS1v15()
WRAPPED = {
    "no padding": b"\0" + os.urandom(255),
    "above the modulus": b"\xff" * 256,
    "too short": b"\x01" * 100,
    "too long": b"\x01" * 300,
    "empty": b"",
    "padding, no key": pki.rsa_key(20).public_key().encrypt(b"", PKCS1),
    "padding, a key of another length": pki.rsa_key(20).public_key().encrypt(b"k" * 17, PKCS1),
    "another key": pki.rsa_key(20).public_key().encrypt(b"k" * 16, PKCS1),
}


@pytest.fixture
async def ra(tmp_path: Path) -> AsyncIterator[Assembled]:
    async with assembled(tmp_path, IssuingCa(softhsm.CA, Capability.IDEMPOTENT), softhsm.CA) as registration_authority:
        yield registration_authority


@pytest.fixture
def in_file(token_files: SoftHsm) -> Identity:
    key = token_files.directory / "rsa.key"
    return files.load_identity("ra", certificate=token_files.certificate("rsa"), key=key, passphrase=None)


@pytest.fixture
def in_token(token_files: SoftHsm) -> Identity:
    token = pkcs11.Token(pkcs11.module(token_files.module), pin=Secret(PIN), label=LABEL)
    found: Identity = pkcs11.load_identity("ra", token, certificate=token_files.certificate("rsa"), key="rsa")
    return found


def sealed_to(identity: Identity, wrapped: bytes, transport: KeyTransport) -> bytes:
    """A message whose content key is wrapped like that."""
    soft = ra_identity().decryptor
    assert isinstance(soft, SoftKey)
    theirs = replace(soft, key=pki.rsa_key(20), certificate_id=identity.decryptor.certificate_id)
    content = csr(pooled_key(0), attributes=[challenge()])
    envelope = Envelope(replace(identity, decryptor=theirs), content, transport=transport, encrypted_key=wrapped)
    return Message(pooled_key(0), envelope.build()).build()


async def answered(ra: Assembled, identity: Identity, message: bytes) -> tuple[int, str, str, list[float]]:
    """Length, outcome and what the log says, and for how long the answer was held back."""
    ra.clock.slept_seconds.clear()
    answer = await ra.work.operation.answer(replace(ra.endpoint, ring=Ring.of(identity)), message)
    return len(answer.body), answer.outcome, answer.detail, list(ra.clock.slept_seconds)


@pytest.mark.parametrize("transport", [KeyTransport.PKCS1_V15, KeyTransport.OAEP_SHA1, KeyTransport.OAEP_SHA256])
@pytest.mark.parametrize("wrapped", WRAPPED.values(), ids=WRAPPED.keys())
async def test_what_does_not_open_is_answered_as_with_a_key_in_a_file(
    ra: Assembled, in_file: Identity, in_token: Identity, wrapped: bytes, transport: KeyTransport
) -> None:
    message = sealed_to(in_file, wrapped, transport)

    by_file = await answered(ra, in_file, message)
    by_token = await answered(ra, in_token, message)

    assert by_file[:2] == by_token[:2]
    assert "UNREADABLE_REQUEST" == by_token[1]
    assert [FLOOR_SECONDS] == by_file[3] == by_token[3]


async def test_a_device_enrols_by_a_token(ra: Assembled, in_token: Identity) -> None:
    own = replace(ra, endpoint=replace(ra.endpoint, ring=Ring.of(in_token)))
    good, bad = Device(), Device()

    granted = await own.answer(good.enrol_message(own.ca, challenge=CHALLENGE))
    refused = await own.answer(bad.enrol_message(own.ca, challenge="wrong"))

    assert isinstance(good.open(granted.body), Success)
    assert isinstance(bad.open(refused.body), Failure)
