from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from ra.scep.csr import GeneralName, GeneralNameKind, SubjectAttribute, read_csr
from ra.scep.errors import AlgorithmRefused, Malformed, ScepError
from ra.scep.names import Digest
from tests.fakes.messages import (
    CHALLENGE,
    EXTENSION_REQUEST,
    MS_EXTENSION_REQUEST,
    NULL,
    RSA_SIGNATURES,
    Key,
    algorithm,
    attribute,
    challenge,
    children,
    csr,
    der,
    ec_key,
    extension,
    extension_request,
    integer,
    name,
    oid,
    rsa_key,
    seq,
    sign,
    spki,
    value_of,
)

SUBJECT_ALT_NAME = "2.5.29.17"
KEY_USAGE = "2.5.29.15"
EXTENDED_KEY_USAGE = "2.5.29.37"
BASIC_CONSTRAINTS = "2.5.29.19"
TRUE, FALSE = der(0x01, b"\xff"), der(0x01, b"\x00")


def with_names(*names: bytes) -> bytes:
    return csr(rsa_key(), attributes=[extension_request(extension(SUBJECT_ALT_NAME, seq(*names)))])


def test_a_plain_request_is_read() -> None:
    der_ = csr(rsa_key(), attributes=[challenge("secret")], subject=name("device"))

    read = read_csr(der_)

    assert der_ == read.der
    assert ((SubjectAttribute("2.5.4.3", "device", 0x0C),),) == read.subject
    assert name("device") == read.subject_der
    assert spki(rsa_key().public_key()) == read.spki
    assert "secret" == read.challenge_password
    assert Digest.SHA256 is read.signature_digest
    assert (CHALLENGE,) == read.attributes
    assert () == read.oddities


def test_the_challenge_is_not_in_what_is_printed() -> None:
    read = read_csr(csr(rsa_key(), attributes=[challenge("a secret")]))

    assert "a secret" == read.challenge_password
    assert "a secret" not in repr(read)


@pytest.mark.parametrize("key", [rsa_key(), ec_key(), ed25519.Ed25519PrivateKey.generate()], ids=["rsa", "ec", "ed"])
def test_it_reads_what_cryptography_writes(key: Key) -> None:
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "device")]))
        .add_attribute(x509.oid.AttributeOID.CHALLENGE_PASSWORD, b"secret")
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("a.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    )
    algorithm_ = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()

    read = read_csr(builder.sign(key, algorithm_).public_bytes(Encoding.DER))

    assert "secret" == read.challenge_password
    assert (GeneralName(GeneralNameKind.DNS, "a.example"),) == read.subject_alternative_names
    assert read.basic_constraints_ca
    assert [False, True] == [each.critical for each in read.extensions]


@pytest.mark.parametrize(("version", "odd"), [(0, ()), (1, ("csr-version-1",)), (2, ("csr-version-2",))])
def test_versions_that_apple_sends_are_read(version: int, odd: tuple[str, ...]) -> None:
    assert odd == read_csr(csr(rsa_key(), version=version)).oddities


@pytest.mark.parametrize("version", [-1, 3, 2**70])
def test_other_versions_are_malformed(version: int) -> None:
    with pytest.raises(Malformed, match="version"):
        read_csr(csr(rsa_key(), version=version))


def test_attributes_may_be_left_out() -> None:
    read = read_csr(csr(rsa_key(), attributes=None))

    assert ("csr-no-attributes",) == read.oddities
    assert () == read.attributes


def test_strongswan_does_not_sort_the_attributes() -> None:
    names = extension_request(extension(SUBJECT_ALT_NAME, seq(der(0x82, b"a.example"))))
    unsorted = sorted([names, challenge()], reverse=True)

    read = read_csr(csr(rsa_key(), attributes=unsorted))

    assert ("csr-unsorted-attributes",) == read.oddities
    assert "the challenge" == read.challenge_password
    assert 1 == len(read.subject_alternative_names)


@pytest.mark.parametrize(
    ("tag", "encoding"),
    [(0x13, "ascii"), (0x0C, "utf-8"), (0x16, "ascii"), (0x14, "latin-1"), (0x1E, "utf-16-be"), (0x1C, "utf-32-be")],
)
def test_a_challenge_may_be_any_string(tag: int, encoding: str) -> None:
    assert "secret" == read_csr(csr(rsa_key(), attributes=[challenge("secret", tag, encoding)])).challenge_password


def test_a_string_that_is_no_utf8_is_read_as_latin1() -> None:
    read = read_csr(csr(rsa_key(), attributes=[challenge("Müller", 0x14, "latin-1")]))

    assert "Müller" == read.challenge_password


def test_a_printable_string_with_an_at_sign_is_read_and_noted() -> None:
    read = read_csr(csr(rsa_key(), subject=name("someone@example.com", tag=0x13)))

    assert "someone@example.com" == read.subject[0][0].value
    assert ("csr-unprintable-string",) == read.oddities


def test_controls_in_a_name_are_left_to_the_policy() -> None:
    assert "a\x00b" == read_csr(csr(rsa_key(), subject=name("a\x00b"))).subject[0][0].value


def test_an_attribute_that_is_no_string_is_given_in_hex() -> None:
    subject = seq(der(0x31, seq(oid("2.5.4.45"), der(0x03, b"\x00\x01"))))

    assert SubjectAttribute("2.5.4.45", "#0001", 0x03) == read_csr(csr(rsa_key(), subject=subject)).subject[0][0]


@pytest.mark.parametrize("dotted", [EXTENSION_REQUEST, MS_EXTENSION_REQUEST])
def test_extensions_are_read_under_both_names(dotted: str) -> None:
    wanted = extension(BASIC_CONSTRAINTS, seq(), critical=FALSE)

    read = read_csr(csr(rsa_key(), attributes=[extension_request(wanted, dotted=dotted)]))

    assert [BASIC_CONSTRAINTS] == [each.oid for each in read.extensions]
    assert not read.basic_constraints_ca
    assert (dotted == MS_EXTENSION_REQUEST) == ("csr-ms-extension-request" in read.oddities)


@pytest.mark.parametrize(
    "attributes",
    [
        [challenge("one"), challenge("two")],
        [challenge(), challenge()],
        [attribute(CHALLENGE, der(0x13, b"one"), der(0x13, b"two"))],
        [attribute(CHALLENGE)],
        [attribute(CHALLENGE, integer(1))],
        [attribute(CHALLENGE, der(0x1E, b"odd"))],
        [extension_request(), extension_request()],
        [extension_request(), extension_request(dotted=MS_EXTENSION_REQUEST)],
        [attribute(EXTENSION_REQUEST)],
        [attribute(EXTENSION_REQUEST, seq(), seq())],
        [extension_request(extension(KEY_USAGE, NULL), extension(KEY_USAGE, NULL))],
        [seq(oid(CHALLENGE))],
        [NULL],
    ],
)
def test_what_could_be_read_in_two_ways_is_malformed(attributes: list[bytes]) -> None:
    with pytest.raises(Malformed):
        read_csr(csr(rsa_key(), attributes=attributes))


def test_other_attributes_may_come_twice() -> None:
    twice = attribute("1.3.6.1.4.1.311.13.2.1", seq())  # Windows: one for each of its name and value pairs

    assert 2 == len(read_csr(csr(rsa_key(), attributes=[twice, twice])).attributes)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (der(0x82, b"a.example"), GeneralName(GeneralNameKind.DNS, "a.example")),
        (der(0x81, b"a@example.com"), GeneralName(GeneralNameKind.EMAIL, "a@example.com")),
        (der(0x86, b"urn:x"), GeneralName(GeneralNameKind.URI, "urn:x")),
        (der(0x87, bytes([192, 0, 2, 1])), GeneralName(GeneralNameKind.IP, "192.0.2.1")),
        (der(0x87, bytes(15) + b"\x01"), GeneralName(GeneralNameKind.IP, "::1")),
        (der(0x88, oid("1.2.3")[2:]), GeneralName(GeneralNameKind.REGISTERED_ID, "1.2.3")),
        (der(0xA4, name("x")), GeneralName(GeneralNameKind.DIRECTORY, der(0xA4, name("x")).hex())),
        (der(0x82, b"\xc3\xa9"), GeneralName(GeneralNameKind.OTHER, "8202c3a9")),
        (der(0xA5, b""), GeneralName(GeneralNameKind.OTHER, "a500")),
        (
            der(0xA0, oid("1.3.6.1.4.1.311.20.2.3"), der(0xA0, der(0x0C, b"u@example.com"))),
            GeneralName(GeneralNameKind.UPN, "u@example.com"),
        ),
        (
            der(0xA0, oid("1.2.3"), der(0xA0, der(0x0C, b"x"))),
            GeneralName(GeneralNameKind.OTHER, der(0xA0, oid("1.2.3"), der(0xA0, der(0x0C, b"x"))).hex()),
        ),
    ],
)
def test_alternative_names_are_read(node: bytes, expected: GeneralName) -> None:
    assert (expected,) == read_csr(with_names(node)).subject_alternative_names


@pytest.mark.parametrize(
    "node", [der(0x87, b"\x01\x02\x03"), der(0xA0, b""), der(0x88, b"\x80"), b"\x82", b"\x82\x05a"]
)
def test_broken_alternative_names_are_malformed(node: bytes) -> None:
    with pytest.raises(Malformed):
        read_csr(with_names(node))


def test_usages_are_read() -> None:
    usages = extension(KEY_USAGE, der(0x03, b"\x05\xa0"))
    purposes = extension(EXTENDED_KEY_USAGE, seq(oid("1.3.6.1.5.5.7.3.2")))

    read = read_csr(csr(rsa_key(), attributes=[extension_request(usages, purposes)]))

    assert frozenset({"digitalSignature", "keyEncipherment"}) == read.key_usage
    assert ("1.3.6.1.5.5.7.3.2",) == read.extended_key_usage


def test_an_empty_list_of_purposes_is_not_an_absent_one() -> None:
    read = read_csr(csr(rsa_key(), attributes=[extension_request(extension(EXTENDED_KEY_USAGE, seq()))]))

    assert () == read.extended_key_usage
    assert read.key_usage is None


@pytest.mark.parametrize("value", [der(0x03, b"\x00\x80\x00\x01"), der(0x03, b""), NULL, b""])
def test_broken_usages_are_malformed(value: bytes) -> None:
    with pytest.raises(Malformed):
        read_csr(csr(rsa_key(), attributes=[extension_request(extension(KEY_USAGE, value))]))


def test_ca_true_is_seen() -> None:
    wanted = extension(BASIC_CONSTRAINTS, seq(TRUE), critical=TRUE)

    assert read_csr(csr(rsa_key(), attributes=[extension_request(wanted)])).basic_constraints_ca


@pytest.mark.parametrize("digest", ["sha1", "md5", "sha384", "sha512"])
def test_the_digest_of_the_signature_is_recorded(digest: str) -> None:
    assert digest == read_csr(csr(rsa_key(), digest=digest)).signature_digest


def test_a_pss_signature_verifies() -> None:
    digest = algorithm("2.16.840.1.101.3.4.2.1")
    mask = algorithm("1.2.840.113549.1.1.8", digest)
    parameters = seq(der(0xA0, digest), der(0xA1, mask), der(0xA2, integer(32)))
    named = algorithm("1.2.840.113549.1.1.10", parameters)
    unsigned = csr(rsa_key(), signature_name=named, signature=b"")
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    signed = rsa_key().sign(children(value_of(unsigned))[0], pss, hashes.SHA256())

    read = read_csr(csr(rsa_key(), signature_name=named, signature=signed))

    assert Digest.SHA256 is read.signature_digest


@pytest.mark.parametrize("salt_bytes", [-1, 1025])
def test_a_pss_signature_with_an_impossible_salt_is_malformed(salt_bytes: int) -> None:
    named = algorithm("1.2.840.113549.1.1.10", seq(der(0xA2, integer(salt_bytes))))

    with pytest.raises(Malformed, match="salt"):
        read_csr(csr(rsa_key(), signature_name=named))


@pytest.mark.parametrize("signature", [b"", bytes(256), bytes(10)])
def test_a_wrong_signature_is_malformed(signature: bytes) -> None:
    with pytest.raises(Malformed, match="verify"):
        read_csr(csr(rsa_key(), signature=signature))


def test_the_signature_of_another_key_is_malformed() -> None:
    with pytest.raises(Malformed, match="verify"):
        read_csr(csr(rsa_key(), key_info=spki(rsa_key(1).public_key())))


@pytest.mark.parametrize(
    "key_info",
    [
        spki(ec.generate_private_key(ec.SECP256K1()).public_key()),
        seq(algorithm("1.2.840.10040.4.1", seq()), der(0x03, b"\x00" + integer(5))),  # DSA
        seq(algorithm("1.2.840.10045.2.1", seq(integer(1))), der(0x03, b"\x00\x04" + bytes(64))),  # explicit curve
        seq(algorithm(EXTENSION_REQUEST), der(0x03, b"\x00")),
    ],
)
def test_keys_of_another_kind_are_refused(key_info: bytes) -> None:
    with pytest.raises(AlgorithmRefused):
        read_csr(csr(rsa_key(), key_info=key_info))


@pytest.mark.parametrize(
    ("modulus_bits", "exponent"),
    [(8200, 65537), (2048, 2**33 + 1), (2048, 2**2047 + 1)],
    ids=["modulus", "exponent", "huge exponent"],
)
def test_an_rsa_key_that_is_a_burden_is_refused(modulus_bits: int, exponent: int) -> None:
    public = rsa.RSAPublicNumbers(exponent, 2**modulus_bits - 1).public_key()

    with pytest.raises(AlgorithmRefused, match="beyond"):
        read_csr(csr(rsa_key(), key_info=spki(public)))


@pytest.mark.parametrize("dotted", ["1.2.840.113549.1.1.1", "1.2.840.113549.1.1.2", "1.2.840.10045.2.1"])
def test_a_signature_without_a_known_digest_is_refused(dotted: str) -> None:
    with pytest.raises(AlgorithmRefused):
        read_csr(csr(rsa_key(), signature_name=algorithm(dotted)))


def test_bytes_after_the_request_are_malformed() -> None:
    with pytest.raises(Malformed):
        read_csr(csr(rsa_key()) + b"\x00")


def test_a_name_beyond_all_use_is_malformed() -> None:
    with pytest.raises(Malformed, match="Name"):
        read_csr(csr(rsa_key(), subject=seq(name("x")[2:] * 1000)))


WHOLE = csr(
    rsa_key(),
    attributes=[
        challenge(),
        extension_request(
            extension(SUBJECT_ALT_NAME, seq(der(0x82, b"a.example"))), extension(KEY_USAGE, der(0x03, b"\x05\xa0"))
        ),
    ],
)


INFO = children(value_of(WHOLE))[0]


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed_or_changes_nothing_that_is_signed(position: int, change: int) -> None:
    changed = bytearray(WHOLE)
    changed[position] ^= change

    try:
        read = read_csr(bytes(changed))
    except ScepError:
        return

    assert read_csr(WHOLE).info == read.info


@given(st.integers(0, len(INFO) - 1), st.integers(1, 255))
def test_what_a_holder_of_the_key_has_changed_raises_nothing_but_the_codecs_own(position: int, change: int) -> None:
    """The signature is made over the changed bytes, so that everything behind its check is reached."""
    info = INFO[:position] + bytes((INFO[position] ^ change,)) + INFO[position + 1 :]
    signed = seq(info, algorithm(RSA_SIGNATURES["sha256"]), der(0x03, b"\x00", sign(info, rsa_key(), "sha256")))

    try:
        read = read_csr(signed)
    except ScepError:
        return

    assert info == read.info


def test_a_truncated_request_is_malformed_wherever_it_is_cut() -> None:
    for length in range(len(WHOLE)):
        with pytest.raises(Malformed):
            read_csr(WHOLE[:length])


# ---------------------------------------------------------------- what Windows adds

WINDOWS = [
    bytes.fromhex(
        "303a060a2b0601040182370d0201312c302a1e1c00560061006c0069006400690074007900500065007200"
        "69006f00641e0a00590065006100720073"
    ),
    bytes.fromhex(
        "303c060a2b0601040182370d0201312e302c1e2600560061006c0069006400690074007900500065007200"
        "69006f00640055006e0069007400731e020031"
    ),
]


def test_the_names_and_values_that_windows_adds_are_read() -> None:
    read = read_csr(csr(rsa_key(), attributes=[challenge(), *WINDOWS]))

    assert (("ValidityPeriod", "Years"), ("ValidityPeriodUnits", "1")) == read.pairs


@pytest.mark.parametrize(
    "value",
    [
        NULL,
        seq(),
        seq(NULL, NULL),
        seq(der(0x1E, b"\x00V\x00"), der(0x1E, b"\x00a")),
        seq(*[der(0x0C, b"a")] * 3),
        der(0x1E, b"\x00V"),
    ],
)
def test_names_and_values_that_do_not_read_are_none(value: bytes) -> None:
    attributes = [attribute("1.3.6.1.4.1.311.13.2.1", value, seq(der(0x0C, b"name"), der(0x0C, b"value")))]

    assert (("name", "value"),) == read_csr(csr(rsa_key(), attributes=attributes)).pairs
