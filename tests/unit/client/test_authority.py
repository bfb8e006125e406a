from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from ra.client.algorithms import Algorithms
from ra.client.authority import (
    CaCertificates,
    check_chain,
    choose_algorithms,
    read_ca_certificates,
    read_capabilities,
    read_next_ca,
)
from ra.client.errors import BadReply, ClientError, TooWeak
from ra.client.names import Cipher, Digest
from ra.client.signed import Signer, write_signed
from tests.fakes.device import pooled_key
from tests.fakes.scep_server import Authority, ScepServer, bag, key_usage, name

ROOT = Authority.root("Root", pooled_key(0))
ISSUING = ROOT.issue_ca("Issuing", pooled_key(1))
STRANGER = Authority.root("Stranger", pooled_key(2))
RECEIVER = ISSUING.issue(name("Receiver"), pooled_key(3).public_key(), key_usage("key_encipherment"), serial=20)
SIGNER = ISSUING.issue(name("Signer"), pooled_key(3).public_key(), key_usage("digital_signature"), serial=21)
LEAF = ISSUING.issue(name("Leaf"), pooled_key(3).public_key(), serial=22)


def shown(*certificates: x509.Certificate) -> CaCertificates:
    return read_ca_certificates(bag(certificates))


def test_capabilities_are_read_in_any_case_and_with_any_line_end() -> None:
    capabilities = read_capabilities(b"aes\r\nSha-256\n\nSomething.example-Else\n")

    assert ("aes", "Sha-256", "Something.example-Else") == capabilities.words
    assert "AES" in capabilities
    assert "SHA-256" in capabilities
    assert "Renewal" not in capabilities


def test_scep_standard_implies_what_the_rfc_says_it_implies() -> None:
    capabilities = read_capabilities(b"SCEPStandard")

    assert [
        True,
        True,
        True,
        False,
    ] == [word in capabilities for word in ("AES", "SHA-256", "POSTPKIOperation", "Renewal")]


@given(st.binary(max_size=200))
def test_any_answer_to_getcacaps_is_read(body: bytes) -> None:
    assert all(word.strip() == word != "" for word in read_capabilities(body).words)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"SCEPStandard", Algorithms()),
        (b"AES\nSHA-256", Algorithms()),
        (b"DES3\nSHA-256", Algorithms(cipher=Cipher.DES3_CBC)),
        (b"AES\nSHA-1", Algorithms(digest=Digest.SHA1)),
        (b"", Algorithms(digest=Digest.SHA1, cipher=Cipher.DES3_CBC)),
    ],
)
def test_algorithms_are_chosen_by_capability(body: bytes, expected: Algorithms) -> None:
    assert expected == choose_algorithms(read_capabilities(body), legacy=True)


@pytest.mark.parametrize("body", [b"", b"AES", b"SHA-256\nDES3", b"AES\nSHA-1"])
def test_an_unauthenticated_list_does_not_lower_the_floor(body: bytes) -> None:
    with pytest.raises(TooWeak, match="allow legacy"):
        choose_algorithms(read_capabilities(body), legacy=False)


def test_a_single_certificate_is_ca_recipient_and_signer_whatever_its_key_usage() -> None:
    found = read_ca_certificates(ROOT.certificate.public_bytes(Encoding.DER))

    own = (ROOT.certificate,)
    assert CaCertificates(recipients=own, signers=own, issuer=own[0], chain=(), all=own) == found


def test_roles_are_found_by_key_usage_and_basic_constraints() -> None:
    found = shown(ROOT.certificate, ISSUING.certificate, RECEIVER, SIGNER)

    assert (RECEIVER,) == found.recipients
    assert (SIGNER,) == found.signers
    assert ISSUING.certificate == found.issuer
    assert (ROOT.certificate,) == found.chain
    assert 4 == len(found.all)


def test_an_ra_without_key_usage_receives_and_signs() -> None:
    found = shown(ISSUING.certificate, LEAF)

    assert (found.recipients, found.signers) == ((LEAF,), (LEAF,))


def test_an_issuer_with_an_elliptic_key_alone_can_receive_nothing() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    constraints = x509.BasicConstraints(ca=True, path_length=None)
    certificate = ROOT.issue(name("Elliptic"), key.public_key(), constraints)

    assert () == shown(certificate).recipients


def test_a_list_without_a_ca_is_refused() -> None:
    with pytest.raises(BadReply, match="no CA certificate"):
        shown(LEAF)


@given(st.binary(max_size=200))
def test_garbage_for_getcacert_is_a_client_error(body: bytes) -> None:
    with pytest.raises(ClientError):
        read_ca_certificates(body)


@pytest.mark.filterwarnings("ignore")  # a certificate that is odd, not unreadable, makes cryptography warn
@given(st.data())
def test_a_mutated_getcacert_is_read_or_refused_with_a_client_error(data: st.DataObject) -> None:
    body = bag([ISSUING.certificate, RECEIVER])
    position = data.draw(st.integers(0, len(body) - 1))
    mutated = body[:position] + data.draw(st.binary(max_size=4)) + body[position + data.draw(st.integers(0, 4)) :]

    try:
        found = read_ca_certificates(mutated)
    except ClientError:
        return
    assert found.issuer in found.all


def test_the_fingerprint_of_the_issuer_holds_however_it_is_written() -> None:
    found = shown(ISSUING.certificate, RECEIVER, SIGNER)
    fingerprint = ISSUING.certificate.fingerprint(hashes.SHA256())

    found.check_fingerprint(fingerprint.hex())
    found.check_fingerprint(fingerprint.hex(":").upper())

    with pytest.raises(BadReply, match="not the expected one"):
        found.check_fingerprint(ROOT.certificate.fingerprint(hashes.SHA256()).hex())


def test_the_fingerprint_does_not_cover_an_ra_that_the_issuer_did_not_issue() -> None:
    usurper = STRANGER.issue(name("Usurper"), pooled_key(3).public_key(), key_usage("key_encipherment"))

    with pytest.raises(BadReply, match="CN=Usurper was not issued by the CA"):
        shown(ISSUING.certificate, ROOT.certificate, usurper).check_fingerprint(
            ISSUING.certificate.fingerprint(hashes.SHA256()).hex()
        )


def test_a_certificate_chains_directly_or_by_way_of_what_came_with_it() -> None:
    check_chain(LEAF, (), shown(ISSUING.certificate))
    check_chain(LEAF, (ISSUING.certificate,), shown(ROOT.certificate))


@pytest.mark.parametrize("extra", [(), (STRANGER.certificate,), (LEAF,)])
def test_a_certificate_that_does_not_chain_is_refused(extra: tuple[x509.Certificate, ...]) -> None:
    with pytest.raises(BadReply, match="does not chain"):
        check_chain(LEAF, extra, shown(ROOT.certificate))


def test_a_certificate_that_is_no_ca_carries_no_chain() -> None:
    middle = ROOT.issue(name("Middle"), pooled_key(3).public_key(), serial=30)
    below = Authority(certificate=middle, key=pooled_key(3)).issue(name("Below"), pooled_key(2).public_key())

    with pytest.raises(BadReply, match="does not chain"):
        check_chain(below, (middle,), shown(ROOT.certificate))


@pytest.mark.parametrize("authority", [ISSUING, Authority(certificate=SIGNER, key=pooled_key(3))])
def test_the_next_ca_is_believed_from_the_present_ca_or_its_ra(authority: Authority) -> None:
    present = shown(ISSUING.certificate, RECEIVER, SIGNER)
    body = next_ca(authority)

    assert (STRANGER.certificate,) == read_next_ca(body, present)


def test_the_next_ca_is_not_believed_from_itself() -> None:
    with pytest.raises(BadReply, match="GetCACert does not show"):
        read_next_ca(next_ca(STRANGER), shown(ISSUING.certificate))


def test_an_empty_next_ca_is_refused() -> None:
    signer = Signer(key=ISSUING.key, certificate=ISSUING.certificate)

    with pytest.raises(BadReply, match="holds no certificate"):
        read_next_ca(write_signed(bag(), {}, signer, Digest.SHA256), shown(ISSUING.certificate))


def next_ca(authority: Authority) -> bytes:
    signer = Signer(key=authority.key, certificate=authority.certificate)
    return write_signed(bag([STRANGER.certificate]), {}, signer, Digest.SHA256)


def test_the_fake_server_shows_an_ra_below_its_ca() -> None:
    server = ScepServer()

    assert (server.ra.certificate,) == server.ca_certificates.recipients
