"""Hostile CSRs: whoever holds the challenge asks for more than a device is due, and must not get it.

Every one is put to three profiles (the default one; one that strips whatever can be stripped; one whose connector copies
from the CSR) and is refused, or certified without what it was after.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from connectors.api import KeyUsage, SanKind
from ra.errors import Reason, Refused
from ra.policy.decide import Decision, decide
from ra.policy.grant import Grant
from ra.policy.profile import EXTENDED_KEY_USAGES, Profile
from ra.policy.sid import SID_EXTENSION, claims_sid
from ra.scep.csr import Csr, SubjectAttribute, read_csr
from ra.scep.names import Digest
from tests.fakes.csrs import common_name, csr, ec_key, ed25519_key, enrolment, extension, rsa_key, san, subject

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
GRANT = Grant(method="shared", label="first")
DEFAULT = Profile(name="default")
STRIPPING = Profile(name="stripping", unapproved_extensions="strip", privileged_extensions="strip")

CLIENT = EXTENDED_KEY_USAGES["clientAuth"]
ANY = "2.5.29.37.0"
SID = "S-1-5-21-3734714977-4168152908-3764207930-500"
SID_VALUE = bytes.fromhex("303fa03d060a2b060104018237190201a02f042d") + SID.encode()
SID_URI = f"tag:microsoft.com,2022-09-14:sid:{SID}"

NAME_ATTACKS: dict[str, dict[str, Any]] = {
    "no name at all": {"subject": ()},
    "two common names": {"subject": common_name("device") + common_name("ceo")},
    "two common names in one rdn": {"subject": ((*common_name("device")[0], *common_name("ceo")[0]),)},
    "nul ends the name early": {"subject": common_name("ceo\x00.device")},
    "newline forges a log entry": {"subject": common_name("device\nchallenge accepted")},
    "escape sequence": {"subject": common_name("\x1b[2Jdevice")},
    "right-to-left override": {"subject": common_name("\u202eecived")},
    "bidirectional isolate": {"subject": common_name("device\u2066ceo\u2069")},
    "zero width space": {"subject": common_name("ce\u200bo")},
    "zero width joiner": {"subject": common_name("ce\u200do")},
    "byte order mark": {"subject": common_name("\ufeffceo")},
    "soft hyphen": {"subject": common_name("ce\xado")},
    "line separator": {"subject": common_name("device\u2028ceo")},
    "tag characters": {"subject": common_name("device\U000e0063\U000e0065\U000e006f")},
    "lone surrogate": {"subject": common_name("device\udfff")},
    "very long name": {"subject": common_name("x" * 60000)},
    "empty name": {"subject": common_name("")},
    "very many attributes": {"subject": subject(*[("2.5.4.11", "x")] * 1000)},
    "unknown attribute": {"subject": common_name("device") + subject(("1.3.6.1.4.1.311.60.2.1.3", "DE"))},
    "role attribute": {"subject": common_name("device") + subject(("2.5.4.72", "admin"))},
    "organisation identifier": {"subject": common_name("device") + subject(("2.5.4.97", "NTRDE-1"))},
    "unique identifier": {"subject": (*common_name("device"), (SubjectAttribute("2.5.4.45", "#00", 3),))},
    "name that is no string": {"subject": ((SubjectAttribute("2.5.4.3", "#0500", 0x30),),)},
    "country of any length": {"subject": subject(("2.5.4.6", "DEU"), ("2.5.4.3", "device"))},
    "nul in the address": {"subject": subject(("1.2.840.113549.1.9.1", "ceo@example.org\x00@evil.example"))},
}

SAN_ATTACKS: dict[str, dict[str, Any]] = {
    name: {"subject_alternative_names": names}
    for name, names in {
        "upn of an administrator": (san("upn", "administrator@corp.example"),),
        "upn beside a harmless name": (san("dns", "device.example"), san("upn", "administrator@corp.example")),
        "other name": (san("other", "a012060a2b0601040182371402030404deadbeef"),),
        "kerberos principal": (san("other", "a018060662b0601050202"),),
        "directory name": (san("directory", "a40d300b3109300706035504030c0063"),),
        "registered id": (san("registered-id", "1.2.3.4"),),
        "sid uri": (san("uri", SID_URI),),
        "sid uri in capitals": (san("uri", SID_URI.upper()),),
        "sid uri, escaped": (san("uri", SID_URI.replace("sid", "%73id").replace("m", "%6d", 1)),),
        "sid uri of another year": (san("uri", SID_URI.replace("2022", "2031")),),
        "sid uri beside a harmless name": (san("dns", "device.example"), san("uri", SID_URI)),
        "wildcard": (san("dns", "*.corp.example"),),
        "wildcard of everything": (san("dns", "*"),),
        "wildcard within": (san("dns", "www.*.example"),),
        "nul in a dns name": (san("dns", "corp.example\x00.evil.example"),),
        "dns name with a port": (san("dns", "corp.example:443"),),
        "dns name with a path": (san("dns", "corp.example/admin"),),
        "dns name with a space": (san("dns", "corp.example evil.example"),),
        "dns name with a dot at its end": (san("dns", "corp.example."),),
        "dns name that begins with a dot": (san("dns", ".corp.example"),),
        "dns name beyond ascii": (san("dns", "c\u043erp.example"),),
        "address as dns name": (san("dns", "10.0.0.1"),),
        "empty dns name": (san("dns", ""),),
        "two mailboxes": (san("email", "a@evil.example,ceo@corp.example"),),
        "mailbox with a name": (san("email", "CEO <ceo@corp.example>"),),
        "mailbox with a header": (san("email", "a@evil.example\r\nTo: ceo@corp.example"),),
        "nul in a mailbox": (san("email", "ceo@corp.example\x00@evil.example"),),
        "whole domain as mailbox": (san("email", "corp.example"),),
        "uri without a scheme": (san("uri", "//corp.example/"),),
        "uri with a control": (san("uri", "https://corp.example/\r\nx"),),
        "network as address": (san("ip", "10.0.0.0/8"),),
        "very many names": tuple(san("dns", f"host-{each}.example") for each in range(1000)),
        "very long name in a uri": (san("uri", "https://" + "a" * 60000),),
    }.items()
}

USAGE_ATTACKS: dict[str, dict[str, Any]] = {
    **{
        f"{name} alone": {"extended_key_usage": (oid,)}
        for name, oid in EXTENDED_KEY_USAGES.items()
        if name != "clientAuth"
    },
    **{
        f"{name} beside clientAuth": {"extended_key_usage": (CLIENT, oid)}
        for name, oid in EXTENDED_KEY_USAGES.items()
        if name != "clientAuth"
    },
    "any extended key usage alone": {"extended_key_usage": (ANY,)},
    "any extended key usage beside clientAuth": {"extended_key_usage": (CLIENT, ANY)},
    "Microsoft any application policy": {"extended_key_usage": ("1.3.6.1.4.1.311.10.12.1", CLIENT)},
    "Microsoft key recovery agent": {"extended_key_usage": ("1.3.6.1.4.1.311.21.6", CLIENT)},
    "unknown extended key usage": {"extended_key_usage": ("1.2.3.4.5", CLIENT)},
    "extended key usage that names none": {"extended_key_usage": ()},
    "certificate signing": {"key_usage": frozenset({"digitalSignature", "keyCertSign"})},
    "certificate signing alone": {"key_usage": frozenset({"keyCertSign"})},
    "crl signing": {"key_usage": frozenset({"digitalSignature", "cRLSign"})},
    "signatures of a person": {"key_usage": frozenset({"digitalSignature", "nonRepudiation"})},
    "key usage that names none": {"key_usage": frozenset[str]()},
    "every key usage": {"key_usage": frozenset({*map(str, KeyUsage), "keyCertSign", "cRLSign"})},
    "encipherment with a signing key": {"public_key": ec_key(), "key_usage": frozenset({"keyEncipherment"})},
}

EXTENSION_ATTACKS: dict[str, dict[str, Any]] = {
    "certificate authority": {"basic_constraints_ca": True, "extensions": (extension("2.5.29.19"),)},
    "certificate authority that signs": {"basic_constraints_ca": True, "key_usage": frozenset({"keyCertSign"})},
    "sid extension": {"extensions": (extension(SID_EXTENSION, SID_VALUE),)},
    "sid extension that does not read": {"extensions": (extension(SID_EXTENSION, b"\x30\x00"),)},
    "sid extension beside what windows adds": {
        "extensions": (extension("1.3.6.1.4.1.311.21.7"), extension(SID_EXTENSION, SID_VALUE))
    },
    **{
        name: {"extensions": (extension(oid),)}
        for name, oid in {
            "Netscape certificate type": "2.16.840.1.113730.1.1",
            "name constraints": "2.5.29.30",
            "policy mappings": "2.5.29.33",
            "policy constraints": "2.5.29.36",
            "inhibit any policy": "2.5.29.54",
            "no revocation check": "1.3.6.1.5.5.7.48.1.5",
            "certificate policies": "2.5.29.32",
            "crl distribution point of its own": "2.5.29.31",
            "authority information of its own": "1.3.6.1.5.5.7.1.1",
            "authority key identifier": "2.5.29.35",
            "issuer alternative name": "2.5.29.18",
            "subject directory attributes": "2.5.29.9",
            "qualified certificate statements": "1.3.6.1.5.5.7.1.3",
            "precertificate poison": "1.3.6.1.4.1.11129.2.4.3",
            "delegated credentials": "1.3.6.1.4.1.44363.44",
            "Microsoft template by name": "1.3.6.1.4.1.311.20.2",
            "Microsoft template": "1.3.6.1.4.1.311.21.7",
            "Microsoft application policies": "1.3.6.1.4.1.311.21.10",
            "Microsoft CA version": "1.3.6.1.4.1.311.21.1",
            "proxy certificate": "1.3.6.1.5.5.7.1.14",
            "unknown extension": "1.2.3.4.5.6",
        }.items()
    },
}

KEY_ATTACKS: dict[str, dict[str, Any]] = {
    "small RSA key": {"public_key": rsa_key(1024)},
    "exponent 3": {"public_key": rsa_key(2048, 3)},
    "modulus with a small factor": {"public_key": rsa.RSAPublicNumbers(65537, 3 * (2**2046 + 1) | 1).public_key()},
    "curve of 224 bits": {"public_key": ec_key(ec.SECP224R1)},
    "curve of bitcoin": {"public_key": ec_key(ec.SECP256K1)},
    "Ed25519": {"public_key": ed25519_key()},
    "SHA-1 in the CSR": {"signature_digest": Digest.SHA1},
    "MD5 in the CSR": {"signature_digest": Digest.MD5},
}

ATTACKS = NAME_ATTACKS | SAN_ATTACKS | USAGE_ATTACKS | EXTENSION_ATTACKS | KEY_ATTACKS


def outcome(request: Csr, profile: Profile, *, explicit_contents: bool = True) -> Decision | Refused:
    """Signed with an RSA key, so that a reply can be sealed and nothing but the request is judged."""
    try:
        return decide(enrolment(request, rsa_key()), GRANT, profile, NOW, explicit_contents=explicit_contents)
    except Refused as refused:
        return refused


def gains(decision: Decision, request: Csr) -> list[str]:
    """What a certificate says that neither default nor stripping profile lets through, and names that were changed."""
    contents = decision.contents
    names = [(each.kind.value, each.value) for each in contents.subject_alternative_names]
    found = {
        "extended key usage": (CLIENT,) != contents.extended_key_usage,
        "key usage": not contents.key_usage or not contents.key_usage <= DEFAULT.allowed_key_usage,
        "sid": contents.sid is not None or any(claims_sid(value) for _, value in names),
        "upn": any(kind == SanKind.UPN for kind, _ in names),
        "wildcard": any("*" in value for _, value in names),
        "common names": sum(each.oid == "2.5.4.3" for rdn in contents.subject for each in rdn) > 1,
        "unprintable": not all(each.value.isprintable() for rdn in contents.subject for each in rdn),
        "altered names": names != [(each.kind.value, each.value) for each in request.subject_alternative_names],
        "another key": contents.spki != request.spki,
        "validity": contents.validity.days != DEFAULT.default_validity_days,
    }
    return [gain for gain, is_so in found.items() if is_so]


def test_there_are_many_attacks() -> None:
    assert len(ATTACKS) == sum(map(len, (NAME_ATTACKS, SAN_ATTACKS, USAGE_ATTACKS, EXTENSION_ATTACKS, KEY_ATTACKS))), (
        "two attacks have one name"
    )
    assert len(ATTACKS) >= 100


def test_what_is_no_attack_is_certified() -> None:
    request = csr()

    answers = [outcome(request, profile) for profile in (DEFAULT, STRIPPING)]

    assert [[], []] == [gains(each, request) for each in answers if isinstance(each, Decision)]


@pytest.mark.parametrize("profile", [DEFAULT, STRIPPING], ids=lambda profile: profile.name)
@pytest.mark.parametrize("attack", ATTACKS)
def test_no_attack_gains_anything(attack: str, profile: Profile) -> None:
    request = csr(**ATTACKS[attack])

    answer = outcome(request, profile)

    assert isinstance(answer, Refused) or [] == gains(answer, request)


@pytest.mark.parametrize("profile", [DEFAULT, STRIPPING], ids=lambda profile: profile.name)
@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_is_left_to_a_connector_that_copies(attack: str, profile: Profile) -> None:
    answer = outcome(csr(**ATTACKS[attack]), profile, explicit_contents=False)

    assert isinstance(answer, Refused)


@pytest.mark.parametrize("profile", [DEFAULT, STRIPPING], ids=lambda profile: profile.name)
@pytest.mark.parametrize(
    ("attacks", "reasons"),
    [
        (NAME_ATTACKS, {Reason.SUBJECT_NOT_ALLOWED}),
        (SAN_ATTACKS, {Reason.SUBJECT_ALT_NAME_NOT_ALLOWED}),
        (KEY_ATTACKS, {Reason.KEY_NOT_ALLOWED, Reason.ALGORITHM_NOT_ALLOWED}),
    ],
    ids=["names", "alternative names", "keys"],
)
def test_a_name_or_key_that_is_not_allowed_is_never_stripped_but_refused(
    attacks: dict[str, dict[str, Any]], reasons: set[Reason], profile: Profile
) -> None:
    answers = [outcome(csr(**changes), profile) for changes in attacks.values()]

    assert reasons == {each.reason if isinstance(each, Refused) else None for each in answers}


@pytest.mark.parametrize("attack", ["certificate authority", "sid extension", "Netscape certificate type"])
def test_a_wish_for_power_is_refused_by_default_and_stripped_where_the_profile_says_so(attack: str) -> None:
    answers = [outcome(csr(**ATTACKS[attack]), profile) for profile in (DEFAULT, STRIPPING)]

    assert [Refused, Decision] == [type(each) for each in answers]


@pytest.mark.parametrize("attack", [each for each in USAGE_ATTACKS if each.endswith(" alone")])
def test_there_is_never_a_certificate_without_extended_key_usage_because_all_were_refused(attack: str) -> None:
    answers = [outcome(csr(**ATTACKS[attack]), profile) for profile in (DEFAULT, STRIPPING)]

    assert [Reason.USAGE_NOT_ALLOWED] * 2 == [each.reason for each in answers if isinstance(each, Refused)]


# ---------------------------------------------------------------- as bytes


def written(extensions: Sequence[x509.ExtensionType]) -> bytes:
    """A CSR, DER, signed by its key."""
    builder = x509.CertificateSigningRequestBuilder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "device")]))
    for each in extensions:
        builder = builder.add_extension(each, critical=False)
    return builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.DER)


def key_usage(**changes: bool) -> x509.KeyUsage:
    words = "content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign encipher_only decipher_only"
    none = dict.fromkeys(words.split(), False)
    return x509.KeyUsage(**{"digital_signature": True, **none, **changes})


UPN_VALUE = b"\x0c\x1aadministrator@corp.example"

WRITTEN_ATTACKS: dict[str, x509.ExtensionType] = {
    "certificate authority": x509.BasicConstraints(ca=True, path_length=None),
    "certificate signing": key_usage(key_cert_sign=True),
    "any extended key usage": x509.ExtendedKeyUsage([x509.ObjectIdentifier(CLIENT), x509.ObjectIdentifier(ANY)]),
    "code signing": x509.ExtendedKeyUsage([x509.ObjectIdentifier(EXTENDED_KEY_USAGES["codeSigning"])]),
    "server": x509.ExtendedKeyUsage([x509.ObjectIdentifier(EXTENDED_KEY_USAGES["serverAuth"])]),
    "sid extension": x509.UnrecognizedExtension(x509.ObjectIdentifier(SID_EXTENSION), SID_VALUE),
    "sid uri": x509.SubjectAlternativeName([x509.UniformResourceIdentifier(SID_URI)]),
    "upn": x509.SubjectAlternativeName([x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), UPN_VALUE)]),
    "directory name": x509.SubjectAlternativeName(
        [x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ceo")]))]
    ),
    "registered id": x509.SubjectAlternativeName([x509.RegisteredID(x509.ObjectIdentifier("1.2.3.4"))]),
    "wildcard": x509.SubjectAlternativeName([x509.DNSName("*.corp.example")]),
    "nul in a dns name": x509.SubjectAlternativeName([x509.DNSName("corp.example\x00.evil.example")]),
    "no revocation check": x509.OCSPNoCheck(),
    "inhibit any policy": x509.InhibitAnyPolicy(0),
}


@pytest.mark.parametrize("attack", WRITTEN_ATTACKS)
def test_an_attack_is_seen_through_the_codec_as_well(attack: str) -> None:
    request = read_csr(written([WRITTEN_ATTACKS[attack]]))

    answer = outcome(request, DEFAULT)

    assert isinstance(answer, Refused)


def test_a_harmless_csr_passes_through_the_codec() -> None:
    wishes = [x509.SubjectAlternativeName([x509.DNSName("device.example")]), key_usage()]
    request = read_csr(written([*wishes, x509.ExtendedKeyUsage([x509.ObjectIdentifier(CLIENT)])]))

    answer = outcome(request, DEFAULT, explicit_contents=False)

    assert isinstance(answer, Decision)
    assert [] == gains(answer, request)
