"""`scep-ra init`: what it writes can be served, belongs to its owner alone, and overwrites nothing."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ra.cli.app import run
from ra.cli.init import CHALLENGE_CHARACTERS, Plan, write
from ra.errors import Misconfigured
from ra.settings.load import load

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = {"ca.pem", "ra.pem", "ra.toml"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as init writes it."""
    directory = tmp_path_factory.mktemp("init") / "var"
    assert run(["init", str(directory), "--yes", "--json", "--ca-key", "ec:p256"]) == 0
    return directory


def init(directory: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert run(["init", str(directory), "--yes", "--json", *options]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_it_tells_url_challenge_and_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = init(tmp_path / "var", capsys, "--listen", "127.0.0.1:9000", "--ca-key", "ec:p384")

    assert answer["url"] == "http://127.0.0.1:9000/scep"
    assert answer["config"] == str(tmp_path / "var/ra.toml")
    assert answer["challenge"] == (tmp_path / "var/challenge.txt").read_text("utf-8").strip()
    assert len(answer["challenge"]) == CHALLENGE_CHARACTERS
    assert answer["challenge"].isalnum()
    assert load(tmp_path / "var/ra.toml", {}).settings.server.admin_listen.port == 9001


def test_no_two_directories_share_a_secret(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    init(tmp_path / "other", capsys, "--ca-key", "ec:p256")

    secret_files = ("challenge.txt", "ca.passphrase", "ra.passphrase", "api-key.txt", "api-keys.secret", "journal.key")
    assert not [
        name
        for name in secret_files
        if (made / name).read_text("utf-8") == (tmp_path / "other" / name).read_text("utf-8")
    ]


def test_what_is_secret_is_for_its_owner_alone(made: Path) -> None:
    open_to_others = {each.name for each in made.iterdir() if stat.S_IMODE(each.stat().st_mode) & 0o077}

    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert open_to_others <= PUBLIC | {"ca.db", "ra.db-wal", "ra.db-shm"}


def test_keys_are_encrypted(made: Path) -> None:
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in (made / "ca.key").read_bytes()
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in (made / "ra.key").read_bytes()


def test_the_ra_certificate_chains_to_the_ca(made: Path) -> None:
    done = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", made / "ca.pem", made / "ra.pem"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.endswith("OK\n")


def test_a_directory_that_holds_something_is_left_alone(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {each.name: each.stat().st_mtime_ns for each in made.iterdir()}

    exit_code = run(["init", str(made), "--yes"])

    assert exit_code == 2
    assert "is not empty, and init overwrites nothing" in capsys.readouterr().err
    assert before == {each.name: each.stat().st_mtime_ns for each in made.iterdir()}


def test_an_init_that_stops_midway_leaves_no_configuration_and_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = Plan(
        directory=tmp_path / "var",
        ca_name="CA",
        ca_key="ec:p256",
        ra_key="no such key",
        listen="127.0.0.1:1",
        admin_listen="127.0.0.1:2",
        public_url="http://127.0.0.1:1",
        workers=1,
        legacy=(),
    )
    with pytest.raises(Misconfigured):
        write(plan)

    exit_code = run(["init", str(tmp_path / "var"), "--yes"])

    assert exit_code == 2
    assert "holds what an interrupted init left: remove the directory and run init again" in capsys.readouterr().err
    assert (tmp_path / "var/ca.key").exists()
    assert not (tmp_path / "var/ra.toml").exists()


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--legacy", "3des,rc4", "profiles.default.legacy.1: it should be"),
        ("--public-url", "ra.example", "server.public_url: write the URL"),
        ("--admin-listen", "127.0.0.1:8080", "server.admin_listen has the port of server.listen"),
    ],
)
def test_a_plan_that_cannot_be_served_leaves_nothing_behind(
    tmp_path: Path, option: str, value: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    exit_code = run(["init", str(tmp_path), "--yes", option, value])

    assert exit_code == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_yes_it_asks(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ra", "init", str(tmp_path / "var"), "--ca-key", "ec:p256"]

    refused = subprocess.run(command, input="\nn\n", capture_output=True, text=True, check=False)
    agreed = subprocess.run(command, input="http://ra.lan/\ny\n", capture_output=True, text=True, check=False)

    assert refused.returncode == 130
    assert agreed.returncode == 0
    assert load(tmp_path / "var/ra.toml", {}).settings.server.public_url == "http://ra.lan"


def test_where_nobody_can_be_asked_it_says_which_options_do_without(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ra", "init", str(tmp_path / "var")]

    plain = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    with_url = subprocess.run(
        [*command, "--public-url", "http://ra.lan"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (2, 2) == (plain.returncode, with_url.returncode)
    assert "write --yes, and --public-url" in plain.stderr
    assert "write --yes" in with_url.stderr
    assert not (tmp_path / "var").exists()


def test_a_directory_that_is_not_empty_is_told_before_anything_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "precious").touch()

    exit_code = run(["init", str(tmp_path)])

    said = capsys.readouterr()
    assert 2 == exit_code
    assert "is not empty" in said.err
    assert "" == said.out


def test_the_shipped_configuration_runs_beside_what_init_makes(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made, tmp_path / "var")
    shutil.copy(ROOT / "config/ra.toml", tmp_path / "var/ra.toml")

    exit_code = run(["check-config", "--config", str(tmp_path / "var/ra.toml"), "--json"])

    assert exit_code == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == []


def test_the_shipped_configuration_is_the_one_that_init_writes_but_for_the_api_key(made: Path) -> None:
    shipped = tomllib.loads((ROOT / "config/ra.toml").read_text("utf-8"))
    written = tomllib.loads((made / "ra.toml").read_text("utf-8"))

    assert written["server"].pop("api_key_secret") == "file:api-keys.secret"
    assert len(written["server"].pop("api_keys")) == 1
    assert shipped == written


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (('type = "internal"', 'type = "interna"'), 'connectors.lab: there is no connector of type "interna"'),
        (('type = "static"', 'type = "statik"'), 'challenges.shared: there is no challenge of type "statik"'),
        (
            ('type = "internal"', 'type = "internal"\nmax_validity = 1'),
            "connectors.lab: max_validity is not a known key; did",
        ),
        (('"file:challenge.txt"', '"file:none.txt"'), "challenges.shared: the secret file:none.txt cannot be read"),
        (
            ('certificate = "ra.pem"', 'certificate = "ca.pem"'),
            'identity "ra": the certificate holds the CA\'s own key',
        ),
        (('key = "ra.key"', 'key = "ra.pem"'), 'identity "ra": the private key'),
        (('"file:ca.passphrase"', '"file:ra.passphrase"'), "connectors.lab: the private key"),
    ],
)
def test_check_config_finds_what_the_files_hide(
    made: Path, tmp_path: Path, edit: tuple[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made, tmp_path / "var")
    path = tmp_path / "var/ra.toml"
    path.write_text(path.read_text("utf-8").replace(*edit), "utf-8")

    exit_code = run(["check-config", "--config", str(path)])

    assert exit_code == 2
    assert said in capsys.readouterr().err


def test_check_config_warns_of_a_profile_that_lets_in_everybody(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made, tmp_path / "var")
    path = tmp_path / "var/ra.toml"
    path.write_text(
        path.read_text("utf-8") + '[profiles.open]\nconnector = "lab"\nchallenge_password_required = false\n'
    )

    exit_code = run(["check-config", "--config", str(path)])

    assert exit_code == 0
    assert "warning: profiles.open requires no challenge" in capsys.readouterr().out
