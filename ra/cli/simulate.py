"""`scep-ra simulate …`: servers that behave like the products scep-ra talks to, to try a set-up without them."""

from __future__ import annotations

import json
import secrets
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import httpx
import typer
import uvicorn
from starlette.types import ASGIApp

from ra.bootstrap.clock import SystemClock
from ra.cli.output import AsJson, printable, show
from ra.cli.serve import bind
from ra.client.errors import Unreachable
from ra.errors import Misconfigured, RaError
from ra.settings.model import Address, read_address
from ra.simulate.ejbca import AUTHORITY, BASE, END_ENTITY_PROFILE, PROFILE, RA_PROFILE, SIGNING_PROFILE, SimulatedEjbca
from ra.simulate.ejbca.tls import TlsFiles, write_tls
from ra.simulate.intune import CLIENT_ID, TENANT, SimulatedIntune
from ra.simulate.jamf import Computer, SimulatedJamf, challenge_event
from ra.simulate.vault import ISSUER, MOUNT, RA_ROLE, ROLE, SIGNING_ROLE, SimulatedVault

command = typer.Typer(no_args_is_help=True)

_SECONDS = 30.0
_IDENTITY = """
# In place of the one that is there: the RA's certificate comes from the CA that its devices get theirs from.
[identities.ra]
managed = {}

# And in the profile, `connector` is the name of the one above.
"""


@command.callback()
def simulate() -> None:
    """Each has a CA of its own, holds everything in memory, and forgets it when it stops. Never for production."""


@command.command()
def vault(
    listen: Annotated[str, typer.Option("--listen", help="HOST:PORT.")] = "127.0.0.1:8200",
    secret_id: Annotated[Path, typer.Option("--secret-id", help="File that the secret id is written to.")] = Path(
        "vault.secret-id"
    ),
    *,
    as_json: AsJson = False,
) -> None:
    """Vault's PKI engine, with an AppRole login."""
    simulated = SimulatedVault(now=SystemClock().now, entropy=secrets.token_bytes)
    credentials = simulated.tokens.credentials
    with bind("listen", _address(listen)) as listener:
        _keep(secret_id, credentials.secret_id)
        login = {"method": "approle", "role_id": credentials.role_id, "secret_id": f"file:{secret_id.absolute()}"}
        roles = {"role": ROLE, "signing_role": SIGNING_ROLE, "ra_role": RA_ROLE}
        block = {"type": "vault", "url": f"http://{listen}", "mount": MOUNT, "issuer": ISSUER, **roles, "login": login}
        show(block, _toml("vault", block) + _IDENTITY, as_json=as_json)
        uvicorn.Server(_config(simulated.faults)).run(sockets=[listener])


@command.command()
def ejbca(
    listen: Annotated[str, typer.Option("--listen", help="HOST:PORT.")] = "127.0.0.1:8443",
    directory: Annotated[
        Path, typer.Option("--directory", help="Where TLS certificates and keys are written to.")
    ] = Path("ejbca"),
    *,
    approvals: Annotated[bool, typer.Option("--approvals", help="Requests wait until they were polled twice.")] = False,
    as_json: AsJson = False,
) -> None:
    """EJBCA's REST API, which knows its clients by TLS certificates."""
    address, clock = _address(listen), SystemClock()
    simulated = SimulatedEjbca(now=clock.now, entropy=secrets.token_bytes)
    simulated.approvals.are_needed, simulated.approvals.approved_after = approvals, 2
    with bind("listen", address) as listener:
        files = write_tls(directory, address.host, clock.now())
        block = {
            "type": "ejbca",
            "url": f"https://{address}{BASE}",
            "ca_file": str(files.ca.absolute()),
            "client_certificate": str(files.client_certificate.absolute()),
            "client_key": str(files.client_key.absolute()),
            "certificate_authority": AUTHORITY,
            "certificate_profile": PROFILE,
            "signing_certificate_profile": SIGNING_PROFILE,
            "ra_certificate_profile": RA_PROFILE,
            "end_entity_profile": END_ENTITY_PROFILE,
            "enrolment": "end-entity",
        }
        show(block, _toml("ejbca", block) + _IDENTITY, as_json=as_json)
        uvicorn.Server(_config(simulated.faults, files)).run(sockets=[listener])


@command.command()
def intune(
    listen: Annotated[str, typer.Option("--listen", help="HOST:PORT.")] = "127.0.0.1:8090",
    secret: Annotated[Path, typer.Option("--secret", help="File that the client secret is written to.")] = Path(
        "intune.secret"
    ),
    delay_seconds: Annotated[float, typer.Option("--delay", help="Before each answer, in seconds.", min=0)] = 0.0,
    *,
    as_json: AsJson = False,
) -> None:
    """Entra, Graph and Intune's SCEP and revocation services, on one address.

    /simulator/challenge?subject=CN=device-7 makes a challenge (&age=61: one that has expired), POST
    /simulator/code?action=…&code=… says what is answered next, POST /simulator/revoke?serial=… asks for a revocation;
    /simulator/heard and /simulator/revocations show what scep-ra has said.
    """
    address = _address(listen)
    simulated = SimulatedIntune(now=SystemClock().now, entropy=secrets.token_bytes)
    simulated.delay_seconds = delay_seconds
    with bind("listen", address) as listener:
        _keep(secret, simulated.entra.client_secret)
        block = {
            "type": "intune",
            "tenant": TENANT,
            "client_id": CLIENT_ID,
            "credential": {"method": "secret", "client_secret": f"file:{secret.absolute()}"},
            "authority": f"http://{address}",
            "graph_url": f"http://{address}",
            "allowed_hosts": [address.host],
            "revocation": {"interval_minutes": 1},
        }
        told = (
            "# In the profile, in place of its own challenge:",
            "# [profiles.default]",
            '# challenge = "intune"',
            f"# curl 'http://{address}/simulator/challenge?subject=CN=device-7' prints a challenge; with &age=61, one that has",
            "# expired. A certificate that POST /simulator/revoke?serial=… names is revoked within a minute.",
        )
        show(block, "\n".join([_toml("intune", block, "challenges"), *told, ""]), as_json=as_json)
        uvicorn.Server(_config(simulated.faults)).run(sockets=[listener])


@command.command()
def jamf(
    listen: Annotated[str, typer.Option("--listen", help="HOST:PORT.")] = "127.0.0.1:8460",
    secret: Annotated[Path, typer.Option("--secret", help="File that the API client's secret is written to.")] = Path(
        "jamf.secret"
    ),
    *,
    computer: Annotated[list[str] | None, typer.Option("--computer", help="Serial number of a managed Mac.")] = None,
    mobile: Annotated[
        list[str] | None, typer.Option("--mobile", help="Serial number of a managed iPhone or iPad.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Jamf Pro's API, which a directory challenge asks which Macs and mobile devices there are."""
    simulated = SimulatedJamf(now=SystemClock().now, entropy=secrets.token_bytes)
    for serial in computer or ["C02EXAMPLE"]:
        simulated.add(serial)
    for serial in mobile or ["DMPEXAMPLE"]:
        simulated.add_mobile(serial)
    with bind("listen", _address(listen)) as listener:
        _keep(secret, simulated.client_secret)
        block: dict[str, object] = {
            "type": "directory",
            "name": "CN",
            "source": {
                "kind": "jamf",
                "url": f"http://{listen}",
                "client_id": simulated.client_id,
                "client_secret": f"file:{secret.absolute()}",
            },
        }
        show(block, _toml("jamf", block, "challenges"), as_json=as_json)
        uvicorn.Server(_config(simulated.faults)).run(sockets=[listener])


@command.command("jamf-webhook")
def jamf_webhook(
    url: Annotated[str, typer.Argument(metavar="URL", help="The webhook, such as https://HOST/mdm/jamf/challenge.")],
    *,
    user: Annotated[str, typer.Option("--user", help="Of Basic authentication.")],
    password: Annotated[Path, typer.Option("--password", help="File with the password.")],
    scep_url: Annotated[str, typer.Option("--scep-url", help="The SCEP URL of the profile.")] = "",
    serial: Annotated[str | None, typer.Option("--serial", help="Of the device, where one is named.")] = None,
    as_json: AsJson = False,
) -> None:
    """Ask for a challenge as Jamf Pro and Fleet do before they send a profile, and print it."""
    device = Computer(serial=serial, name=f"Mac {serial}", udid=secrets.token_hex(16)) if serial else None
    body = challenge_event(scep_url, device, SystemClock().now())
    try:
        answer = httpx.post(
            url,
            content=body,
            headers={"Content-Type": "application/json"},
            auth=(user, password.read_text("utf-8").rstrip("\r\n")),
            timeout=_SECONDS,
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unreachable(f"{url}: {error}") from None
    if answer.status_code != httpx.codes.OK:
        raise RaError(f"{url} answered {answer.status_code}: {printable(answer.text.strip())}")
    show({"challenge": answer.text}, answer.text, as_json=as_json)


def _toml(name: str, block: Mapping[str, object], table: str = "connectors") -> str:
    """A block for people to copy. Strings in TOML are those of JSON, as far as ours go."""
    lines = [f"[{table}.{name}]"]
    for key, value in block.items():
        inner = value.items() if isinstance(value, dict) else ()
        text = ", ".join(f"{each} = {json.dumps(one)}" for each, one in inner)
        lines.append(f"{key} = {{ {text} }}" if text else f"{key} = {json.dumps(value)}")
    return "\n".join(["# Serving until it is interrupted. For ra.toml:", "", *lines, ""])


def _keep(path: Path, secret: str) -> None:
    """Writes a secret for the owner's eyes alone; over what an earlier run has left there."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(secret + "\n", "utf-8")


def _address(listen: str) -> Address:
    try:
        return read_address(listen)
    except ValueError as error:
        raise Misconfigured(f"--listen {listen}: {error}") from None


def _config(app: ASGIApp, tls: TlsFiles | None = None) -> uvicorn.Config:
    config = uvicorn.Config(app, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False)
    if tls is not None:
        config.ssl_certfile, config.ssl_keyfile = tls.server_certificate, tls.server_key
        config.ssl_ca_certs, config.ssl_cert_reqs = str(tls.ca), ssl.CERT_REQUIRED
    return config
