from __future__ import annotations

import re
from dataclasses import fields
from inspect import getsource
from typing import Any

import pytest

from connectors.api import KeyUsage, SanKind
from ra.errors import Misconfigured
from ra.policy.profile import (
    ANY_EXTENDED_KEY_USAGE,
    EXTENDED_KEY_USAGES,
    Profile,
    attribute_oid,
    extended_key_usage_oid,
)


def test_a_name_is_enough_for_a_profile() -> None:
    profile = Profile(name="default")

    assert frozenset() == profile.legacy
    assert profile.challenge_password_required


def test_a_device_gets_nothing_but_client_authentication_by_default() -> None:
    profile = Profile(name="default")

    assert {EXTENDED_KEY_USAGES["clientAuth"]} == profile.allowed_extended_key_usage
    assert (EXTENDED_KEY_USAGES["clientAuth"],) == profile.default_extended_key_usage


def test_no_name_that_active_directory_maps_to_an_account_is_let_through_by_default() -> None:
    profile = Profile(name="default")

    assert SanKind.UPN not in profile.subject_alternative_names
    assert not profile.allow_sid_uri
    assert not profile.allow_sid_extension


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("min_rsa_bits", 512),
        ("min_rsa_bits", 8192),
        ("max_rsa_bits", 16384),
        ("rsa_exponents", frozenset({1})),
        ("rsa_exponents", frozenset({65536})),
        ("rsa_exponents", frozenset({2**64 - 1})),
        ("default_validity_days", 0),
        ("renewal_threshold_days", -1),
        ("renewal_grace_days", -1),
        ("wait_seconds", -1),
        ("wait_seconds", 31),
        ("pending_expires_days", 0),
        ("max_awaiting_approval", 0),
        ("revoke_undelivered_after_days", -1),
        ("default_key_usage", frozenset[KeyUsage]()),
        ("default_extended_key_usage", ()),
        ("default_extended_key_usage", (ANY_EXTENDED_KEY_USAGE,)),
        ("allowed_extended_key_usage", frozenset({ANY_EXTENDED_KEY_USAGE})),
        ("common_name_pattern", "("),
        ("subject_alternative_name_patterns", {SanKind.DNS: (".*", "[")}),
    ],
)
def test_an_option_that_cannot_be_meant_stops_the_start(option: str, value: Any) -> None:
    with pytest.raises(Misconfigured, match="profile 'default': "):
        Profile(**{"name": "default", option: value})


def test_an_attribute_is_named_in_words_or_as_an_oid() -> None:
    oids = [attribute_oid("commonName"), attribute_oid("2.5.4.3")]

    assert ["2.5.4.3", "2.5.4.3"] == oids


def test_an_extended_key_usage_is_named_in_words_or_as_an_oid() -> None:
    oids = [extended_key_usage_oid("serverAuth"), extended_key_usage_oid("1.3.6.1.5.5.7.3.1")]

    assert ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.1"] == oids


@pytest.mark.parametrize("word", ["", "serverauth", "1", "1.", "3.1", "1.02", "1.3.x", "1." + "9" * 19])
def test_a_word_that_is_neither_is_refused_with_what_to_write(word: str) -> None:
    with pytest.raises(Misconfigured, match="write a dotted OID or one of serverAuth, clientAuth"):
        extended_key_usage_oid(word)


def test_every_option_is_documented_below_its_field() -> None:
    documented = set(re.findall(r'^    (\w+): [^\n]*\n    """', getsource(Profile), re.MULTILINE))

    assert {each.name for each in fields(Profile)} - {"name"} == documented
