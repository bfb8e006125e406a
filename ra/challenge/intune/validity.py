"""How long a certificate is wanted to be valid: the pair of attributes that Intune has devices put into a request.

Windows sends `ValidityPeriod` and `ValidityPeriodUnits`; Android sends either under the other's name; Apple sends none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta

_NAMES = frozenset({"ValidityPeriod", "ValidityPeriodUnits"})
_NUMBER = re.compile(r"[0-9]{1,6}")

# Intune counts in calendar units; a certificate that ends some hours sooner than a calendar says harms nobody.
_PERIODS: Mapping[str, timedelta] = {
    "hours": timedelta(hours=1),
    "days": timedelta(days=1),
    "weeks": timedelta(weeks=1),
    "months": timedelta(days=30),
    "years": timedelta(days=365),
}


def wished_validity(pairs: Sequence[tuple[str, str]]) -> timedelta | None:
    """What the pairs ask for; None where they are absent, incomplete, or ask for nothing that there is."""
    values = [value.strip() for name, value in pairs if name in _NAMES]
    numbers = [int(each) for each in values if _NUMBER.fullmatch(each)]
    periods = [_PERIODS[each.lower()] for each in values if each.lower() in _PERIODS]
    if len(values) != len(_NAMES) or not numbers or not periods:
        return None
    return numbers[0] * periods[0] or None
