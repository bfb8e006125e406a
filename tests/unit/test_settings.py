"""The configuration: where values come from, and what is said of those that do not do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from connectors import vault
from ra.challenge import inventory, ndes, signed, static
from ra.errors import Misconfigured, Refused
from ra.journal import purge
from ra.policy.presets import PRESETS
from ra.policy.profile import EXTENDED_KEY_USAGES, Profile
from ra.policy.rules import RULES
from ra.scep.csr import Csr
from ra.scep.names import Legacy
from ra.settings.complaints import complaints
from ra.settings.load import Configuration, load
from ra.settings.model import Address
from ra.settings.schema import json_schema
from ra.settings.sources import read_secret
from tests.fakes.csrs import common_name, csr, enrolment, san
from tests.fakes.services import endpoint

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "config").rglob("*.toml"))

MINIMAL = """
[connectors.lab]
type = "internal"
[challenges.shared]
type = "static"
secrets = []
[identities.ra]
certificate = "ra.pem"
key = "ra.key"
[profiles.default]
connector = "lab"
challenge = "shared"
"""

VAULT = {"url": "https://vault.example.org", "role": "device"}
INVENTORY = {"source": {"file": "devices.csv"}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ra.toml"


def read(path: Path, text: str = MINIMAL, environment: Mapping[str, str] | None = None) -> Configuration:
    path.write_text(text, "utf-8")
    return load(path, environment or {})


def complaint(path: Path, text: str = MINIMAL, environment: Mapping[str, str] | None = None) -> str:
    with pytest.raises(Misconfigured) as caught:
        read(path, text, environment)
    return str(caught.value)


def test_defaults_stand_where_nothing_is_said(path: Path) -> None:
    configuration = read(path)

    server = configuration.settings.server
    assert Address("127.0.0.1", 8080) == server.listen
    assert server.workers == 1
    assert not server.debug
    assert frozenset() == configuration.policies["default"].legacy
    assert configuration.warnings == ()


def test_the_environment_stands_above_secret_files_and_they_above_toml(path: Path, tmp_path: Path) -> None:
    secret_files = tmp_path / "secrets"
    secret_files.mkdir()
    (secret_files / "scep_ra_server__workers").write_text("3\n", "utf-8")
    (secret_files / "SCEP_RA_DATABASE__URL").write_text("sqlite:///from-file.db\n", "utf-8")
    (secret_files / "something-else").write_text("not ours", "utf-8")
    text = MINIMAL + '[server]\nworkers = 2\npublic_url = "http://from-toml"\n[database]\nurl = "sqlite:///a.db"\n'
    environment = {"SCEP_RA_SECRETS_DIR": str(secret_files), "SCEP_RA_SERVER__WORKERS": "4", "HOME": "/nowhere"}

    settings = read(path, text, environment).settings

    assert settings.server.workers == 4
    assert settings.database.url == "sqlite:///from-file.db"
    assert settings.server.public_url == "http://from-toml"


def test_a_list_in_the_environment_is_written_as_json(path: Path) -> None:
    configuration = read(path, environment={"SCEP_RA_PROFILES__DEFAULT__LEGACY": '["3des", "sha1"]'})

    assert frozenset({Legacy.DES3, Legacy.SHA1}) == configuration.policies["default"].legacy


def test_a_single_identity_need_not_be_named(path: Path) -> None:
    assert read(path).endpoints["default"].identities == ("ra",)


def test_usages_and_attributes_may_be_named(path: Path) -> None:
    text = (
        MINIMAL + 'allowed_extended_key_usage = ["serverAuth", "1.2.3"]\nrequired_subject_attributes = ["commonName"]\n'
    )

    policy = read(path, text).policies["default"]

    assert frozenset({"1.3.6.1.5.5.7.3.1", "1.2.3"}) == policy.allowed_extended_key_usage
    assert frozenset({"2.5.4.3"}) == policy.required_subject_attributes


def test_what_holds_for_every_connector_is_not_handed_to_its_type(path: Path) -> None:
    text = MINIMAL.replace(
        'type = "internal"\n',
        'type = "internal"\nca_url = "x"\nmax_concurrent = 3\nmax_waiting = 0\nissue_timeout_seconds = 5\n',
    )

    connector = read(path, text).settings.connectors["lab"]

    assert {"ca_url": "x"} == connector.options
    assert (3, 0, 5.0) == (connector.max_concurrent, connector.max_waiting, connector.issue_timeout_seconds)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("hold", None),
        ("resubmit_after 90s", timedelta(seconds=90)),
        ("resubmit_after 15m", timedelta(minutes=15)),
        ("resubmit_after 2h", timedelta(hours=2)),
        ("resubmit_after 1d", timedelta(days=1)),
    ],
)
def test_a_lost_answer_is_held_or_asked_for_again_after_a_time(
    path: Path, written: str, meant: timedelta | None
) -> None:
    text = MINIMAL.replace('type = "internal"\n', f'type = "internal"\non_unknown = "{written}"\n')

    assert meant == read(path, text).settings.connectors["lab"].on_unknown


def test_a_lost_answer_is_held_where_nothing_is_said(path: Path) -> None:
    assert read(path).settings.connectors["lab"].on_unknown is None


def test_what_a_ca_is_known_to_do_is_written_in_names_or_numbers(path: Path) -> None:
    adds = '["keyEncipherment", "serverAuth", "1.3.6.1.5.2.3.4", "commonName", "organizationName=A = B", "2.5.4.11=C"]'

    settings = read(path, MINIMAL.replace('"internal"', f'"internal"\nca_adds = {adds}\nmay_drop = ["userId"]'))

    lab = settings.settings.connectors["lab"]
    dotted = {"1.3.6.1.5.5.7.3.1", "1.3.6.1.5.2.3.4", "2.5.4.3", "2.5.4.10=A = B", "2.5.4.11=C"}
    assert {"keyEncipherment", *dotted} == lab.ca_adds
    assert {"0.9.2342.19200300.100.1.1"} == lab.may_drop
    assert {} == lab.options


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("keyCertSign", "'keyCertSign' is neither a usage"),
        ("cn=device", "'cn=device' is neither a usage"),
        ("2.5.29.37.0", "anyExtendedKeyUsage would make"),
        ("", "'' is neither a usage"),
    ],
)
def test_what_a_ca_may_never_add_cannot_be_declared(path: Path, word: str, said: str) -> None:
    text = complaint(path, MINIMAL.replace('"internal"', f'"internal"\nca_adds = ["{word}"]'))

    assert said in text
    assert "connectors.lab.ca_adds" in text


def test_a_duration_in_the_environment_is_read_like_one_in_the_file(path: Path) -> None:
    settings = read(path, environment={"SCEP_RA_CONNECTORS__LAB__ON_UNKNOWN": "resubmit_after 15m"}).settings

    assert timedelta(minutes=15) == settings.connectors["lab"].on_unknown


def test_the_longest_answer_that_may_be_waited_for_is_shorter_than_its_lease(path: Path) -> None:
    text = MINIMAL.replace('type = "internal"\n', 'type = "internal"\nissue_timeout_seconds = 55\n')
    seconds = read(path, text).settings.connectors["lab"].issue_timeout_seconds

    lease = replace(endpoint().backend, issue_timeout_seconds=seconds).lease

    assert timedelta(seconds=55) < lease


def test_everything_that_has_ended_is_kept_for_a_time_and_the_audit_for_ever(path: Path) -> None:
    kept = read(path).settings.retention

    retention = purge.Retention(**kept.model_dump(exclude={"audit_days"}))

    assert all(getattr(retention, each.name) >= 1 for each in fields(retention))
    assert kept.audit_days == 0


def test_the_journals_key_lies_beside_the_configuration_unless_it_is_told_where(path: Path) -> None:
    told = MINIMAL + '[database]\nkey = "env:JOURNAL_KEY"\n'

    keys = [read(path, text).settings.database.key for text in (MINIMAL, told)]

    assert ["file:journal.key", "env:JOURNAL_KEY"] == keys


def test_a_profile_says_how_long_a_device_a_ca_and_a_certificate_wait(path: Path) -> None:
    text = MINIMAL + "wait_seconds = 0\npending_expires_days = 1\nrevoke_undelivered_after_days = 3\n"

    told, untold = (read(path, each).policies["default"] for each in (text, MINIMAL))

    assert (0, 1, 3) == (told.wait_seconds, told.pending_expires_days, told.revoke_undelivered_after_days)
    assert (15, 7, 0) == (untold.wait_seconds, untold.pending_expires_days, untold.revoke_undelivered_after_days)


def test_a_profile_without_a_challenge_must_say_so_and_is_warned_of(path: Path) -> None:
    without = MINIMAL.replace('challenge = "shared"', "")

    refused = complaint(path, without)
    configuration = read(path, without + "challenge_password_required = false\n")

    assert "profiles.default has no challenge" in refused
    assert configuration.warnings == ("profiles.default requires no challenge: whoever reaches it gets a certificate",)


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ("[server]\nlsten = 1", "server.lsten is not a known key; did you mean listen?"),
        ("zzz = 1", "profiles.default.zzz is not a known key; known here: ca_id, connector"),
        ('[server]\nlisten = "8080"', 'server.listen: write host and port, for example "127.0.0.1:8080"'),
        ('[server]\nworkers = "many"', "server.workers: it should be a valid integer"),
        ("[server]\nworkers = 0", "server.workers: it should be greater than or equal to 1"),
        ('[server]\npublic_url = "ra.example"', "server.public_url: write the URL that devices use"),
        (
            '[server]\npublic_url = "http://ra.example/scep"',
            "server.public_url: write the URL that devices use without a path",
        ),
        ("default_validity_days = 9999999", "default_validity_days must be between 1 and 36500"),
        ("curves = 5", "profiles.default.curves should be a list"),
        ("[profiles.b]\nconnector = 'lab'\nchallenge = 5", "profiles.b.challenge: write a name, or one of { all_of"),
        ('legacy = ["rc4"]', "profiles.default.legacy.0: it should be '3des', 'sha1', 'des' or 'md5'"),
        ('[connectors.Lab]\ntype = "internal"', "connectors.Lab: a name is of small letters"),
        ("[connectors.two]", "connectors.two.type is missing: A built-in name"),
        ('[database]\nurl = "mysql://x"', 'database.url: write "sqlite:///ra.db" or "postgresql://USER@HOST/NAME"'),
        ('[database]\nurl = "postgresql://ra@host"', 'database.url: write "sqlite:///ra.db" or "postgresql://'),
        ('[database]\nurl = "postgresql://ra:pw@host/ra"', 'write password = "file:PATH" or "env:NAME" below it'),
        ('[database]\nurl = "postgresql://host/ra?password=pw"', "database.url: take the password out of it"),
        ('[database]\npassword = "pw"', "database.password: a secret is never written here"),
        ('allowed_extended_key_usage = ["clientauth"]', "'clientauth' is no extended key usage"),
        ("wait_seconds = 31", "profile 'default': wait_seconds must be between 0 and 30"),
        ("pending_expires_days = 0", "profile 'default': pending_expires_days must be between 1 and"),
        (
            "revoke_undelivered_after_days = -1",
            "profile 'default': revoke_undelivered_after_days must be between 0 and",
        ),
        ('[connectors.b]\ntype = "x"\nmax_concurrent = 0', "connectors.b.max_concurrent: it should be greater than"),
        ('[connectors.b]\ntype = "x"\nmax_waiting = -1', "connectors.b.max_waiting: it should be greater than"),
        (
            '[connectors.b]\ntype = "x"\nissue_timeout_seconds = 56',
            "connectors.b.issue_timeout_seconds: it should be less",
        ),
        (
            '[connectors.b]\ntype = "x"\non_unknown = "resubmit"',
            'connectors.b.on_unknown: write "hold", or "resubmit_after 15m" with a number and one of s, m, h, d',
        ),
        ('[connectors.b]\ntype = "x"\non_unknown = "resubmit_after 0m"', 'connectors.b.on_unknown: write "hold"'),
        ('[connectors.b]\ntype = "x"\non_unknown = 900', 'connectors.b.on_unknown: write "hold"'),
        ("[retention]\nrejected_days = 0", "retention.rejected_days: it should be greater than or equal to 1"),
        ("[retention]\nreject_days = 9", "retention.reject_days is not a known key; did you mean rejected_days?"),
        ('[database]\nkey = "c2VjcmV0"', "database.key: a secret is never written here"),
        ("[server]\nmax_enrolments_in_flight = 0", "server.max_enrolments_in_flight: it should be greater than"),
        ("[server]\nshutdown_notice_seconds = -1", "server.shutdown_notice_seconds: it should be greater than"),
        ("min_rsa_bits = 512", "profile 'default': min_rsa_bits and max_rsa_bits must rise"),
        ('[identities.b]\ncertificate = "b.pem"\nkey = "b.key"', "profiles.default.identities is missing"),
        (
            '[identities.b]\ncertificate = "b"\nkey = "b"\nkey_passphrase = "hunter2"',
            'identities.b.key_passphrase: a secret is never written here; write "file:PATH" or "env:NAME"',
        ),
        (
            '[identities.b]\ncertificate = "b"\nkey = "b"\ndecryption_key = "b"',
            "identities.b: write decryption_certificate and decryption_key together",
        ),
        (
            '[identities.b]\ncertificate = "b"',
            "identities.b: write certificate and key, or certificate and pkcs11, or managed = {}",
        ),
        (
            '[identities.b]\nmanaged = {}\ncertificate = "b"',
            "identities.b: managed needs no certificate: write the one or the other",
        ),
        (
            '[identities.b]\ncertificate = "b"\nkey = "b"\npkcs11 = { module = "m", token = "t", pin = "env:P", key = "k" }',
            "identities.b: with pkcs11 write certificate, and no key files: the keys are named in pkcs11",
        ),
        (
            '[identities.b]\ncertificate = "b"\npkcs11 = { module = "m", pin = "env:P", key = "k" }',
            "identities.b.pkcs11: write token or slot, and not both",
        ),
        (
            '[identities.b]\ncertificate = "b"\npkcs11 = { module = "m", slot = 1, pin = "1234", key = "k" }',
            "identities.b.pkcs11.pin: a secret is never written here",
        ),
        (
            (
                '[identities.b]\nmanaged = {}\n[connectors.c]\ntype = "internal"\n'
                '[profiles.one]\nconnector = "lab"\nidentities = ["b"]\nchallenge = "shared"\n'
                '[profiles.two]\nconnector = "c"\nidentities = ["b"]\nchallenge = "shared"'
            ),
            "identities.b is managed and named by profiles of several connectors (c, lab)",
        ),
        ('identities = ["x"]', 'profiles.default.identities names "x", which is not there: [identities] has ra'),
        ("challenge_password_required = false", "names a challenge and says challenge_password_required = false"),
        (
            'ca_id = 1\n[profiles.b]\nconnector = "lab"\nchallenge = "shared"\nca_id = 1',
            "profiles.b.ca_id is 1, which is that of profiles.default",
        ),
        ('[server]\nadmin_listen = "127.0.0.2:8080"', "server.admin_listen has the port of server.listen"),
        (
            '[server.tls]\ncertificate = "a"\nkey = "b"',
            "server.public_url begins with http:// but [server.tls] is there",
        ),
        (f'[[server.api_keys]]\nlabel = "a"\nhmac = "{"0" * 64}"', "server.api_key_secret is missing"),
        ('[[server.api_keys]]\nlabel = "a"\nhmac = "0"', "server.api_keys.0.hmac: write 64 hexadecimal digits"),
        (
            'challenge_password_required = "yes"',
            "default.challenge_password_required: it should be true or false, without",
        ),
        ("include_chain = 1", "profiles.default.include_chain: it should be true or false"),
        ('[server]\nworkers = "2"', "server.workers: it should be a whole number, without quotes"),
        ("[server]\nworkers = true", "server.workers: it should be a whole number"),
        (
            '[server]\nfailure_floor_seconds = "1"',
            "server.failure_floor_seconds: it should be a number, without quotes",
        ),
        (
            'rsa_exponents = [65537, "3"]',
            "profiles.default.rsa_exponents.1: it should be a whole number, without quotes",
        ),
        (
            'allowed_extended_key_usage = ["clientauth"]',
            "profiles.default.allowed_extended_key_usage: 'clientauth' is no",
        ),
        ('common_name_pattern = "("', "common_name_pattern: '(' is no regular expression"),
        (
            '[profiles.default.subject_alternative_name_patterns]\ndns = ["("]',
            "subject_alternative_name_patterns.dns: '(' is no regular expression",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_path_and_what_to_write(path: Path, added: str, said: str) -> None:
    assert said in complaint(path, MINIMAL + added + "\n")


def test_variables_and_secret_files_write_numbers_and_truths_as_text(path: Path) -> None:
    variables = {
        "SCEP_RA_SERVER__WORKERS": "2",
        "SCEP_RA_SERVER__DEBUG": "yes",
        "SCEP_RA_SERVER__FAILURE_FLOOR_SECONDS": "1.5",
    }

    server = read(path, MINIMAL, variables).settings.server

    assert (2, True, 1.5) == (server.workers, server.debug, server.failure_floor_seconds)


@pytest.mark.parametrize(
    ("model", "table", "said"),
    [
        (static.Options, {"secrets": [{"label": "a", "value_from": "x"}]}, ["secrets.0.value_from: a secret is never"]),
        (static.Options, {"secrets": []}, ["secrets: it should name at least 1"]),
        (
            static.Options,
            {"secrets": [{"label": "a", "value_from": "env:X", "not_after": "2030-01-31T00:00:00"}]},
            ["secrets.0.not_after: it should be a time with a UTC offset"],
        ),
        (vault.Options, VAULT | {"login": {"method": "aprole"}}, ["login.method should be one of token, approle, "]),
        (vault.Options, VAULT | {"login": {}}, ["login.method is missing: By `method`: token, approle"]),
        (
            vault.Options,
            VAULT | {"login": {"method": "approle", "secret": "x"}},
            ["login.role_id is missing: ", "login.secret_id is missing: ", "login.secret is not a known key; did you"],
        ),
        (
            signed.Options,
            {"keys": [{"kid": "a b", "secret": "env:X"}]},
            [
                "keys.0.kid: it has a character or a form that is not allowed there: What a challenge calls the key: 1 to"
            ],
        ),
        (ndes.Options, {}, ["nobody could be let in"]),
        (inventory.Options, INVENTORY | {"columns": {"FOO": "a"}}, ["columns.FOO: 'FOO' is no name that a request"]),
        (inventory.Options, INVENTORY | {"columns": {"2.5.4.3": "a"}}, ["columns.2.5.4.3: 2.5.4.3 is written CN here"]),
    ],
)
def test_what_is_wrong_with_a_plugins_table_is_told_once_and_in_its_words(
    model: type[BaseModel], table: Mapping[str, object], said: list[str]
) -> None:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(table)

    told = complaints(caught.value, model)

    assert len(said) == len(told)
    assert all(sentence.startswith(beginning) for beginning, sentence in zip(said, told, strict=True)), told


def test_a_secret_that_everybody_may_read_is_warned_of(path: Path) -> None:
    secret = path.parent / "journal.key"
    secret.write_text("x", "utf-8")
    secret.chmod(0o644)

    path.parent.chmod(0o755)
    open_to_all = read(path, MINIMAL + '[database]\nkey = "file:journal.key"\n').warnings
    path.parent.chmod(0o700)
    behind_a_closed_door = read(path).warnings

    assert (f"database.key: everybody may read {secret} (mode 0644): chmod o= it",) == open_to_all
    assert () == behind_a_closed_door


@pytest.mark.parametrize(
    "url", ["postgresql://ra@db.example.org:5432/ra?sslmode=verify-full", "postgresql:///ra?host=/run/postgresql"]
)
def test_a_journal_may_be_kept_in_postgresql(path: Path, url: str) -> None:
    settings = read(path, f'{MINIMAL}[database]\nurl = "{url}"\npassword = "env:PGPASS"\n').settings

    assert (url, "env:PGPASS") == (settings.database.url, settings.database.password)


def test_a_missing_connector_and_challenge_are_told_at_once(path: Path) -> None:
    text = MINIMAL.replace('connector = "lab"', 'connector = "x"').replace('"shared"\n', '{ all_of = ["y", "z"] }\n')

    lines = complaint(path, text).splitlines()

    assert lines == [
        'profiles.default.connector names "x", which is not there: [connectors] has lab',
        'profiles.default.challenge names "y", which is not there: [challenges] has shared',
        'profiles.default.challenge names "z", which is not there: [challenges] has shared',
    ]


def test_a_combination_names_one_of_three(path: Path) -> None:
    text = MINIMAL.replace('"shared"\n', '{ all_of = ["shared"], any_of = ["shared"] }\n')

    assert "profiles.default.challenge: write a name, or one of { all_of" in complaint(path, text)


def test_an_unknown_variable_is_an_error_and_named(path: Path) -> None:
    said = complaint(path, environment={"SCEP_RA_SERVER__LSTEN": "x", "SCEP_RA_FOO": "y"})

    assert "server.lsten (from SCEP_RA_SERVER__LSTEN) is not a known key; did you mean listen?" in said
    assert "foo (from SCEP_RA_FOO) is not a known key" in said


def test_a_variable_cannot_go_below_a_value(path: Path) -> None:
    said = complaint(path, environment={"SCEP_RA_PROFILES__DEFAULT__CONNECTOR__X": "y"})

    assert said == "SCEP_RA_PROFILES__DEFAULT__CONNECTOR__X cannot be set: connector is not a table"


def test_a_configuration_without_profiles_is_refused(path: Path) -> None:
    text = MINIMAL[: MINIMAL.index("[profiles.default]")] + "[profiles]\n"

    assert complaint(path, text) == "there is no profile: write a table [profiles.default]"


def test_a_file_that_is_missing_or_not_toml_is_told(path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"cannot be read: No such file or directory; `scep-ra init DIR`"):
        load(path, {})

    assert "is not TOML" in complaint(path, "= 1")


def test_a_secret_is_read_from_its_place_without_its_line_end(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text(" a secret \n", "utf-8")

    assert read_secret("file:s.txt", tmp_path).reveal() == " a secret "


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("file:none", "the secret file:none cannot be read: No such file or directory"),
        ("file:empty", "the secret file:empty is empty"),
        ("file:latin1", "the secret file:latin1 cannot be read: it is not UTF-8"),
        ("env:SCEP_NO_SUCH_VARIABLE", "the secret env:SCEP_NO_SUCH_VARIABLE is not set"),
        ("hunter2", 'a secret is written as "file:PATH" or "env:NAME"'),
    ],
)
def test_a_secret_that_is_not_there_is_told_and_never_shown(tmp_path: Path, reference: str, said: str) -> None:
    (tmp_path / "empty").write_text("\n", "utf-8")
    (tmp_path / "latin1").write_bytes(b"\xe4")

    with pytest.raises(Misconfigured) as caught:
        read_secret(reference, tmp_path)

    assert said == str(caught.value)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda each: each.name)
def test_a_shipped_configuration_is_read_without_warning(path: Path) -> None:
    assert load(path, {}).warnings == ()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda each: each.name)
def test_no_shipped_profile_gives_server_authentication_to_a_name_outside_its_patterns(path: Path) -> None:
    server_auth = EXTENDED_KEY_USAGES["serverAuth"]
    names = {"dns": "www.bank.example", "ip": "192.0.2.1", "uri": "https://www.bank.example", "email": "a@bank.example"}
    asked = [csr(subject=common_name("www.bank.example"), subject_alternative_names=())]
    asked += [csr(subject=(), subject_alternative_names=(san(kind, name),)) for kind, name in names.items()]

    given = [
        (profile.name, each)
        for profile in load(path, {}).policies.values()
        if server_auth in {*profile.allowed_extended_key_usage, *profile.default_extended_key_usage}
        for each in asked
        if is_granted(each, profile)
    ]

    assert given == []


def is_granted(asked: Csr, profile: Profile) -> bool:
    try:
        for rule in RULES:
            rule(enrolment(asked), profile)
    except Refused:
        return False
    return True


def test_the_shipped_profile_for_servers_certifies_servers() -> None:
    profile = load(ROOT / "config/examples/https.toml", {}).policies["servers"]
    name = "www.servers.example.org"

    assert is_granted(csr(subject=common_name(name), subject_alternative_names=(san("dns", name),)), profile)


def test_a_preset_says_what_a_client_needs_and_what_is_set_beside_it_goes_before(path: Path) -> None:
    preset = {"SCEP_RA_PROFILES__DEFAULT__PRESET": "cisco-vpn"}

    policy = read(path, environment=preset).policies["default"]
    other = read(path, environment=preset | {"SCEP_RA_PROFILES__DEFAULT__INCLUDE_CHAIN": "false"}).policies["default"]

    assert frozenset({Legacy.DES3, Legacy.SHA1}) == policy.legacy == other.legacy
    assert (True, False) == (policy.include_chain, other.include_chain)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_makes_a_profile_and_is_in_the_documentation(path: Path, name: str) -> None:
    read(path, environment={"SCEP_RA_PROFILES__DEFAULT__PRESET": name})

    assert f"`{name}`" in (ROOT / "docs" / "operations.md").read_text("utf-8")


def test_legacy_is_on_in_the_example_for_lans_and_off_otherwise() -> None:
    shipped, lan = load(ROOT / "config/ra.toml", {}), load(ROOT / "config/examples/lan.toml", {})

    assert frozenset() == shipped.policies["default"].legacy
    assert frozenset({Legacy.DES3, Legacy.SHA1}) == lan.policies["default"].legacy


def test_the_schema_is_fresh() -> None:
    """`make schema` writes it."""
    kept = json.loads((ROOT / "config/schema.json").read_text("utf-8"))

    assert json_schema() == kept


def test_the_page_on_the_configuration_is_fresh() -> None:
    """`make schema` writes it. It is made from the descriptions, so every key has one."""
    written = subprocess.run([sys.executable, ROOT / "docs/configuration.py"], capture_output=True, check=True)

    assert (ROOT / "docs/configuration.md").read_bytes() == written.stdout
