"""Where the real clients and servers are that run beside scep-ra. Needs nothing but the standard library."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

BUILT = ROOT / ".cache" / "peers"
"""What `make peers` builds or fetches: `scepclient-2.3` (Go) and `jscep`, a folder of jars."""

OUT_OF_THE_WAY = os.pathsep.join(["/usr/sbin", "/usr/lib/certmonger"])
"""Daemons and helpers that no user types, so that $PATH need not hold them."""


def find(program: str) -> str | None:
    """Path of a program, or None."""
    built = BUILT / program
    if built.exists():
        return str(built)
    return shutil.which(program) or shutil.which(program, path=OUT_OF_THE_WAY)
