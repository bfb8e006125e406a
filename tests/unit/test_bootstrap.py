"""What joins everything: combinations of challenges, and how a start fails."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ra.bootstrap.checks import check
from ra.bootstrap.worker import application
from ra.cli.app import run
from ra.errors import Misconfigured
from ra.journal.migrations import HEAD
from ra.settings.load import load
from ra.settings.sources import process_environment

TWO_CHALLENGES = """
[challenges.second]
type = "static"
secrets = [{ label = "second", value_from = "file:challenge.txt" }]
[profiles.both]
connector = "lab"
challenge = COMBINATION
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made") / "var"
    assert run(["init", str(directory), "--yes", "--json", "--ca-key", "ec:p256"]) == 0
    return directory


@pytest.fixture
def directory(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "var"))


def append(directory: Path, text: str) -> Path:
    path = directory / "ra.toml"
    path.write_text(path.read_text("utf-8") + text, "utf-8")
    return path


@pytest.mark.parametrize("word", ["all_of", "any_of", "first_match"])
def test_challenges_may_be_combined(directory: Path, word: str) -> None:
    path = append(directory, TWO_CHALLENGES.replace("COMBINATION", f'{{ {word} = ["shared", "second"] }}'))

    warnings = check(load(path, {}))

    assert warnings == ()


@pytest.mark.parametrize(
    "combination", ['"person"', '{ any_of = ["shared", "person"] }', '{ first_match = ["shared", "person"] }']
)
def test_a_challenge_that_asks_for_no_secret_is_never_enough(directory: Path, combination: str) -> None:
    profile = f'[profiles.open]\nconnector = "lab"\nchallenge = {combination}\n'
    path = append(directory, f'[challenges.person]\ntype = "approval"\n{profile}')

    with pytest.raises(Misconfigured, match=r"^profiles\.open\.challenge: person: asks for nothing"):
        check(load(path, {}))


def test_beside_one_that_asks_for_a_secret_it_may_stand(directory: Path) -> None:
    profile = '[profiles.closed]\nconnector = "lab"\nchallenge = { all_of = ["shared", "person"] }\n'
    path = append(directory, f'[challenges.person]\ntype = "approval"\n{profile}')

    assert check(load(path, {})) == ()


def test_a_sid_that_nobody_finds_or_that_the_ca_cannot_add_stops_the_start(directory: Path) -> None:
    option = "sid_from_challenge = true\n"
    unfound = append(directory, f'[profiles.open]\nconnector = "lab"\nchallenge_password_required = false\n{option}')

    with pytest.raises(Misconfigured, match="sid_from_challenge: the profile has no challenge"):
        check(load(unfound, {}))


def test_two_pages_at_one_path_stop_the_start(directory: Path) -> None:
    (directory / "mdm.txt").write_text("correct horse battery", "utf-8")
    account = '{ label = "mdm", user = "mdm", password = "file:mdm.txt" }'
    tables = [f'[challenges.{name}]\ntype = "ndes"\naccounts = [{account}]\n' for name in ("one", "two")]
    profile = '[profiles.pages]\nconnector = "lab"\nchallenge = { any_of = ["one", "two"] }\n'
    path = append(directory, "".join([*tables, profile]))

    with pytest.raises(Misconfigured, match="have their page at /certsrv/mscep_admin"):
        check(load(path, {}))


def test_a_reserved_name_of_a_challenge_stops_the_start(directory: Path) -> None:
    path = append(
        directory,
        '[challenges.renewal]\ntype = "static"\nsecrets = [{ label = "a", value_from = "file:challenge.txt" }]\n',
    )

    with pytest.raises(Misconfigured, match=r"^challenges\.renewal: a challenge cannot be named 'renewal'"):
        check(load(path, {}))


def test_a_profile_renews_from_other_connectors_and_cas_that_it_names(directory: Path) -> None:
    (directory / "crl.pem").write_text("read when it is needed", "utf-8")
    path = append(
        directory,
        '[profiles.moved]\nconnector = "lab"\nchallenge = "shared"\nrenews_from = ["lab"]\nrevoke_on_replace = true\n'
        'renewal_authorities = [{ certificate = "ca.pem", crl = "crl.pem" }]\n',
    )

    warnings = check(load(path, {}))

    assert warnings == ()


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ('renews_from = ["gone"]', 'profiles.moved.renews_from names "gone", which is not there'),
        ('renewal_authorities = [{ certificate = "gone.pem", crl = "crl.pem" }]', "profiles.moved: .*gone.pem"),
        (
            'renewal_authorities = [{ certificate = "ra.pem", crl = "crl.pem" }]',
            "profiles.moved: renewal_authorities: ra.pem is not the one certificate of a CA",
        ),
    ],
)
def test_a_ca_that_nothing_can_be_renewed_from_stops_the_start(directory: Path, option: str, said: str) -> None:
    path = append(directory, f'[profiles.moved]\nconnector = "lab"\nchallenge = "shared"\n{option}\n')

    with pytest.raises(Misconfigured, match=said):
        check(load(path, {}))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (
            ('"file:ca.passphrase"', '"hunter2"'),
            "connectors.lab: key_passphrase: a secret is never written here; write",
        ),
        (('"file:ca.passphrase"', '["hunter2"]'), "connectors.lab: key_passphrase: it should be a valid string"),
        (('"file:ca.passphrase"', '"file:ca.passphrase"\npassphrase = "hunter2"'), "passphrase is not a known key"),
        (
            ('"file:challenge.txt"', '"hunter2"'),
            "challenges.shared: secrets.0.value_from: a secret is never written here",
        ),
        (
            ('value_from = "file:challenge.txt"', 'value = "hunter2"'),
            "challenges.shared: secrets.0.value is not a known",
        ),
        (('[{ label = "first", value_from = "file:challenge.txt" }]', '["hunter2"]'), "secrets.0 should be a table"),
        (
            ('[{ label = "first", value_from = "file:challenge.txt" }]', '"hunter2"'),
            "secrets should be a list",
        ),
        (("[challenges.shared]", '[challenges]\ntypo = "hunter2"\n[challenges.shared]'), "challenges.typo should be a"),
        (('"file:ra.passphrase"', '"hunter2"'), "identities.ra.key_passphrase: a secret is never written here; write"),
        (
            ('"file:ra.passphrase"', '{ value = "hunter2" }'),
            "identities.ra.key_passphrase: it should be a valid string",
        ),
    ],
)
def test_a_secret_in_the_wrong_place_is_not_repeated(directory: Path, edit: tuple[str, str], said: str) -> None:
    path = directory / "ra.toml"
    path.write_text(path.read_text("utf-8").replace(*edit), "utf-8")

    with pytest.raises(Misconfigured) as caught:
        check(load(path, {}))

    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


def write_tls(directory: Path, key_mode: int = 0o600) -> Path:
    """[server.tls] with a certificate and its key."""
    for source, target in (("ra.pem", "tls.pem"), ("ra.key", "tls.key")):
        shutil.copy(directory / source, directory / target)
    (directory / "tls.key").chmod(key_mode)
    path = append(
        directory,
        '[server.tls]\ncertificate = "tls.pem"\nkey = "tls.key"\nkey_passphrase = "file:ra.passphrase"\n',
    )
    path.write_text(path.read_text("utf-8").replace('"http:', '"https:'), "utf-8")
    return path


def test_a_sound_tls_certificate_passes(directory: Path) -> None:
    assert check(load(write_tls(directory), {})) == ()


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (('"tls.key"', '"none.key"'), "server.tls.key: .*none.key cannot be read"),
        (('"tls.pem"', '"none.pem"'), "server.tls.certificate: .*none.pem cannot be read"),
        (('"tls.pem"', '"ca.pem"'), "server.tls: certificate, key and key_passphrase do not go together"),
        (
            ('"tls.key"\nkey_passphrase = "file:ra.passphrase"', '"tls.key"'),
            "server.tls: certificate, key and key_pass",
        ),
    ],
)
def test_a_tls_certificate_that_cannot_be_served_stops_the_start(
    directory: Path, edit: tuple[str, str], said: str
) -> None:
    path = write_tls(directory)
    path.write_text(path.read_text("utf-8").replace(*edit), "utf-8")

    with pytest.raises(Misconfigured, match=said):
        check(load(path, {}))


def test_a_tls_key_that_everybody_may_read_stops_the_start(directory: Path) -> None:
    with pytest.raises(Misconfigured, match=r"tls.key is open to everybody"):
        check(load(write_tls(directory, 0o644), {}))


def test_a_database_in_a_directory_that_is_not_there_stops_the_start(directory: Path) -> None:
    path = directory / "ra.toml"
    path.write_text(path.read_text("utf-8").replace("sqlite:///ra.db", "sqlite:///nowhere/ra.db"), "utf-8")

    with pytest.raises(Misconfigured, match=r"^\[database\] url: the directory .*nowhere does not exist"):
        check(load(path, {}))


def test_what_a_validator_warns_of_is_told_with_its_table(directory: Path) -> None:
    (directory / "umlaut.txt").write_text("gehört-niemandem\n", "utf-8")
    path = append(
        directory,
        '[challenges.odd]\ntype = "static"\nsecrets = [{ label = "a", value_from = "file:umlaut.txt" }]\n',
    )

    warnings = check(load(path, {}))

    assert [each.partition(":")[0] for each in warnings] == ["challenges.odd", "challenges.odd"]


def test_a_challenge_that_no_profile_asks_is_a_warning(directory: Path) -> None:
    path = append(directory, '[challenges.idle]\ntype = "otp"\n')

    (warning,) = check(load(path, {}))

    assert warning.startswith("challenges.idle: no profile asks it")


def change_the_journal(directory: Path, statement: str) -> None:
    with closing(sqlite3.connect(directory / "ra.db")) as connection, connection:
        connection.execute(statement)


def test_a_journal_of_a_newer_program_stops_the_start(directory: Path) -> None:
    change_the_journal(directory, "UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(Misconfigured, match=r"the journal there is of revision 9999, and scep-ra .* knows none beyond"):
        check(load(directory / "ra.toml", {}))


def test_a_journal_of_an_older_program_is_a_warning(directory: Path) -> None:
    change_the_journal(directory, "UPDATE alembic_version SET version_num = '0001'")

    assert (f"[database] url: the journal is of revision 0001, and the next start brings it to {HEAD}",) == check(
        load(directory / "ra.toml", {})
    )


def test_a_journal_that_was_made_with_another_key_stops_the_start(directory: Path) -> None:
    change_the_journal(directory, "UPDATE facts SET value = zeroblob(32) WHERE name = 'key'")

    with pytest.raises(Misconfigured, match=r"^\[database\] key: the journal was made with another key"):
        check(load(directory / "ra.toml", {}))


def test_a_journal_that_is_not_made_yet_is_nothing_to_complain_about(directory: Path) -> None:
    for name in ("ra.db", "journal.key"):
        (directory / name).unlink()

    assert () == check(load(directory / "ra.toml", {}))


def test_checking_leaves_the_database_alone(directory: Path) -> None:
    before = hashlib.sha256((directory / "ra.db").read_bytes()).digest()

    check(load(directory / "ra.toml", {}))

    assert before == hashlib.sha256((directory / "ra.db").read_bytes()).digest()


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("ra.toml", "cannot be read: No such file or directory"),
        ("ra.db", "does not exist"),
        ("challenge.txt", "challenges.shared: the secret file:challenge.txt cannot be read"),
        ("ca.pem", "connectors.lab: "),
    ],
)
def test_a_worker_that_cannot_start_says_so_in_one_line_and_fails(
    directory: Path, broken: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (directory / broken).unlink()
    process_environment()["SCEP_RA_CONFIG"] = str(directory / "ra.toml")
    try:
        sent = asyncio.run(start())
    finally:
        del process_environment()["SCEP_RA_CONFIG"]

    assert [each["type"] for each in sent] == ["lifespan.startup.failed"]
    assert said in sent[0]["message"]
    assert capfd.readouterr().out == ""


async def start() -> Sequence[dict[str, Any]]:
    """Starts a worker's application and returns what it tells the server."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    await application()({"type": "lifespan"}, receive, send)
    return sent
