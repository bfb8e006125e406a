from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from ra.client.algorithms import Algorithms, Key
from ra.client.client import Enrolled, ScepClient, Waiting
from ra.client.csr import read_subject, write_csr
from ra.client.errors import BadArgument, BadReply, NotOffered, RequestFailed, TooWeak
from ra.client.names import Cipher, Digest, FailInfo, MessageType
from ra.client.signed import write_signed
from tests.fakes.device import NOW, pooled_key
from tests.fakes.scep_server import Authority, Received, ScepServer, bag

Answer = Callable[[Received], bytes | httpx.Response]

KEY = pooled_key(0)
SUBJECT = read_subject("CN=device.example")
CSR = write_csr(KEY, SUBJECT, challenge_password="secret")
ELLIPTIC = ec.generate_private_key(ec.SECP256R1())


def client(server: ScepServer, answer: Answer, url: str = "http://ra.example/scep", **options: object) -> ScepClient:
    return ScepClient(url, server.http(answer), now=lambda: NOW, **options)  # type: ignore[arg-type]  # tests choose


@pytest.fixture
def server() -> ScepServer:
    return ScepServer()


def test_enrolment_yields_a_certificate_for_our_key(server: ScepServer) -> None:
    received: list[Received] = []

    def answer(request: Received) -> bytes:
        received.append(request)
        return server.issued(request)

    enrolled = client(server, answer).enrol(KEY, CSR)

    assert isinstance(enrolled, Enrolled)
    assert KEY.public_key() == enrolled.certificate.public_key()
    assert (received[0].message_type, received[0].content) == (MessageType.PKCS_REQ, CSR)
    assert SUBJECT == received[0].certificate.subject == received[0].certificate.issuer
    assert enrolled.transaction.transaction_id == received[0].transaction_id


def test_a_device_with_an_elliptic_key_signs_with_an_rsa_key_of_its_own(server: ScepServer) -> None:
    enrolled = client(server, server.issued).enrol(ELLIPTIC, write_csr(ELLIPTIC, SUBJECT))

    assert isinstance(enrolled, Enrolled)
    assert ELLIPTIC.public_key() == enrolled.certificate.public_key()
    assert isinstance(enrolled.transaction.signer.key, rsa.RSAPrivateKey)


def test_pending_is_polled_with_the_same_transaction(server: ScepServer) -> None:
    received: list[Received] = []

    def answer(request: Received) -> bytes:
        received.append(request)
        if len(received) < 3:
            return server.pending(request)
        return server.success(request, [server.issue(received[0])])

    scep = client(server, answer)
    waiting = scep.enrol(KEY, CSR)
    assert isinstance(waiting, Waiting)
    assert waiting == scep.poll(waiting.transaction)
    enrolled = scep.poll(waiting.transaction)

    assert isinstance(enrolled, Enrolled)
    assert ["19", "20", "20"] == [each.message_type for each in received]
    assert 1 == len({each.transaction_id for each in received})
    assert 3 == len({each.sender_nonce for each in received})


@pytest.mark.parametrize(("capability", "expected"), [(b"Renewal\n", "17"), (b"", "19")])
def test_renewal_is_signed_by_the_old_certificate(server: ScepServer, capability: bytes, expected: str) -> None:
    received: list[Received] = []
    server.capabilities = b"SCEPStandard\n" + capability

    def answer(request: Received) -> bytes:
        received.append(request)
        return server.issued(request)

    scep = client(server, answer)
    first = scep.enrol(KEY, CSR)
    assert isinstance(first, Enrolled)
    new_key = pooled_key(1)
    second = scep.renew(first.signer, new_key, write_csr(new_key, SUBJECT))

    assert isinstance(second, Enrolled)
    assert new_key.public_key() == second.certificate.public_key()
    assert (expected, first.certificate) == (received[1].message_type, received[1].certificate)


def test_a_renewal_that_could_not_be_answered_is_not_sent(server: ScepServer) -> None:
    scep = client(server, server.issued)
    enrolled = scep.enrol(ELLIPTIC, write_csr(ELLIPTIC, SUBJECT))
    assert isinstance(enrolled, Enrolled)
    sent = len(server.requests)

    with pytest.raises(BadArgument, match="not RSA"):
        scep.renew(enrolled.signer, ELLIPTIC, write_csr(ELLIPTIC, SUBJECT))

    assert sent == len(server.requests)


def test_a_refusal_is_an_error_with_the_servers_reason(server: ScepServer) -> None:
    scep = client(server, lambda request: server.failure(request, FailInfo.BAD_REQUEST, "Not today."))

    with pytest.raises(RequestFailed, match=r"BAD_REQUEST \(Not today\.\)") as caught:
        scep.enrol(KEY, CSR)

    assert (caught.value.fail_info, caught.value.text) == (FailInfo.BAD_REQUEST, "Not today.")


def test_a_certificate_for_another_key_is_refused(server: ScepServer) -> None:
    other = server.issuer.issue(SUBJECT, ELLIPTIC.public_key())

    with pytest.raises(BadReply, match="no certificate for our key"):
        client(server, lambda request: server.success(request, [other])).enrol(KEY, CSR)


def test_a_certificate_of_another_ca_is_refused(server: ScepServer) -> None:
    other = Authority.root("Stranger", pooled_key(3)).issue(SUBJECT, KEY.public_key())

    with pytest.raises(BadReply, match="does not chain"):
        client(server, lambda request: server.success(request, [other])).enrol(KEY, CSR)


def test_certificates_beside_the_leaf_are_returned_with_it(server: ScepServer) -> None:
    def answer(request: Received) -> bytes:
        return server.success(request, [server.issuer.certificate, server.issue(request)])

    enrolled = client(server, answer).enrol(KEY, CSR)

    assert isinstance(enrolled, Enrolled)
    assert (server.issuer.certificate,) == enrolled.chain


@pytest.mark.parametrize(
    ("algorithms", "sentence"),
    [(Algorithms(cipher=Cipher.DES_CBC), "made with des"), (Algorithms(digest=Digest.SHA1), "made with sha1")],
)
def test_a_reply_below_the_floor_is_refused_unless_legacy_is_allowed(
    server: ScepServer, algorithms: Algorithms, sentence: str
) -> None:
    server.algorithms = algorithms

    with pytest.raises(TooWeak, match=sentence):
        client(server, server.issued).enrol(KEY, CSR)
    assert isinstance(client(server, server.issued, legacy=True).enrol(KEY, CSR), Enrolled)


def test_a_server_without_modern_algorithms_is_not_asked(server: ScepServer) -> None:
    server.capabilities = b"DES3\nSHA-1\n"

    with pytest.raises(TooWeak):
        client(server, server.issued).enrol(KEY, CSR)

    assert not [each for each in server.requests if "PKIOperation" in str(each.url)]


def test_post_is_used_where_it_is_announced_and_get_where_it_is_not(server: ScepServer) -> None:
    client(server, server.issued).enrol(KEY, CSR)
    server.capabilities = b"AES\nSHA-256\n"
    client(server, server.issued, url="http://ra.example/scep?ca_id=1").enrol(KEY, CSR)

    operations = [each for each in server.requests if "PKIOperation" in str(each.url)]
    assert ["POST", "GET"] == [each.method for each in operations]
    assert "application/x-pki-message" == operations[0].headers["Content-Type"]
    assert operations[1].url.query.startswith(b"ca_id=1&operation=PKIOperation&message=MII")
    assert not {b"+", b"/", b" "} & {bytes([each]) for each in operations[1].url.query.partition(b"message=")[2]}


def test_capabilities_and_certificates_are_fetched_once(server: ScepServer) -> None:
    scep = client(server, server.issued)
    scep.enrol(KEY, CSR)
    scep.enrol(KEY, CSR)

    assert 4 == len(server.requests)


def test_the_fingerprint_is_checked_before_anything_is_sent(server: ScepServer) -> None:
    fingerprint = server.issuer.certificate.fingerprint(hashes.SHA256()).hex()

    assert isinstance(client(server, server.issued, ca_fingerprint=fingerprint).enrol(KEY, CSR), Enrolled)
    with pytest.raises(BadReply, match="do not trust"):
        client(server, server.issued, ca_fingerprint="00" * 32).enrol(KEY, CSR)
    assert 1 == len([each for each in server.requests if "PKIOperation" in str(each.url)])


@pytest.mark.parametrize(("key", "csr"), [(ELLIPTIC, CSR), (KEY, b"no CSR")])
def test_a_csr_that_does_not_fit_is_refused_before_anything_is_sent(server: ScepServer, key: Key, csr: bytes) -> None:
    with pytest.raises(BadArgument):
        client(server, server.issued).enrol(key, csr)

    assert [] == server.requests


def test_getcert_returns_the_certificate_asked_for(server: ScepServer) -> None:
    certificate = server.issuer.issue(SUBJECT, KEY.public_key(), serial=4711)
    scep = client(server, lambda request: server.success(request, [certificate]))
    signer = scep.new_signer(KEY, SUBJECT)

    assert certificate == scep.get_cert(4711, signer)
    with pytest.raises(BadReply, match="another certificate"):
        scep.get_cert(4712, signer)


def test_getcrl_returns_the_crl_of_the_ca_and_no_other(server: ScepServer) -> None:
    stranger = Authority.root("Fake CA", pooled_key(3))
    good, forged = server.issuer.crl(4711), stranger.crl()
    scep = client(server, lambda request: server.success(request, crls=[good]))
    misled = client(server, lambda request: server.success(request, crls=[forged]))

    assert good == scep.get_crl(4711, scep.new_signer(KEY, SUBJECT))
    with pytest.raises(BadReply, match="no CRL that the CA signed"):
        misled.get_crl(4711, misled.new_signer(KEY, SUBJECT))


def test_a_query_cannot_be_pending(server: ScepServer) -> None:
    scep = client(server, server.pending)

    with pytest.raises(BadReply, match="PENDING to a query"):
        scep.get_cert(1, scep.new_signer(KEY, SUBJECT))


def test_the_next_ca_is_asked_for_where_it_is_announced(server: ScepServer) -> None:
    following = Authority.root("Next", pooled_key(3)).certificate
    body = write_signed(bag([following]), {}, server.ra, Digest.SHA256)

    def handle(request: httpx.Request) -> httpx.Response:
        bodies = {b"GetCACaps": server.capabilities, b"GetCACert": server.get_ca_cert(), b"GetNextCACert": body}
        return httpx.Response(200, content=bodies[request.url.query.partition(b"=")[2]])

    scep = ScepClient("http://ra.example/scep", httpx.Client(transport=httpx.MockTransport(handle)))

    assert (following,) == scep.next_ca()


def test_the_next_ca_is_not_asked_for_where_it_is_not_announced(server: ScepServer) -> None:
    server.capabilities = b"SCEPStandard\n"

    with pytest.raises(NotOffered, match="GetNextCACert"):
        client(server, server.issued).next_ca()


def test_a_server_without_an_rsa_key_cannot_be_asked() -> None:
    certificate = _elliptic_root()

    def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=certificate if b"GetCACert" in request.url.query else b"SCEPStandard")

    scep = ScepClient("http://ra.example/scep", httpx.Client(transport=httpx.MockTransport(handle)))

    with pytest.raises(NotOffered, match="no RSA key"):
        scep.enrol(KEY, CSR)


def test_secrets_do_not_show_in_a_repr(server: ScepServer) -> None:
    enrolled = client(server, server.issued).enrol(KEY, CSR)

    assert "RSAPrivateKey" not in repr(enrolled)
    assert "secret" not in repr(enrolled)


def _elliptic_root() -> bytes:
    root = Authority.root("Root", pooled_key(3))
    constraints = x509.BasicConstraints(ca=True, path_length=None)
    return root.issue(root.certificate.subject, ELLIPTIC.public_key(), constraints).public_bytes(Encoding.DER)
