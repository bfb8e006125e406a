"""The tables of the RA's own identities; the sentence below a key is its documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ra.settings.section import SecretReference, Section


class ManagedSettings(Section):
    """A key that scep-ra makes itself, and a certificate that it obtains from the CA of the profiles that name it."""

    key: Literal["rsa:2048", "rsa:3072", "rsa:4096"] = "rsa:2048"
    """What key is made. RSA: devices can seal to no other."""
    validity_days: Annotated[int, Field(ge=1, le=3650)] = 730
    """What is asked for; the CA may give less."""
    renew_before_days: Annotated[int, Field(ge=1, le=365)] = 30
    """So long before its end a new key and certificate are obtained; after two thirds of its time, where that is later."""
    show_after_seconds: Annotated[int, Field(ge=10, le=86400)] = 30
    """A new certificate is shown by GetCACert only so long after it was obtained: by then every process has its key."""
    overlap_days: Annotated[int, Field(ge=0, le=3650)] | None = None
    """So long after a new certificate is shown, requests to the one before are still opened: devices remember what
    GetCACert has shown. Left out: until the end of its certificate."""


class TokenSettings(Section):
    """Keys in a PKCS #11 token or HSM; it needs `pip install scep-ra[pkcs11]`."""

    module: Path
    """The vendor's library, such as /usr/lib/softhsm/libsofthsm2.so."""
    token: str | None = None
    """The token by its label."""
    slot: Annotated[int, Field(ge=0)] | None = None
    """Or by the slot that it is in; numbers of slots may change."""
    pin: SecretReference
    """Of the token's user: `file:PATH` or `env:NAME`."""
    key: str
    """Label of the private key that signs, and opens requests where there is no decryption_key."""
    decryption_key: str | None = None
    """Label of the RSA key that opens requests, where it is another one."""

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        if (self.token is None) is (self.slot is None):
            raise ValueError("write token or slot, and not both")
        return self


class IdentitySettings(Section):
    """One identity of the RA: a certificate and its key in files, or in a token, or one that scep-ra manages itself."""

    certificate: Path | None = None
    """PEM: the RA's certificate, then what is above it."""
    key: Path | None = None
    """PEM, readable by its owner alone."""
    key_passphrase: SecretReference | None = None
    """Of encrypted keys: `file:PATH` or `env:NAME`."""
    decryption_certificate: Path | None = None
    """PEM: what devices seal to, where that is another certificate than the one that signs."""
    decryption_key: Path | None = None
    """PEM, readable by its owner alone."""
    pkcs11: TokenSettings | None = None
    """Instead of key files: the keys are in a token, and never leave it. Certificates are files all the same."""
    managed: ManagedSettings | None = None
    """Instead of files: `managed = {}`, and the key is made, certified, renewed and kept in the journal, sealed."""

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        there = {name for name in type(self).model_fields if getattr(self, name) is not None}
        if "managed" in there and there != {"managed"}:
            raise ValueError(f"managed needs no {min(there - {'managed'})}: write the one or the other")
        if "pkcs11" in there and not {"pkcs11", "certificate"} <= there <= _BESIDE_A_TOKEN:
            raise ValueError("with pkcs11 write certificate, and no key files: the keys are named in pkcs11")
        if not there & {"managed", "pkcs11"} and not {"certificate", "key"} <= there:
            raise ValueError("write certificate and key, or certificate and pkcs11, or managed = {}")
        if (self.decryption_certificate is None) is not (self._decryption_key is None):
            raise ValueError("write decryption_certificate and decryption_key together, or neither")
        return self

    @property
    def _decryption_key(self) -> object:
        return self.decryption_key if self.pkcs11 is None else self.pkcs11.decryption_key


_BESIDE_A_TOKEN = {"pkcs11", "certificate", "decryption_certificate"}
