"""A SoftHSM token with keys that lie in files too, so that what it does can be compared."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from connectors.keyfiles import PrivateKey
from tests.fakes import pki

MODULES = (
    Path("/usr/lib/softhsm/libsofthsm2.so"),
    Path("/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"),
    Path("/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so"),
    Path("/usr/lib64/pkcs11/libsofthsm2.so"),
)
LABEL, PIN = "ra", "1234"
CA = pki.root(number=20)
CONFIGURATION = "SOFTHSM2_CONF"
"""Where a process that loads the module finds its tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftHsm:
    """One token, with keys `rsa` and `ec`, whose certificates lie beside it as rsa.pem and ec.pem."""

    module: Path
    directory: Path
    environment: dict[str, str]

    def use_here(self) -> None:
        """For this process, before it loads the module for the first time."""
        os.environ.update(self.environment)  # noqa: TID251 - what the module reads

    def certificate(self, name: str) -> Path:
        return self.directory / f"{name}.pem"


def installed() -> Path | None:
    """The module."""
    return next((each for each in MODULES if each.exists()), None)


def make(module: Path, program: str, directory: Path) -> SoftHsm:
    """A new token in that directory."""
    tokens = directory / "tokens"
    tokens.mkdir()
    configuration = directory / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
    made = SoftHsm(module=module, directory=directory, environment={CONFIGURATION: str(configuration)})
    _run(made, program, "--init-token", "--free", "--label", LABEL, "--pin", PIN, "--so-pin", "5678")
    keys: tuple[tuple[str, PrivateKey], ...] = (("rsa", pki.rsa_key(20)), ("ec", pki.key("ec:p256", 21)))
    for number, (name, key) in enumerate(keys, 1):
        file = directory / f"{name}.key"
        file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        file.chmod(0o600)
        what = ("--import", str(file), "--token", LABEL, "--label", name, "--id", f"{number:02}", "--pin", PIN)
        _run(made, program, *what)
        usage = pki.RA_USAGE if name == "rsa" else pki.key_usage("digital_signature")
        made.certificate(name).write_bytes(_pem(CA.issue(key, usage=usage)))
    return made


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _run(made: SoftHsm, program: str, *arguments: str) -> None:
    environment = {**os.environ, **made.environment}  # noqa: TID251 - a peer inherits that of the test run
    subprocess.run([program, *arguments], env=environment, capture_output=True, check=True)
