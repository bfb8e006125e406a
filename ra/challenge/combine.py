"""Several validators as one, and the guard that stands before each of them.

With one validator of each verdict, in any order:

| verdicts                  | all_of      | any_of      | first_match                    |
|---------------------------|-------------|-------------|--------------------------------|
| Grant, Grant              | Grant, both | first Grant | first Grant                    |
| Grant, Deny               | Deny        | Grant       | Grant                          |
| Grant, Unavailable        | Unavailable | Grant       | whichever comes first          |
| Deny, Unavailable         | Deny        | Unavailable | Unavailable                    |
| Deny, Deny                | Deny        | Deny        | Deny                           |
| Unavailable, Unavailable  | Unavailable | Unavailable | Unavailable                    |

Validators are asked one after the other, in the order of the configuration, and no longer than needed: never after the
verdict is certain. A combination holds nothing open: its members belong to whoever connected them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ra.challenge.api import (
    Accepted,
    Attempt,
    Deny,
    Errand,
    Errands,
    Notifier,
    Reaching,
    Receipt,
    Unavailable,
    Validator,
    Verdict,
    demands_challenge_on_renewal,
)
from ra.challenge.pages import Page, Paged
from ra.errors import Misconfigured
from ra.journal.records import Notice
from ra.policy.grant import Grant

LogError = Callable[[str, Exception], None]
"""Takes the name of a validator and what it raised."""

RESERVED = frozenset({"none", "renewal"})
"""Methods of a Grant that no validator may be named for."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A validator behind the guard: whatever it raises or returns, only a Grant is a Grant, and it bears its name.

    Raises:
        Misconfigured: the name is reserved.
    """

    name: str
    validator: Validator
    log_error: LogError = field(repr=False)

    def __post_init__(self) -> None:
        if self.name in RESERVED:
            raise Misconfigured(f"a challenge cannot be named {self.name!r}: the word has a meaning of its own")

    async def check(self, attempt: Attempt) -> Verdict:
        try:
            answer: object = await self.validator.check(attempt)
        except Exception as error:  # noqa: BLE001 - an edge: a plugin is called, and its fault must not open the door
            return self._fault(error)
        if isinstance(answer, Grant):
            if answer.notify and not self.takes_notices:
                return self._fault(TypeError("a validator that takes no notices wants to be told"))
            notify = tuple(replace(each, validator=self.name) for each in answer.notify)
            return replace(answer, method=self.name, notify=notify)
        if isinstance(answer, Deny | Unavailable):
            return answer
        return self._fault(TypeError(f"a validator returned {type(answer).__name__}"))

    @property
    def takes_notices(self) -> bool:
        return isinstance(self.validator, Notifier)

    @property
    def notices_at_once(self) -> int | None:
        """How many notices it takes at the same time; None where it does not say."""
        found = getattr(self.validator, "notices_at_once", None)
        return found if isinstance(found, int) and found > 1 else None

    @property
    def knows_secrets(self) -> bool:
        """Whether it asks for something that a stranger could not know."""
        return bool(getattr(self.validator, "knows_secrets", True))

    @property
    def page(self) -> Page | None:
        """The page that the validator has beside, if it has one."""
        return self.validator.page if isinstance(self.validator, Paged) else None

    @property
    def demands_challenge_on_renewal(self) -> bool:
        return demands_challenge_on_renewal(self.validator)

    @property
    def errands(self) -> tuple[Errand, ...]:
        return self.validator.errands if isinstance(self.validator, Errands) else ()

    async def reach(self) -> str | None:
        """As Reaching.reach; None where nobody can be asked."""
        return await self.validator.reach() if isinstance(self.validator, Reaching) else None

    async def notify(self, notice: Notice) -> Receipt:
        """As Notifier.notify; whatever the validator raises or returns, only Accepted is Accepted."""
        if not isinstance(self.validator, Notifier):
            return self._fault(TypeError("a validator that takes no notices is told something"), retry_after_seconds=0)
        try:
            answer: object = await self.validator.notify(notice)
        except Exception as error:  # noqa: BLE001 - an edge: a plugin is called, and the notice is kept
            return self._fault(error, retry_after_seconds=0)
        if isinstance(answer, Accepted | Deny | Unavailable):
            return answer
        return self._fault(TypeError(f"a validator returned {type(answer).__name__}"), retry_after_seconds=0)

    def _fault(self, error: Exception, retry_after_seconds: int = 30) -> Unavailable:
        """The text of an error may hold a secret: it goes to the log's own redaction, not into the verdict."""
        self.log_error(self.name, error)
        return Unavailable(detail=f"{self.name}: {type(error).__name__}", retry_after_seconds=retry_after_seconds)

    async def aclose(self) -> None:
        try:
            await self.validator.aclose()
        except Exception as error:  # noqa: BLE001 - an edge: the others are still to be closed
            self.log_error(self.name, error)


def insist_on_secrets(members: Sequence[Checked], *, all_needed: bool) -> None:
    """Of validators that ask for no secret, none may be enough: one that is added must not open a door beside the others.

    Raises:
        Misconfigured: a stranger could be let in who knows no more than a name.
    """
    open_ones = [each.name for each in members if not each.knows_secrets]
    if open_ones and (not all_needed or len(open_ones) == len(members)):
        raise Misconfigured(
            f"{', '.join(open_ones)}: asks for nothing that a stranger could not know; "
            "write it in an all_of beside a challenge that asks for a secret"
        )


@dataclass(frozen=True, slots=True)
class _Combination:
    members: tuple[Checked, ...]

    def __post_init__(self) -> None:
        if not self.members:
            raise Misconfigured("a combination of challenges needs at least one")

    @property
    def demands_challenge_on_renewal(self) -> bool:
        """Where one member does: nobody can tell any more which of them had let the device in."""
        return any(each.demands_challenge_on_renewal for each in self.members)

    async def aclose(self) -> None:
        """Nothing is held open."""


@dataclass(frozen=True, slots=True)
class AllOf(_Combination):
    """Every member must grant: a Deny is final, then an Unavailable; the grants are merged."""

    async def check(self, attempt: Attempt) -> Verdict:
        grants: list[Grant] = []
        away: list[Unavailable] = []
        for member in self.members:
            match await member.check(attempt):
                case Deny() as denied:
                    return _with_granted(denied, grants)
                case Unavailable() as unavailable:
                    away.append(unavailable)
                case Grant() as grant:
                    grants.append(grant)
        return _unavailable(away, max) if away else _agreed(grants)


@dataclass(frozen=True, slots=True)
class AnyOf(_Combination):
    """One member must grant: the first Grant counts; without one, an Unavailable before a Deny."""

    async def check(self, attempt: Attempt) -> Verdict:
        denied: list[Deny] = []
        away: list[Unavailable] = []
        for member in self.members:
            match await member.check(attempt):
                case Grant() as grant:
                    return grant
                case Unavailable() as unavailable:
                    away.append(unavailable)
                case Deny() as deny:
                    denied.append(deny)
        return _unavailable(away, min) if away else _denied(denied)


@dataclass(frozen=True, slots=True)
class FirstMatch(_Combination):
    """The first member that does not deny decides, be it that it cannot tell now."""

    async def check(self, attempt: Attempt) -> Verdict:
        denied: list[Deny] = []
        for member in self.members:
            match await member.check(attempt):
                case Deny() as deny:
                    denied.append(deny)
                case verdict:
                    return verdict
        return _denied(denied)


def _denied(verdicts: Sequence[Deny]) -> Deny:
    return Deny(detail="; ".join(each.detail for each in verdicts), alarm=any(each.alarm for each in verdicts))


def _unavailable(verdicts: Sequence[Unavailable], choose: Callable[[list[int]], int]) -> Unavailable:
    return Unavailable(
        detail="; ".join(each.detail for each in verdicts),
        retry_after_seconds=choose([each.retry_after_seconds for each in verdicts]),
    )


def _with_granted(denied: Deny, grants: Sequence[Grant]) -> Deny:
    """Who has let a request in, and wants to be told of it, hears that somebody else did not."""
    return replace(denied, granted=_merged(grants)) if any(grant.notify for grant in grants) else denied


def _agreed(grants: Sequence[Grant]) -> Verdict:
    """One Grant of several: they must not contradict each other, and one commit spends one secret."""
    said: dict[str, str] = {}
    for grant in grants:
        for key, value in grant.attributes.items():
            if said.setdefault(key, value) != value:
                return _with_granted(Deny(detail=f"the validators disagree on {key!r}"), grants)
    if len({grant.sid for grant in grants if grant.sid is not None}) > 1:
        return _with_granted(Deny(detail="the validators disagree on the SID"), grants)
    if sum(grant.spend is not None for grant in grants) > 1:
        return _with_granted(Deny(detail="more than one validator has a one-time secret to spend"), grants)
    return _merged(grants)


def _merged(grants: Sequence[Grant]) -> Grant:
    wishes = [grant.validity for grant in grants if grant.validity is not None]
    spends = [grant.spend for grant in grants if grant.spend is not None]
    return Grant(
        method="+".join(grant.method for grant in grants),
        label="+".join(grant.label for grant in grants),
        attributes={key: value for grant in grants for key, value in grant.attributes.items()},
        spend=spends[0] if spends else None,
        notify=tuple(each for grant in grants for each in grant.notify),
        needs_approval=any(grant.needs_approval for grant in grants),
        is_strong=any(grant.is_strong for grant in grants),
        strips_sid=any(grant.strips_sid for grant in grants),
        validity=min(wishes, default=None),
        sid=next((grant.sid for grant in grants if grant.sid is not None), None),
    )
