"""The devices: real SCEP clients with a key each, that come back as RFC 8894 §5.2 says until they hold a certificate."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from benchmarks.ledger.attended import Kind
from benchmarks.ledger.book import key_digest
from ra.client.authority import CaCertificates
from ra.client.csr import read_subject, self_signed, spki, write_csr
from ra.client.errors import HttpRefused, Unreachable
from ra.client.http import Exchange
from ra.client.identifiers import issuer_and_subject
from ra.client.names import MessageType
from ra.client.replies import Failure, Pending, Success, open_reply
from ra.client.requests import Request, write_request
from ra.client.signed import Signer

TIMEOUT_SECONDS = 20.0
_LONGEST_PAUSE_SECONDS = 0.3
_LONGEST_GAP_SECONDS = 0.1
_RIVALS_ONE_IN = 10
_LOSES_ONE_IN = 6


class Habit(StrEnum):
    """What a device does when an answer is lost."""

    ANEW = "a new transactionID"
    """RFC 8894 §5.2: a new PKCSReq under a new transactionID, with the same key."""
    AGAIN = "the same message"
    RESIGNED = "the same transactionID, a CSR signed anew"


_KINDS = {
    Kind.PLAIN: 60,
    Kind.TOLD: 14,
    Kind.UNHEARD: 3,
    Kind.UNWANTED: 4,
    Kind.APPROVED: 8,
    Kind.DENIED: 3,
    Kind.LATE: 8,
}
"""How many of a hundred devices are of which kind."""

_HABITS = (Habit.ANEW, Habit.ANEW, Habit.AGAIN, Habit.RESIGNED)


class End(StrEnum):
    """What became of a device."""

    ENROLLED = "enrolled"
    REFUSED = "refused"
    UNFINISHED = "unfinished"


@dataclass(slots=True, kw_only=True)
class Device:
    """One device, and what the judge must know of it.

    Attributes:
        name: commonName.
        loses: how many answers it still loses, whatever they say.
        has_rival: another device with another key presents the same secret.
        kind: what has to become of it.
        serial: of its certificate, lower-case hex.
        names: how many transactionIDs it has used.
        said: why it is not enrolled.
    """

    name: str
    secret: str = field(repr=False)
    habit: Habit
    polls: bool
    loses: int
    has_rival: bool
    kind: Kind = Kind.PLAIN
    key: ec.EllipticCurvePrivateKey = field(repr=False, default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    end: End = End.UNFINISHED
    serial: str | None = None
    tries: int = 0
    names: int = 0
    said: str = ""

    @property
    def key_digest(self) -> str:
        return key_digest(spki(self.key))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where devices enrol.

    Attributes:
        urls: one for each replica; a device takes any.
        signer_key: whose replies are sealed to; RSA, because the keys to be certified are not.
        is_over: whether it is time to give up.
    """

    urls: tuple[str, ...]
    ca: CaCertificates
    signer_key: rsa.RSAPrivateKey
    is_over: Callable[[], bool]


class Enrolment:
    """One device's way to its certificate."""

    def __init__(self, device: Device, place: Place, http: httpx.Client, chance: random.Random) -> None:
        self._device = device
        self._place = place
        self._exchanges = [Exchange(url, http) for url in place.urls]
        self._chance = chance
        self._subject = read_subject(f"CN={device.name},O=Crash")
        now = datetime.now(UTC)  # noqa: TID251 - a program of its own, not the service
        certificate = self_signed(place.signer_key, self._subject, now, chance.getrandbits(63) | 1)
        self._signer = Signer(key=place.signer_key, certificate=certificate)

    def run(self) -> None:
        """Tries until there is an end."""
        request = self._write()
        is_known = False
        while not self._place.is_over():
            self._device.tries += 1
            try:
                answer = self._ask(self._poll(request) if is_known and self._device.polls else request)
            except Unreachable:
                request = self._come_back(request)
                is_known = False
            except HttpRefused as refused:
                self._device.said = str(refused)
            else:
                if not isinstance(answer, Pending):
                    self._finish(answer)
                    return
                is_known = True
            time.sleep(self._chance.uniform(0.01, _LONGEST_PAUSE_SECONDS))

    def _ask(self, request: Request) -> Success | Failure | Pending:
        exchange = self._chance.choice(self._exchanges)
        body = exchange.pki_operation(request.message, post=True)
        if self._device.loses:
            self._device.loses -= 1
            raise Unreachable("the answer was lost")
        return open_reply(body, request, self._place.ca.signers).result

    def _come_back(self, request: Request) -> Request:
        match self._device.habit:
            case Habit.ANEW:
                return self._write()
            case Habit.AGAIN:
                return request
            case Habit.RESIGNED:
                return self._write(request.transaction_id)

    def _write(self, transaction_id: str | None = None) -> Request:
        """A PKCSReq; ECDSA signs the CSR anew each time."""
        csr = write_csr(self._device.key, self._subject, challenge_password=self._device.secret)
        if transaction_id is None:
            self._device.names += 1
            transaction_id = f"{self._chance.getrandbits(128):032x}"
        return self._message(MessageType.PKCS_REQ, csr, transaction_id)

    def _poll(self, request: Request) -> Request:
        content = issuer_and_subject(self._place.ca.issuer, self._subject)
        return self._message(MessageType.CERT_POLL, content, request.transaction_id)

    def _message(self, message_type: MessageType, content: bytes, transaction_id: str) -> Request:
        return write_request(
            message_type,
            content,
            signer=self._signer,
            recipients=self._place.ca.recipients[:1],
            transaction_id=transaction_id,
        )

    def _finish(self, answer: Success | Failure) -> None:
        if isinstance(answer, Failure):
            self._device.end, self._device.said = End.REFUSED, f"{answer.fail_info.name} {answer.text}"
            return
        leaf: x509.Certificate = answer.certificates[0]
        if leaf.public_key() != self._device.key.public_key():
            self._device.end, self._device.said = End.REFUSED, "the certificate holds another key"
            return
        self._device.end, self._device.serial = End.ENROLLED, f"{leaf.serial_number:x}"


class Fleet:
    """Devices that come one after the other on so many threads, until no more are let in."""

    def __init__(
        self, places: Sequence[Place], take_secret: Callable[[], str], *, rivals: bool, every_reply_lost_once: bool
    ) -> None:
        """One thread for each place; `rivals` lets two devices present one secret now and then."""
        self.devices: list[Device] = []
        self.faults: list[str] = []
        self._take_secret = take_secret
        self._rivals = rivals
        self._every_reply_lost_once = every_reply_lost_once
        self._lock = threading.Lock()
        self._is_closed = threading.Event()
        lanes = [partial(self._lane, place) for place in places]
        self._threads = [threading.Thread(target=self._guarded, args=("a lane", lane)) for lane in lanes]

    def start(self) -> None:
        for each in self._threads:
            each.start()

    def close(self) -> None:
        """Lets no more devices in."""
        self._is_closed.set()

    @property
    def is_busy(self) -> bool:
        """Whether a device is still under way."""
        return any(each.is_alive() for each in self._threads)

    def join(self) -> None:
        """Waits for the devices that are under way."""
        for each in self._threads:
            each.join()

    def _lane(self, place: Place) -> None:
        chance = random.Random()  # noqa: S311 - habits and pauses
        with httpx.Client(timeout=TIMEOUT_SECONDS) as http:
            while not self._is_closed.is_set():
                _together([partial(self._enrol, each, place, http) for each in self._newcomers(chance)])
                self._is_closed.wait(chance.uniform(0, _LONGEST_GAP_SECONDS))

    def _newcomers(self, chance: random.Random) -> list[Device]:
        """One device with a secret of its own, or two that share one."""
        with self._lock:
            secret = self._take_secret()
            kind = chance.choices(tuple(_KINDS), tuple(_KINDS.values()))[0]
            # A secret that is given back lets the other one in: it is not spent twice.
            may_have_rival = self._rivals and kind is Kind.PLAIN
            count = 2 if may_have_rival and chance.randrange(_RIVALS_ONE_IN) == 0 else 1
            made = [
                Device(
                    name=f"{kind}-{len(self.devices):06d}-{number}",
                    secret=secret,
                    habit=Habit.ANEW if self._every_reply_lost_once else chance.choice(_HABITS),
                    polls=kind is Kind.LATE or chance.randrange(4) > 0,  # who only asks anew does so for ever
                    loses=1 if self._every_reply_lost_once or chance.randrange(_LOSES_ONE_IN) == 0 else 0,
                    has_rival=count > 1,
                    kind=kind,
                )
                for number in range(count)
            ]
            self.devices += made
        return made

    def _enrol(self, device: Device, place: Place, http: httpx.Client) -> None:
        enrolment = Enrolment(device, place, http, random.Random())  # noqa: S311 - as above
        self._guarded(device.name, enrolment.run)

    def _guarded(self, what: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the edge of a thread: what it is, the report says
            self.faults.append(f"{what}: {type(error).__name__}: {error}")


def _together(works: Sequence[Callable[[], None]]) -> None:
    """Does the first here and the others beside it."""
    beside = [threading.Thread(target=each) for each in works[1:]]
    for each in beside:
        each.start()
    works[0]()
    for each in beside:
        each.join()
