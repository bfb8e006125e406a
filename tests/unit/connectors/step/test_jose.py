from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from connectors.keyfiles import PrivateKey
from connectors.step import jose

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[3] / "vectors/step-jwk/keys.json").read_text(encoding="utf-8")
)
PASSPHRASE = VECTORS["passphrase"].encode()
KEYS = {each["kind"]: each for each in VECTORS["keys"]}
HASHES = {"ES256": hashes.SHA256(), "ES384": hashes.SHA384(), "ES512": hashes.SHA512()}


def key(kind: str) -> PrivateKey:
    return jose.private_key(jose.decrypt_jwk(KEYS[kind]["compact"], PASSPHRASE))


def verify(token: str, public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> None:
    """Raises where the signature is wrong."""
    content, _, text = token.rpartition(".")
    signature = urlsafe_b64decode(text + "==")
    if isinstance(public, rsa.RSAPublicKey):
        public.verify(signature, content.encode(), padding.PKCS1v15(), hashes.SHA256())
        return
    half = len(signature) // 2
    numbers = encode_dss_signature(int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))
    alg = json.loads(urlsafe_b64decode(content.partition(".")[0] + "=="))["alg"]
    public.verify(numbers, content.encode(), ec.ECDSA(HASHES[alg]))


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_that_step_has_encrypted_is_opened_and_has_the_id_that_step_gave_it(kind: str) -> None:
    jwk = jose.decrypt_jwk(KEYS[kind]["compact"], PASSPHRASE)

    opened = jose.private_key(jwk)

    assert KEYS[kind]["kid"] == jwk["kid"] == jose.thumbprint(opened)
    assert KEYS[kind]["public"]["alg"] == jose.algorithm(opened)


def test_the_json_form_holds_the_same_key() -> None:
    expected = jose.decrypt_jwk(KEYS["EC P-256"]["compact"], PASSPHRASE)

    actual = jose.decrypt_jwk(json.dumps(KEYS["EC P-256"]["json"]), PASSPHRASE)

    assert expected == actual


@pytest.mark.parametrize("kind", KEYS)
def test_a_signature_is_good_for_the_public_key(kind: str) -> None:
    signer = key(kind)

    token = jose.sign({"alg": jose.algorithm(signer)}, {"iss": "scep-ra"}, signer)

    verify(token, signer.public_key())
    assert {"iss": "scep-ra"} == json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))


def test_a_wrong_passphrase_is_told_as_one() -> None:
    with pytest.raises(ValueError, match="the passphrase is wrong"):
        jose.decrypt_jwk(KEYS["EC P-256"]["compact"], b"another passphrase")


def test_a_changed_ciphertext_is_refused() -> None:
    parts = KEYS["EC P-256"]["compact"].split(".")
    parts[3] = parts[3][::-1]

    with pytest.raises(ValueError, match="the passphrase is wrong"):
        jose.decrypt_jwk(".".join(parts), PASSPHRASE)


@pytest.mark.parametrize(
    "changed",
    [{"alg": "RSA-OAEP"}, {"enc": "A128CBC-HS256"}, {"p2c": 10_000_001}],
    ids=["key transport", "encryption", "too many iterations"],
)
def test_what_is_encrypted_otherwise_is_refused_before_anything_is_derived(changed: dict[str, Any]) -> None:
    header, *rest = KEYS["EC P-256"]["compact"].split(".")
    other = {**json.loads(urlsafe_b64decode(header + "==")), **changed}

    with pytest.raises(ValueError, match="not read here"):
        jose.decrypt_jwk(
            ".".join([urlsafe_b64encode(json.dumps(other).encode()).decode().rstrip("="), *rest]), PASSPHRASE
        )


@pytest.mark.parametrize("jwk", [{"kty": "OKP", "crv": "Ed25519"}, {"kty": "EC", "crv": "secp256k1"}])
def test_a_key_of_another_kind_is_refused(jwk: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"neither RSA nor EC|not used here"):
        jose.private_key(jwk)
