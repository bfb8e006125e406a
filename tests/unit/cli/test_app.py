"""The command line as a whole: what is offered, what an error becomes, and what is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ra import __version__
from ra.cli.app import COMMANDS, run


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    exit_code = run(["--help"])

    shown = capsys.readouterr().out
    assert exit_code == 0
    assert all(name in shown for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_of_its_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    exit_code = run([name, "--help"])

    shown = capsys.readouterr().out
    assert exit_code == 0
    assert f"scep-ra {name}" in shown
    assert "--json" in shown or "COMMAND" in shown  # a group has it with each of its commands


@pytest.mark.parametrize("name", ["caps", "getca", "nextca", "enrol", "renew", "poll", "getcert", "getcrl"])
def test_every_command_of_the_client_has_help_and_json(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    exit_code = run(["client", name, "--help"])

    shown = capsys.readouterr().out
    assert exit_code == 0
    assert "--json" in shown


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    exit_code = run(["--version"])

    assert exit_code == 0
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "exit_code", "sentence"),
    [
        (["frobnicate"], 2, "No such command 'frobnicate'."),
        (["client", "caps"], 2, "Missing option '--url'."),
        (["client", "caps", "--url", "http://127.0.0.1:1/scep"], 3, "127.0.0.1:1 could not be asked"),
        (["check-config", "--config", "/nowhere/ra.toml"], 2, "/nowhere/ra.toml cannot be read"),
        (["client", "poll", "--url", "http://127.0.0.1:1/", "--out", "/nowhere"], 2, "Nothing is pending in /nowhere"),
        (
            ["client", "enrol", "--url", "http://127.0.0.1:1/", "--out", "/x", "--subject", "?"],
            2,
            "The subject '?' is no",
        ),
        (["init", "/proc/nowhere", "--yes"], 1, "/proc/nowhere: No such file or directory"),
        (["init", "/proc/x", "--listen", "8080", "--yes"], 2, "write host and port"),
        (["init", "/proc/x", "--listen", "0.0.0.0:8080", "--yes"], 2, "name --public-url"),
        (
            ["init", "/proc/x", "--ca-key", "rsa:1024", "--yes"],
            2,
            "Invalid value for '--ca-key': 'rsa:1024' is not one of",
        ),
        (["init", "/proc/x", "--ca-name", "", "--yes"], 2, "write 1 to 64 characters"),
        (["init", "/proc/x", "--ca-name", "x" * 65, "--yes"], 2, "write 1 to 64 characters"),
        (["explain", "/nowhere"], 1, "/nowhere: No such file or directory"),
        (["explain", "/dev/null"], 1, "there is no message"),
        (["explain", "/dev/null", "--key", "x"], 2, "give --cert and --key together"),
    ],
)
def test_an_error_is_one_sentence_and_an_exit_code(
    arguments: list[str], exit_code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = run(arguments)
    said = capsys.readouterr().err
    as_json = run([*arguments, "--json"])
    said_as_json = json.loads(capsys.readouterr().err)

    assert (exit_code, exit_code) == (plain, as_json)
    assert said.startswith("scep-ra: ")
    assert sentence in said
    assert sentence in said_as_json["error"]


def test_a_group_without_a_command_prints_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    exit_code = run(["client"])

    shown = capsys.readouterr()
    assert exit_code == 2
    assert "enrol" in shown.out
    assert shown.err == "scep-ra: name a command\n"


def test_the_server_loads_no_command_line() -> None:
    code = "import sys, ra.bootstrap.worker; print(sorted({'typer', 'ra.cli', 'ra.client', 'asn1crypto'} & set(sys.modules)))"

    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert shown == "[]\n"


def test_help_loads_nothing_of_the_server() -> None:
    code = (
        "import sys; from ra.cli.app import run; run(['--help']); "
        "print(sorted({'ra.bootstrap', 'fastapi', 'sqlalchemy', 'pydantic', 'httpx'} & set(sys.modules)), file=sys.stderr)"
    )

    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr

    assert shown == "[]\n"


def test_python_dash_m_ra_is_the_same_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ra", "--version"], capture_output=True, text=True, check=True, cwd=tmp_path
    )

    assert done.stdout == f"{__version__}\n"
