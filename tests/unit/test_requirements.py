"""The locked requirements: what runs, what builds, and what is only for development."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def locked(name: str) -> dict[str, str]:
    """Versions by package."""
    lines = (ROOT / name).read_text("utf-8").splitlines()
    return dict(line.removesuffix(" \\").split("==") for line in lines if "==" in line)


def test_what_only_builds_does_not_run() -> None:
    """The Dockerfile uninstalls what requirements-build.txt names."""
    assert locked("requirements.txt").keys() & locked("requirements-build.txt").keys() == set()


@pytest.mark.parametrize(("extra", "name"), [("", "requirements.txt"), ("build", "requirements-build.txt")])
def test_what_is_declared_is_locked(extra: str, name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = project["optional-dependencies"][extra] if extra else project["dependencies"]

    assert {each.partition(">=")[0].partition("[")[0] for each in declared} - locked(name).keys() == set()


def test_no_two_files_lock_different_versions() -> None:
    locks = [locked(name) for name in ("requirements.txt", "requirements-build.txt", "requirements-dev.txt")]
    versions = {item for each in locks for item in each.items()}

    assert len(versions) == len({name for name, _ in versions})
