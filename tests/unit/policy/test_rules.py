from __future__ import annotations

import inspect
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from connectors.api import KeyUsage
from ra.errors import Reason, Refused
from ra.policy import rules
from ra.policy.profile import EXTENDED_KEY_USAGES, Curve, Profile
from ra.policy.rules import RULES, Rule
from ra.policy.sid import SID_EXTENSION
from ra.scep.ciphers import PublicKey
from ra.scep.names import Digest, Legacy
from tests.fakes.csrs import csr, ec_key, ed448_key, ed25519_key, enrolment, extension, key_name, rsa_key, san

CLIENT = EXTENDED_KEY_USAGES["clientAuth"]
SERVER = EXTENDED_KEY_USAGES["serverAuth"]
CODE = EXTENDED_KEY_USAGES["codeSigning"]
SID = "S-1-5-21-3734714977-4168152908-3764207930-1104"
SID_VALUE = bytes.fromhex("3040a03e060a2b060104018237190201a030042e") + SID.encode()
SID_URI = f"tag:microsoft.com,2022-09-14:sid:{SID}"


def profile(**options: Any) -> Profile:
    return Profile(name="default", **options)


def refusal(rule: Rule, asked: Profile | None = None, **changes: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        rule(enrolment(csr(**changes)), asked or profile())
    return caught.value


def test_every_rule_of_the_module_is_in_the_tuple() -> None:
    written = [
        function
        for name, function in inspect.getmembers(rules, inspect.isfunction)
        if function.__module__ == rules.__name__
        and not name.startswith("_")
        and list(inspect.signature(function).parameters) == ["enrolment", "profile"]
    ]

    assert set(written) == set(RULES)
    assert len(RULES) == len(set(RULES))


@pytest.mark.parametrize("rule", RULES)
def test_a_plain_request_passes_every_rule(rule: Rule) -> None:
    rule(enrolment(), profile())


# ---------------------------------------------------------------- algorithms and keys


@pytest.mark.parametrize("digest", [Digest.SHA256, Digest.SHA384, Digest.SHA512, None])
def test_a_strong_signature_is_allowed(digest: Digest | None) -> None:
    rules.signature_is_strong(enrolment(csr(signature_digest=digest)), profile())


@pytest.mark.parametrize(("digest", "legacy"), [(Digest.SHA1, Legacy.SHA1), (Digest.MD5, Legacy.MD5)])
def test_a_weak_signature_needs_the_opt_in_for_its_digest(digest: Digest, legacy: Legacy) -> None:
    others = frozenset(Legacy) - {legacy}

    rules.signature_is_strong(enrolment(csr(signature_digest=digest)), profile(legacy=frozenset({legacy})))
    refused = refusal(rules.signature_is_strong, profile(legacy=others), signature_digest=digest)

    assert Reason.ALGORITHM_NOT_ALLOWED is refused.reason


@pytest.mark.parametrize(
    "key", [rsa_key(), rsa_key(3072), ec_key(), ec_key(ec.SECP384R1), ec_key(ec.SECP521R1)], ids=key_name
)
def test_a_usual_key_is_allowed(key: PublicKey) -> None:
    rules.key_is_allowed(enrolment(csr(public_key=key)), profile())


@pytest.mark.parametrize(
    ("key", "detail"),
    [
        (rsa_key(1024), "RSA-1024 is outside min_rsa_bits and max_rsa_bits"),
        (rsa_key(2048, 3), "the RSA exponent 3 is not in `rsa_exponents`"),
        (ec_key(ec.SECP224R1), "a key on an unknown curve is not in `curves`"),
        (ec_key(ec.SECP256K1), "a key on an unknown curve is not in `curves`"),
        (ec_key(ec.BrainpoolP256R1), "a key on an unknown curve is not in `curves`"),
        (ed25519_key(), "a key on Ed25519 is not in `curves`"),
        (ed448_key(), "a key on Ed448 is not in `curves`"),
    ],
    ids=key_name,
)
def test_an_unusual_key_is_refused(key: PublicKey, detail: str) -> None:
    refused = refusal(rules.key_is_allowed, public_key=key)

    assert Reason.KEY_NOT_ALLOWED is refused.reason
    assert detail == refused.detail


@pytest.mark.parametrize(
    ("key", "options"),
    [
        (rsa_key(1024), {"min_rsa_bits": 1024}),
        (rsa_key(2048, 3), {"rsa_exponents": frozenset({3, 65537})}),
        (ed25519_key(), {"curves": frozenset({Curve.ED25519})}),
        (ed448_key(), {"curves": frozenset({Curve.ED448})}),
    ],
    ids=key_name,
)
def test_an_unusual_key_is_allowed_where_the_profile_says_so(key: PublicKey, options: dict[str, Any]) -> None:
    rules.key_is_allowed(enrolment(csr(public_key=key)), profile(**options))


# ---------------------------------------------------------------- usages


@pytest.mark.parametrize(
    ("key", "capable"),
    [
        (rsa_key(), {"digitalSignature", "nonRepudiation", "keyEncipherment", "dataEncipherment"}),
        (ec_key(), {"digitalSignature", "nonRepudiation", "keyAgreement", "encipherOnly", "decipherOnly"}),
        (ed25519_key(), {"digitalSignature", "nonRepudiation"}),
    ],
    ids=["rsa", "ec", "ed25519"],
)
def test_what_a_key_can_do_follows_from_its_type(key: PublicKey, capable: set[str]) -> None:
    assert capable == rules.capable_usages(key)


def test_a_device_that_asks_for_no_usage_gets_the_default_as_far_as_its_key_is_capable() -> None:
    for_rsa = rules.granted_key_usage(csr(), profile())
    for_ec = rules.granted_key_usage(csr(public_key=ec_key()), profile())

    assert {KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_ENCIPHERMENT} == for_rsa
    assert {KeyUsage.DIGITAL_SIGNATURE} == for_ec


def test_a_usage_that_is_not_allowed_is_left_out() -> None:
    request = csr(key_usage=frozenset({"digitalSignature", "nonRepudiation"}))

    rules.key_usage_is_allowed(enrolment(request), profile())
    granted = rules.granted_key_usage(request, profile())

    assert {KeyUsage.DIGITAL_SIGNATURE} == granted


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        ({"keyCertSign"}, {}),
        ({"digitalSignature", "cRLSign"}, {}),
        ({"keyCertSign"}, {"privileged_extensions": "strip"}),
        ({"nonRepudiation"}, {}),
        (set(), {}),
        ({"digitalSignature", "nonRepudiation"}, {"unapproved_extensions": "refuse"}),
    ],
)
def test_a_usage_of_power_or_one_that_leaves_none_is_refused(asked: set[str], options: dict[str, Any]) -> None:
    refused = refusal(rules.key_usage_is_allowed, profile(**options), key_usage=frozenset(asked))

    assert Reason.USAGE_NOT_ALLOWED is refused.reason


def test_encipher_only_needs_key_agreement() -> None:
    allowed = profile(allowed_key_usage=frozenset(KeyUsage))
    alone, both = frozenset({"encipherOnly"}), frozenset({"encipherOnly", "keyAgreement"})

    rules.key_usage_is_allowed(enrolment(csr(public_key=ec_key(), key_usage=both)), allowed)
    refused = refusal(rules.key_usage_is_allowed, allowed, public_key=ec_key(), key_usage=alone)

    assert "encipherOnly and decipherOnly mean nothing without keyAgreement" == refused.detail


def test_a_device_that_asks_for_no_extended_usage_gets_the_default() -> None:
    granted = rules.granted_extended_key_usage(csr(), profile())

    assert (CLIENT,) == granted


def test_an_ordinary_extended_usage_that_is_not_allowed_is_left_out() -> None:
    request = csr(extended_key_usage=(SERVER, CLIENT, CLIENT))

    rules.extended_key_usage_is_allowed(enrolment(request), profile())
    granted = rules.granted_extended_key_usage(request, profile())

    assert (CLIENT,) == granted


@pytest.mark.parametrize("handling", ["strip", "refuse"])
def test_a_request_of_whose_extended_usages_none_remains_is_refused(handling: str) -> None:
    asked = profile(unapproved_extensions=handling, privileged_extensions=handling)

    refused = refusal(rules.extended_key_usage_is_allowed, asked, extended_key_usage=(SERVER, CODE))

    assert Reason.USAGE_NOT_ALLOWED is refused.reason


def test_an_empty_extended_usage_is_refused() -> None:
    refused = refusal(rules.extended_key_usage_is_allowed, extended_key_usage=())

    assert "no extended key usage remains" == refused.detail


def test_a_usage_of_power_is_refused_by_name() -> None:
    refused = refusal(rules.extended_key_usage_is_allowed, extended_key_usage=(CLIENT, CODE))

    assert "asked for, and not allowed: codeSigning" == refused.detail


def test_a_usage_of_power_is_left_out_where_the_profile_says_so() -> None:
    stripping = profile(privileged_extensions="strip")
    request = csr(extended_key_usage=(CODE, CLIENT))

    rules.extended_key_usage_is_allowed(enrolment(request), stripping)
    granted = rules.granted_extended_key_usage(request, stripping)

    assert (CLIENT,) == granted


def test_a_usage_of_power_is_granted_where_the_profile_allows_it() -> None:
    logon = EXTENDED_KEY_USAGES["smartcardLogon"]
    allowing = profile(allowed_extended_key_usage=frozenset({CLIENT, logon}))
    request = csr(extended_key_usage=(CLIENT, logon))

    rules.extended_key_usage_is_allowed(enrolment(request), allowing)
    granted = rules.granted_extended_key_usage(request, allowing)

    assert (CLIENT, logon) == granted


# ---------------------------------------------------------------- extensions


WINDOWS_ADDS = ["1.3.6.1.4.1.311.20.2", "1.3.6.1.4.1.311.21.7", "1.3.6.1.4.1.311.21.10", "2.5.29.14"]


@pytest.mark.parametrize("oid", WINDOWS_ADDS)
def test_what_windows_adds_by_itself_refuses_no_device(oid: str) -> None:
    rules.extensions_are_allowed(enrolment(csr(extensions=(extension(oid),))), profile())


@pytest.mark.parametrize("oid", WINDOWS_ADDS)
def test_what_windows_adds_by_itself_is_refused_where_the_profile_says_so(oid: str) -> None:
    refused = refusal(
        rules.extensions_are_allowed, profile(unapproved_extensions="refuse"), extensions=(extension(oid),)
    )

    assert Reason.EXTENSION_NOT_ALLOWED is refused.reason
    assert f"asked for, and not allowed: {oid}" == refused.detail


def test_an_extension_of_power_is_left_out_where_the_profile_says_so() -> None:
    request = enrolment(csr(extensions=(extension("2.16.840.1.113730.1.1"),), basic_constraints_ca=True))

    for rule in RULES:
        rule(request, profile(privileged_extensions="strip"))


def test_extensions_with_a_rule_of_their_own_are_not_unapproved() -> None:
    oids = ("2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.37")
    strict = profile(unapproved_extensions="refuse", privileged_extensions="refuse")

    rules.extensions_are_allowed(enrolment(csr(extensions=tuple(map(extension, oids)))), strict)


def test_a_sid_extension_is_refused_unless_the_profile_says_otherwise() -> None:
    extensions = (extension(SID_EXTENSION, SID_VALUE),)

    rules.sid_is_allowed(enrolment(csr(extensions=extensions)), profile(privileged_extensions="strip"))
    rules.sid_is_allowed(enrolment(csr(extensions=extensions)), profile(allow_sid_extension=True))
    refused = refusal(rules.sid_is_allowed, extensions=extensions)

    assert "asked for, and not allowed: a Microsoft SID" == refused.detail


def test_a_sid_extension_is_granted_by_its_own_option_alone() -> None:
    request = csr(extensions=(extension(SID_EXTENSION, SID_VALUE),))

    stripped = rules.granted_sid(request, profile(privileged_extensions="strip"))
    granted = rules.granted_sid(request, profile(allow_sid_extension=True))

    assert stripped is None
    assert SID == granted


def test_a_sid_extension_that_does_not_read_is_refused() -> None:
    refused = refusal(
        rules.sid_is_allowed, profile(allow_sid_extension=True), extensions=(extension(SID_EXTENSION, b"S-1-5-18"),)
    )

    assert "the Microsoft SID extension does not read" == refused.detail


def test_extension_and_uri_may_name_one_sid_only() -> None:
    allowing = profile(allow_sid_extension=True, allow_sid_uri=True)
    extensions = (extension(SID_EXTENSION, SID_VALUE),)
    same, other = (san("uri", SID_URI),), (san("uri", f"{SID_URI}5"),)

    rules.sid_is_allowed(enrolment(csr(extensions=extensions, subject_alternative_names=same)), allowing)
    refused = refusal(rules.sid_is_allowed, allowing, extensions=extensions, subject_alternative_names=other)

    assert "more than one Microsoft SID is asked for" == refused.detail
