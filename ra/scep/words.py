"""What codes, attributes and oddities are called when a message is explained to a person."""

from __future__ import annotations

from ra.scep.names import FailInfo, MessageType, Oid, PkiStatus

ODDITIES = {
    "ber": "BER instead of DER: indefinite lengths or strings in pieces. jscep and others on Bouncy Castle.",
    "split-ciphertext": "The ciphertext stands in a constructed [0]. Debian's scepclient 2.1.0, old Go libraries, jscep.",
    "unsorted-attributes": "The signed attributes are not in DER order. OpenXPKI's and other old CMS libraries.",
    "reply-without-nonce": "A CertRep without a senderNonce, against RFC 8894 §3.2.1. Gutmann's sample reply is one.",
    "no-nonce": "There is no senderNonce, which RFC 8894 §3.2.1.5 demands. Some embedded clients.",
    "nonce-8": "The senderNonce has 8 bytes instead of 16. Older iOS and macOS, which expect 8 in the reply too.",
    "nonce-length": "The senderNonce has neither 16 bytes nor 8.",
    "transaction-id-tag": "The transactionID is no PrintableString.",
    "extra-certificates": "More certificates than the signer's are enclosed. Clients that renew send their chain.",
    "signer-serial": "The signer's serial number is zero, negative or over 20 bytes. sscep uses 32 bytes.",
    "signer-by-key-id": "The signer is named by a subject key identifier.",
    "several-recipients": "Sealed to several certificates. scepclient without -ca-fingerprint seals to all of GetCACert.",
    "recipient-by-key-id": "The recipient is named by a subject key identifier.",
    "issuer-re-encoded": "The recipient's issuer is spelled with other string types than in our certificate. Windows.",
    "oaep": "The content key is wrapped with RSAES-OAEP. Windows with a CNG key.",
    "csr-version-1": "The PKCS #10 says version 1; there is only 0.",
    "csr-version-2": "The PKCS #10 says version 2; there is only 0. iOS and macOS.",
    "csr-no-attributes": "The PKCS #10 leaves its attributes out instead of leaving them empty.",
    "csr-unsorted-attributes": "The attributes of the PKCS #10 are not in DER order. strongSwan up to 5.9.8.",
    "csr-ms-extension-request": "Extensions are asked for under Microsoft's own attribute type. Old Windows.",
    "csr-unprintable-string": "A PrintableString holds characters it must not, such as @ or *. Old stacks.",
}
"""Every word that a message's or a CSR's `oddities` may hold, and who is known for it."""

MESSAGE_TYPES: dict[str, str] = {
    MessageType.CERT_REP: "CertRep: a reply",
    MessageType.RENEWAL_REQ: "RenewalReq: a request to renew a certificate",
    MessageType.PKCS_REQ: "PKCSReq: a request for a certificate",
    MessageType.CERT_POLL: "CertPoll: a question how a pending request stands",
    MessageType.GET_CERT: "GetCert: a question for an issued certificate",
    MessageType.GET_CRL: "GetCRL: a question for the CRL",
}
FAIL_INFOS: dict[str, str] = {
    FailInfo.BAD_ALG: "badAlg: an algorithm is not supported or not allowed",
    FailInfo.BAD_MESSAGE_CHECK: "badMessageCheck: the signature of the request did not verify",
    FailInfo.BAD_REQUEST: "badRequest: not permitted; a wrong challenge looks like this too",
    FailInfo.BAD_TIME: "badTime: the signing time is too far off",
    FailInfo.BAD_CERT_ID: "badCertId: nothing matches the question",
}
STATUSES: dict[str, str] = {
    PkiStatus.SUCCESS: "SUCCESS",
    PkiStatus.FAILURE: "FAILURE",
    PkiStatus.PENDING: "PENDING: come back later",
}
UNDEFINED = "not defined by RFC 8894: an error"
SIGNED_ATTRIBUTES = {
    Oid.CONTENT_TYPE: "contentType",
    Oid.MESSAGE_DIGEST: "messageDigest",
    Oid.SIGNING_TIME: "signingTime",
    Oid.MESSAGE_TYPE: "messageType",
    Oid.PKI_STATUS: "pkiStatus",
    Oid.FAIL_INFO: "failInfo",
    Oid.FAIL_INFO_TEXT: "failInfoText",
    Oid.SENDER_NONCE: "senderNonce",
    Oid.RECIPIENT_NONCE: "recipientNonce",
    Oid.TRANSACTION_ID: "transactionID",
    "1.2.840.113549.1.9.15": "SMIMECapabilities",
    "1.2.840.113549.1.9.52": "cmsAlgorithmProtection (jscep)",
    "1.3.6.1.4.1.311.21.33": "the HRESULT of NDES",
}
RDN_ATTRIBUTES = {
    "2.5.4.3": "CN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "emailAddress",
    "1.2.840.113549.1.9.2": "unstructuredName",
}
