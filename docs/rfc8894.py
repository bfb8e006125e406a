"""What RFC 8894 asks of a server, sentence by sentence: the names that tests go by. Written to a page by docs/conformance.py."""
# ruff: noqa: INP001 - data for a program, no package

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Requirement:
    """One sentence of the RFC that binds a server.

    Attributes:
        key: what a test calls it.
        level: the RFC's word.
        says: what is asked, in short.
        code: where it is done, from the root of the source tree.
        deviation: where and why it is not kept to the letter; empty where it is.
    """

    key: str
    section: str
    level: str
    says: str
    code: str
    deviation: str = ""


REQUIREMENTS: tuple[Requirement, ...] = (
    Requirement(
        "ra-key-usage",
        "2.1.2",
        "MUST",
        "the certificate clients verify and encrypt with has keyUsage digitalSignature and keyEncipherment",
        "ra/keyring/checks.py",
        "It is the RA's certificate, not the CA's: the RFC knows no RA. Signing and decrypting may be two certificates with "
        "one usage each. A CA certificate is refused as a recipient.",
    ),
    Requirement(
        "ca-certificates-in-clear",
        "2.2",
        "MUST",
        "CA certificates can be had before anything is secured",
        "ra/web/scep.py",
    ),
    Requirement(
        "signer-certificate-enclosed",
        "2.3",
        "MUST",
        "the certificate that signs a request is enclosed in it, and the reply is sealed to its key",
        "ra/scep/decode.py",
    ),
    Requirement(
        "renewal-by-certificate",
        "2.3",
        "SHOULD",
        "a certificate of the CA authenticates a renewal",
        "ra/policy/renewal.py",
        "Whatever the messageType: most clients send PKCSReq for a renewal.",
    ),
    Requirement(
        "alternate-ca",
        "2.3",
        "MAY",
        "a certificate of another CA authenticates a request as policy decides",
        "ra/policy/renewal.py",
    ),
    Requirement(
        "subject-and-key-of-the-signer",
        "2.3",
        "SHOULD",
        "a self-signed certificate has the subject and the key of the request",
        "ra/policy/decide.py",
        "Asked of clients, and not demanded: Apple devices sign with another key, Windows with another subject. The key can be "
        'demanded (`signer_key = "same"`); the CSR\'s own signature always proves possession of its key.',
    ),
    Requirement(
        "one-time-challenge",
        "2.4",
        "RECOMMENDED",
        "the challengePassword is a one-time authenticator",
        "ra/challenge/otp.py",
    ),
    Requirement(
        "self-signed-proves-nothing",
        "2.4",
        "MUST NOT",
        "nobody is authenticated by a self-signed certificate",
        "ra/policy/decide.py",
    ),
    Requirement(
        "challenge-beside-a-renewal",
        "2.4",
        "MAY",
        "a renewal may carry the original challenge, and may be asked for one beside its certificate",
        "ra/service/enrol.py",
    ),
    Requirement(
        "manual-authorisation",
        "2.4",
        "MAY",
        "what nobody has authorised is refused, or is PENDING until a person decides",
        "ra/service/operate.py",
    ),
    Requirement("mandatory-caps", "2.9, 3.5", "MUST", "GetCACaps", "ra/web/scep.py"),
    Requirement("mandatory-ca-cert", "2.9", "MUST", "GetCACert", "ra/web/scep.py"),
    Requirement("mandatory-enrolment", "2.9", "MUST", "PKCSReq and its responses", "ra/service/pki_operation.py"),
    Requirement("mandatory-post", "2.9", "MUST", "binary data by HTTP POST", "ra/web/scep.py"),
    Requirement("mandatory-algorithms", "2.9", "MUST", "AES128-CBC and SHA-256", "ra/scep/ciphers.py"),
    Requirement("get", "2.9", "MAY", "binary data by HTTP GET", "ra/scep/transport.py"),
    Requirement(
        "triple-des-and-sha-1",
        "2.9",
        "MAY",
        "triple DES-CBC and SHA-1",
        "ra/scep/ciphers.py",
        'Only where a profile lets them in (`legacy = ["3des", "sha1"]`), each use counted.',
    ),
    Requirement(
        "no-des-no-md5",
        "2.9",
        "MUST NOT",
        "single DES and MD5 are not supported",
        "ra/scep/ciphers.py",
        "By default they are refused. A profile may read them (`des`, `md5`) for devices that know nothing else; a reply is "
        "never made with either.",
    ),
    Requirement(
        "no-data-no-envelope",
        "3",
        "MUST",
        "where there is no messageData, there is no pkcsPKIEnvelope",
        "ra/scep/encode.py",
        "The envelope is left out; the content that would hold it is present and empty, because certmonger reads no reply "
        "without one. Absent, empty and one byte are read alike.",
    ),
    Requirement(
        "rsa-key-transport", "3.1", "-", "sealed to an RSA key by KeyTransRecipientInfo", "ra/scep/enveloped.py"
    ),
    Requirement(
        "password-recipient",
        "3.1",
        "-",
        "sealed by PasswordRecipientInfo, keyed by the challengePassword, where the key cannot receive",
        "ra/scep/enveloped.py",
        "Off by default: the reply would be as secret as the challenge is hard to guess.",
    ),
    Requirement(
        "never-unenveloped", "3.1", "SHOULD NOT", "the envelope is never left out instead", "ra/scep/decode.py"
    ),
    Requirement("content-is-data", "3.2", "MUST", "eContentType is id-data", "ra/scep/signed.py"),
    Requirement(
        "content-matches-type",
        "3.2",
        "MUST",
        "the signed content is an envelope and fits the messageType",
        "ra/scep/decode.py",
    ),
    Requirement("signed-attributes", "3.2", "MUST", "there are authenticated attributes", "ra/scep/signed.py"),
    Requirement(
        "attributes-of-every-message",
        "3.2.1",
        "MUST",
        "transactionID, messageType and a fresh senderNonce in every message, beside what CMS needs",
        "ra/scep/encode.py",
        "Of requests the senderNonce is not demanded: some devices send none.",
    ),
    Requirement(
        "attributes-of-a-reply",
        "3.2.1",
        "MUST",
        "pkiStatus and recipientNonce in every CertRep, failInfo in a FAILURE",
        "ra/scep/encode.py",
    ),
    Requirement("printable-strings", "3.2.1", "-", "attributes in the types of Table 2", "ra/scep/encode.py"),
    Requirement(
        "same-transaction-id",
        "3.2.1.1",
        "MUST",
        "the transactionID is the same in all messages of an operation",
        "ra/scep/encode.py",
        "Echoed byte for byte, whatever string type a device sent it in.",
    ),
    Requirement(
        "unknown-types-are-errors",
        "3.2.1.2",
        "MUST",
        "a messageType that is not defined is an error",
        "ra/scep/decode.py",
    ),
    Requirement("status-is-defined", "3.2.1.3", "MUST", "pkiStatus is 0, 2 or 3", "ra/scep/names.py"),
    Requirement("reason-is-defined", "3.2.1.4", "MUST", "failInfo is one of the five", "ra/service/outcome.py"),
    Requirement(
        "time-is-not-judged",
        "3.2.1.4",
        "-",
        "badTime where signingTime is too far from the time",
        "ra/scep/decode.py",
        "Never used: devices enrol with a clock that is not set yet, and a repeated request only gets the same answer again.",
    ),
    Requirement(
        "text-is-for-people", "3.2.1.4", "SHOULD NOT", "nothing machine-readable in failInfoText", "ra/errors.py"
    ),
    Requirement(
        "nonce-is-copied",
        "3.2.1.5",
        "MUST",
        "recipientNonce is the request's senderNonce",
        "ra/scep/encode.py",
        "Our own senderNonce has 16 bytes, or 8 where the request's had 8, as old iOS devices expect.",
    ),
    Requirement(
        "envelope-holds-data", "3.2.2", "MUST", "encryptedContentInfo is of type id-data", "ra/scep/enveloped.py"
    ),
    Requirement("envelope-matches-type", "3.2.2", "MUST", "what is sealed fits the messageType", "ra/scep/decode.py"),
    Requirement(
        "request-contents",
        "3.3.1",
        "MUST",
        "a request has a subject, a public key, and a challengePassword where a shared secret authorises",
        "ra/policy/names.py",
        "An empty subject passes beside a subject alternative name.",
    ),
    Requirement("no-nonce-chain", "3.3.2", "-", "nonces are not chained across polls", "ra/service/poll.py"),
    Requirement(
        "issued-is-leaf",
        "3.3.2.1",
        "MUST",
        "SUCCESS holds the issued certificate, and it is the leaf",
        "ra/scep/encode.py",
    ),
    Requirement(
        "requested-is-leaf",
        "3.3.2.1",
        "MUST",
        "the answer to GetCert holds the requested certificate as the leaf",
        "ra/service/retrieve.py",
    ),
    Requirement("crl-in-crls", "3.3.2.1", "MUST", "the answer to GetCRL holds the CRL in crls", "ra/scep/encode.py"),
    Requirement("failure-says-why", "3.3.2.2", "MUST", "FAILURE has failInfo and no envelope", "ra/scep/encode.py"),
    Requirement("pending-is-empty", "3.3.2.3", "MUST", "PENDING has no envelope", "ra/scep/encode.py"),
    Requirement(
        "poll-by-transaction",
        "3.3.3",
        "SHOULD",
        "a poll is answered by transactionID and recipient, not by what is sealed in it",
        "ra/service/poll.py",
        "And by the key that signs it: a transactionID can be guessed. The sealed part is not opened.",
    ),
    Requirement(
        "prefer-stores",
        "3.3.4",
        "SHOULD",
        "certificates and CRLs are had from elsewhere than GetCert and GetCRL",
        "ra/service/retrieve.py",
        "Both are off unless a profile switches them on.",
    ),
    Requirement(
        "degenerate-content", "3.4", "MUST", "a degenerate SignedData has no content and no signer", "ra/scep/signed.py"
    ),
    Requirement("more-caps", "3.5.2", "MAY", "further keywords", "ra/policy/profile.py"),
    Requirement("caps-case", "3.5.2", "MUST", "keywords in the case of Table 7, one a line", "ra/scep/transport.py"),
    Requirement(
        "standard-implies",
        "3.5.2",
        "-",
        "SCEPStandard promises AES, POSTPKIOperation and SHA-256; they are announced beside it",
        "ra/service/describe.py",
    ),
    Requirement(
        "usual-algorithms",
        "3.5.2",
        "SHOULD",
        "AES128-CBC and SHA-256 are used, of all that CMS could name",
        "ra/scep/ciphers.py",
        "A reply is made with the request's cipher and digest, AES and SHA-2 of whatever length: the device has shown that it "
        "knows them. AES128-CBC and SHA-256 where the request shows none.",
    ),
    Requirement(
        "caps-of-nothing",
        "3.5.2",
        "SHOULD",
        "where none of the keywords holds, the answer is empty",
        "ra/service/describe.py",
        "Never so: what §2.9 demands is always there, and always announced.",
    ),
    Requirement("caps-text-plain", "3.5.2", "SHOULD", "the answer to GetCACaps is text/plain", "ra/web/replies.py"),
    Requirement(
        "any-path", "4.1", "SHOULD", "SCEPPATH is ignored", "ra/web/scep.py", "But for the part that names a profile."
    ),
    Requirement(
        "base64-in-get",
        "4.1",
        "MUST",
        "base64 of RFC 4648 §4, escaped, in a GET",
        "ra/scep/transport.py",
        "Read in the forms that clients really send: a literal plus or a blank, base64url, line breaks.",
    ),
    Requirement(
        "single-ca",
        "4.2.1.1",
        "-",
        "without intermediates GetCACert is one certificate, application/x-x509-ca-cert",
        "ra/service/describe.py",
        "There is always the RA's certificate beside the CA's, so the answer is always the list below.",
    ),
    Requirement(
        "chain-of-cas",
        "4.2.1.2",
        "-",
        "otherwise a certs-only message, application/x-x509-ca-ra-cert",
        "ra/service/describe.py",
        "The RA's certificate comes first, unless `ca_cert_form` says otherwise: clients without a rule of their own take the first.",
    ),
    Requirement("operation-of-post", "4.3", "-", "a POST is a PKIOperation, said or not", "ra/web/scep.py"),
    Requirement("reply-media-type", "4.3.1", "-", "replies are application/x-pki-message", "ra/web/scep.py"),
    Requirement(
        "poll-needs-a-request", "4.4", "MUST", "a CertPoll without a matching request is rejected", "ra/service/poll.py"
    ),
    Requirement(
        "query-is-decided", "4.5.1", "-", "GetCert is granted or rejected, never PENDING", "ra/service/retrieve.py"
    ),
    Requirement(
        "crl-alone", "4.6.1", "-", "the answer to GetCRL holds the most recent CRL, and only that", "ra/service/crls.py"
    ),
    Requirement(
        "next-ca-signed",
        "4.7.1",
        "-",
        "GetNextCACert is signed by the current CA key, application/x-x509-next-ca-cert",
        "ra/service/rollover.py",
        "Where the connector can have the CA sign. Else it is not offered, unless a profile has the RA sign: an RA has no CA key.",
    ),
    Requirement(
        "rollover-recipient",
        "4.7",
        "-",
        "a request is answered under the key it addresses, old or new",
        "ra/service/pki_operation.py",
    ),
    Requirement(
        "new-transaction-after-loss",
        "5.2",
        "SHOULD",
        "a client that lost the answer starts anew, and gets its certificate",
        "ra/journal/transactions.py",
        "The RFC's example ends in FAILURE; here the same request gets the same certificate.",
    ),
)
