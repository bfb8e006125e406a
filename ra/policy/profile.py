"""What one enrolment endpoint may certify: a Profile, every option of which is safe unless it is set otherwise.

Field names are the keys of `[profiles.NAME]`, and the sentence below a field is its documentation there. Values only;
the rules that read them are in ra/policy/rules.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from connectors.api import KeyUsage, SanKind
from ra.errors import Misconfigured
from ra.scep.names import Capability, Legacy

Handling = Literal["strip", "refuse"]
"""`strip`: the certificate is issued without it. `refuse`: the request is refused."""

RSA_LIMITS_BITS = (1024, 8192)
"""Outside of it no profile can go: below is breakable, above a signature costs a server too much."""

MAX_VALIDITY_DAYS = 36_500

MAX_WAIT_SECONDS = 30
"""Nobody is sure to wait longer for an answer."""

ANY_EXTENDED_KEY_USAGE = "2.5.29.37.0"

SUBJECT_ATTRIBUTES: Mapping[str, str] = {
    "commonName": "2.5.4.3",
    "surname": "2.5.4.4",
    "serialNumber": "2.5.4.5",
    "countryName": "2.5.4.6",
    "localityName": "2.5.4.7",
    "stateOrProvinceName": "2.5.4.8",
    "streetAddress": "2.5.4.9",
    "organizationName": "2.5.4.10",
    "organizationalUnitName": "2.5.4.11",
    "title": "2.5.4.12",
    "postalCode": "2.5.4.17",
    "name": "2.5.4.41",
    "givenName": "2.5.4.42",
    "initials": "2.5.4.43",
    "generationQualifier": "2.5.4.44",
    "dnQualifier": "2.5.4.46",
    "pseudonym": "2.5.4.65",
    "userId": "0.9.2342.19200300.100.1.1",
    "domainComponent": "0.9.2342.19200300.100.1.25",
    "emailAddress": "1.2.840.113549.1.9.1",
    "unstructuredName": "1.2.840.113549.1.9.2",
    "unstructuredAddress": "1.2.840.113549.1.9.8",
}
"""Names that a configuration may use for the attributes of a subject; a dotted OID does as well."""

EXTENDED_KEY_USAGES: Mapping[str, str] = {
    "serverAuth": "1.3.6.1.5.5.7.3.1",
    "clientAuth": "1.3.6.1.5.5.7.3.2",
    "codeSigning": "1.3.6.1.5.5.7.3.3",
    "emailProtection": "1.3.6.1.5.5.7.3.4",
    "timeStamping": "1.3.6.1.5.5.7.3.8",
    "ocspSigning": "1.3.6.1.5.5.7.3.9",
    "ipsecIke": "1.3.6.1.5.5.7.3.17",
    "smartcardLogon": "1.3.6.1.4.1.311.20.2.2",
    "enrollmentAgent": "1.3.6.1.4.1.311.20.2.1",
    "pkinitClientAuth": "1.3.6.1.5.2.3.4",
    "pkinitKdc": "1.3.6.1.5.2.3.5",
}
"""Names that a configuration may use for extended key usages; a dotted OID does as well."""

_CAPABILITY = re.compile(r"[!-~]{1,64}")
_DOTTED = re.compile(r"[0-2](\.(0|[1-9][0-9]{0,17})){1,30}")


class Curve(StrEnum):
    """Curves that a key to be certified may be on."""

    P256 = "P-256"
    P384 = "P-384"
    P521 = "P-521"
    ED25519 = "Ed25519"
    ED448 = "Ed448"


def attribute_oid(word: str) -> str:
    """The dotted OID of a subject attribute, given by name or as an OID.

    Raises:
        Misconfigured: neither.
    """
    return _oid(word, SUBJECT_ATTRIBUTES, "subject attribute")


def extended_key_usage_oid(word: str) -> str:
    """The dotted OID of an extended key usage, given by name or as an OID.

    Raises:
        Misconfigured: neither.
    """
    return _oid(word, EXTENDED_KEY_USAGES, "extended key usage")


def _oid(word: str, names: Mapping[str, str], noun: str) -> str:
    if word in names:
        return names[word]
    if _DOTTED.fullmatch(word):
        return word
    raise Misconfigured(f"{word!r} is no {noun}: write a dotted OID or one of {', '.join(names)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What one endpoint lets in and certifies.

    Raises:
        Misconfigured: options that cannot be meant; the message names the option.
    """

    name: str

    legacy: frozenset[Legacy] = frozenset()
    """Algorithms let in beside today's: `3des`, `sha1`, `des`, `md5`. Each use is counted."""

    challenge_password_required: bool = True
    """Whether a request needs a challenge. Without one, whoever reaches the endpoint gets a certificate."""

    challenge_text: bool = False
    """Whether the refusal of a challenge may say so in failInfoText. It helps an attacker as much as a device."""

    signer_key: Literal["any", "same"] = "any"
    """`same`: the key that signs the message must be the one to be certified. Some Apple devices use another one."""

    subject_attributes: frozenset[str] = frozenset(SUBJECT_ATTRIBUTES.values())
    """Attributes a subject may have; anything else is refused. A commonName more than once is always refused unless
    `max_common_names` says otherwise."""

    required_subject_attributes: frozenset[str] = frozenset()
    """Attributes a subject must have. An empty subject passes only beside a subject alternative name."""

    common_name_pattern: str | None = None
    """Regular expression that a whole commonName must match."""

    max_common_names: int = 1
    """How many commonNames a subject may have. Readers disagree on which of several counts."""

    max_subject_attributes: int = 16
    """How many attributes a subject may have."""

    max_subject_value_length: int = 64
    """Characters one subject value may have; RFC 5280 allows a commonName 64."""

    subject_alternative_names: frozenset[SanKind] = frozenset({SanKind.DNS, SanKind.EMAIL, SanKind.URI, SanKind.IP})
    """Kinds of names let through: `dns`, `email`, `uri`, `ip`, `upn`. A UPN is how Active Directory finds a user: let it
    through only where the challenge vouches for it."""

    subject_alternative_name_patterns: Mapping[SanKind, tuple[str, ...]] = field(default_factory=dict)
    """Regular expressions by kind; a whole name of that kind must match one of them."""

    max_subject_alternative_names: int = 16
    """How many names a certificate may have."""

    allow_wildcard_dns: bool = False
    """Whether `*.example.org` may be a name."""

    allow_sid_uri: bool = False
    """Whether a URI `tag:microsoft.com,2022-09-14:sid:…` may be a name. Active Directory maps it to an account: let it
    through only where the challenge vouches for it, as Intune does."""

    allow_sid_extension: bool = False
    """Whether the extension 1.3.6.1.4.1.311.25.2 is let through. What Intune has let in never keeps it: Intune does not
    vouch for it."""

    sid_from_challenge: bool = False
    """Whether the SID of the account that the challenge has found, as a `directory` does, goes into the extension
    1.3.6.1.4.1.311.25.2. A renewal asks the challenge too then, and the connector must be able to write it
    (`internal` is, and `step` with its template for scep-ra). With it or without: a request for another SID than the
    challenge has found is refused."""

    min_rsa_bits: int = 2048
    """The smallest RSA key."""

    max_rsa_bits: int = 4096
    """The largest RSA key."""

    rsa_exponents: frozenset[int] = frozenset({65537})
    """Public exponents an RSA key may have."""

    curves: frozenset[Curve] = frozenset({Curve.P256, Curve.P384, Curve.P521})
    """Curves a key may be on: `P-256`, `P-384`, `P-521`, `Ed25519`, `Ed448`."""

    allowed_key_usage: frozenset[KeyUsage] = frozenset({KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_ENCIPHERMENT})
    """Key usages a device may ask for, as far as its key is capable of them."""

    default_key_usage: frozenset[KeyUsage] = frozenset({KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_ENCIPHERMENT})
    """Key usages given to a device that asks for none, as far as its key is capable of them."""

    allowed_extended_key_usage: frozenset[str] = frozenset({EXTENDED_KEY_USAGES["clientAuth"]})
    """Extended key usages a device may ask for. `serverAuth` is not among them by default: with a name of its own choice
    a device could pose as any server. anyExtendedKeyUsage is never let through."""

    default_extended_key_usage: tuple[str, ...] = (EXTENDED_KEY_USAGES["clientAuth"],)
    """Extended key usages given to a device that asks for none."""

    unapproved_extensions: Handling = "strip"
    """What happens to a harmless wish that is not granted: an unknown extension, the Microsoft template and application
    policies that Windows sends by itself, a key usage or an ordinary extended key usage that is not allowed."""

    privileged_extensions: Handling = "refuse"
    """What happens to a wish for power that is not granted: CA:TRUE, keyCertSign, cRLSign, anyExtendedKeyUsage, smartcard
    logon, enrolment agent, OCSP, code and time stamp signing, a Microsoft SID extension, a Netscape certificate type."""

    default_validity_days: int = 365
    """How long a certificate is valid; never longer, whatever is asked for."""

    renewal_threshold_days: int = 30
    """How long before its end a certificate may be renewed without a challenge, by a request that is signed with it and
    asks for the same names. Its CA must be able to say that it is not revoked."""

    renewal_grace_days: int = 0
    """How long after its end a certificate may still be renewed so. Its CA must answer by serial number, or have expired
    certificates on its CRL (expiredCertsOnCRL, as that of `internal` has for a year): what has expired is taken off others."""

    revoke_on_replace: bool = False
    """Whether a certificate is revoked, as superseded, an hour after the one that renews it was delivered. Until then a
    device that has lost the answer can ask again with it."""

    wait_seconds: int = 15
    """How long a request is held open for the CA before the device is told PENDING, 0 to 30. Clients give up after 30 to
    60 seconds, and not all of them poll."""

    pending_expires_days: int = 7
    """How long the CA, or a person who has to approve, may take. Then the device has to ask anew."""

    max_awaiting_approval: int = 1000
    """So many requests may wait for a person at a time; further ones are told to come back (503), so that one who knows a
    challenge cannot fill the list without end."""

    revoke_undelivered_after_days: int = 0
    """How long after it was issued a certificate that no device fetched is revoked; 0: never."""

    include_chain: bool = False
    """Whether the reply holds the chain beside the certificate. iOS wants the certificate alone."""

    get_cert: Literal["off", "own", "any"] = "off"
    """Whether a device that holds a certificate of this profile may ask for others by their serial number (GetCert).
    `own`: for those of this profile, as long as the journal keeps them. `any`: for every one that the CA has issued."""

    get_crl: bool = False
    """Whether a device that holds a certificate of this profile may ask for the CA's CRL (GetCRL)."""

    password_recipient: bool = False
    """Whether a device may sign with a key that is not RSA, such as EC: the reply is sealed with the challenge then (RFC 8894
    §3.1). Only with challenges that cannot be guessed: those of `otp`, `signed` and `jwt`, and of `static` random ones of 24
    letters and digits at least, 26 where the letters are of one case, 32 hexadecimal or 39 decimal digits."""

    next_ca_signed_by_ra: bool = False
    """Whether the RA signs the answer to GetNextCACert where the CA cannot. RFC 8894 §4.7.1 has the CA sign it: a device
    that believes the RA puts its trust for years to come into a key that lies on a server."""

    ca_cert_form: Literal["chain", "without-root", "issuer", "ca-first"] = "chain"
    """What GetCACert shows beside the RA's certificates, which come first: `chain`, the issuing CA and all above it;
    `without-root`, all but a root above it; `issuer`, the issuing CA alone. `ca-first` is `chain` with the RA's last."""

    capabilities_extra: tuple[str, ...] = ()
    """Words that GetCACaps says beside its own. strongSwan up to 5.9.10 uses AES and SHA-256 only if it sees `SHA-384`."""

    def __post_init__(self) -> None:
        for complaint in _complaints(self):
            raise Misconfigured(f"profile {self.name!r}: {complaint}")


def _complaints(profile: Profile) -> Iterator[str]:
    yield from _limit_complaints(profile)
    yield from _usage_complaints(profile)
    if profile.max_awaiting_approval < 1:
        yield "max_awaiting_approval must be at least 1"
    for word in profile.capabilities_extra:
        if not _CAPABILITY.fullmatch(word) or word in set(Capability):
            yield f"capabilities_extra: {word!r} is no word, or one that is said where it is true"
    yield from _pattern_complaints("common_name_pattern", filter(None, [profile.common_name_pattern]))
    for kind, patterns in profile.subject_alternative_name_patterns.items():
        yield from _pattern_complaints(f"subject_alternative_name_patterns.{kind}", patterns)


def _pattern_complaints(key: str, patterns: Iterable[str]) -> Iterator[str]:
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            yield f"{key}: {pattern!r} is no regular expression ({error})"


def _limit_complaints(profile: Profile) -> Iterator[str]:
    least, most = RSA_LIMITS_BITS
    if not least <= profile.min_rsa_bits <= profile.max_rsa_bits <= most:
        yield f"min_rsa_bits and max_rsa_bits must rise, within {least} and {most}"
    if not all(3 <= exponent < 2**32 and exponent % 2 for exponent in profile.rsa_exponents):  # noqa: PLR2004
        yield "rsa_exponents must be odd and between 3 and 2^32"
    if not 1 <= profile.default_validity_days <= MAX_VALIDITY_DAYS:
        yield f"default_validity_days must be between 1 and {MAX_VALIDITY_DAYS}"
    if not 0 <= profile.renewal_threshold_days <= MAX_VALIDITY_DAYS:
        yield f"renewal_threshold_days must be between 0 and {MAX_VALIDITY_DAYS}"
    if not 0 <= profile.renewal_grace_days <= MAX_VALIDITY_DAYS:
        yield f"renewal_grace_days must be between 0 and {MAX_VALIDITY_DAYS}"
    if not 0 <= profile.wait_seconds <= MAX_WAIT_SECONDS:
        yield f"wait_seconds must be between 0 and {MAX_WAIT_SECONDS}"
    if not 1 <= profile.pending_expires_days <= MAX_VALIDITY_DAYS:
        yield f"pending_expires_days must be between 1 and {MAX_VALIDITY_DAYS}"
    if not 0 <= profile.revoke_undelivered_after_days <= MAX_VALIDITY_DAYS:
        yield f"revoke_undelivered_after_days must be between 0 and {MAX_VALIDITY_DAYS}"


def _usage_complaints(profile: Profile) -> Iterator[str]:
    if not profile.default_key_usage:
        yield "default_key_usage must name at least one"
    if not profile.default_extended_key_usage:
        yield "default_extended_key_usage must name at least one: a certificate without any is good for everything"
    if ANY_EXTENDED_KEY_USAGE in {*profile.allowed_extended_key_usage, *profile.default_extended_key_usage}:
        yield "anyExtendedKeyUsage cannot be allowed"
