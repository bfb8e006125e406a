"""What a role of the PKI engine allows, and the certificate that comes of a `sign` request: its rules, its sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from ipaddress import ip_address
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from ra.simulate.authority import SimulatedCa, from_pem, read_csr
from ra.simulate.vault.forms import Refused, key_type

_HOST_NAME = re.compile(r"(\*\.)?([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.?")
_NOT_BEFORE_DURATION = timedelta(seconds=30)
_SMALLEST_RSA_BITS = 2048
_SERVER_AUTH, _CLIENT_AUTH = "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A role's settings, by their own names where Vault has them; those of a fresh role, except for the names."""

    key_type: str = "any"
    key_bits: int = 2048
    allow_any_name: bool = True
    allowed_domains: tuple[str, ...] = ()
    allow_subdomains: bool = False
    allow_bare_domains: bool = False
    enforce_hostnames: bool = False
    allow_ip_sans: bool = True
    allowed_uri_sans: tuple[str, ...] = ("*",)
    allowed_other_sans: tuple[str, ...] = ("*",)
    allowed_serial_numbers: tuple[str, ...] = ("*",)
    use_csr_common_name: bool = False
    use_csr_sans: bool = False
    require_cn: bool = True
    server_flag: bool = False
    client_flag: bool = True
    ext_key_usage_oids: tuple[str, ...] = ()
    key_usage: frozenset[str] = frozenset({"DigitalSignature", "KeyEncipherment"})
    organization: tuple[str, ...] = ()
    ou: tuple[str, ...] = ()
    ttl: timedelta = timedelta(hours=768)
    max_ttl: timedelta = timedelta(days=825)
    basic_constraints_valid_for_non_ca: bool = False
    no_store: bool = False


@dataclass(slots=True)
class _Names:
    dns: list[str] = field(default_factory=list)
    email: list[str] = field(default_factory=list)


def sign(ca: SimulatedCa, role: Role, body: Mapping[str, Any], now: datetime) -> tuple[x509.Certificate, list[str]]:
    """The certificate, and Vault's warnings.

    Raises:
        Refused: by the role.
    """
    csr, key = _csr(role, body)
    warnings: list[str] = []
    subject = _subject(role, body, csr)
    extensions = [*_usages(role), *_alternative_names(role, body, csr)]
    not_after = _not_after(ca, role, body, now, warnings)
    certificate = ca.sign(
        subject, key, extensions, not_before=now.replace(microsecond=0) - _NOT_BEFORE_DURATION, not_after=not_after
    )
    if role.no_store:
        ca.issued.pop(certificate.serial_number)
    return certificate, warnings


def _csr(role: Role, body: Mapping[str, Any]) -> tuple[x509.CertificateSigningRequest, PublicKey]:
    text = body.get("csr", "")
    if not text:
        raise Refused('"csr" is empty')
    if "-----BEGIN" not in text:
        raise Refused("csr contains no data")
    try:
        csr, is_signed = read_csr(from_pem(text))
        key = csr.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise Refused("certificate request could not be parsed: asn1: structure error") from None
    if not is_signed:
        raise Refused("request signature invalid")
    if not isinstance(key, PublicKey):
        raise Refused("Unknown key type in CSR: 0")
    if role.key_type not in {"any", key_type(key)}:
        raise Refused(f"role requires keys of type {role.key_type}")
    if isinstance(key, rsa.RSAPublicKey):
        if role.key_type == "any" and key.key_size < _SMALLEST_RSA_BITS:
            raise Refused("RSA keys < 2048 bits are unsafe and not supported")
        if key.key_size < role.key_bits:
            raise Refused(f"role requires a minimum of a {role.key_bits}-bit key, but CSR's key is {key.key_size} bits")
    return csr, key


def _subject(role: Role, body: Mapping[str, Any], csr: x509.CertificateSigningRequest) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in role.organization]
    attributes += [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, each) for each in role.ou]
    common_name = _common_name(role, body, csr)
    if common_name:
        if not _is_allowed(role, common_name):
            raise Refused(f"common name {common_name} not allowed by this role")
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    # Vault takes the CSR's serialNumber where the request names none, whatever the role says of the CSR.
    serial_number = body.get("serial_number") or _first(csr.subject, NameOID.SERIAL_NUMBER)
    if serial_number:
        if not _matches(role.allowed_serial_numbers, serial_number):
            raise Refused(f"serial_number {serial_number} not allowed by this role")
        attributes.append(x509.NameAttribute(NameOID.SERIAL_NUMBER, serial_number))
    attributes += [x509.NameAttribute(NameOID.USER_ID, each) for each in _list(body, "user_ids")]
    return x509.Name(attributes)


def _common_name(role: Role, body: Mapping[str, Any], csr: x509.CertificateSigningRequest) -> str:
    own = _first(csr.subject, NameOID.COMMON_NAME) if role.use_csr_common_name else ""
    name = own or str(body.get("common_name", ""))
    if not name and role.require_cn:
        raise Refused(
            "the common_name field is required, or must be provided in a CSR with "
            '"use_csr_common_name" set to true, unless "require_cn" is set to false'
        )
    return name


def _alternative_names(
    role: Role, body: Mapping[str, Any], csr: x509.CertificateSigningRequest
) -> Iterator[tuple[x509.ExtensionType, bool]]:
    names = _Names()
    own = _own_names(csr) if role.use_csr_sans else None
    common_name = _common_name(role, body, csr)
    if common_name and not body.get("exclude_cn_from_sans", False):
        _sort_in(names, common_name)
    for each in _list(body, "alt_names") if own is None else ():
        _sort_in(names, each)
    for kind, values in (("subject alternate name", names.dns), ("email address", names.email)):
        for each in values:
            if not _is_allowed(role, each):
                raise Refused(f"{kind} {each} not allowed by this role")
    general: list[x509.GeneralName] = [x509.DNSName(each) for each in dict.fromkeys(names.dns)]
    general += [x509.RFC822Name(each) for each in dict.fromkeys(names.email)]
    general += own if own is not None else [*_addresses(role, body), *_uris(role, body)]
    general += _others(role, body)
    if general:
        yield x509.SubjectAlternativeName(general), False


def _own_names(csr: x509.CertificateSigningRequest) -> list[x509.GeneralName]:
    try:
        return list(csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def _sort_in(names: _Names, name: str) -> None:
    """As the engine does: what has an @ is an address, what is no host name is dropped without a word."""
    if "@" in name:
        names.email.append(name)
        return
    odd = next((each for each in name if each not in "-.*" and not each.isalnum()), None)
    if odd is not None:
        raise Refused(f"idna: disallowed rune U+{ord(odd):04X}")
    if _HOST_NAME.fullmatch(name):
        names.dns.append(name)


def _addresses(role: Role, body: Mapping[str, Any]) -> Iterator[x509.GeneralName]:
    given = _list(body, "ip_sans")
    if given and not role.allow_ip_sans:
        said = " ".join(given)
        raise Refused(f"IP Subject Alternative Names are not allowed in this role, but was provided [{said}]")
    for each in given:
        try:
            yield x509.IPAddress(ip_address(each))
        except ValueError:
            raise Refused(f'the value "{each}" is not a valid IP address') from None


def _uris(role: Role, body: Mapping[str, Any]) -> Iterator[x509.GeneralName]:
    for each in _list(body, "uri_sans"):
        if not _matches(role.allowed_uri_sans, each):
            raise Refused("URI Subject Alternative Names were provided via the API which are not valid for this role")
        yield x509.UniformResourceIdentifier(each)


def _others(role: Role, body: Mapping[str, Any]) -> Iterator[x509.GeneralName]:
    for each in _list(body, "other_sans"):
        oid, semicolon, typed = each.partition(";")
        kind, colon, value = typed.partition(":")
        if not semicolon or not colon:
            raise Refused(f'could not parse requested other SAN: expected a semicolon in other SAN "{each}"')
        if kind.lower() not in {"utf8", "utf-8"}:
            raise Refused(f"only utf8 other SANs are supported; found non-supported type in other SAN {each!r}")
        if not role.allowed_other_sans:
            raise Refused(f"other SAN OID {oid} not allowed by this role")
        octets = value.encode()
        yield x509.OtherName(x509.ObjectIdentifier(oid), bytes((0x0C, len(octets))) + octets)


def _usages(role: Role) -> Iterator[tuple[x509.ExtensionType, bool]]:
    yield (
        x509.KeyUsage(
            digital_signature="DigitalSignature" in role.key_usage,
            content_commitment="ContentCommitment" in role.key_usage,
            key_encipherment="KeyEncipherment" in role.key_usage,
            data_encipherment="DataEncipherment" in role.key_usage,
            key_agreement="KeyAgreement" in role.key_usage,
            key_cert_sign=False,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        ),
        True,
    )
    flags = [_SERVER_AUTH] * role.server_flag + [_CLIENT_AUTH] * role.client_flag
    extended = [x509.ObjectIdentifier(each) for each in (*flags, *role.ext_key_usage_oids)]
    if extended:
        yield x509.ExtendedKeyUsage(extended), False
    if role.basic_constraints_valid_for_non_ca:
        yield x509.BasicConstraints(ca=False, path_length=None), True


def _not_after(ca: SimulatedCa, role: Role, body: Mapping[str, Any], now: datetime, warnings: list[str]) -> datetime:
    ttl = _duration(body.get("ttl", "")) or role.ttl
    if ttl > role.max_ttl:
        asked, most = _shown(ttl), _shown(role.max_ttl)
        warnings.append(f'TTL "{asked}" is longer than permitted maxTTL "{most}", so maxTTL is being used')
        ttl = role.max_ttl
    not_after = (now + ttl).replace(microsecond=0)
    if not_after > ca.certificate.not_valid_after_utc:
        raise Refused(
            "cannot satisfy request, as TTL would result in notAfter of "
            f"{not_after:%Y-%m-%dT%H:%M:%SZ} that is beyond the expiration of the CA certificate at "
            f"{ca.certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
        )
    return not_after


def _duration(text: str) -> timedelta | None:
    found = re.fullmatch(r"(\d+)([smhd]?)", str(text))
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]]) if found else None


def _shown(duration: timedelta) -> str:
    hours, rest = divmod(int(duration.total_seconds()), 3600)
    return f"{hours}h{rest // 60}m{rest % 60}s"


def _is_allowed(role: Role, name: str) -> bool:
    if role.enforce_hostnames and not _HOST_NAME.fullmatch(name.rpartition("@")[2]):
        return False
    if role.allow_any_name:
        return True
    host = name.rpartition("@")[2].lower()
    return any(
        (role.allow_bare_domains and host == each) or (role.allow_subdomains and host.endswith(f".{each}"))
        for each in role.allowed_domains
    )


def _matches(patterns: tuple[str, ...], value: str) -> bool:
    return any(fnmatchcase(value, each) for each in patterns)


def _list(body: Mapping[str, Any], name: str) -> list[str]:
    """A comma-separated parameter."""
    return [each.strip() for each in str(body.get(name, "")).split(",") if each.strip()]


def _first(name: x509.Name, oid: x509.ObjectIdentifier) -> str:
    return next((str(each.value) for each in name.get_attributes_for_oid(oid)), "")
