"""`scep-ra client …`: asks a SCEP server, as a device would."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from ra.cli import device
from ra.cli.device import load_pending, load_signer, own_key
from ra.cli.output import AsJson, show
from ra.client.authority import Capabilities
from ra.client.client import Enrolled, ScepClient, Waiting
from ra.client.csr import read_general_name, read_subject, write_csr
from ra.client.errors import BadArgument, RequestFailed
from ra.client.names import FailInfo

command = typer.Typer(no_args_is_help=True)

Url = Annotated[str, typer.Option("--url", help="The SCEP URL.", show_default=False)]
Fingerprint = Annotated[
    str | None, typer.Option("--ca-fingerprint", help="SHA-256 of the issuing CA, hexadecimal; refuse any other CA.")
]
Legacy = Annotated[bool, typer.Option("--legacy", help="Accept 3DES, DES, SHA-1 and MD5.")]
TlsCa = Annotated[Path | None, typer.Option("--tls-ca", help="PEM file of the CA that the server's HTTPS is held to.")]
Out = Annotated[Path, typer.Option("--out", help="Directory for key and certificates.", show_default=False)]
From = Annotated[Path, typer.Option("--from", help="Directory of an earlier enrolment.", show_default=False)]
KeyType = Annotated[str, typer.Option("--key-type", help="rsa:2048, rsa:3072, rsa:4096, ec:p256 or ec:p384.")]
ByPassword = Annotated[
    bool,
    typer.Option(
        "--by-password", help="Sign with the key itself even if it is not RSA; the challenge then opens the reply."
    ),
]
Challenge = Annotated[str | None, typer.Option("--challenge", help="The challenge password.")]
Save = Annotated[Path | None, typer.Option("--save", help="Directory for request.der and reply.der, as posted.")]
Serial = Annotated[str, typer.Option("--serial", help="Serial number, hexadecimal.", show_default=False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The server that the shared options name."""

    url: str
    fingerprint: str | None = None
    legacy: bool = False
    tls_ca: Path | None = None
    save: Path | None = None

    def connect(self) -> ScepClient:
        hooks: dict[str, list[Callable[..., Any]]] = (
            {"response": [partial(_keep_messages, self.save)]} if self.save else {}
        )
        try:
            http = httpx.Client(timeout=30.0, verify=_tls_context(self.tls_ca), event_hooks=hooks)
        except (httpx.InvalidURL, OSError) as error:
            raise BadArgument(f"--tls-ca {self.tls_ca}: {error}.") from None
        return ScepClient(self.url, http, ca_fingerprint=self.fingerprint, legacy=self.legacy)


def _keep_messages(directory: Path, response: httpx.Response) -> None:
    """Writes what was posted, and what came back, for `scep-ra explain`."""
    if response.request.content:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "request.der").write_bytes(response.request.content)
        (directory / "reply.der").write_bytes(response.read())


@contextmanager
def _explaining(challenge: str | None, capabilities: Capabilities) -> Iterator[None]:
    """Says of a refusal without a reason what it may mean: servers do not tell a wrong challenge from other faults."""
    try:
        yield
    except RequestFailed as error:
        if error.text or error.fail_info is not FailInfo.BAD_REQUEST:
            raise
        if challenge is not None:
            hint = "a wrong challenge looks like this; the server's log says why"
        elif "Renewal" in capabilities:
            hint = "no --challenge was given, and without one this certificate is not renewed now; the server's log says why"
        else:
            hint = "no --challenge was given, and the server announces no Renewal that could do without"
        raise RequestFailed(error.fail_info, hint) from None


def _tls_context(tls_ca: Path | None) -> Any:
    return ssl.create_default_context(cafile=str(tls_ca)) if tls_ca else ssl.create_default_context()


@command.command()
def caps(url: Url, tls_ca: TlsCa = None, *, as_json: AsJson = False) -> None:
    """What the server says it can do (GetCACaps)."""
    with Peer(url=url, tls_ca=tls_ca).connect() as scep:
        words = scep.caps().words
    show({"capabilities": list(words)}, "\n".join(words), as_json=as_json)


@command.command()
def getca(
    url: Url,
    out: Annotated[Path | None, typer.Option("--out", help="PEM file to write.")] = None,
    ca_fingerprint: Fingerprint = None,
    tls_ca: TlsCa = None,
    *,
    as_json: AsJson = False,
) -> None:
    """The certificates of the CA and the RA (GetCACert)."""
    with Peer(url=url, fingerprint=ca_fingerprint, tls_ca=tls_ca).connect() as scep:
        found = scep.ca_certificates()
    _show_certificates(found.all, out, as_json=as_json)


@command.command()
def nextca(
    url: Url,
    out: Annotated[Path | None, typer.Option("--out", help="PEM file to write.")] = None,
    ca_fingerprint: Fingerprint = None,
    tls_ca: TlsCa = None,
    *,
    as_json: AsJson = False,
) -> None:
    """The certificates that the CA will change to (GetNextCACert)."""
    with Peer(url=url, fingerprint=ca_fingerprint, tls_ca=tls_ca).connect() as scep:
        found = scep.next_ca()
    _show_certificates(found, out, as_json=as_json)


@command.command()
def enrol(
    url: Url,
    out: Out,
    *,
    challenge: Challenge = None,
    subject: Annotated[str, typer.Option("--subject", help="RFC 4514, the most specific part first.")] = "CN=device",
    san: Annotated[list[str] | None, typer.Option("--san", help="dns:…, email:…, ip:… or uri:…; repeatable.")] = None,
    key_type: KeyType = "rsa:2048",
    by_password: ByPassword = False,
    ca_fingerprint: Fingerprint = None,
    tls_ca: TlsCa = None,
    save: Save = None,
    legacy: Legacy = False,
    as_json: AsJson = False,
) -> None:
    """Make a key and enrol it (PKCSReq)."""
    name, names = read_subject(subject), [read_general_name(each) for each in san or ()]
    with Peer(url=url, fingerprint=ca_fingerprint, legacy=legacy, tls_ca=tls_ca, save=save).connect() as scep:
        scep.ca_certificates()  # nothing is written for a server that is not there
        key = own_key(out, key_type)
        csr = write_csr(key, name, subject_alternative_names=names, challenge_password=challenge)
        with _explaining(challenge, scep.caps()):
            outcome = scep.enrol(key, csr, by_password=by_password)
        _settle(scep, outcome, out, as_json=as_json)


@command.command()
def renew(
    url: Url,
    earlier: From,
    out: Out,
    *,
    challenge: Challenge = None,
    key_type: KeyType = "rsa:2048",
    ca_fingerprint: Fingerprint = None,
    tls_ca: TlsCa = None,
    legacy: Legacy = False,
    as_json: AsJson = False,
) -> None:
    """Make a new key and have the certificate of an earlier enrolment succeeded.

    RenewalReq where the server announces Renewal; else a PKCSReq signed by the earlier certificate, which most servers
    want a challenge for.
    """
    signer = load_signer(earlier)
    name, names = signer.certificate.subject, _names_of(signer.certificate)
    with Peer(url=url, fingerprint=ca_fingerprint, legacy=legacy, tls_ca=tls_ca).connect() as scep:
        scep.ca_certificates()
        key = own_key(out, key_type)
        csr = write_csr(key, name, subject_alternative_names=names, challenge_password=challenge)
        with _explaining(challenge, scep.caps()):
            outcome = scep.renew(signer, key, csr)
        _settle(scep, outcome, out, as_json=as_json)


@command.command()
def poll(
    url: Url,
    out: Out,
    ca_fingerprint: Fingerprint = None,
    tls_ca: TlsCa = None,
    *,
    legacy: Legacy = False,
    as_json: AsJson = False,
) -> None:
    """Ask again for a certificate that was PENDING (CertPoll)."""
    transaction = load_pending(out)
    with Peer(url=url, fingerprint=ca_fingerprint, legacy=legacy, tls_ca=tls_ca).connect() as scep:
        _settle(scep, scep.poll(transaction), out, as_json=as_json)


@command.command()
def getcert(
    url: Url,
    earlier: From,
    serial: Serial,
    out: Annotated[Path | None, typer.Option("--out", help="PEM file to write.")] = None,
    tls_ca: TlsCa = None,
    *,
    legacy: Legacy = False,
    as_json: AsJson = False,
) -> None:
    """A certificate by its serial number (GetCert)."""
    with Peer(url=url, legacy=legacy, tls_ca=tls_ca).connect() as scep:
        found = scep.get_cert(_number(serial), load_signer(earlier))
    _show_certificates([found], out, as_json=as_json)


@command.command()
def getcrl(
    url: Url,
    earlier: From,
    out: Annotated[Path, typer.Option("--out", help="PEM file to write.", show_default=False)],
    tls_ca: TlsCa = None,
    *,
    legacy: Legacy = False,
    as_json: AsJson = False,
) -> None:
    """The CRL that the certificate of an earlier enrolment would be on (GetCRL)."""
    signer = load_signer(earlier)
    with Peer(url=url, legacy=legacy, tls_ca=tls_ca).connect() as scep:
        crl = scep.get_crl(signer.certificate.serial_number, signer)
    out.write_bytes(crl.public_bytes(Encoding.PEM))
    value = {"crl": str(out), "issuer": crl.issuer.rfc4514_string(), "revoked": len(crl)}
    show(value, f"The CRL of {value['issuer']}, {value['revoked']} revoked: {out}", as_json=as_json)


def _settle(scep: ScepClient, outcome: Enrolled | Waiting, out: Path, *, as_json: bool) -> None:
    """Keeps what came of a request, and says so."""
    if isinstance(outcome, Waiting):
        device.save_pending(out, outcome.transaction)
        transaction_id = outcome.transaction.transaction_id
        text = f"The server says PENDING. Ask again with: scep-ra client poll --url {scep.url} --out {out}"
        show({"status": "pending", "transaction_id": transaction_id}, text, as_json=as_json)
        return
    device.save_certificate(out, outcome, scep.ca_certificates())
    described = _described(outcome.certificate)
    value = {
        "status": "issued",
        "certificate": str(out / device.CERTIFICATE),
        "key": str(out / device.KEY),
        "ca": str(out / device.CA),
    }
    text = f"{described['subject']} is certified until {described['not_after']}: {value['certificate']}"
    show(value | described, text, as_json=as_json)


def _show_certificates(certificates: Sequence[x509.Certificate], out: Path | None, *, as_json: bool) -> None:
    if out is not None:
        out.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in certificates))
    described = [_described(each) for each in certificates]
    text = "\n".join(f"{each['subject']}\n  until {each['not_after']}, SHA-256 {each['sha256']}" for each in described)
    show({"certificates": described}, text, as_json=as_json)


def _described(certificate: x509.Certificate) -> dict[str, str]:
    return {
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "serial": f"{certificate.serial_number:x}",
        "not_after": certificate.not_valid_after_utc.isoformat(),
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
    }


def _names_of(certificate: x509.Certificate) -> Sequence[x509.GeneralName]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return ()


def _number(hexadecimal: str) -> int:
    try:
        return int(hexadecimal.replace(":", ""), 16)
    except ValueError:
        raise typer.BadParameter("write the serial number in hexadecimal", param_hint="--serial") from None
