"""What the state of a transaction means to an operator, in sentences: where it stands, why, and what is to be done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ra.journal.outbox import Letter
from ra.journal.records import Transaction
from ra.journal.states import State
from ra.journal.strays import Stray
from ra.journal.verdicts import GIVEN_UP
from ra.service.reasons import meaning_of

OVERDUE = timedelta(minutes=1)
"""So long after its time a running service has looked at everything."""

_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))
_NOTHING = "Nothing has to be done."


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Sentences for one transaction; `why` may be empty."""

    state: str
    why: str
    advice: str


def situation_of(
    transaction: Transaction, letters: Sequence[Letter], now: datetime, strays: Sequence[Stray] = ()
) -> Situation:
    """What is to be said of a transaction, of what is still to be told about it, and of what nobody may have."""
    teller = _Teller(transaction, letters, strays, now)
    state, why, advice = _SAID[transaction.state](teller)
    return Situation(state=state, why=why, advice=" ".join([*teller.warnings(), advice]))


def told(event: Mapping[str, Any]) -> str:
    """One event of a transaction's audit in a line; what a device or a CA has said in it is quoted as it is."""
    head = _HEADS.get(str(event.get("event")), "{event}").format_map(_Present(event))
    particulars = [str(event[name]) for name in ("revocation", "reason", "detail") if event.get(name)]
    who = [f"by {event['who']}"] if event.get("who") else []
    return ": ".join([" ".join([head, *who]), *particulars])


def when(time: datetime, now: datetime) -> str:
    """A time, and how far away it is."""
    seconds = abs((time - now).total_seconds())
    unit, length = next((each for each in _UNITS if seconds >= each[1]), _UNITS[-1])
    count = int(seconds // length)
    distance = f"{count} {unit}{'s' * (count != 1)}"
    return f"{time:%Y-%m-%d %H:%M:%S} UTC ({f'in {distance}' if time > now else f'{distance} ago'})"


_HEADS = {
    "decision": "{outcome}: {grant_method} let in {subject}",
    "outcome": "{outcome}",
    "approved": "approved",
    "denied": "denied",
    "settled": "settled: {outcome}",
    "connector-stopped": "the CA {connector} is asked for nothing new",
    "stray-revoked": "certificate {serial}, which nobody may have, is revoked",
    "orphan": "the CA may hold a certificate that no device gets",
    "notified": "{validator} was told: {outcome}",
    "outbox-retried": "{validator} is to be told again",
}


class _Present(dict[str, Any]):
    """An event; of what it does not say nothing is known."""

    def __missing__(self, key: str) -> str:
        return "?"


class _Teller:
    """One transaction, its letters and the time, told by state: where it stands, why, and what is to be done."""

    def __init__(
        self, transaction: Transaction, letters: Sequence[Letter], strays: Sequence[Stray], now: datetime
    ) -> None:
        self._it = transaction
        self._letters = letters
        self._strays = strays
        self._now = now
        self._ca = f"CA `{transaction.connector}`"
        self._id = str(transaction.id)

    def warnings(self) -> list[str]:
        """What does not depend on the state."""
        it, said = self._it, []
        if it.due_at is not None and it.due_at < self._now - OVERDUE:
            said.append(f"It was due {when(it.due_at, self._now)}, and nobody has looked: is `scep-ra serve` running?")
        if it.orphans:
            times = "once" if it.orphans == 1 else f"{it.orphans} times"
            said.append(
                f"It was sent again {times} without knowing what had become of the time before: look at the {self._ca} for "
                f"further certificates of {it.subject}, and revoke them."
            )
        said += map(self._stray, self._strays)
        if any(each.due_at is None and not each.is_strict for each in self._letters):
            said.append("A notification was given up: `scep-ra outbox list` says why, `outbox retry` sends it again.")
        return said

    def _stray(self, stray: Stray) -> str:
        which = f"Certificate {stray.serial or 'without a serial number'}, which nobody may have,"
        if stray.revoked_at is not None:
            return f"{which} was revoked {when(stray.revoked_at, self._now)}."
        if stray.due_at is None:
            return f"{which} is not revoked from here: revoke it at the {self._ca}; the audit has it."
        tried = f"; it was tried {stray.attempts} times: {stray.detail}" if stray.detail else ""
        return f"{which} is revoked {self._when(stray.due_at)}{tried}."

    def authorised(self) -> tuple[str, str, str]:
        why = f"The last attempt came to nothing: {self._it.detail}" if self._it.detail else "Nothing was sent yet."
        advice = f"It is sent {self._due()}, and given up {self._when(self._it.expires_at)}."
        return f"It is authorised, and waits for its turn at the {self._ca}.", why, advice

    def awaiting_approval(self) -> tuple[str, str, str]:
        it = self._it
        advice = (
            f"`scep-ra transactions approve {self._id}`, or `transactions deny {self._id} --because …`; "
            f"it expires {self._when(it.expires_at)}."
        )
        why = f"{it.grant_method} ({it.grant_label}) lets it in once somebody has approved it."
        return "It waits for a person to say yes or no.", why, advice

    def submitting(self) -> tuple[str, str, str]:
        advice = f"{_NOTHING} The answer counts as lost if it is not there {self._due()}."
        return f"The {self._ca} is being asked.", "", advice

    def pending(self) -> tuple[str, str, str]:
        it = self._it
        why = f"There it is called {it.reference}." + (f" {it.detail}" if it.detail else "")
        advice = f"Decide at the CA. It is asked again {self._due()}, and given up {self._when(it.expires_at)}."
        return f"The {self._ca} has accepted the request and not yet decided.", why, advice

    def unknown(self) -> tuple[str, str, str]:
        it = self._it
        state = f"The {self._ca} was asked, and no answer was had: it may have issued."
        settle = f"scep-ra transactions settle {self._id}"
        advice = (
            f"It is looked into again {self._due()}. If it stays so, look there for a certificate of {it.subject}, and "
            f"revoke it. Then `{settle} --retry` has the CA asked again, and `{settle} --reject` tells the device that "
            f"it is over; `on_unknown` of [connectors.{it.connector}] says whether it is asked again by itself."
        )
        return state, it.detail or "", advice

    def issued(self) -> tuple[str, str, str]:
        waiting = [each for each in self._letters if each.is_strict and each.due_at is not None]
        why = " ".join(
            f"{each.validator} has not accepted the notification"
            + (f" (tried {each.attempts} times): {each.detail}" if each.detail else ".")
            for each in waiting
        )
        advice = f"It is tried until {self._due()}; then the certificate is revoked, and the device gets nothing."
        return "There is a certificate, and somebody has to be told before the device gets it.", why, advice

    def released(self) -> tuple[str, str, str]:
        it = self._it
        revoke = f"`scep-ra certs revoke {self._id} --reason …` takes it back."
        why = f"It is valid until {self._when(it.not_after)}."
        if it.not_after is not None and it.not_after <= self._now:
            return "The certificate has expired.", f"That was {self._when(it.not_after)}.", _NOTHING
        if it.revocation is not None:
            state = f"Another certificate has taken its place, which the device has; it is revoked {self._due()}."
            return state, why, _NOTHING
        if it.delivered_at is not None:
            return f"The device has its certificate since {self._when(it.delivered_at)}.", why, revoke
        advice = f"Unless it is fetched until {self._due()}, it is revoked." if it.due_at else _NOTHING
        return "The device may fetch its certificate, and has not yet.", why, f"{advice} {revoke}"

    def rejected(self) -> tuple[str, str, str]:
        it = self._it
        if it.reason is None:
            return "A person said no.", it.detail or "", "The device is told FAILURE; a one-time secret stays spent."
        if it.reason == GIVEN_UP:
            advice = "The device is told FAILURE, and may enrol again; a one-time secret is good again."
            return "A person has given it up.", it.detail or "", advice
        meaning = meaning_of(it.reason)
        advice = f"{meaning.means} {meaning.advice} Then have the device enrol again; a one-time secret is good again."
        return f"The {self._ca} refused it.", f"{it.reason}: {it.detail}", advice

    def quarantined(self) -> tuple[str, str, str]:
        settle = f"scep-ra transactions settle {self._id}"
        advice = (
            f"Correct the CA, or declare what it adds or leaves out (`ca_adds`, `may_drop`). Then `{settle} --retry` asks "
            f"for another certificate, `{settle} --reject` tells the device that it is over, and `{settle} --accept` has "
            "one that was not revoked looked at again; until then the device is told PENDING. The connector is asked for "
            f"nothing new before `scep-ra connectors resume {self._it.connector}`."
        )
        return "What the CA sent is not what was asked for.", self._it.detail or "", advice

    def expired(self) -> tuple[str, str, str]:
        advice = "The device has to enrol again; a one-time secret is good again."
        if self._it.due_at is not None:
            advice += (
                f" The order is still open at the {self._ca}, which is asked {self._due()}; what arrives is revoked."
            )
        return "It took too long.", self._it.detail or "", advice

    def revoking(self) -> tuple[str, str, str]:
        it = self._it
        advice = f"The CA is asked {self._due()}. If it never confirms, revoke serial number {it.serial} there."
        return f"The {self._ca} is to revoke the certificate.", self._revocation(), advice

    def revoked(self) -> tuple[str, str, str]:
        return f"The {self._ca} has revoked the certificate.", self._revocation(), _NOTHING

    def _revocation(self) -> str:
        return ": ".join(each for each in (self._it.revocation, self._it.detail) if each)

    def _due(self) -> str:
        return self._when(self._it.due_at)

    def _when(self, time: datetime | None) -> str:
        return "never" if time is None else when(time, self._now)


_SAID: Mapping[State, Callable[[_Teller], tuple[str, str, str]]] = {
    state: getattr(_Teller, state.name.lower()) for state in State
}
