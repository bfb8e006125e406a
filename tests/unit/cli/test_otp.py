"""`scep-ra otp`: what is minted works, is shown once, and is known by its digest alone."""

from __future__ import annotations

import csv
import json
import re
import shutil
import stat
import tomllib
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from ra.challenge.one_time import digest_of
from ra.challenge.otp import Options
from ra.cli.app import run
from ra.cli.init import Plan, write
from ra.cli.opened import local_user, with_journal
from ra.cli.otp import BATCH
from ra.journal.audit import list_events
from ra.journal.database import Journal
from ra.journal.one_time import look_up
from ra.journal.records import OneTimeSecret
from ra.journal.sealing import JournalKey
from ra.journal.transactions import authorise
from ra.policy.grant import Spend
from tests.fakes.enrolments import a_transaction

ROOT = Path(__file__).resolve().parents[3]
STATIC = 'type = "static"\nsecrets = [{ label = "first", value_from = "file:challenge.txt" }]'
ONE_TIME = 'type = "otp"\nttl_minutes = 60\nlength = 32'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as init writes it, its challenge a one-time one."""
    directory = tmp_path_factory.mktemp("otp") / "var"
    listen, public_url = "127.0.0.1:8080", "http://127.0.0.1:8080"
    plan = Plan(
        directory=directory,
        ca_name="lab",
        ca_key="ec:p256",
        ra_key="rsa:2048",
        listen=listen,
        admin_listen="127.0.0.1:8081",
        public_url=public_url,
        workers=1,
        legacy=(),
    )
    write(plan)
    config = directory / "ra.toml"
    config.write_text(config.read_text("utf-8").replace(STATIC, ONE_TIME), "utf-8")
    return directory


@pytest.fixture
def config(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "var") / "ra.toml"


def otp(config: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """What the command prints as JSON."""
    assert run(["otp", *arguments, "--config", str(config), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def text(config: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["otp", *arguments, "--config", str(config)]) == 0
    return capsys.readouterr().out


def refused(config: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The sentence of a command that was used or configured wrongly."""
    assert run(["otp", *arguments, "--config", str(config)]) == 2
    return capsys.readouterr().err


def kept(config: Path, secret: str) -> OneTimeSecret | None:
    async def find(journal: Journal, key: JournalKey) -> OneTimeSecret | None:
        return await journal.read(lambda c: look_up(c, digest_of(secret, key)))

    return with_journal(config, find)


def test_a_secret_is_minted_for_the_profile_as_configured(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shown,) = otp(config, capsys, "create", "--label", "printer")["secrets"]

    secret = kept(config, shown["secret"])
    assert secret is not None
    assert ("printer", "shared", "default", None) == (secret.label, secret.method, secret.profile, secret.names)
    assert 3600 == (secret.expires_at - secret.created_at).total_seconds()
    assert 32 == len(shown["secret"].replace("-", ""))


def test_a_secret_is_minted_for_names_and_for_a_time(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("--subject", "O=Example,CN=printer", "--san", "dns:printer.example.org", "--san", "ip:192.0.2.1")
    (shown,) = otp(config, capsys, "create", *names, "--ttl", "7d")["secrets"]

    secret = kept(config, shown["secret"])
    assert secret is not None
    assert ("CN=printer", "O=Example", "dns:printer.example.org", "ip:192.0.2.1") == secret.names
    assert 7 == (secret.expires_at - secret.created_at).days
    assert "CN=printer" == secret.label


def test_several_are_numbered_and_differ(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = otp(config, capsys, "create", "--label", "lot", "--count", "3")["secrets"]

    assert ["lot-1", "lot-2", "lot-3"] == [each["label"] for each in shown]
    assert 3 == len({each["secret"] for each in shown})


def test_what_is_printed_to_a_person_is_the_secret(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = text(config, capsys, "create", "--label", "printer")

    secret = printed.splitlines()[0].split()[1]
    assert kept(config, secret) is not None


def test_several_are_printed_as_csv(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = text(config, capsys, "create", "--count", "2", "--label", "lot")

    rows = list(csv.DictReader(printed.splitlines()))
    assert ["lot-1", "lot-2"] == [each["label"] for each in rows]
    assert all(kept(config, each["secret"]) for each in rows)


def test_a_file_says_what_is_wanted_and_another_gets_it(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted, output = tmp_path / "devices.csv", tmp_path / "secrets.csv"
    lines = [f"device {number},CN=d{number},dns:d{number}.example.org dns:d{number}" for number in range(BATCH + 1)]
    wanted.write_text("\ufefflabel,subject,san\n" + "\n".join(lines) + "\n", "utf-8")

    answer = otp(config, capsys, "create", "--from", str(wanted), "--output", str(output), "--ttl", "1h")

    assert {"count": BATCH + 1, "output": str(output)} == answer
    assert 0o600 == stat.S_IMODE(output.stat().st_mode)
    shown = json.loads(output.read_text("utf-8"))["secrets"]
    assert [f"device {number}" for number in range(BATCH + 1)] == [each["label"] for each in shown]
    last = kept(config, shown[-1]["secret"])
    assert last is not None
    assert (f"CN=d{BATCH}", f"dns:d{BATCH}", f"dns:d{BATCH}.example.org") == last.names


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("label,colour\nx,red\n", "(colour)"),
        ("label,subject\nx,CN=x\ny,nothing\n", "line 3: 'nothing' is no subject"),
        ("label,san\nx,host.example.org\n", "line 2: 'host.example.org' is no name"),
        ("name\nx\n", "columns that are not known (name). Write one or more of label, subject, san"),
        ("label;subject\nx;y\n", "(label;subject): they are separated by semicolons; save it with commas."),
        ("label\nx,CN=x\n", "line 2: there are more values than columns"),
    ],
)
def test_a_file_that_does_not_read_mints_nothing(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, sentence: str
) -> None:
    wanted = tmp_path / "devices.csv"
    wanted.write_text(content, "utf-8")

    complaint = refused(config, capsys, "create", "--from", str(wanted))

    assert sentence in complaint
    assert [] == otp(config, capsys, "list")["secrets"]


def test_a_file_that_is_there_is_not_overwritten(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "precious"
    output.write_text("precious", "utf-8")

    exit_code = run(["otp", "create", "--config", str(config), "--output", str(output)])

    assert 1 == exit_code
    assert "precious: File exists" in capsys.readouterr().err
    assert "precious" == output.read_text("utf-8")
    assert [] == otp(config, capsys, "list")["secrets"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--profile", "other"), "there is no profile 'other': name one of default"),
        (("--challenge", "other"), 'asks no challenge of type "otp" named other'),
        (("--ttl", "1w"), "'1w' is no duration"),
        (("--ttl", "0h"), "'0h' is no duration"),
        (("--subject", "printer"), "'printer' is no subject"),
        (("--san", "printer"), "'printer' is no name"),
        (("--san", "ip:printer"), "'ip:printer' is no name"),
        (("--san", "ip:300.1.1.1"), "'ip:300.1.1.1' is no name: '300.1.1.1' is no IP address"),
        (("--san", "dns:"), "'dns:' is no name"),
        (("--from", "x.csv", "--label", "y"), "the file says label"),
    ],
)
def test_what_cannot_be_minted_is_said(
    config: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str
) -> None:
    complaint = refused(config, capsys, "create", *arguments)

    assert sentence in complaint


def test_another_profile_that_mints_is_named(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = config.read_text("utf-8").replace('challenge = "shared"', 'challenge = "fixed"')
    text += f'[challenges.fixed]\n{STATIC}\n[profiles.vpn]\nconnector = "lab"\nchallenge = "shared"\n'
    config.write_text(text, "utf-8")

    complaint = refused(config, capsys, "create")

    assert (
        'profiles.default.challenge asks no challenge of type "otp"; with --profile name one that does: vpn'
        in complaint
    )


def test_a_profile_without_a_one_time_challenge_mints_none(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(config.read_text("utf-8").replace(ONE_TIME, STATIC), "utf-8")

    complaint = refused(config, capsys, "create")

    assert 'profiles.default.challenge asks no challenge of type "otp"' in complaint


def test_no_secret_is_kept_or_listed(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shown,) = otp(config, capsys, "create")["secrets"]

    listed = json.dumps(otp(config, capsys, "list"))

    spellings = {shown["secret"], shown["secret"].replace("-", "")}
    files = b"".join(each.read_bytes() for each in config.parent.iterdir())
    assert shown["label"] in listed
    assert not [each for each in spellings if each in listed or each.encode() in files]


def test_the_list_says_what_became_of_each(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (spent,) = otp(config, capsys, "create", "--label", "spent")["secrets"]
    for label in ("revoked", "unused"):
        otp(config, capsys, "create", "--label", label)
    otp(config, capsys, "revoke", "revoked")
    new = a_transaction(spend=_spend(config, spent["secret"]))
    with_journal(config, lambda journal, _: journal.write(lambda c: authorise(c, new, new.expires_at)))

    listed = otp(config, capsys, "list")["secrets"]
    printed = text(config, capsys, "list", "--label", "spent")

    states = {each["label"]: each["state"] for each in listed}
    assert {"spent": "spent", "revoked": "revoked", "unused": "unused"} == states
    assert {str(new.id)} == {each["transaction"] for each in listed if each["state"] == "spent"}
    assert str(new.id) in printed


def _spend(config: Path, secret: str) -> Spend:
    found = kept(config, secret)
    assert found is not None
    return Spend(key=found.key, expires_at=found.expires_at)


def test_everything_of_a_challenge_can_be_revoked_at_once(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    otp(config, capsys, "create", "--count", "3", "--label", "lot")

    first = otp(config, capsys, "revoke", "--all-of", "shared")
    second = otp(config, capsys, "revoke", "--all-of", "shared")

    assert ["lot-1", "lot-2", "lot-3"] == sorted(first["revoked"])
    assert [] == second["revoked"]


def test_a_label_that_nothing_has_is_an_error(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    complaint = refused(config, capsys, "revoke", "nothing")

    assert "no secret that could still be used is called 'nothing'" in complaint


@pytest.mark.parametrize("arguments", [(), ("x", "--all-of", "shared")])
def test_either_a_label_or_a_challenge_is_revoked(
    config: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    complaint = refused(config, capsys, "revoke", *arguments)

    assert "name a label, or --all-of and a challenge" in complaint


def test_who_mints_and_revokes_is_audited(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    otp(config, capsys, "create", "--label", "printer")
    otp(config, capsys, "revoke", "printer")

    events = [each.read() for each in with_journal(config, lambda journal, _: journal.read(list_events))]

    told = [(each["event"], each.get("label"), each.get("who")) for each in events]
    minted = [("opened", None, None), ("secret-minted", "printer", local_user()), ("closed", None, None)]
    revoked = [("opened", None, None), ("secret-revoked", "printer", local_user()), ("closed", None, None)]
    assert [*minted, *revoked] == told


def test_the_page_explains_every_option_and_its_block_validates(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs/challenges/otp.md").read_text("utf-8")
    assert run(["otp", "create", "--help"]) == 0
    offered = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--config", "--help", "--json"}

    explained = {
        option for row in re.findall(r"^\| (`--.*?) \|", page, re.MULTILINE) for option in row.split("`")[1::2]
    }
    block = tomllib.loads(re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[0])

    assert offered == explained
    assert Options() == Options.model_validate({k: v for k, v in block["challenges"]["once"].items() if k != "type"})


def test_a_signed_challenge_is_made_without_a_database(
    config: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (config.parent / "signed.key").write_text(b64encode(b"k" * 32).decode(), "utf-8")
    text = config.read_text("utf-8").replace(
        ONE_TIME, 'type = "signed"\nkeys = [{ kid = "k1", secret = "file:signed.key" }]'
    )
    config.write_text(text, "utf-8")
    capsys.readouterr()
    arguments = ["otp", "create", "--signed", "--config", str(config), "--json"]

    assert 0 == run([*arguments, "--subject", "CN=printer", "--ttl", "1h"])

    (row,) = json.loads(capsys.readouterr().out)["secrets"]
    assert row["secret"].startswith("S1.k1.")
    assert (["CN=printer"], "shared", "default") == (row["names"], row["challenge"], row["profile"])
    assert 2 == run(arguments)
    assert "names_required" in capsys.readouterr().err
    assert 2 == run([*arguments, "--subject", "CN=printer", "--ttl", "2d"])
    assert "max_ttl_minutes" in capsys.readouterr().err
    lines = tmp_path / "devices.csv"
    lines.write_text("subject\nCN=one\nCN=two\n", "utf-8")
    assert 0 == run([*arguments, "--from", str(lines)])
    assert 2 == len(json.loads(capsys.readouterr().out)["secrets"])


def test_what_asks_no_signed_challenge_signs_none(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert 2 == run(["otp", "create", "--signed", "--config", str(config), "--subject", "CN=x"])

    assert 'asks no challenge of type "signed"' in capsys.readouterr().err
