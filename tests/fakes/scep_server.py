"""A SCEP server made of the client's own codec: a CA, its RA, and the replies a test asks for. It decides nothing."""

from __future__ import annotations

import os
from base64 import b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import parse_qs

import httpx
from asn1crypto import cms, core, parser
from asn1crypto import crl as asn1_crl
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ra.client.algorithms import Algorithms
from ra.client.authority import CaCertificates, read_ca_certificates
from ra.client.enveloped import seal, unseal
from ra.client.names import Attribute, FailInfo, MessageType, PkiStatus
from ra.client.signed import Signer, Value, read_signed, verify_signed, write_signed
from tests.fakes.device import NOW, pooled_key

CAPABILITIES = b"AES\nPOSTPKIOperation\nRenewal\nSHA-256\nSCEPStandard\nGetNextCACert\n"
NONCE = b"n" * 16

_UNIVERSAL, _CONTEXT, _CONSTRUCTED = 0, 2, 1


def name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def key_usage(*allowed: str) -> x509.KeyUsage:
    bits = [
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ]
    return x509.KeyUsage(**{bit: bit in allowed for bit in bits})


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A certificate and its key, able to issue."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey

    @classmethod
    def root(cls, common_name: str, key: rsa.RSAPrivateKey) -> Authority:
        builder = _builder(name(common_name), name(common_name), key.public_key(), serial=1)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        return cls(certificate=builder.sign(key, hashes.SHA256()), key=key)

    def issue(
        self, subject: x509.Name, key: CertificatePublicKeyTypes, *extensions: x509.ExtensionType, serial: int = 1000
    ) -> x509.Certificate:
        builder = _builder(subject, self.certificate.subject, key, serial)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def issue_ca(self, common_name: str, key: rsa.RSAPrivateKey) -> Authority:
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        return Authority(certificate=self.issue(name(common_name), key.public_key(), constraints, serial=2), key=key)

    def crl(self, *revoked: int) -> x509.CertificateRevocationList:
        builder = x509.CertificateRevocationListBuilder(self.certificate.subject, NOW, NOW + timedelta(days=1))
        for serial in revoked:
            entry = x509.RevokedCertificateBuilder(serial, NOW).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, hashes.SHA256())


@dataclass(frozen=True, kw_only=True)
class Received:
    """A request as the RA reads it; `content` is what was in the envelope."""

    message_type: str
    transaction_id: str
    sender_nonce: bytes
    certificate: x509.Certificate
    content: bytes

    @property
    def csr(self) -> x509.CertificateSigningRequest:
        return x509.load_der_x509_csr(self.content)


@dataclass
class ScepServer:
    """Answers with what it is told to; `requests` keeps what was asked over HTTP."""

    issuer: Authority = field(default_factory=lambda: Authority.root("Fake CA", pooled_key(100)))
    ra_key: rsa.RSAPrivateKey = field(default_factory=lambda: pooled_key(101))
    capabilities: bytes = CAPABILITIES
    algorithms: Algorithms = field(default_factory=Algorithms)
    requests: list[httpx.Request] = field(default_factory=list)

    @property
    def ra(self) -> Signer:
        usage = key_usage("digital_signature", "key_encipherment")
        certificate = self.issuer.issue(name("Fake RA"), self.ra_key.public_key(), usage, serial=10)
        return Signer(key=self.ra_key, certificate=certificate)

    @property
    def ca_certificates(self) -> CaCertificates:
        return read_ca_certificates(self.get_ca_cert())

    def get_ca_cert(self) -> bytes:
        return bag([self.ra.certificate, self.issuer.certificate])

    def receive(self, message: bytes) -> Received:
        """Reads a request, verified and opened."""
        signed = read_signed(message, "The request")
        certificate = verify_signed(signed, [x509.load_der_x509_certificate(each) for each in signed.certificates])
        texts = {oid: value for oid, value in (signed.attributes or {}).items() if isinstance(value, str)}
        nonce = (signed.attributes or {}).get(Attribute.SENDER_NONCE, b"")
        assert isinstance(nonce, bytes)
        return Received(
            message_type=texts[Attribute.MESSAGE_TYPE],
            transaction_id=texts[Attribute.TRANSACTION_ID],
            sender_nonce=nonce,
            certificate=certificate,
            content=unseal(signed.content, self.ra).content,
        )

    def issue(self, request: Received, serial: int = 1000) -> x509.Certificate:
        return self.issuer.issue(request.csr.subject, request.csr.public_key(), serial=serial)

    def issued(self, request: Received) -> bytes:
        """SUCCESS with a certificate for the key and subject of the CSR."""
        return self.success(request, [self.issue(request)])

    def success(
        self,
        request: Received,
        certificates: Sequence[x509.Certificate] = (),
        crls: Sequence[x509.CertificateRevocationList] = (),
    ) -> bytes:
        envelope = seal(bag(certificates, crls), [request.certificate], self.algorithms, os.urandom)
        return self.reply(request, envelope, {Attribute.PKI_STATUS: PkiStatus.SUCCESS})

    def failure(self, request: Received, fail_info: FailInfo, text: str = "") -> bytes:
        attributes: dict[Attribute, Value] = {Attribute.PKI_STATUS: PkiStatus.FAILURE, Attribute.FAIL_INFO: fail_info}
        if text:
            attributes[Attribute.FAIL_INFO_TEXT] = text
        return self.reply(request, b"", attributes)

    def pending(self, request: Received) -> bytes:
        return self.reply(request, b"", {Attribute.PKI_STATUS: PkiStatus.PENDING})

    def reply(self, request: Received, content: bytes | None, attributes: dict[Attribute, Value]) -> bytes:
        """A CertRep; `attributes` come last and may contradict the request."""
        answer: dict[Attribute, Value] = {
            Attribute.MESSAGE_TYPE: MessageType.CERT_REP,
            Attribute.TRANSACTION_ID: request.transaction_id,
            Attribute.RECIPIENT_NONCE: request.sender_nonce,
            Attribute.SENDER_NONCE: NONCE,
        }
        return write_signed(content, answer | attributes, self.ra, self.algorithms.digest)

    def http(self, answer: Callable[[Received], bytes | httpx.Response]) -> httpx.Client:
        """A client whose PKIOperations are answered by `answer`, given what was received."""

        def handle(request: httpx.Request) -> httpx.Response:
            self.requests.append(request)
            query = parse_qs(request.url.query.decode("ascii"))
            match query["operation"][0]:
                case "GetCACaps":
                    return httpx.Response(200, content=self.capabilities)
                case "GetCACert":
                    return httpx.Response(200, content=self.get_ca_cert())
                case _:
                    found = answer(self.receive(request.content or b64decode(query["message"][0])))
                    return found if isinstance(found, httpx.Response) else httpx.Response(200, content=found)

        return httpx.Client(transport=httpx.MockTransport(handle))


def bag(certificates: Sequence[x509.Certificate] = (), crls: Sequence[x509.CertificateRevocationList] = ()) -> bytes:
    """A degenerate SignedData, DER (asn1crypto sorts the certificates)."""
    data = cms.SignedData(
        {
            "version": "v1",
            "digest_algorithms": [],
            "encap_content_info": {"content_type": "data"},
            "certificates": [asn1_x509.Certificate.load(each.public_bytes(Encoding.DER)) for each in certificates],
            "crls": [asn1_crl.CertificateList.load(each.public_bytes(Encoding.DER)) for each in crls],
            "signer_infos": [],
        }
    )
    return bytes(cms.ContentInfo({"content_type": "signed_data", "content": data}).dump())


def nested(depth: int) -> bytes:
    """SEQUENCEs within each other, DER."""
    value = b""
    for _ in range(depth):
        value = _constructed(value)
    return value


def in_pieces(sealed: bytes) -> bytes:
    """An envelope with its ciphertext in two OCTET STRINGs under a constructed [0], as BER allows."""
    data = cms.ContentInfo.load(sealed)["content"]
    encrypted = data["encrypted_content_info"]
    ciphertext = encrypted["encrypted_content"].native
    pieces = b"".join(core.OctetString(each).dump() for each in (ciphertext[:10], ciphertext[10:]))
    head = encrypted["content_type"].dump() + encrypted["content_encryption_algorithm"].dump()
    rewritten = _constructed(head + parser.emit(_CONTEXT, _CONSTRUCTED, 0, pieces))
    enveloped = _constructed(data["version"].dump() + data["recipient_infos"].dump() + rewritten)
    kind = cms.ContentType("enveloped_data").dump()
    return _constructed(kind + parser.emit(_CONTEXT, _CONSTRUCTED, 0, enveloped))


def _constructed(content: bytes) -> bytes:
    return bytes(parser.emit(_UNIVERSAL, _CONSTRUCTED, core.Sequence.tag, content))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: CertificatePublicKeyTypes, serial: int
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key,
        serial_number=serial,
        not_valid_before=NOW - timedelta(days=1),
        not_valid_after=NOW + timedelta(days=365),
    )
