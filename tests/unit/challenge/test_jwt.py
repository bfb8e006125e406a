from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from ra.challenge.api import Deny, Unavailable, Verdict
from ra.challenge.jws import Algorithm, BadToken, read_jwks, read_token, verified_claims
from ra.challenge.jwt import Options, connect
from ra.policy.grant import Grant
from tests.fakes.challenges import NOW, FakeServices, attempt
from tests.fakes.csrs import csr, san, subject
from tests.fakes.simulated import Front, listening_front

SECONDS = int(NOW.timestamp())
CLAIMS: dict[str, Any] = {
    "iss": "https://portal.example.org",
    "aud": "scep-ra",
    "sub": "device",
    "exp": SECONDS + 600,
    "nbf": SECONDS - 5,
    "iat": SECONDS - 5,
}


def packed(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()


def number(value: int, octets: int | None = None) -> str:
    return packed(value.to_bytes(octets or (value.bit_length() + 7) // 8))


@cache
def private_key(name: str) -> Any:
    match name:
        case "RS256" | "PS256":
            return rsa.generate_private_key(65537, 2048)
        case "short":
            return rsa.generate_private_key(65537, 1024)  # noqa: S505 - one that must verify nothing
        case "ES256" | "other":
            return ec.generate_private_key(ec.SECP256R1())
        case "ES384":
            return ec.generate_private_key(ec.SECP384R1())
        case _:
            return ed25519.Ed25519PrivateKey.generate()


def jwk(name: str, kid: str | None = None) -> dict[str, str]:
    public = private_key(name).public_key()
    more = {"kid": kid or name}
    match public:
        case rsa.RSAPublicKey():
            numbers = public.public_numbers()
            return {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e), **more}
        case ec.EllipticCurvePublicKey():
            point, octets = public.public_numbers(), public.key_size // 8
            x, y = number(point.x, octets), number(point.y, octets)
            return {"kty": "EC", "crv": f"P-{public.key_size}", "x": x, "y": y, "use": "sig", **more}
        case _:
            return {"kty": "OKP", "crv": "Ed25519", "x": packed(public.public_bytes_raw()), **more}


def sign(name: str, content: bytes) -> bytes:
    key = private_key(name)
    match name:
        case "RS256" | "short":
            return bytes(key.sign(content, padding.PKCS1v15(), hashes.SHA256()))
        case "PS256":
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
            return bytes(key.sign(content, pss, hashes.SHA256()))
        case "ES256" | "ES384" | "other":
            digest = hashes.SHA384() if name == "ES384" else hashes.SHA256()
            r, s = decode_dss_signature(key.sign(content, ec.ECDSA(digest)))
            octets = key.key_size // 8
            return r.to_bytes(octets) + s.to_bytes(octets)
        case _:
            return bytes(key.sign(content))


def token(name: str = "ES256", header: dict[str, Any] | None = None, **claims: Any) -> str:
    """Of CLAIMS with changes; a claim that is None is left out."""
    said = {key: value for key, value in (CLAIMS | claims).items() if value is not None}
    head = {"alg": name, "kid": name, "typ": "JWT", **(header or {})}
    signed = ".".join(packed(json.dumps(each).encode()) for each in (head, said))
    return f"{signed}.{packed(sign(name, signed.encode()))}"


@dataclass
class Issuer:
    """Publishes keys."""

    keys: list[Any] = field(default_factory=lambda: [jwk("ES256")])
    answer: Response | None = None
    asked: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        answer = self.answer or JSONResponse({"keys": self.keys})
        await answer(scope, receive, send)


@dataclass
class Clock:
    moment: datetime = NOW


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with listening_front() as opened:
        yield opened


@pytest.fixture
def issuer(front: Front) -> Issuer:
    issuer = Issuer()
    front.app = issuer
    return issuer


Ask = Callable[..., Verdict]


def asking(front: Front, *steps: tuple[str, Callable[[Clock], None]], **options: Any) -> list[Verdict]:
    """What becomes of several challenges at one validator; something may happen before each."""
    fakes, clock = FakeServices({}, name="portal"), Clock()
    services = replace(fakes.services(), now=lambda: clock.moment)
    given_options = {"url": front.url, "issuer": CLAIMS["iss"], "audience": "scep-ra", **options}

    async def run() -> list[Verdict]:
        validator = await connect(Options.model_validate(given_options), services)
        verdicts = []
        for challenge, before in steps:
            before(clock)
            verdicts.append(await validator.check(attempt(challenge, arrived_at=clock.moment)))
        await validator.aclose()
        return verdicts

    return asyncio.run(run())


def nothing(_: Clock) -> None:
    """Nothing happens."""


def asked(front: Front, challenge: str, **options: Any) -> Verdict:
    return asking(front, (challenge, nothing), **options)[0]


@pytest.mark.parametrize("name", Algorithm)
def test_a_token_of_the_issuer_is_granted(front: Front, issuer: Issuer, name: Algorithm) -> None:
    issuer.keys = [jwk("other"), jwk(name)]

    answer = asked(front, token(name, email="a@example.org"), algorithms=[name], attributes=["email", "absent"])

    assert isinstance(answer, Grant)
    assert answer.is_strong
    assert ("portal", {"email": "a@example.org"}) == (answer.method, dict(answer.attributes))
    assert answer.spend is not None


@pytest.mark.parametrize(
    ("claims", "fault"),
    [
        ({"iss": "https://other.example.org"}, "another issuer"),
        ({"iss": None}, "another issuer"),
        ({"aud": "other"}, "another audience"),
        ({"aud": ["other"]}, "another audience"),
        ({"aud": None}, "another audience"),
        ({"sub": "other"}, "another commonName"),
        ({"sub": None}, "another commonName"),
        ({"sub": ["device"]}, "another commonName"),
        ({"exp": SECONDS - 61}, "has expired"),
        ({"exp": None}, "until when"),
        ({"exp": "tomorrow"}, "until when"),
        ({"exp": True}, "until when"),
        ({"exp": 1e400}, "until when"),
        ({"exp": SECONDS + 86_400 + 120}, "max_ttl_minutes"),
        ({"nbf": SECONDS + 61}, "not good yet"),
        ({"iat": SECONDS + 61}, "not good yet"),
        ({"nbf": "now"}, "until when"),
    ],
)
def test_a_token_that_is_not_meant_is_denied(front: Front, issuer: Issuer, claims: dict[str, Any], fault: str) -> None:
    answer = asked(front, token(**claims))

    assert isinstance(answer, Deny)
    assert fault in answer.detail
    assert issuer.asked


@pytest.mark.parametrize(
    "claims", [{"aud": ["x", "scep-ra"]}, {"exp": SECONDS - 59}, {"nbf": SECONDS + 59}, {"nbf": None}]
)
def test_what_is_allowed_is_allowed(front: Front, issuer: Issuer, claims: dict[str, Any]) -> None:
    answer = asked(front, token(**claims))

    assert isinstance(answer, Grant)
    assert issuer.asked


@pytest.mark.parametrize(
    "challenge",
    [
        token(header={"alg": "none"}),
        token(header={"alg": "none"}).rpartition(".")[0] + ".",
        token(header={"alg": "HS256"}),
        token(header={"alg": "RS256"}),
        token(header={"crit": ["exp"]}),
        token(header={"crit": ["b64"], "b64": False}),
        token("other", {"alg": "ES256", "kid": "ES256"}),
        token("other", {"alg": "ES256", "kid": "ES256", "jwk": jwk("other")}),
        token()[:-2],
        token() + ".x",
        token().replace(".", "..", 1),
        "a.b.c",
        "é.b.c",
        "A" * 10_000,
        "..",
        ".".join(packed(each) for each in (b"[" * 3000, b"{}", b"")),
    ],
)
def test_what_the_issuer_did_not_sign_is_denied(front: Front, issuer: Issuer, challenge: str) -> None:
    issuer.keys = [jwk("ES256"), jwk("RS256")]

    answer = asked(front, challenge)

    assert isinstance(answer, Deny)


def test_a_key_is_used_for_its_own_algorithm_alone(front: Front, issuer: Issuer) -> None:
    issuer.keys = [jwk("RS256") | {"alg": "PS256"}]

    answer = asked(front, token("RS256"), algorithms=["RS256", "PS256"])

    assert isinstance(answer, Deny)


@pytest.mark.filterwarnings("ignore:Key size should be:joserfc.errors.SecurityWarning")
def test_keys_that_cannot_be_used_are_passed_over(front: Front, issuer: Issuer) -> None:
    broken = [
        7,
        {},
        {"kty": "EC"},
        {"kty": "oct", "k": "AA"},
        {**jwk("ES256"), "x": "AA"},
        {**jwk("ES256"), "use": "enc"},
        {**jwk("ES256"), "d": "AA"},
    ]
    issuer.keys = [*broken, jwk("short", "short"), jwk("ES256")]

    answer = asked(front, token())

    assert isinstance(answer, Grant)


@pytest.mark.filterwarnings("ignore:Key size should be:joserfc.errors.SecurityWarning")
def test_a_short_key_verifies_nothing(front: Front, issuer: Issuer) -> None:
    issuer.keys = [jwk("short", "RS256"), jwk("ES256")]

    answer = asked(front, token("short", {"alg": "RS256", "kid": "RS256"}), algorithms=["RS256"])

    assert isinstance(answer, Deny)


def test_the_profile_may_be_a_claim(front: Front, issuer: Issuer) -> None:
    right, wrong = (asked(front, token(scope=each), profile="scope") for each in ("default", "other"))

    assert isinstance(right, Grant)
    assert isinstance(wrong, Deny)
    assert issuer.asked


@pytest.mark.parametrize(
    ("listed", "is_granted"),
    [(["CN=device", "dns:device.example.org"], True), (["CN=device"], False), ("CN=device", False), (None, False)],
)
def test_all_names_may_be_bound(front: Front, issuer: Issuer, listed: Any, is_granted: bool) -> None:
    request = csr(
        subject=subject(("2.5.4.3", "device")),
        subject_alternative_names=(san("dns", "device.example.org"),),
        challenge_password=token(names=listed),
    )
    options = Options.model_validate(
        {"url": front.url, "issuer": CLAIMS["iss"], "audience": "scep-ra", "names": "names", "common_name": None}
    )

    async def run() -> Verdict:
        validator = await connect(options, FakeServices({}).services())
        answer = await validator.check(attempt(None, request=request))
        await validator.aclose()
        return answer

    assert is_granted is isinstance(asyncio.run(run()), Grant)
    assert issuer.asked


def test_keys_are_fetched_once_and_again_when_their_time_is_over(front: Front, issuer: Issuer) -> None:
    def later(clock: Clock) -> None:
        clock.moment += timedelta(minutes=61)

    answers = asking(front, (token(), nothing), (token(), nothing), (token(exp=SECONDS + 7200), later))

    assert [True] * 3 == [isinstance(each, Grant) for each in answers]
    assert 2 == issuer.asked


def test_a_new_key_is_fetched_but_not_at_every_stranger_s_word(front: Front, issuer: Issuer) -> None:
    def rotate(clock: Clock) -> None:
        clock.moment += timedelta(seconds=31)
        issuer.keys = [jwk("other", "new")]

    unknown = token("other", {"alg": "ES256", "kid": "unknown"})
    new = token("other", {"alg": "ES256", "kid": "new"})

    answers = asking(front, (unknown, nothing), (unknown, nothing), (new, rotate), (unknown, nothing))

    assert [Deny, Deny, Grant, Deny] == [type(each) for each in answers]
    assert 2 == issuer.asked


def test_with_the_issuer_away_the_last_keys_do_for_a_day(front: Front, issuer: Issuer) -> None:
    def away(clock: Clock) -> None:
        issuer.answer = PlainTextResponse("", 404)
        clock.moment += timedelta(hours=2)

    def too_long(clock: Clock) -> None:
        clock.moment += timedelta(hours=23)

    late, later = token(exp=SECONDS + 3 * 3600), token(exp=SECONDS + 26 * 3600, nbf=SECONDS)
    answers = asking(front, (token(), nothing), (late, away), (later, too_long), max_ttl_minutes=2000)

    assert [Grant, Grant, Unavailable] == [type(each) for each in answers]


@pytest.mark.parametrize(
    "answer", [PlainTextResponse("", 500), PlainTextResponse("no JSON"), JSONResponse([]), JSONResponse({"keys": []})]
)
def test_without_keys_nobody_is_let_in(front: Front, issuer: Issuer, answer: Response) -> None:
    issuer.answer = answer

    assert isinstance(asked(front, token()), Unavailable)


def test_a_token_that_is_bound_to_no_name_is_refused_by_the_configuration() -> None:
    with pytest.raises(ValidationError, match="common_name or names"):
        Options.model_validate({"url": "https://x.example", "issuer": "x", "audience": "y", "common_name": None})


@pytest.mark.parametrize(
    "other", [{"kty": "oct", "k": packed(bytes(32))}, jwk("ES256") | {"use": "enc"}, jwk("ES256") | {"alg": "ES512"}]
)
def test_a_set_without_a_key_for_signatures_is_empty(other: dict[str, str]) -> None:
    assert read_jwks({"keys": [other]}) == ()


def test_a_key_whose_secret_is_published_verifies_nothing(front: Front, issuer: Issuer) -> None:
    secret = number(private_key("ES256").private_numbers().private_value, 32)
    issuer.keys = [jwk("ES256") | {"d": secret}, jwk("other")]

    answer = asked(front, token())

    assert isinstance(answer, Deny)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=9)
    | st.sampled_from(["ES256", "RSA", "EC", "P-256", "AQAB"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["alg", "kid", "crit", "b64", "kty", "crv", "x", "y", "n", "e", "use"]), inner
        )
    ),
    max_leaves=12,
)


@given(JSON, st.binary(max_size=70))
def test_no_header_is_more_than_a_bad_token(header: Any, signature: bytes) -> None:
    parts = (json.dumps(header).encode(), b"{}", signature)

    with pytest.raises(BadToken):
        verified_claims(read_token(".".join(map(packed, parts)), tuple(Algorithm)), read_jwks({"keys": [jwk("ES256")]}))


@given(st.lists(JSON, max_size=3))
def test_no_key_that_is_published_spoils_another(published: list[Any]) -> None:
    keys = read_jwks({"keys": [*published, jwk("ES256")]})

    assert keys[-1].kid == "ES256"


@given(st.text(max_size=300))
def test_no_text_is_more_than_a_bad_token(text: str) -> None:
    with pytest.raises(BadToken):
        read_token(text, tuple(Algorithm))
