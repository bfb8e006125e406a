from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from cryptography import x509

from connectors.keyfiles import PrivateKey
from ra.errors import Misconfigured
from ra.keyring.checks import Finding, Severity, examine, insist
from ra.keyring.files import FileDecryptor, FileSigner
from ra.scep.header import CertificateId
from ra.scep.keys import Decryptor, Identity
from ra.scep.names import KeyTransport
from tests.fakes import pki

CA = pki.root()
KEY = pki.rsa_key()
CERTIFICATE_REQUEST_AGENT = "1.3.6.1.4.1.311.20.2.1"
CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"


def entropy(octets: int) -> bytes:
    return bytes(range(1, 256))[:octets].ljust(octets, b"\x55")


def identity(
    certificate: x509.Certificate | None = None, key: PrivateKey = KEY, decryptor: Decryptor | None = None
) -> Identity:
    """Signs with `certificate` and `key`; decrypts with them too, where they can."""
    shown = pki.der(certificate or CA.issue(key))
    named = CertificateId(issuer=b"", serial=1, key_id=None)
    opening = decryptor or FileDecryptor(certificate=shown, certificate_id=named, key=KEY)
    return Identity(name="lab", decryptor=opening, signer=FileSigner(certificate=shown, certificate_id=named, key=key))


def decryptor(certificate: x509.Certificate) -> FileDecryptor:
    named = CertificateId(issuer=b"", serial=1, key_id=None)
    return FileDecryptor(certificate=pki.der(certificate), certificate_id=named, key=KEY)


def findings(examined: Identity, chain: Sequence[bytes] = CA.chain, now: datetime = pki.NOW) -> list[Finding]:
    return list(examine(examined, chain, now, entropy))


def errors(examined: Identity, chain: Sequence[bytes] = CA.chain, now: datetime = pki.NOW) -> list[str]:
    return [each.message for each in findings(examined, chain, now) if each.severity is Severity.ERROR]


def warnings(examined: Identity, now: datetime = pki.NOW) -> list[str]:
    return [each.message for each in findings(examined, now=now) if each.severity is Severity.WARNING]


@pytest.mark.parametrize("ca_key", ["ec:p256", "rsa:3072"])
def test_a_sound_identity_has_no_findings(ca_key: str) -> None:
    ca = pki.root(ca_key)

    assert [] == findings(identity(ca.issue(KEY)), ca.chain)


def test_a_sound_identity_of_two_keys_has_no_findings() -> None:
    signing_key = pki.key("ec:p256", 1)
    signing = CA.issue(signing_key, usage=pki.key_usage("digital_signature"))
    opening = decryptor(CA.issue(KEY, usage=pki.key_usage("key_encipherment")))

    assert [] == findings(identity(signing, signing_key, opening))


def test_the_ca_key_is_never_a_recipient() -> None:
    ca = pki.root("rsa:2048")

    found = errors(identity(ca.issue(KEY)), ca.chain)

    assert 1 == len(found)
    assert "holds the CA's own key" in found[0]


@pytest.mark.rfc8894("ra-key-usage")
def test_a_ca_certificate_is_never_a_recipient() -> None:
    found = errors(identity(CA.issue(KEY, ca=True)))

    assert ['identity "lab": the certificate is a CA certificate (CA:TRUE)'] == [each.split(". ")[0] for each in found]


@pytest.mark.parametrize(
    ("usage", "lacking"),
    [
        (pki.key_usage("key_encipherment"), ["digitalSignature"]),
        (pki.key_usage("digital_signature"), ["keyEncipherment"]),
        (None, ["digitalSignature", "keyEncipherment"]),
    ],
)
@pytest.mark.rfc8894("ra-key-usage")
def test_q10_a_certificate_without_the_key_usage_of_an_ra_is_refused(
    usage: x509.KeyUsage | None, lacking: list[str]
) -> None:
    found = errors(identity(CA.issue(KEY, usage=usage)))

    assert len(lacking) == len(found)
    for message, name in zip(found, lacking, strict=True):
        assert f"lacks keyUsage {name}" in message


@pytest.mark.parametrize(
    ("extended", "warned"),
    [
        (None, False),
        (pki.extended_key_usage(pki.SERVER_AUTH), False),
        (pki.extended_key_usage(CERTIFICATE_REQUEST_AGENT, CLIENT_AUTH), False),
        (pki.extended_key_usage(CLIENT_AUTH), True),
    ],
)
def test_an_extended_key_usage_that_windows_rejects_is_warned_of(
    extended: x509.ExtendedKeyUsage | None, warned: bool
) -> None:
    found = warnings(identity(CA.issue(KEY, extended=extended)))

    assert warned == any("0x8010002c" in each for each in found)
    assert warned == bool(found)


def test_an_identity_of_another_ca_is_refused() -> None:
    other = pki.root(name="Other CA", number=5)

    found = errors(identity(other.issue(KEY)))

    assert 1 == len(found)
    assert "is not issued by the CA that this profile's connector names" in found[0]


def test_a_ca_of_the_same_name_and_another_key_is_another_ca() -> None:
    impostor = pki.root(name="Test CA", number=5)

    assert "is not issued by" in errors(identity(impostor.issue(KEY)))[0]


def test_a_broken_chain_is_refused() -> None:
    unrelated = pki.root(name="Other CA", number=5)

    found = errors(identity(), (*CA.chain, *unrelated.chain))

    assert 1 == len(found)
    assert "the CA chain is broken: CN=Test CA is not issued by CN=Other CA" in found[0]


@pytest.mark.parametrize(
    ("now", "severity", "said"),
    [
        (pki.NOW - timedelta(days=1, seconds=1), Severity.ERROR, "the certificate is valid from"),
        (pki.NOW + timedelta(days=335), Severity.WARNING, "the certificate runs out at"),
        (pki.NOW + timedelta(days=365), Severity.ERROR, "the certificate ran out at"),
    ],
)
def test_the_validity_is_checked_against_the_clock(now: datetime, severity: Severity, said: str) -> None:
    (found,) = findings(identity(), now=now)

    assert severity is found.severity
    assert said in found.message


def test_an_expired_ca_is_refused() -> None:
    after = CA.certificate.not_valid_after_utc

    found = errors(identity(CA.issue(KEY, not_after=after + timedelta(days=365))), now=after)

    assert ["CA certificate CN=Test CA ran out"] == [each.split("the ")[1].split(" at")[0] for each in found]


def test_a_signing_key_of_another_certificate_is_refused() -> None:
    signing = CA.issue(pki.rsa_key(1), usage=pki.key_usage("digital_signature"))

    found = errors(identity(signing, KEY, decryptor(CA.issue(KEY))))

    assert ["the signing key does not belong to its certificate"] == [_between(each) for each in found]


def test_a_decryption_key_of_another_certificate_is_refused() -> None:
    found = errors(identity(decryptor=decryptor(CA.issue(pki.rsa_key(1)))))

    assert ["the decryption key does not belong to its certificate"] == [_between(each) for each in found]


def test_a_certificate_that_nothing_can_be_sealed_to_is_refused() -> None:
    found = errors(identity(decryptor=decryptor(CA.issue(pki.key("ec:p256", 1)))))

    assert 1 == len(found)
    assert "is not for an RSA key" in found[0]


def _between(message: str) -> str:
    return message.removeprefix('identity "lab": ').split(":")[0]


@dataclass(frozen=True)
class OddDecryptor:
    """Opens what is sealed to it, and answers garbage in a way of its own."""

    good: FileDecryptor
    answer: Callable[[], bytes]

    @property
    def certificate(self) -> bytes:
        return self.good.certificate

    @property
    def certificate_id(self) -> CertificateId:
        return self.good.certificate_id

    def unwrap(self, encrypted_key: bytes, transport: KeyTransport) -> bytes:
        return self.answer() if encrypted_key[0] == 0 else self.good.unwrap(encrypted_key, transport)


def _raise(error: Exception) -> Callable[[], bytes]:
    def answer() -> bytes:
        raise error

    return answer


@pytest.mark.parametrize(
    ("answer", "severities"),
    [
        (lambda: b"random", []),
        (_raise(ValueError("bad padding")), [Severity.WARNING]),
        (_raise(RuntimeError("CKR_ENCRYPTED_DATA_INVALID")), [Severity.ERROR]),
    ],
)
def test_a_key_that_tells_bad_padding_from_good_is_found_out(
    answer: Callable[[], bytes], severities: list[Severity]
) -> None:
    odd = OddDecryptor(decryptor(CA.issue(KEY)), answer)

    found = findings(identity(decryptor=odd))

    assert severities == [each.severity for each in found]


def test_a_chain_that_cannot_be_read_is_misconfigured() -> None:
    with pytest.raises(Misconfigured, match='identity "lab" or its CA: a certificate cannot be read'):
        findings(identity(), (b"garbage",))


def test_errors_stop_the_start_all_at_once() -> None:
    found = findings(identity(CA.issue(KEY, usage=None)))

    with pytest.raises(Misconfigured, match=r"(?s)digitalSignature.*\n.*keyEncipherment"):
        insist(found)


def test_warnings_do_not_stop_the_start() -> None:
    insist([Finding(Severity.WARNING, "renew soon")])
