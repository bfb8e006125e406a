"""What every challenge validator in ra/challenge must hold. A new one is found by itself."""

from __future__ import annotations

import asyncio
import re
import tomllib
from base64 import b64encode
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint
from typing import Any, cast

import pytest
from pydantic import ValidationError

from connectors.api import Secret
from ra.challenge import registry
from ra.challenge.api import Attempt, Deny, Services, Validator, Verdict
from ra.challenge.combine import Checked
from ra.policy.grant import Grant
from ra.scep.csr import Csr
from tests.fakes.challenges import FakeServices, attempt
from tests.fakes.one_time import SECRET, FakeSecrets, a_one_time_secret

KINDS = [each.name for each in registry.built_in()]

NOWHERE = "http://127.0.0.1:9"


@dataclass
class AnySecrets:
    """Has a secret for every reference, another for each and in base64, and a one-time secret that was minted for `lab`."""

    given: dict[str, str] = field(default_factory=lambda: {"one-time": SECRET})

    def services(self) -> Services:
        one_time = FakeSecrets()
        one_time.keep(SECRET, a_one_time_secret(method="lab"))
        return replace(FakeServices({}, name="lab").services(), read_secret=self.read, one_time=one_time)

    def read(self, reference: str) -> Secret:
        secret = f"secret number {len(self.given)}, of 32 bytes and more"
        return Secret(self.given.setdefault(reference, b64encode(secret.encode()).decode()))


class Unreadable:
    """A CSR that breaks whatever touches it."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)


def documented_options(kind: str) -> dict[str, Any]:
    """The block of the configuration that the module's docstring shows, without its type."""
    module = next(each for each in registry.built_in() if each.name == kind).load()
    blocks = re.findall(r"^```toml\n(.*?)^```$", module.__doc__ or "", re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1, f"the docstring of {module.__name__} shows one ```toml block"
    ((_, options),) = tomllib.loads(blocks[0])["challenges"].items()
    assert options.pop("type") == kind
    return cast("dict[str, Any]", options)


def unreached(options: Any) -> Any:
    """The same options, with every URL leading to a port of this machine on which nobody answers."""
    if isinstance(options, dict):
        return {name: unreached(each) for name, each in options.items()}
    if isinstance(options, list):
        return [unreached(each) for each in options]
    is_url = isinstance(options, str) and options.startswith(("http://", "https://"))
    return NOWHERE if is_url else options


def connected(kind: str, secrets: AnySecrets) -> Validator:
    plugin, options = registry.load(kind), unreached(documented_options(kind))
    if "proxy" in plugin.options.model_fields:  # whose addresses are not in the configuration, but Microsoft's own
        options["proxy"] = NOWHERE
    return asyncio.run(plugin.connect(plugin.options.model_validate(options), secrets.services()))


def verdict(validator: Validator, asked: Attempt) -> Verdict:
    async def ask() -> Verdict:
        try:
            return await validator.check(asked)
        finally:
            await validator.aclose()

    return asyncio.run(ask())


def lets_in(answer: Verdict) -> bool:
    """Whether nobody else has to say yes."""
    return isinstance(answer, Grant) and not answer.needs_approval


def knows_secrets(kind: str) -> bool:
    """One that does not may not stand alone (ra.challenge.combine.insist_on_secrets)."""
    return Checked("lab", connected(kind, AnySecrets()), lambda *_: None).knows_secrets


ASK_SECRETS = [kind for kind in KINDS if knows_secrets(kind)]


@pytest.mark.parametrize("entry", registry.built_in(), ids=KINDS)
def test_every_module_that_is_offered_is_a_validator(entry: EntryPoint) -> None:
    plugin = registry.load(entry.name)

    assert entry.name == plugin.kind


@pytest.mark.parametrize("kind", KINDS)
def test_the_block_of_the_docstring_validates(kind: str) -> None:
    options = documented_options(kind)

    registry.load(kind).options.model_validate(options)


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_key_is_an_error(kind: str) -> None:
    options = {**documented_options(kind), "no_such_key": 1}

    with pytest.raises(ValidationError, match="no_such_key"):
        registry.load(kind).options.model_validate(options)


@pytest.mark.parametrize("kind", KINDS)
def test_no_secret_shows(kind: str) -> None:
    secrets = AnySecrets()

    shown = repr(connected(kind, secrets))

    assert secrets.given
    assert not [each for each in secrets.given.values() if each in shown]


def test_a_challenge_that_asks_for_no_secret_says_so() -> None:
    assert {"approval", "directory", "inventory"} == set(KINDS) - set(ASK_SECRETS)


@pytest.mark.parametrize("kind", ASK_SECRETS)
def test_an_absent_challenge_is_denied(kind: str) -> None:
    validator = connected(kind, AnySecrets())

    answer = verdict(validator, attempt(None))

    assert isinstance(answer, Deny)


@pytest.mark.parametrize("challenge", ["", " ", "wrong", "secret no", "\x00", "ü" * 4096])
@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_challenge_is_never_granted(kind: str, challenge: str) -> None:
    validator = connected(kind, AnySecrets())

    answer = verdict(validator, attempt(challenge))

    assert not lets_in(answer)


@pytest.mark.parametrize("kind", KINDS)
def test_no_secret_shows_in_a_verdict(kind: str) -> None:
    secrets = AnySecrets()
    connected(kind, secrets)  # asks for its secrets

    answers = [repr(verdict(connected(kind, secrets), attempt(each))) for each in list(secrets.given.values())]

    assert answers
    assert not [answer for answer in answers if any(each in answer for each in secrets.given.values())]


@pytest.mark.parametrize("kind", sorted({*KINDS} - {"approval"}))
def test_a_fault_is_never_granted(kind: str) -> None:
    faults: list[Exception] = []
    validator = Checked("lab", connected(kind, AnySecrets()), lambda _, error: faults.append(error))
    broken = attempt(None, request=cast("Csr", Unreadable()))

    answer = verdict(validator, broken)

    assert not isinstance(answer, Grant)
    assert faults


@pytest.mark.parametrize("kind", KINDS)
def test_a_validator_can_be_closed(kind: str) -> None:
    validator = connected(kind, AnySecrets())

    asyncio.run(validator.aclose())
