"""`scep-ra init`: a directory with everything that `serve` needs: a CA, the RA's certificate, a challenge, a configuration."""

from __future__ import annotations

import asyncio
import json
import secrets
import string
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer
from cryptography.hazmat.primitives import hashes

from connectors.api import Secret
from connectors.internal.creation import create_ca
from connectors.keyfiles import read_certificates
from ra.bootstrap.checks import prepare
from ra.bootstrap.clock import SystemClock
from ra.bootstrap.plugins import Surroundings, connect_connector
from ra.cli.output import AsJson, show
from ra.errors import Misconfigured
from ra.journal.sealing import KEY_LENGTH, write_key
from ra.service.identity import Wish, obtain
from ra.settings.load import Configuration, load
from ra.settings.model import Address, read_address
from ra.web.api_keys import digest

T = TypeVar("T")
CaKey = Literal["rsa:2048", "rsa:3072", "rsa:4096", "ec:p256", "ec:p384"]
RaKey = Literal["rsa:2048", "rsa:3072", "rsa:4096"]

UNFINISHED = "ra.toml.part"
"""What the configuration is called until everything it names is there: who finds ra.toml can serve it."""

MAX_CA_NAME_CHARACTERS = 64
"""What RFC 5280 lets a commonName have."""

CHALLENGE_CHARACTERS = 24
"""Of 57: more than 128 bits, and still typed into a device without despair."""

# PrintableString on the wire (Windows sends no other), and no character that is taken for another.
_ALPHABET = "".join(sorted({*string.ascii_letters, *string.digits} - {*"0O1Il"}))

_CONFIGURATION = """\
# scep-ra: what `scep-ra init` writes. `scep-ra check-config` checks it, `scep-ra check-config --schema` lists every key.
# Relative paths lie beside this file. Secrets are never written here: file:PATH or env:NAME points to them.

[server]
listen = {listen}              # SCEP and /api/v1/scep
admin_listen = {admin_listen}        # probes and metrics; not for devices
public_url = {public_url}   # as devices reach it
workers = {workers}
api_key_secret = "file:api-keys.secret"

[[server.api_keys]]                     # may read /api/v1/scep/configuration
label = "first"
hmac = {api_key_hmac}

[database]
url = "sqlite:///ra.db"
key = "file:journal.key"                # seals what the journal keeps: back it up, apart from the database

[connectors.lab]
type = "internal"                       # a CA of its own: ca.pem, ca.key
key_passphrase = "file:ca.passphrase"

[challenges.shared]
type = "static"
secrets = [{{ label = "first", value_from = "file:challenge.txt" }}]

[identities.ra]                         # opens the requests and signs the answers
certificate = "ra.pem"
key = "ra.key"
key_passphrase = "file:ra.passphrase"

[profiles.default]                      # answers where no profile is named
ca_id = 1
connector = "lab"
challenge = "shared"
challenge_password_required = true
default_validity_days = 365
renewal_threshold_days = 30
legacy = {legacy}                             # ["3des", "sha1"] lets in devices that know nothing better
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be written."""

    directory: Path
    ca_name: str
    ca_key: str
    ra_key: str
    listen: str
    admin_listen: str
    public_url: str
    workers: int
    legacy: tuple[str, ...]


def _random_challenge() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(CHALLENGE_CHARACTERS))


def _random_secret() -> str:
    return secrets.token_urlsafe(32)


def _random_journal_key() -> str:
    return write_key(secrets.token_bytes(KEY_LENGTH))


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """What nobody but this directory knows."""

    challenge: str = field(default_factory=_random_challenge, repr=False)
    ca_passphrase: str = field(default_factory=_random_secret, repr=False)
    ra_passphrase: str = field(default_factory=_random_secret, repr=False)
    api_key: str = field(default_factory=_random_secret, repr=False)
    api_key_secret: str = field(default_factory=_random_secret, repr=False)
    journal_key: str = field(default_factory=_random_journal_key, repr=False)

    def files(self) -> dict[str, str]:
        return {
            "challenge.txt": self.challenge,
            "ca.passphrase": self.ca_passphrase,
            "ra.passphrase": self.ra_passphrase,
            "api-key.txt": self.api_key,
            "api-keys.secret": self.api_key_secret,
            "journal.key": self.journal_key,
        }


def command(
    directory: Annotated[Path, typer.Argument(help="A new or empty directory.", show_default=False)],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing.")] = False,
    ca_name: Annotated[str, typer.Option("--ca-name", help="commonName of the CA.")] = "scep-ra CA",
    ca_key: Annotated[CaKey, typer.Option("--ca-key", help="The CA's key.")] = "rsa:3072",
    ra_key: Annotated[RaKey, typer.Option("--ra-key", help="The RA's key.")] = "rsa:2048",
    listen: Annotated[str, typer.Option("--listen", help="HOST:PORT for devices.")] = "127.0.0.1:8080",
    admin_listen: Annotated[
        str | None,
        typer.Option("--admin-listen", help="HOST:PORT for operators; by default 127.0.0.1, the port above."),
    ] = None,
    public_url: Annotated[
        str | None, typer.Option("--public-url", help="As devices reach it; by default http://LISTEN.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", help="Processes that answer.")] = 1,
    legacy: Annotated[str, typer.Option("--legacy", help="Let in 3des, sha1, des, md5; separated by commas.")] = "",
    as_json: AsJson = False,
) -> None:
    """Write a configuration with keys, certificates, a database and a random challenge; overwrite nothing."""
    if not (0 < len(ca_name) <= MAX_CA_NAME_CHARACTERS and ca_name.isprintable()):
        raise typer.BadParameter(f"write 1 to {MAX_CA_NAME_CHARACTERS} characters", param_hint="--ca-name")
    if directory.exists():
        _insist_on_empty(directory)
    plan = Plan(
        directory=directory,
        ca_name=ca_name,
        ca_key=ca_key,
        ra_key=ra_key,
        listen=listen,
        admin_listen=admin_listen or _admin_listen(listen),
        public_url=(public_url or _public_url(listen, ask=not yes)).rstrip("/"),
        workers=workers,
        legacy=tuple(filter(None, (each.strip() for each in legacy.split(",")))),
    )
    if not yes:
        typer.echo(f"A CA ({plan.ca_key}) and an RA ({plan.ra_key}) in {directory}, reached at {plan.public_url}/scep.")
        if not _answered(lambda: typer.confirm("Write it?", default=True)):
            raise typer.Abort
    _announce(plan, write(plan), as_json=as_json)


def _announce(plan: Plan, challenge: str, *, as_json: bool) -> None:
    value = {
        "url": f"{plan.public_url}/scep",
        "challenge": challenge,
        "config": str(plan.directory / "ra.toml"),
        "ca_fingerprint": read_certificates(plan.directory / "ca.pem")[0].fingerprint(hashes.SHA256()).hex(),
        "api_key_file": str(plan.directory / "api-key.txt"),
    }
    lines = (
        f"Enrolment URL  {value['url']}",
        f"Challenge      {challenge}",
        f"CA SHA-256     {value['ca_fingerprint']}",
        f"Now            scep-ra serve --config {value['config']}",
    )
    show(value, "\n".join(lines), as_json=as_json)


def write(plan: Plan) -> str:
    """Writes everything that is planned and checks that it can be served; returns the challenge.

    Raises:
        Misconfigured: the directory holds something, or the plan cannot be served.
    """
    directory = plan.directory
    _prepare(directory)
    made = Secrets()
    configuration = _write_configuration(plan, digest(made.api_key_secret.encode(), made.api_key))
    for name, value in made.files().items():
        _write_secret(directory / name, value)
    now = SystemClock().now()
    create_ca(directory, key_spec=plan.ca_key, name=plan.ca_name, passphrase=Secret(made.ca_passphrase), now=now)
    asyncio.run(_obtain_identity(plan, configuration, Secret(made.ra_passphrase)))
    prepare(configuration)
    configuration.path.rename(directory / "ra.toml")
    return made.challenge


async def _obtain_identity(plan: Plan, configuration: Configuration, passphrase: Secret) -> None:
    connector = await connect_connector(configuration, "lab", Surroundings())
    try:
        wish = Wish(name="ra", profile="default", key_spec=plan.ra_key)
        await obtain(
            connector,
            wish,
            configuration.directory,
            passphrase=passphrase,
            now=SystemClock().now(),
            entropy=secrets.token_bytes,
        )
    finally:
        await connector.aclose()


def _prepare(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _insist_on_empty(directory)


def _insist_on_empty(directory: Path) -> None:
    if (directory / UNFINISHED).exists():
        raise Misconfigured(f"{directory} holds what an interrupted init left: remove the directory and run init again")
    if any(directory.iterdir()):
        raise Misconfigured(f"{directory} is not empty, and init overwrites nothing: name a new directory")


def _write_secret(path: Path, value: str) -> None:
    path.touch(0o600, exist_ok=False)
    path.write_text(value + "\n", "utf-8")


def _write_configuration(plan: Plan, api_key_hmac: str) -> Configuration:
    """Writes the configuration and reads it back; one that does not do is gone before anything else is written."""
    path = plan.directory / UNFINISHED
    path.write_text(_configuration(plan, api_key_hmac), "utf-8")
    try:
        return load(path)
    except Misconfigured:
        path.unlink()
        raise


def _configuration(plan: Plan, api_key_hmac: str) -> str:
    return _CONFIGURATION.format(
        listen=json.dumps(plan.listen),
        admin_listen=json.dumps(plan.admin_listen),
        public_url=json.dumps(plan.public_url),
        workers=plan.workers,
        api_key_hmac=json.dumps(api_key_hmac),
        legacy=json.dumps(list(plan.legacy)),
    )


def _admin_listen(listen: str) -> str:
    """This machine alone, and the port above that of the devices."""
    try:
        return str(Address("127.0.0.1", read_address(listen).port + 1))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--listen") from None


def _answered(ask: Callable[[], T]) -> T:
    """What somebody answers, at a terminal or by a pipe; where neither is, nobody waits for an answer."""
    try:
        return ask()
    except typer.Abort:
        if sys.stdin.isatty():
            raise
        raise typer.BadParameter(
            "there is no terminal to ask at: write --yes, and --public-url where devices use another address",
            param_hint="--yes",
        ) from None


def _public_url(listen: str, *, ask: bool) -> str:
    if ask:
        return _answered(
            lambda: str(typer.prompt("URL at which devices reach this server", default=f"http://{listen}"))
        )
    if listen.startswith(("0.0.0.0:", "[::]:")):
        raise typer.BadParameter(
            "name --public-url: devices cannot reach a server at every address", param_hint="--listen"
        )
    return f"http://{listen}"
