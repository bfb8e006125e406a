"""Challenges that need no database to be known: a signature says for which profile and names they are, and until when.

```toml
[challenges.signed]
type = "signed"
keys = [{ kid = "k1", secret = "file:signed-k1.key" }]
max_ttl_minutes = 1440
once = true
```

`scep-ra otp create --signed` writes them, and so can any other program that has the key. The text is
`S1.KID.PAYLOAD.MAC`, at most 255 characters, all of them ones that Windows can send:

- PAYLOAD: base32 without padding (RFC 4648 §6) of a JSON object, its members sorted and without spaces:
  `e` when it expires, seconds since 1970; `j` something random, so that no two are alike; `n` the names that the request
  must ask for, all of them and no other, as `otp` writes them, sorted; `p` the profile. `n` may be left out.
- MAC: base32 of the first 16 bytes of HMAC-SHA-256 under the key, over `scep-ra/challenge/v1`, a zero byte, KID, a zero
  byte, and the bytes of the JSON.

The first key signs, every one is accepted: put a new one in front, and take the old one out once what it signed has
expired. With `once` a challenge lets in one request, and the journal remembers that it was used.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from base64 import b32decode, b32encode, b64decode
from binascii import Error as NotBase64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from connectors.api import Secret, secret_reference
from ra.challenge.api import Attempt, Deny, Services, Verdict
from ra.challenge.one_time import name_mismatch, names_asked
from ra.challenge.otp import DECIDED_AFTER
from ra.errors import Misconfigured, RaError
from ra.policy.grant import Grant, Spend

MAX_CHARACTERS = 255
"""RFC 2985 bounds a challengePassword to so many."""

MIN_KEY_BYTES = 32

_VERSION = "S1"
_CONTEXT = b"scep-ra/challenge/v1\0"
_MAC_BYTES = 16
_TEXT = re.compile(r"S1\.([A-Za-z0-9-]{1,16})\.([A-Z2-7]{1,255})\.([A-Z2-7]{26})")


class TooLong(RaError):
    """The names do not fit into a challenge."""


class KeyOptions(BaseModel):
    """One signing key."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    kid: str = Field(pattern=r"^[A-Za-z0-9-]{1,16}$")
    """What a challenge calls the key: 1 to 16 letters, digits and hyphens."""
    secret: Annotated[str, AfterValidator(secret_reference)]
    """`file:PATH` or `env:NAME`: the key in base64, at least 32 bytes; `openssl rand -base64 32` makes one."""


class Options(BaseModel):
    """The block of a signed challenge."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    keys: tuple[KeyOptions, ...] = Field(min_length=1)
    """The first signs, all are accepted."""
    max_ttl_minutes: int = Field(default=1440, ge=1, le=527_040)
    """A challenge that expires later than this from now is refused, whoever has signed it."""
    once: bool = True
    """Whether a challenge lets in one request, or any number until it expires."""
    names_required: bool = True
    """Whether a challenge must say for which names it is."""


class _Payload(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    expires: int = Field(alias="e", ge=0, le=253_402_300_799)
    random: str = Field(alias="j", min_length=8, max_length=64)
    names: tuple[str, ...] | None = Field(default=None, alias="n", strict=False)
    profile: str = Field(alias="p")


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A key and what it is called."""

    kid: str
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """Grants what presents a challenge that one of its keys has signed for it."""

    options: Options
    services: Services = field(repr=False)
    keys: tuple[SigningKey, ...]

    async def check(self, attempt: Attempt) -> Verdict:
        presented = attempt.challenge_password
        if not presented:
            return Deny(detail="no challenge was presented")
        read = self._read(presented)
        if read is None:
            return Deny(detail="the challenge is not signed by any of the keys")
        kid, payload = read
        if fault := self._fault(payload, attempt):
            return Deny(detail=f"the signed challenge {fault}")
        expires = datetime.fromtimestamp(payload.expires, UTC)
        digest = hashlib.sha256(f"{self.services.name}\0{presented}".encode()).digest()
        spend = Spend(key=digest, expires_at=expires + DECIDED_AFTER)
        spent = spend if self.options.once else None
        return Grant(method=self.services.name, label=kid, spend=spent, is_strong=True)  # for its MAC of 128 bits

    def _read(self, presented: str) -> tuple[str, _Payload] | None:
        """Nothing of it is looked at before its signature is."""
        found = _TEXT.fullmatch(presented)
        key = next((each for each in self.keys if found and each.kid == found[1]), None)
        if found is None or key is None:
            return None
        try:
            content, mac = _unpacked(found[2]), _unpacked(found[3])
        except NotBase64:
            return None
        if not hmac.compare_digest(_mac(key, content), mac):
            return None
        try:
            return key.kid, _Payload.model_validate_json(content)
        except ValidationError:
            return None

    def _fault(self, payload: _Payload, attempt: Attempt) -> str | None:
        if payload.profile != attempt.profile:
            return f"is for the profile {payload.profile!r}"
        arrived = attempt.arrived_at.timestamp()
        if arrived > payload.expires:
            return "has expired"
        if payload.expires > arrived + self.options.max_ttl_minutes * 60:
            return "expires later than max_ttl_minutes allows"
        if payload.names is None:
            return "names nobody, and names_required is set" if self.options.names_required else None
        return name_mismatch(frozenset(payload.names), names_asked(attempt.csr))

    async def aclose(self) -> None:
        """Nothing is held open."""


async def connect(options: Options, services: Services) -> Signed:
    """Reads the keys.

    Raises:
        Misconfigured: one is too short or no base64, or two are called the same.
    """
    return Signed(options=options, services=services, keys=read_keys(options, services.read_secret))


def read_keys(options: Options, read_secret: Callable[[str], Secret]) -> tuple[SigningKey, ...]:
    """The keys, the one that signs first.

    Raises:
        Misconfigured: one is too short or no base64, or two are called the same.
    """
    if len({each.kid for each in options.keys}) != len(options.keys):
        raise Misconfigured("keys: two have the same kid")
    return tuple(SigningKey(kid=each.kid, key=_read_key(each, read_secret)) for each in options.keys)


def sign(
    key: SigningKey, *, profile: str, names: Sequence[str] | None, ttl: timedelta, now: datetime, random: bytes
) -> Secret:
    """A challenge; `random` is at least 8 bytes, `names` are as `otp` writes them.

    Raises:
        TooLong: the names do not fit.
    """
    payload: dict[str, object] = {"e": int((now + ttl).timestamp()), "j": _packed(random), "p": profile}
    if names is not None:
        payload["n"] = sorted(names)
    content = _canonical(payload)
    text = ".".join((_VERSION, key.kid, _packed(content), _packed(_mac(key, content))))
    if len(text) > MAX_CHARACTERS:
        raise TooLong(
            f"a signed challenge of {len(text)} characters does not fit into {MAX_CHARACTERS}: bind it to fewer or "
            "shorter names, or use a one-time secret of type otp"
        )
    return Secret(text)


def _canonical(payload: Mapping[str, object]) -> bytes:
    return json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _mac(key: SigningKey, content: bytes) -> bytes:
    return hmac.new(key.key, _CONTEXT + key.kid.encode() + b"\0" + content, hashlib.sha256).digest()[:_MAC_BYTES]


def _packed(value: bytes) -> str:
    return b32encode(value).decode().rstrip("=")


def _unpacked(text: str) -> bytes:
    """The bytes of base32 in its one spelling: bits that are left over must be zero, or two texts would be one challenge."""
    value = b32decode(text + "=" * (-len(text) % 8))
    if _packed(value) != text:
        raise NotBase64("not the one spelling")
    return value


def _read_key(options: KeyOptions, read_secret: Callable[[str], Secret]) -> bytes:
    try:
        key = b64decode(read_secret(options.secret).reveal().strip(), validate=True)
    except NotBase64:
        raise Misconfigured(f"key {options.kid!r}: it is no base64; `openssl rand -base64 32` makes one") from None
    if len(key) < MIN_KEY_BYTES:
        raise Misconfigured(f"key {options.kid!r}: it has {len(key)} bytes; at least {MIN_KEY_BYTES} are needed")
    return key
