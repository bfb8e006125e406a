"""OpenLDAP's server with the tests' own entries: unprivileged, on loopback ports, its data in a temporary directory.

Its schema has of Active Directory's what a look-up asks for, so that a device looks as it does there.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests import peers
from tests.fakes.connecting import TlsFiles, tls_files
from tests.interop.running import free_ports

BASE = "dc=example,dc=org"
BIND_DN, PASSWORD = f"cn=scep-ra,{BASE}", "the directory's password"
NARROW_DN = f"cn=narrow,{BASE}"
"""Is shown one entry of a search at most."""
ELSEWHERE = f"ou=elsewhere,{BASE}"
"""Of another server, by a referral."""

_READY_SECONDS = 20
_PAUSE_SECONDS = 0.02
_USER = "openldap"

_CONFIGURATION = """
include /etc/ldap/schema/core.schema
attributetype ( 1.2.840.113556.1.4.221 NAME 'sAMAccountName'
  EQUALITY caseIgnoreMatch SUBSTR caseIgnoreSubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.619 NAME 'dNSHostName'
  EQUALITY caseIgnoreMatch SUBSTR caseIgnoreSubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.656 NAME 'userPrincipalName'
  EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.8 NAME 'userAccountControl'
  EQUALITY integerMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.146 NAME 'objectSid'
  EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE )
objectclass ( 1.2.840.113556.1.3.30 NAME 'computer' SUP top STRUCTURAL MUST cn
  MAY ( sAMAccountName $ dNSHostName $ userPrincipalName $ userAccountControl $ objectSid $ description ) )
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {directory}/slapd.pid
TLSCACertificateFile {directory}/tls-ca.pem
TLSCertificateFile {directory}/tls.pem
TLSCertificateKeyFile {directory}/tls.key
disallow bind_anon
require bind
database mdb
suffix "{base}"
directory {directory}/data
maxsize 10485760
dbnosync
limits dn.exact="{narrow}" size=1
access to attrs=userPassword by anonymous auth by * none
access to * by users read by * none
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slapd:
    """A running server; `ldap` wants StartTLS first."""

    ldaps: str
    ldap: str
    tls: TlsFiles
    process: int

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """For as long as the block lasts it takes connections, and answers nothing."""
        os.kill(self.process, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.process, signal.SIGCONT)


@contextmanager
def running_slapd(entries: Mapping[str, Mapping[str, str | bytes]]) -> Iterator[Slapd]:
    """A server with a computer for each of `entries`, by its common name; skips the test where it is not installed."""
    program, adder = peers.require("slapd"), peers.require("slapadd")
    # Not pytest's own directory: that one is closed to the server's user.
    with tempfile.TemporaryDirectory(prefix="scep-ra-slapd-") as name:
        directory = Path(name)
        tls = tls_files(directory, datetime.now(UTC))  # noqa: TID251 - a real server checks it by the real time
        (directory / "data").mkdir()
        configuration = directory / "slapd.conf"
        configuration.write_text(_CONFIGURATION.format(directory=directory, base=BASE, narrow=NARROW_DN))
        (directory / "entries.ldif").write_text("\n\n".join(_ldif(entries)) + "\n")
        _hand_over(directory)
        common = ["-f", str(configuration)]
        filled = [*_as_nobody_special(), adder, *common, "-q", "-l", str(directory / "entries.ldif")]
        subprocess.run(filled, check=True, cwd=directory, capture_output=True)
        plain, secure = free_ports(2)
        listeners = f"ldap://127.0.0.1:{plain} ldaps://127.0.0.1:{secure}"
        command = [*_as_nobody_special(), program, *common, "-d", "none", "-h", listeners]
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            _wait(process, secure, directory / "log")
            yield Slapd(
                ldaps=f"ldaps://localhost:{secure}", ldap=f"ldap://localhost:{plain}", tls=tls, process=process.pid
            )
        finally:
            process.terminate()
            process.wait()


def _ldif(entries: Mapping[str, Mapping[str, str | bytes]]) -> Iterator[str]:
    yield f"dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example"
    for dn in (BIND_DN, NARROW_DN):
        yield f"dn: {dn}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\nuserPassword: {PASSWORD}"
    yield f"dn: {ELSEWHERE}\nobjectClass: referral\nobjectClass: extensibleObject\nref: ldap://127.0.0.1:1/{ELSEWHERE}"
    for name, attributes in entries.items():
        lines = [f"dn: cn={name},{BASE}", "objectClass: computer"]
        for attribute, value in attributes.items():
            raw = value.encode() if isinstance(value, str) else value
            lines.append(f"{attribute}:: {b64encode(raw).decode()}")
        yield "\n".join(lines)


def _hand_over(directory: Path) -> None:
    if os.geteuid() == 0:
        for path in (directory, *directory.iterdir()):
            shutil.chown(path, _USER, _USER)


def _as_nobody_special() -> Sequence[str]:
    return ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--init-groups"] if os.geteuid() == 0 else []


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + _READY_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(log.read_text()) from None
            time.sleep(_PAUSE_SECONDS)
        else:
            return
