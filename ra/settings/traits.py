"""What a certificate may say, in the words of the configuration: for what a CA is known to add or to drop."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from connectors.api import KeyUsage
from ra.errors import Misconfigured
from ra.policy.profile import (
    ANY_EXTENDED_KEY_USAGE,
    EXTENDED_KEY_USAGES,
    SUBJECT_ATTRIBUTES,
    attribute_oid,
    extended_key_usage_oid,
)


def trait(word: str) -> str:
    """As Deviations has it: a key usage by its name, everything else dotted.

    Raises:
        ValueError: it is neither a usage nor an attribute.
    """
    name, equals, value = word.partition("=")
    try:
        if equals:
            return f"{attribute_oid(name)}={value}"
        if word in SUBJECT_ATTRIBUTES:
            return attribute_oid(word)
        found = word if word in set(KeyUsage) else extended_key_usage_oid(word)
    except Misconfigured:
        usages = ", ".join([*KeyUsage, *EXTENDED_KEY_USAGES])
        attributes = ", ".join(SUBJECT_ATTRIBUTES)
        raise ValueError(
            f"{word!r} is neither a usage ({usages}) nor an attribute of a subject ({attributes}), "
            'alone or with its value as in "organizationName=Example"; a dotted OID does as well'
        ) from None
    if found == ANY_EXTENDED_KEY_USAGE:
        raise ValueError("anyExtendedKeyUsage would make a certificate good for anything, and is never let pass")
    return found


def _traits(words: frozenset[str]) -> frozenset[str]:
    return frozenset(map(trait, words))


Traits = Annotated[frozenset[str], AfterValidator(_traits)]
