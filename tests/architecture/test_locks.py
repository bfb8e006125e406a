from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PINNED = re.compile(r"[a-z0-9-]+==[0-9A-Za-z.+]+ \\(\n    --hash=sha256:[0-9a-f]{64}( \\)?)+\n")

REMARK = "\n# The following packages are considered to be unsafe in a requirements file:\n"
"""What pip-compile writes before setuptools and pip."""


@pytest.mark.parametrize("path", sorted(ROOT.glob("requirements*.txt")), ids=lambda path: path.name)
def test_a_lock_holds_versions_and_hashes_and_not_where_they_were_found(path: Path) -> None:
    assert "" == PINNED.sub("", path.read_text("utf-8").replace(REMARK, ""))
