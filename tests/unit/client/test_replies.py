from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key
from hypothesis import given, settings
from hypothesis import strategies as st

from ra.client.algorithms import Algorithms
from ra.client.bags import read_bag
from ra.client.enveloped import seal, unseal
from ra.client.errors import BadReply, ClientError
from ra.client.names import Attribute, Cipher, Digest, FailInfo, KeyTransport, PkiStatus
from ra.client.replies import Failure, Pending, Success
from ra.client.signed import Signer, read_signed, verify_signed
from tests.fakes.device import Device, pooled_key
from tests.fakes.scep_server import NONCE, Authority, Received, ScepServer, bag, in_pieces, nested
from tests.vectors.files import vector

SERVER = ScepServer()
CA = SERVER.ca_certificates


def asked(device: Device) -> Received:
    return SERVER.receive(device.enrol_message(CA, challenge="secret"))


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.mark.parametrize("cipher", list(Cipher))
@pytest.mark.parametrize("transport", list(KeyTransport))
def test_a_success_is_opened_whatever_it_is_sealed_with(
    device: Device, cipher: Cipher, transport: KeyTransport
) -> None:
    server = ScepServer(algorithms=Algorithms(cipher=cipher, key_transport=transport))
    received = asked(device)

    result = device.open(server.issued(received))

    assert Success(certificates=(SERVER.issue(received),), crl=None, cipher=cipher, key_transport=transport) == result


def test_certificates_are_returned_in_the_order_sent(device: Device) -> None:
    received = asked(device)
    certificates = (SERVER.issue(received), CA.issuer, SERVER.ra.certificate)
    backwards = bag(certificates)
    positions = [backwards.index(each.public_bytes(Encoding.DER)) for each in certificates]
    expected = tuple(each for _, each in sorted(zip(positions, certificates, strict=True), key=lambda pair: pair[0]))

    result = device.open(SERVER.success(received, certificates))

    assert isinstance(result, Success)
    assert expected == result.certificates


def test_a_crl_is_returned(device: Device) -> None:
    crl = SERVER.issuer.crl(5)
    received = SERVER.receive(device.get_crl_message(CA, 5))

    result = device.open(SERVER.success(received, crls=[crl]))

    assert isinstance(result, Success)
    assert ((), crl) == (result.certificates, result.crl)


@pytest.mark.parametrize("fail_info", list(FailInfo))
def test_a_failure_says_why(device: Device, fail_info: FailInfo) -> None:
    received = asked(device)

    results = [device.open(SERVER.failure(received, fail_info, text)) for text in ("", "Not today.")]

    assert [Failure(fail_info, ""), Failure(fail_info, "Not today.")] == results


@pytest.mark.parametrize("content", [None, b"", b"\x00"])
def test_q01_pending_may_carry_no_content_or_empty_content_or_one_byte(device: Device, content: bytes | None) -> None:
    received = asked(device)

    reply = SERVER.reply(received, content, {Attribute.PKI_STATUS: PkiStatus.PENDING})

    assert Pending() == device.open(reply)


def test_a_reply_tells_how_it_was_made(device: Device) -> None:
    server = ScepServer(algorithms=Algorithms(digest=Digest.SHA512))

    reply = device.open_reply(server.issued(asked(device)))

    assert (Digest.SHA512, server.ra.certificate, NONCE) == (reply.digest, reply.signer, reply.sender_nonce)


def test_a_reply_may_lack_the_senders_own_nonce_as_the_gutmann_sample_does(device: Device) -> None:
    received = asked(device)

    reply = SERVER.reply(received, b"", {Attribute.PKI_STATUS: PkiStatus.PENDING, Attribute.SENDER_NONCE: b""})

    assert b"" == device.open_reply(reply).sender_nonce


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({Attribute.MESSAGE_TYPE: "19"}, "not CertRep"),
        ({Attribute.MESSAGE_TYPE: b"3"}, "no string"),
        ({Attribute.TRANSACTION_ID: "another"}, "another transaction"),
        ({Attribute.RECIPIENT_NONCE: b"another"}, "does not echo"),
        ({Attribute.RECIPIENT_NONCE: "text"}, "no OCTET STRING"),
        ({Attribute.PKI_STATUS: "1"}, "pkiStatus '1'"),
        ({Attribute.PKI_STATUS: PkiStatus.FAILURE}, "failInfo ''"),
        ({Attribute.PKI_STATUS: PkiStatus.SUCCESS}, "cannot be read"),
    ],
)
def test_a_reply_that_does_not_answer_the_request_is_refused(
    device: Device, attributes: dict[Attribute, str | bytes], sentence: str
) -> None:
    received = asked(device)

    reply = SERVER.reply(received, b"", {Attribute.PKI_STATUS: PkiStatus.PENDING, **attributes})

    with pytest.raises(BadReply, match=sentence):
        device.open(reply)


def test_a_reply_signed_by_a_stranger_is_refused(device: Device) -> None:
    stranger = ScepServer(issuer=Authority.root("Stranger", pooled_key(3)))

    with pytest.raises(BadReply, match="GetCACert does not show"):
        device.open(stranger.pending(asked(device)))


def test_a_reply_whose_signer_bears_the_name_but_not_the_key_of_the_ra_is_refused(device: Device) -> None:
    impostor = ScepServer(ra_key=pooled_key(3))

    with pytest.raises(BadReply, match="does not verify"):
        device.open(impostor.pending(asked(device)))


def test_a_reply_with_other_content_than_was_signed_is_refused(device: Device) -> None:
    received = asked(device)
    reply = SERVER.reply(received, b"this content", {Attribute.PKI_STATUS: PkiStatus.PENDING})

    with pytest.raises(BadReply, match="not the one that was signed"):
        device.open(reply.replace(b"this content", b"that content"))


def test_a_reply_sealed_to_another_certificate_is_refused(device: Device) -> None:
    received = asked(device)
    other = Authority.root("Other", pooled_key(3)).certificate
    envelope = seal(bag([CA.issuer]), [other], Algorithms(), bytes)

    with pytest.raises(BadReply, match="another certificate"):
        device.open(SERVER.reply(received, envelope, {Attribute.PKI_STATUS: PkiStatus.SUCCESS}))


def test_a_reply_sealed_to_another_key_under_our_name_does_not_open(device: Device) -> None:
    sealed = seal(b"content", [device.signer.certificate], Algorithms(), bytes)
    other_key = Signer(key=pooled_key(3), certificate=device.signer.certificate)

    with pytest.raises(BadReply):
        unseal(sealed, other_key)


def test_a_sealed_reply_needs_an_rsa_key_to_open(device: Device) -> None:
    sealed = seal(b"content", [device.signer.certificate], Algorithms(), bytes)
    elliptic = Signer(key=ec.generate_private_key(ec.SECP256R1()), certificate=device.signer.certificate)

    with pytest.raises(BadReply, match="only an RSA key"):
        unseal(sealed, elliptic)


def test_a_success_that_carries_nothing_is_refused(device: Device) -> None:
    with pytest.raises(BadReply, match="carries neither"):
        device.open(SERVER.success(asked(device)))


def test_q02_a_ciphertext_in_pieces_is_joined(device: Device) -> None:
    content = b"c" * 40
    sealed = seal(content, [device.signer.certificate], Algorithms(), bytes)

    pieces = in_pieces(sealed)

    assert sealed != pieces
    assert content == unseal(pieces, device.signer).content


@pytest.mark.parametrize("garbage", [b"", b"\x30", b"<html>", b"\x30\x00", nested(50), nested(5_000), bytes(100_000)])
@pytest.mark.parametrize("read", [lambda raw: read_signed(raw, "It"), lambda raw: read_bag(raw, "It")])
def test_garbage_is_a_bad_reply(garbage: bytes, read: Callable[[bytes], object]) -> None:
    with pytest.raises(BadReply):
        read(garbage)


# A certificate that is odd, not unreadable, makes cryptography warn.
odd_certificates_are_no_fault = pytest.mark.filterwarnings("ignore")

DEVICE = Device()
ISSUED = SERVER.issued(asked(DEVICE))
OPENED = DEVICE.open(ISSUED)


@odd_certificates_are_no_fault
@given(st.data())
@settings(deadline=None, max_examples=400)
def test_a_mutated_reply_is_refused_with_a_client_error_or_means_the_same(data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(ISSUED) - 1))
    length = data.draw(st.integers(0, 8))
    mutated = ISSUED[:position] + data.draw(st.binary(max_size=8)) + ISSUED[position + length :]

    try:
        result = DEVICE.open(mutated)
    except ClientError:
        return
    assert OPENED == result


@odd_certificates_are_no_fault
@given(st.data())
@settings(deadline=None, max_examples=400)
def test_a_mutated_envelope_is_refused_with_a_client_error(data: st.DataObject) -> None:
    envelope = read_signed(ISSUED, "It").content
    position = data.draw(st.integers(0, 420))
    mutated = (
        envelope[:position] + data.draw(st.binary(max_size=4)) + envelope[position + data.draw(st.integers(0, 4)) :]
    )

    try:
        unseal(mutated, DEVICE.signer)
    except ClientError:
        return


@pytest.mark.parametrize("cut", range(0, len(ISSUED), 37))
def test_a_truncated_reply_is_refused(cut: int) -> None:
    with pytest.raises(ClientError):
        DEVICE.open(ISSUED[:cut])


@pytest.mark.parametrize(
    ("name", "message_type", "nonce"),
    [("scep_req2.der", "19", Attribute.SENDER_NONCE), ("scep_resp2.der", "3", Attribute.RECIPIENT_NONCE)],
)
def test_the_sample_of_the_rfcs_author_verifies(name: str, message_type: str, nonce: Attribute) -> None:
    signed = read_signed(vector(f"gutmann-samples/{name}"), "The sample")

    signer = verify_signed(signed, [x509.load_der_x509_certificate(each) for each in signed.certificates])

    assert signed.attributes is not None
    assert signer.serial_number == signed.signer.serial
    assert message_type == signed.attributes[Attribute.MESSAGE_TYPE]
    assert "7XXEY-ERLPU-2JDR9" == signed.attributes[Attribute.TRANSACTION_ID]
    assert bytes.fromhex("E8C57D516909026F3463F8E907FC9856") == signed.attributes[nonce]


def test_the_certificates_of_the_rfcs_author_are_read_in_the_order_sent() -> None:
    certificates = read_bag(vector("gutmann-samples/scep_resp0.der"), "The sample").certificates

    assert "Dave's SCEP CA" == certificates[0].issuer.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value


def test_the_message_of_an_apple_device_opens_and_verifies() -> None:
    signed = read_signed(vector("apple-pkcsreq/PKCSReq.der"), "The sample")
    key = load_der_private_key(vector("apple-pkcsreq/ca.key.der"), None)
    certificate = x509.load_pem_x509_certificate(vector("apple-pkcsreq/ca.crt"))

    signer = verify_signed(signed, [x509.load_der_x509_certificate(each) for each in signed.certificates])
    opened = unseal(signed.content, Signer(key=key, certificate=certificate))  # type: ignore[arg-type]  # it is RSA

    assert "MDM SCEP SIGNER" in signer.subject.rfc4514_string()
    assert (signed.digest, opened.cipher) == (Digest.SHA1, Cipher.DES3_CBC)
    assert b"com.apple.security.scep" in opened.content
