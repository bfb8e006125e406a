"""Five SCEP clients that others wrote, each as a function that enrols once, and one that renews what it has enrolled.

Enrolling leaves `key.pem` and `certificate.pem` in the order's directory and returns the path of the latter; where the
server says PENDING, the client asks again in its own way until there is a certificate. Renewing returns the path of the
new certificate and needs no challenge. Refused means that the client understood a CertRep FAILURE; ClientFailed is
anything else. A client is a judge of the server: nothing here makes up for what the server does wrong.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tests.interop.installed import find

TIMEOUT_SECONDS = 90
POLL_SECONDS = 60
"""How long a client that polls goes on, where that can be said."""

JSCEP_DRIVER = Path(__file__).parent / "jscep" / "Enrol.java"
JSCEP_FAILURE = 3


class Refused(Exception):
    """The server answered CertRep FAILURE, and the client said so."""


class ClientFailed(Exception):
    """The client neither enrolled nor reported a CertRep FAILURE; the message is what it printed."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to enrol, and where; the directory is empty before. Alternative names only strongSwan is asked for."""

    url: str
    challenge: str
    directory: Path
    common_name: str
    dns_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Client:
    """One real client.

    Attributes:
        programs: what must be installed.
        profile: the profile whose algorithms it needs.
        renewing_profile: the same, where certificates are renewed from their first day on.
        renews_by: the messageType of its renewals.
        polls_by: the messageType by which it asks again for what is PENDING.
    """

    name: str
    programs: tuple[str, ...]
    profile: str
    renewing_profile: str
    enrol: Callable[[Order], Path]
    renew: Callable[[Order], Path]
    renews_by: str
    polls_by: str

    def is_installed(self) -> bool:
        return all(find(program) for program in self.programs)


def renew_with_scepclient_2_1(order: Order) -> Path:
    """The same again, where the certificate is: a RenewalReq with the same key, and with a CSR of its own."""
    return _renew_with_scepclient("scepclient", order)


def renew_with_scepclient_2_3(order: Order) -> Path:
    """As the older one."""
    return _renew_with_scepclient("scepclient-2.3", order, "-key-encipherment-selector")


def _renew_with_scepclient(program: str, order: Order, *options: str) -> Path:
    """A csr.pem that lies there would be sent again, with the challenge of the first request in it."""
    (order.directory / "csr.pem").unlink()
    return _scepclient(program, replace(order, challenge=""), *options)


def enrol_with_scepclient_2_1(order: Order) -> Path:
    """Debian's micromdm scepclient: SHA-1, single DES, BER in the envelope, sealed to every certificate shown (Q2, Q4)."""
    return _scepclient("scepclient", order)


def enrol_with_scepclient_2_3(order: Order) -> Path:
    """Its last release: still SHA-1 and single DES, but DER, and told to seal to the keyEncipherment certificate."""
    return _scepclient("scepclient-2.3", order, "-key-encipherment-selector")


def _scepclient(program: str, order: Order, *options: str) -> Path:
    what = ["-server-url", order.url, "-cn", order.common_name]
    if order.challenge:
        what += ["-challenge", order.challenge]
    files = ["-private-key", "key.pem", "-certificate", "certificate.pem"]
    done = _run([_path(program), *what, *files, *options], order.directory)
    if "request failed, failInfo:" in done.stdout:
        raise Refused(_last_line(done.stdout))
    return _certificate(done, order.directory)


def enrol_with_strongswan(order: Order) -> Path:
    """The pki of strongSwan; 5.9.8 reads GetCACaps wrongly, so that it must be told to use 3DES (Q24)."""
    return _enrol_with_strongswan(order, "des3")


def enrol_with_strongswan_and_aes(order: Order) -> Path:
    """The same, left to itself: at a profile that says SHA-384, it uses AES and SHA-256."""
    return _enrol_with_strongswan(order, "aes")


def _enrol_with_strongswan(order: Order, cipher: str) -> Path:
    pki, directory = _path("pki"), order.directory
    fetched = _run([pki, "--scepca", "--url", order.url, "--caout", "ca.crt", "--raout", "ra.crt"], directory)
    if not (directory / "ra.crt").exists():
        raise ClientFailed(fetched.stdout)
    _run_to_file([pki, "--gen", "--type", "rsa", "--size", "2048", "--outform", "pem"], directory / "key.pem")
    return _strongswan(order, "key.pem", "certificate.pem", "--password", order.challenge, "--cipher", cipher)


def renew_with_strongswan(order: Order) -> Path:
    """A RenewalReq for a new key, signed with the old one; its configuration can turn it into a PKCSReq."""
    new_key = order.directory / "new-key.pem"
    _run_to_file([_path("pki"), "--gen", "--type", "rsa", "--size", "2048", "--outform", "pem"], new_key)
    return _strongswan(
        order, new_key.name, "renewed.pem", "--cert", "certificate.pem", "--key", "key.pem", "--cipher", "des3"
    )


def _strongswan(order: Order, key: str, certificate: str, *options: str) -> Path:
    what = ["--url", order.url, "--dn", f"CN={order.common_name}", "--in", key, *options]
    what += [each for name in order.dns_names for each in ("--san", name)]
    issuing, *above = sorted(each.name for each in order.directory.glob("ca*.crt"))  # ca-1.crt comes before ca.crt
    whom = ["--cacert-enc", "ra.crt", "--cacert-sig", issuing, *(f"--cacert={each}" for each in above)]
    how = ["--interval", "1", "--maxpolltime", str(POLL_SECONDS), "--outform", "pem"]
    done = _run_to_file([_path("pki"), "--scep", *what, *whom, *how], order.directory / certificate)
    if "failInfo" in done.stderr:
        raise Refused(_last_line(done.stderr))
    return _certificate(done, order.directory, certificate)


CERTMONGER_SESSION = """
set -eu
getcert add-scep-ca -s -c scep-ra -u "$URL"
getcert request -s -c scep-ra -I enrolment -f "$PWD/certificate.pem" -k "$PWD/key.pem" -N "CN=$NAME" -L "$CHALLENGE"
for attempt in $(seq 300); do
    state=$(getcert list -s -i enrolment)
    case $state in
        *"status: MONITORING"* | *"status: CA_REJECTED"* | *"status: NEED_GUIDANCE"*) break ;;
        *"status: CA_WORKING"*) getcert refresh -s -i enrolment ;;
    esac
    sleep 0.2
done
echo "$state"
"""
"""By itself it asks again for what is PENDING after some time of its own; it is told to at once."""

CERTMONGER_RENEWAL = """
set -eu
cp certificate.pem old.pem
getcert rekey -s -i enrolment -g 2048
for attempt in $(seq 300); do
    state=$(getcert list -s -i enrolment)
    case $state in
        *"status: MONITORING"*) cmp -s certificate.pem old.pem || break ;;
        *"status: CA_REJECTED"* | *"status: NEED_GUIDANCE"*) break ;;
    esac
    sleep 0.2
done
echo "$state"
"""


def enrol_with_certmonger(order: Order) -> Path:
    """A certmonger in a bus session and a home of its own; it asks by GET, whatever the server offers (Q26)."""
    return _certmonger(order, CERTMONGER_SESSION)


def renew_with_certmonger(order: Order) -> Path:
    """The same certmonger, started again: a PKCSReq for a new key, signed by the old certificate."""
    return _certmonger(order, CERTMONGER_RENEWAL)


def _certmonger(order: Order, session: str) -> Path:
    variables = {
        "HOME": str(order.directory),
        "URL": order.url,
        "NAME": order.common_name,
        "CHALLENGE": order.challenge,
    }
    done = _run(["dbus-run-session", "--", "bash", "-c", session], order.directory, variables)
    if "status: CA_REJECTED" in done.stdout:
        raise Refused(done.stdout)
    if "status: MONITORING" not in done.stdout:
        raise ClientFailed(done.stdout)
    return _certificate(done, order.directory)


def enrol_with_jscep(order: Order) -> Path:
    """A jscep on BouncyCastle: indefinite lengths in every layer, SHA-512 where it is offered (Q2, Q27)."""
    return _jscep(order, "certificate.pem")


def renew_with_jscep(order: Order) -> Path:
    """A PKCSReq for a new key, signed by the old certificate: jscep knows no other type."""
    return _jscep(order, "renewed.pem", "renew")


def retrieve_with_jscep(order: Order) -> tuple[Path, Path]:
    """GetCert for the certificate that it signs with, and GetCRL."""
    return _jscep(order, "retrieved.pem", "retrieve"), order.directory / "crl.pem"


def _jscep(order: Order, certificate: str, *mode: str) -> Path:
    java = ["java", "-cp", f"{_path('jscep')}/*", str(JSCEP_DRIVER)]
    what = [order.url, order.challenge, str(order.directory), order.common_name, *mode]
    done = _run([*java, *what], order.directory)
    if done.returncode == JSCEP_FAILURE:
        raise Refused(_last_line(done.stdout))
    return _certificate(done, order.directory, certificate)


def _path(program: str) -> str:
    found = find(program)
    if found is None:
        raise ClientFailed(f"{program} is not installed")
    return found


def _run(
    command: list[str], directory: Path, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a client without a terminal; standard error goes where standard output goes."""
    return subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, **(variables or {})},  # noqa: TID251 - a client inherits the environment of the test run
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def _run_to_file(command: list[str], output: Path) -> subprocess.CompletedProcess[str]:
    """Runs a client that writes its result to standard output; no file is left where there is none."""
    done = subprocess.run(
        command,
        cwd=output.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    if done.stdout:
        output.write_text(done.stdout)
    return done


def _certificate(done: subprocess.CompletedProcess[str], directory: Path, name: str = "certificate.pem") -> Path:
    certificate = directory / name
    if done.returncode != 0 or not certificate.exists():
        raise ClientFailed(done.stderr or done.stdout)
    return certificate


def _last_line(output: str) -> str:
    return output.strip().rpartition("\n")[2]


CLIENTS = (
    Client(
        name="micromdm scepclient 2.1",
        programs=("scepclient",),
        profile="legacy",
        renewing_profile="legacy",
        enrol=enrol_with_scepclient_2_1,
        renew=renew_with_scepclient_2_1,
        renews_by="RENEWAL_REQ",
        polls_by="PKCS_REQ",
    ),
    Client(
        name="strongSwan pki",
        programs=("pki",),
        profile="legacy",
        renewing_profile="legacy",
        enrol=enrol_with_strongswan,
        renew=renew_with_strongswan,
        renews_by="RENEWAL_REQ",
        polls_by="CERT_POLL",
    ),
    Client(
        name="certmonger",
        programs=("getcert", "certmonger-session", "dbus-run-session"),
        profile="default",
        renewing_profile="renewing",
        enrol=enrol_with_certmonger,
        renew=renew_with_certmonger,
        renews_by="PKCS_REQ",
        polls_by="PKCS_REQ",  # 0.79.17, although it knows CertPoll
    ),
    Client(
        name="jscep",
        programs=("java", "jscep"),
        profile="default",
        renewing_profile="renewing",
        enrol=enrol_with_jscep,
        renew=renew_with_jscep,
        renews_by="PKCS_REQ",
        polls_by="CERT_POLL",
    ),
    Client(
        name="micromdm scepclient 2.3",
        programs=("scepclient-2.3",),
        profile="legacy",
        renewing_profile="legacy",
        enrol=enrol_with_scepclient_2_3,
        renew=renew_with_scepclient_2_3,
        renews_by="RENEWAL_REQ",
        polls_by="PKCS_REQ",
    ),
)
