"""Five SCEP clients that others wrote, each as one function that enrols once.

Each leaves `key.pem` and `certificate.pem` in the order's directory and returns the path of the latter. Refused means that the client understood a CertRep FAILURE; ClientFailed is anything
else. A client is a judge of the server: nothing here makes up for what the server does wrong.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.interop.installed import find

TIMEOUT_SECONDS = 90
JSCEP_DRIVER = Path(__file__).parent / "jscep" / "Enrol.java"
JSCEP_FAILURE = 3


class Refused(Exception):
    """The server answered CertRep FAILURE, and the client said so."""


class ClientFailed(Exception):
    """The client neither enrolled nor reported a CertRep FAILURE; the message is what it printed."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to enrol, and where; the directory is empty before."""

    url: str
    challenge: str
    directory: Path
    common_name: str


@dataclass(frozen=True, slots=True)
class Client:
    """One real client.

    Attributes:
        programs: what must be installed.
        profile: the profile whose algorithms it needs.
    """

    name: str
    programs: tuple[str, ...]
    profile: str
    enrol: Callable[[Order], Path]

    def is_installed(self) -> bool:
        return all(find(program) for program in self.programs)


def enrol_with_scepclient_2_1(order: Order) -> Path:
    """Debian's micromdm scepclient: SHA-1, single DES, BER in the envelope, sealed to every certificate shown (Q2, Q4)."""
    return _scepclient("scepclient", order)


def enrol_with_scepclient_2_3(order: Order) -> Path:
    """Its last release: still SHA-1 and single DES, but DER, and told to seal to the keyEncipherment certificate."""
    return _scepclient("scepclient-2.3", order, "-key-encipherment-selector")


def _scepclient(program: str, order: Order, *options: str) -> Path:
    what = ["-server-url", order.url, "-challenge", order.challenge, "-cn", order.common_name]
    files = ["-private-key", "key.pem", "-certificate", "certificate.pem"]
    done = _run([_path(program), *what, *files, *options], order.directory)
    if "request failed, failInfo:" in done.stdout:
        raise Refused(_last_line(done.stdout))
    return _certificate(done, order.directory)


def enrol_with_strongswan(order: Order) -> Path:
    """The pki of strongSwan; 5.9.8 reads GetCACaps wrongly, so that it must be told to use 3DES (Q24)."""
    pki, directory = _path("pki"), order.directory
    fetched = _run([pki, "--scepca", "--url", order.url, "--caout", "ca.crt", "--raout", "ra.crt"], directory)
    if not (directory / "ra.crt").exists():
        raise ClientFailed(fetched.stdout)
    _run_to_file([pki, "--gen", "--type", "rsa", "--size", "2048", "--outform", "pem"], directory / "key.pem")
    what = ["--url", order.url, "--password", order.challenge, "--dn", f"CN={order.common_name}", "--in", "key.pem"]
    whom = ["--cacert-enc", "ra.crt", "--cacert-sig", "ca.crt"]
    done = _run_to_file(
        [pki, "--scep", *what, *whom, "--cipher", "des3", "--outform", "pem"], directory / "certificate.pem"
    )
    if "failInfo" in done.stderr:
        raise Refused(_last_line(done.stderr))
    return _certificate(done, directory)


CERTMONGER_SESSION = """
set -eu
getcert add-scep-ca -s -c scep-ra -u "$URL"
getcert request -s -c scep-ra -I enrolment -f "$PWD/certificate.pem" -k "$PWD/key.pem" -N "CN=$NAME" -L "$CHALLENGE"
for attempt in $(seq 300); do
    state=$(getcert list -s -i enrolment)
    case $state in
        *"status: MONITORING"* | *"status: CA_REJECTED"* | *"status: NEED_GUIDANCE"*) break ;;
    esac
    sleep 0.2
done
echo "$state"
"""


def enrol_with_certmonger(order: Order) -> Path:
    """A certmonger in a bus session and a home of its own; it asks by GET, whatever the server offers (Q26)."""
    variables = {
        "HOME": str(order.directory),
        "URL": order.url,
        "NAME": order.common_name,
        "CHALLENGE": order.challenge,
    }
    done = _run(["dbus-run-session", "--", "bash", "-c", CERTMONGER_SESSION], order.directory, variables)
    if "status: CA_REJECTED" in done.stdout:
        raise Refused(done.stdout)
    if "status: MONITORING" not in done.stdout:
        raise ClientFailed(done.stdout)
    return _certificate(done, order.directory)


def enrol_with_jscep(order: Order) -> Path:
    """A jscep on BouncyCastle: indefinite lengths in every layer, SHA-512 where it is offered (Q2, Q27)."""
    java = ["java", "-cp", f"{_path('jscep')}/*", str(JSCEP_DRIVER)]
    done = _run([*java, order.url, order.challenge, str(order.directory), order.common_name], order.directory)
    if done.returncode == JSCEP_FAILURE:
        raise Refused(_last_line(done.stdout))
    return _certificate(done, order.directory)


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


def _certificate(done: subprocess.CompletedProcess[str], directory: Path) -> Path:
    certificate = directory / "certificate.pem"
    if done.returncode != 0 or not certificate.exists():
        raise ClientFailed(done.stderr or done.stdout)
    return certificate


def _last_line(output: str) -> str:
    return output.strip().rpartition("\n")[2]


CLIENTS = (
    Client("micromdm scepclient 2.1", ("scepclient",), "legacy", enrol_with_scepclient_2_1),
    Client("strongSwan pki", ("pki",), "legacy", enrol_with_strongswan),
    Client("certmonger", ("getcert", "certmonger-session", "dbus-run-session"), "default", enrol_with_certmonger),
    Client("jscep", ("java", "jscep"), "default", enrol_with_jscep),
    Client("micromdm scepclient 2.3", ("scepclient-2.3",), "legacy", enrol_with_scepclient_2_3),
)
