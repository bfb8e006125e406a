"""Lets an RA find the connectors and the validator of this package, as it finds those of any installed one: by their entry points."""

from __future__ import annotations

from pathlib import Path

from connectors.registry import GROUP
from ra.challenge.registry import GROUP as CHALLENGES

_METADATA = """\
Metadata-Version: 2.1
Name: scep-ra-ledger
Version: 0
"""
_ENTRY_POINTS = f"""\
[{GROUP}]
ledger = benchmarks.ledger.connector
recorded = benchmarks.ledger.recorded

[{CHALLENGES}]
attended = benchmarks.ledger.attended
"""


def declare(directory: Path) -> None:
    """Writes them into a directory, which an RA then needs in its sys.path."""
    place = directory / "scep_ra_ledger-0.dist-info"
    place.mkdir()
    (place / "METADATA").write_text(_METADATA, "utf-8")
    (place / "entry_points.txt").write_text(_ENTRY_POINTS, "utf-8")
