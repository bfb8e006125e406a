from __future__ import annotations

import hashlib
import json
from base64 import b64decode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from connectors.api import Misconfigured
from connectors.keyfiles import PrivateKey
from connectors.step import jose
from connectors.step.provisioner import JwkProvisioner, Signer, X5cProvisioner, confirmation, open_provisioner
from tests.fakes import pki
from tests.fakes.connecting import Watched

URL = "https://ca.example.org:9000/behind/a/proxy"
VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[3] / "vectors/step-jwk/keys.json").read_text(encoding="utf-8")
)


def write(path: Path, key: PrivateKey) -> None:
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)


def jwk(directory: Path, passphrase: str | None = None) -> Signer:
    reference = "file:passphrase" if passphrase is not None else None
    options = JwkProvisioner(type="jwk", name="scep-ra", key=Path("key"), key_passphrase=reference)
    return open_provisioner(options, URL, Watched({"file:passphrase": passphrase or ""}).services(directory))


def x5c(directory: Path, name: str = "scep-ra") -> Signer:
    options = X5cProvisioner(type="x5c", name=name, key=Path("key"), certificate=Path("certificate"))
    return open_provisioner(options, URL, Watched().services(directory))


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, claims, _ = token.split(".")
    return json.loads(urlsafe_b64decode(header + "==")), json.loads(urlsafe_b64decode(claims + "=="))


def test_a_token_is_for_one_ca_one_path_and_five_minutes(tmp_path: Path) -> None:
    write(tmp_path / "key", pki.key("ec:p256"))

    header, claims = parts(jwk(tmp_path).token("/1.0/sign", "device-1", {"sans": ["a.example"]}, pki.NOW).reveal())

    seconds = int(pki.NOW.timestamp())
    assert {"alg": "ES256", "typ": "JWT", "kid": jose.thumbprint(pki.key("ec:p256"))} == header
    assert len(claims.pop("jti")) == 64
    assert {
        "iss": "scep-ra",
        "aud": "https://ca.example.org:9000/1.0/sign",
        "sub": "device-1",
        "sans": ["a.example"],
        "iat": seconds,
        "nbf": seconds,
        "exp": seconds + 300,
    } == claims


def test_no_two_tokens_are_the_same(tmp_path: Path) -> None:
    write(tmp_path / "key", pki.rsa_key())
    signer = jwk(tmp_path)

    tokens = {signer.token("/1.0/sign", "device-1", {}, pki.NOW).reveal() for _ in range(2)}

    assert len(tokens) == 2


def test_an_encrypted_jwk_is_opened_and_keeps_its_id(tmp_path: Path) -> None:
    vector = VECTORS["keys"][0]
    (tmp_path / "key").write_text(vector["compact"] + "\n")

    signer = jwk(tmp_path, VECTORS["passphrase"])

    assert vector["kid"] == signer.header["kid"]


def test_a_token_is_bound_to_the_csr_by_its_fingerprint() -> None:
    assert {"x5rt#S256": urlsafe_b64encode(hashlib.sha256(b"a CSR").digest()).decode().rstrip("=")} == confirmation(
        b"a CSR"
    )


def test_an_x5c_token_carries_the_chain_and_names_the_provisioner_in_its_audience(tmp_path: Path) -> None:
    ca = pki.root()
    certificate = ca.issue(pki.rsa_key())
    write(tmp_path / "key", pki.rsa_key())
    (tmp_path / "certificate").write_bytes(pki.pem(certificate) + pki.pem(ca.certificate))

    header, claims = parts(x5c(tmp_path, "scep ra").token("/1.0/sign", "device-1", {}, pki.NOW).reveal())

    chain = [x509.load_der_x509_certificate(b64decode(each)) for each in header["x5c"]]
    assert [certificate, ca.certificate] == chain
    assert claims["aud"] == "https://ca.example.org:9000/1.0/sign#x5c/scep%20ra"
    assert claims["iss"] == "scep ra"


def test_no_key_shows(tmp_path: Path) -> None:
    write(tmp_path / "key", pki.rsa_key())

    shown = repr(jwk(tmp_path)) + repr(jwk(tmp_path).token("/1.0/sign", "device-1", {}, pki.NOW))

    assert "Private" not in shown
    assert "eyJ" not in shown


def _nothing(_path: Path) -> None:
    """No file at all."""


def _encrypted_jwk(path: Path) -> None:
    path.write_text(VECTORS["keys"][0]["compact"])


def _no_jwe(path: Path) -> None:
    path.write_text("one.two.three")


def _no_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe")


def _unknown_curve(path: Path) -> None:
    write(path, ec.generate_private_key(ec.SECP256K1()))


@pytest.mark.parametrize(
    ("prepare", "passphrase", "says"),
    [
        (_nothing, None, "cannot be read"),
        (_no_text, None, "cannot be read as text"),
        (_encrypted_jwk, None, "needs key_passphrase"),
        (_encrypted_jwk, "another", "the passphrase is wrong"),
        (_no_jwe, "any", "it is no JWE"),
        (_unknown_curve, None, "a curve that JOSE has no name for"),
    ],
)
def test_a_key_that_cannot_be_used_stops_the_start(
    tmp_path: Path, prepare: Callable[[Path], None], passphrase: str | None, says: str
) -> None:
    prepare(tmp_path / "key")

    with pytest.raises(Misconfigured, match=says):
        jwk(tmp_path, passphrase)


def test_a_certificate_of_another_key_stops_the_start(tmp_path: Path) -> None:
    write(tmp_path / "key", pki.rsa_key(1))
    (tmp_path / "certificate").write_bytes(pki.pem(pki.root().issue(pki.rsa_key())))

    with pytest.raises(Misconfigured, match="does not belong"):
        x5c(tmp_path)
