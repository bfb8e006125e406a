"""Messages that nobody here wrote. Where each comes from, and its licence, is in the README beside it."""

from __future__ import annotations

from pathlib import Path

from tests.peers import missing

_HERE = Path(__file__).resolve().parent
_BESIDE_THE_CHECKOUT = _HERE.parents[2] / "shared" / "vectors"


def vector(name: str) -> bytes:
    """A file of this folder, such as `apple-pkcsreq/PKCSReq.der`."""
    return (_HERE / name).read_bytes()


def large_vector(name: str) -> Path:
    """A file that is too large for this folder; without it the test is skipped, or fails where peers are demanded."""
    path = _BESIDE_THE_CHECKOUT / name
    if not path.exists():
        missing(f"{name} is missing: the large vectors are looked for in shared/vectors beside the checkout")
    return path
