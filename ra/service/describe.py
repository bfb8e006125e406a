"""What a client asks before it enrols: GetCACaps and GetCACert (RFC 8894 §3.5, §4.2)."""

from __future__ import annotations

from cryptography import x509

from ra.scep.encode import certs_only
from ra.scep.names import Capability, Legacy, MediaType
from ra.scep.transport import write_capabilities
from ra.service.endpoint import Endpoint
from ra.service.renew import can_renew


def capabilities(endpoint: Endpoint, *, has_next_ca: bool = False) -> bytes:
    """The tokens of GetCACaps: only what this profile serves, and what it is told to say beside.

    AES, POSTPKIOperation and SHA-256 are implied by SCEPStandard, but without them jscep falls back to DES and MD5 (Q25).
    """
    legacy = endpoint.profile.legacy
    tokens = [Capability.AES, Capability.POST_PKI_OPERATION, Capability.SHA_256, Capability.SHA_512]
    if Legacy.DES3 in legacy:
        tokens.append(Capability.DES3)
    if Legacy.SHA1 in legacy:
        tokens.append(Capability.SHA_1)
    if can_renew(endpoint):
        tokens.append(Capability.RENEWAL)
    if has_next_ca:
        tokens.append(Capability.GET_NEXT_CA_CERT)
    return write_capabilities([*sorted([*tokens, Capability.SCEP_STANDARD]), *endpoint.profile.capabilities_extra])


def ca_certificates(endpoint: Endpoint) -> tuple[bytes, ...]:
    """What GetCACert shows, DER: the RA's certificates first, then the issuer, then what is above it (Q5).

    Clients differ in what they take of it: the profile's `ca_cert_form` may leave some out, or turn it round.
    """
    own, (issuer, *above) = endpoint.identities[0].certificates, endpoint.backend.ca_chain
    match endpoint.profile.ca_cert_form:
        case "chain":
            return (*own, issuer, *above)
        case "without-root":
            return (*own, issuer, *(each for each in above if not _is_root(each)))
        case "issuer":
            return (*own, issuer)
        case "ca-first":
            return (issuer, *above, *own)


def _is_root(certificate: bytes) -> bool:
    loaded = x509.load_der_x509_certificate(certificate)
    return loaded.issuer == loaded.subject


def ca_certificate_message(endpoint: Endpoint) -> tuple[bytes, MediaType]:
    """The body of GetCACert. There is always an RA certificate beside the CA's, so it is always a certs-only message."""
    return certs_only(ca_certificates(endpoint)), MediaType.CA_RA_CERT
