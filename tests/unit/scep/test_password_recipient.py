"""Replies to a key that cannot be encrypted to: sealed with the challenge, opened by the client's codec and by openssl."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ra.client.csr import read_subject, self_signed
from ra.client.enveloped import unseal
from ra.client.errors import BadReply
from ra.client.signed import Signer
from ra.scep.ciphers import BLOCK_BYTES, wrap_with_key
from ra.scep.enveloped import seal_with_password
from ra.scep.names import Cipher
from tests.fakes import pki
from tests.fakes.device import NOW

KEY = pki.key("ec:p256")
RECEIVER = Signer(key=KEY, certificate=self_signed(KEY, read_subject("CN=device"), NOW, 1))
CIPHERS = [Cipher.AES128_CBC, Cipher.AES192_CBC, Cipher.AES256_CBC, Cipher.DES3_CBC]


@settings(deadline=None, max_examples=50)
@given(content=st.binary(max_size=200), password=st.text(min_size=1, max_size=70), cipher=st.sampled_from(CIPHERS))
def test_what_is_sealed_with_a_password_opens_with_it(content: bytes, password: str, cipher: Cipher) -> None:
    try:
        octets = password.encode()
    except UnicodeEncodeError:
        return

    sealed = seal_with_password(content, password=octets, cipher=cipher, entropy=os.urandom)

    opened = unseal(sealed, RECEIVER, password)
    assert (content, cipher.value, None) == (opened.content, opened.cipher.value, opened.key_transport)
    with pytest.raises(BadReply):
        unseal(sealed, RECEIVER, password + "x")
    with pytest.raises(BadReply):
        unseal(sealed, RECEIVER)


@pytest.mark.parametrize("cipher", CIPHERS)
def test_openssl_opens_it(cipher: Cipher, tmp_path: Path) -> None:
    message = tmp_path / "sealed.der"
    message.write_bytes(seal_with_password(b"what it says", password=b"a secret", cipher=cipher, entropy=os.urandom))
    command = ["openssl", "cms", "-decrypt", "-inform", "DER", "-in", str(message), "-pwri_password"]

    done = subprocess.run([*command, "a secret"], capture_output=True, check=True)
    refused = subprocess.run([*command, "another"], capture_output=True, check=False)

    assert b"what it says" == done.stdout
    assert 0 != refused.returncode


def test_the_client_opens_what_openssl_has_sealed(tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.write_bytes(b"what it says")
    command = ["openssl", "cms", "-encrypt", "-binary", "-aes128", "-outform", "DER", "-in", str(content)]
    sealed = subprocess.run([*command, "-pwri_password", "a secret"], capture_output=True, check=True).stdout

    assert b"what it says" == unseal(sealed, RECEIVER, "a secret").content


@pytest.mark.parametrize("key_bytes", [8, 16, 24, 32])
def test_a_wrapped_key_is_of_whole_blocks_and_of_two_at_least(key_bytes: int) -> None:
    wrapped = wrap_with_key(os.urandom(key_bytes), bytes(32), bytes(16), Cipher.AES256_CBC, os.urandom)

    assert 0 == len(wrapped) % BLOCK_BYTES[Cipher.AES256_CBC]
    assert 2 * BLOCK_BYTES[Cipher.AES256_CBC] <= len(wrapped)
