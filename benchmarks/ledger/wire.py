"""What goes over the wire between the connector and the ledger CA: JSON, binary values in hex."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from benchmarks.ledger.book import Entry
from connectors.api import ApprovedContents, KeyUsage, NameAttribute, San, SanKind

PROCESS_HEADER = "X-Process"
"""Which process asks, so that the CA can end it in the middle of the conversation."""


def write_contents(contents: ApprovedContents) -> dict[str, Any]:
    return {
        "subject": [[(each.oid, each.value, each.tag) for each in rdn] for rdn in contents.subject],
        "names": [(each.kind, each.value) for each in contents.subject_alternative_names],
        "spki": contents.spki.hex(),
        "key_usage": sorted(contents.key_usage),
        "extended_key_usage": contents.extended_key_usage,
        "validity_seconds": contents.validity.total_seconds(),
    }


def read_contents(said: dict[str, Any]) -> ApprovedContents:
    return ApprovedContents(
        subject=tuple(tuple(NameAttribute(*each) for each in rdn) for rdn in said["subject"]),
        subject_alternative_names=tuple(San(SanKind(kind), value) for kind, value in said["names"]),
        spki=bytes.fromhex(said["spki"]),
        key_usage=frozenset(map(KeyUsage, said["key_usage"])),
        extended_key_usage=tuple(said["extended_key_usage"]),
        validity=timedelta(seconds=said["validity_seconds"]),
    )


def write_entry(entry: Entry) -> dict[str, str]:
    return {"reference": entry.reference, "certificate": entry.certificate.hex()}
