"""RA keys in a PKCS #11 token: they never leave it, and are used by label, one operation at a time.

Everything here waits for a device and belongs into a thread. A ciphertext that does not open and one that opens to
nonsense look the same from outside: tokens tell them apart, by different errors even, and the codec goes on with a
random key (RFC 3218 §2.3.2). That is not done where the token itself is gone: then nothing can be answered.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pkcs11
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from pkcs11 import MGF, KeyType, Mechanism, ObjectClass, PKCS11Error

from connectors import keyfiles
from connectors.api import Misconfigured as BadFile
from connectors.api import Secret
from ra.errors import Misconfigured, Unavailable
from ra.keyring.files import id_of
from ra.scep.header import CertificateId
from ra.scep.keys import Identity
from ra.scep.names import Digest, KeyTransport

T = TypeVar("T")

_LOST = (
    pkcs11.DeviceRemoved,
    pkcs11.KeyHandleInvalid,
    pkcs11.ObjectHandleInvalid,
    pkcs11.SessionClosed,
    pkcs11.SessionHandleInvalid,
    pkcs11.TokenNotPresent,
    pkcs11.TokenNotRecognised,
    pkcs11.UserNotLoggedIn,
)
"""What no ciphertext brings about. DeviceError is none of them: there are modules that call bad padding so."""

_PIN_REFUSED = (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange, pkcs11.PinExpired, pkcs11.PinLocked)

_UNWRAP: Mapping[KeyTransport, tuple[Mechanism, Any]] = {
    KeyTransport.PKCS1_V15: (Mechanism.RSA_PKCS, None),
    KeyTransport.OAEP_SHA1: (Mechanism.RSA_PKCS_OAEP, (Mechanism.SHA_1, MGF.SHA1, None)),
    KeyTransport.OAEP_SHA256: (Mechanism.RSA_PKCS_OAEP, (Mechanism.SHA256, MGF.SHA256, None)),
    KeyTransport.OAEP_SHA384: (Mechanism.RSA_PKCS_OAEP, (Mechanism.SHA384, MGF.SHA384, None)),
    KeyTransport.OAEP_SHA512: (Mechanism.RSA_PKCS_OAEP, (Mechanism.SHA512, MGF.SHA512, None)),
}
"""Of OAEP many tokens know SHA-1 alone; what they do not know does not open."""

_SIGN = {
    Digest.SHA1: Mechanism.SHA1_RSA_PKCS,
    Digest.SHA256: Mechanism.SHA256_RSA_PKCS,
    Digest.SHA384: Mechanism.SHA384_RSA_PKCS,
    Digest.SHA512: Mechanism.SHA512_RSA_PKCS,
}
_HASHES: Mapping[Digest, Callable[[], hashes.HashAlgorithm]] = {
    Digest.SHA1: hashes.SHA1,
    Digest.SHA256: hashes.SHA256,
    Digest.SHA384: hashes.SHA384,
    Digest.SHA512: hashes.SHA512,
}


class Module:
    """A vendor's library, loaded once in a process, and used by one thread at a time.

    python-pkcs11 calls C_Initialize without arguments, which says just that (PKCS #11 v2.40 §5.4): SoftHSM then takes no
    locks, and after two threads have met in it opens nothing any more until the process ends.
    """

    def __init__(self, path: Path) -> None:
        """Raises Misconfigured where it cannot be loaded."""
        try:
            self._lib = pkcs11.lib(str(path))
        except PKCS11Error as error:
            raise Misconfigured(f"the PKCS #11 module {path} cannot be loaded: {_words(error)}") from None
        self._turn = threading.Lock()
        self.generation = 0

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Leave to call it."""
        with self._turn:
            yield

    def find(self, label: str | None, slot: int | None) -> pkcs11.Token:
        """The token of that label, or in that slot.

        Raises:
            PKCS11Error: it is not there.
        """
        if slot is None:
            return self._lib.get_token(token_label=label)
        for each in self._lib.get_slots(token_present=True):
            if each.slot_id == slot:
                return each.get_token()
        raise pkcs11.NoSuchToken(f"there is no token in slot {slot}")

    def begin_anew(self, generation: int) -> None:
        """All sessions are gone after that; unless another thread has done it since that generation.

        Raises:
            PKCS11Error: the module does not begin.
        """
        with self._turn:
            if self.generation != generation:
                return
            self.generation += 1
            with suppress(PKCS11Error):
                self._lib.finalize()
            self._lib.initialize()


@cache
def module(path: Path) -> Module:
    """The module of that path: a process can have it begun only once.

    Raises:
        Misconfigured: it cannot be loaded.
    """
    return Module(path)


@dataclass
class _Session:
    session: pkcs11.Session
    generation: int
    keys: dict[str, Any] = field(default_factory=dict)

    def key(self, label: str) -> Any:
        if label not in self.keys:
            self.keys[label] = self.session.get_key(object_class=ObjectClass.PRIVATE_KEY, label=label)
        return self.keys[label]


class Token:
    """One token, logged in to; a session is opened where none is free, and all of them anew where the token was away."""

    def __init__(self, module: Module, *, pin: Secret, label: str | None = None, slot: int | None = None) -> None:
        """By its label, or else by its slot."""
        self._module = module
        self._pin = pin
        self._label = label
        self._slot = slot
        self._free: deque[_Session] = deque()
        self._opening = threading.Lock()
        self._logged_in = -1
        self._is_refused = False

    def __str__(self) -> str:
        return f"token {self._label}" if self._slot is None else f"the token in slot {self._slot}"

    def use(self, key: str, work: Callable[[Any], T], lost: tuple[type[PKCS11Error], ...] = _LOST) -> T:
        """What `work` makes of the private key of that label; done again once, where the token was lost meanwhile.

        Raises:
            PKCS11Error: what `work` raises, unless it is one of `lost`.
            Unavailable: the token is away.
            Misconfigured: it refuses the PIN, or there is no such key.
        """
        fault: PKCS11Error | None = None
        for _ in range(2):
            generation = self._module.generation
            try:
                with self._module.turn():
                    return self._use(key, work)
            except lost as error:
                fault = error
            with suppress(PKCS11Error):  # if it does not begin, the next try says so
                self._module.begin_anew(generation)
        raise Unavailable(f"{self} does not answer: {_words(fault)}") from None

    def free_sessions(self) -> tuple[pkcs11.Session, ...]:
        """Those that nobody uses now."""
        return tuple(each.session for each in self._free)

    def _use(self, key: str, work: Callable[[Any], T]) -> T:
        own = self._take()
        try:
            found = own.key(key)
        except (pkcs11.NoSuchKey, pkcs11.MultipleObjectsReturned) as error:
            self._free.append(own)
            raise Misconfigured(f"{self} has no one private key of label {key!r}: {_words(error)}") from None
        try:
            result = work(found)
        except _LOST:
            raise
        except PKCS11Error:
            _insist_on_life(own)
            self._free.append(own)
            raise
        self._free.append(own)
        return result

    def _take(self) -> _Session:
        while True:
            try:
                own = self._free.pop()
            except IndexError:
                return self._open()
            if own.generation == self._module.generation:
                return own

    def _open(self) -> _Session:
        """The first session of a process logs in, and the others are logged in by that. A PIN is not tried twice: it locks."""
        with self._opening:
            if self._is_refused:
                raise Misconfigured(f"{self} has refused the PIN, and it is not tried again before the next start")
            generation = self._module.generation
            try:
                token = self._module.find(self._label, self._slot)
                if self._logged_in == generation:
                    return _Session(token.open(), generation)
                try:
                    session = token.open(user_pin=self._pin.reveal())
                except pkcs11.UserAlreadyLoggedIn:  # by another identity of this process
                    session = token.open()
            except _PIN_REFUSED as error:
                self._is_refused = True
                raise Misconfigured(f"{self} refuses the PIN: {_words(error)}") from None
            except PKCS11Error as error:
                raise pkcs11.TokenNotPresent(_words(error)) from None
            self._logged_in = generation
            return _Session(session, generation)


def _insist_on_life(own: _Session) -> None:
    """Errors that ciphertexts bring about are raised by some modules for anything: whether the token is there is asked."""
    try:
        own.session.generate_random(64)
    except pkcs11.RandomNoRNG:
        return
    except PKCS11Error as error:
        raise pkcs11.DeviceRemoved(_words(error)) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenDecryptor:
    """Implements ra.scep.keys.Decryptor."""

    certificate: bytes
    certificate_id: CertificateId
    token: Token
    key: str

    def unwrap(self, encrypted_key: bytes, transport: KeyTransport) -> bytes:
        mechanism, parameter = _UNWRAP[transport]
        try:
            opened = self.token.use(
                self.key, lambda key: key.decrypt(encrypted_key, mechanism=mechanism, mechanism_param=parameter)
            )
        except PKCS11Error:
            raise ValueError("the encrypted key does not open") from None
        return bytes(opened)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSigner:
    """Implements ra.scep.keys.Signer. What is signed comes from us alone: whatever the token raises, it is the token."""

    certificate: bytes
    certificate_id: CertificateId
    signature_algorithm: str
    token: Token
    key: str

    def sign(self, message: bytes, digest: Digest) -> bytes:
        if self.signature_algorithm == "rsa":
            mechanism = _SIGN[digest]
            return bytes(self.token.use(self.key, lambda key: key.sign(message, mechanism=mechanism), (PKCS11Error,)))
        context = hashes.Hash(_HASHES[digest]())
        context.update(message)
        hashed = context.finalize()
        signed = self.token.use(self.key, lambda key: key.sign(hashed, mechanism=Mechanism.ECDSA), (PKCS11Error,))
        half = len(signed) // 2
        return encode_dss_signature(int.from_bytes(signed[:half]), int.from_bytes(signed[half:]))


def load_identity(
    name: str,
    token: Token,
    *,
    certificate: Path,
    key: str,
    decryption_certificate: Path | None = None,
    decryption_key: str | None = None,
) -> Identity:
    """The identity of one key in the token, or of two; certificates are files, of each the first counts.

    Raises:
        Misconfigured: a certificate cannot be read, or the token has no such key or refuses the PIN.
        Unavailable: the token is not there.
    """
    try:
        shown = keyfiles.read_certificates(certificate)[0]
        addressed = keyfiles.read_certificates(decryption_certificate)[0] if decryption_certificate else shown
        opening_key = decryption_key or key
        opens = token.use(opening_key, lambda found: found.key_type) == KeyType.RSA
        token.use(key, lambda found: found.key_type)
    except (BadFile, Misconfigured) as error:
        raise Misconfigured(f'identity "{name}": {error}') from error
    if not opens:
        raise Misconfigured(
            f'identity "{name}": devices can seal to an RSA key alone; give it a decryption_certificate and a '
            "decryption_key"
        )
    return Identity(
        name=name,
        decryptor=TokenDecryptor(
            certificate=_der(addressed), certificate_id=id_of(addressed), token=token, key=opening_key
        ),
        signer=TokenSigner(
            certificate=_der(shown),
            certificate_id=id_of(shown),
            signature_algorithm="ecdsa" if isinstance(shown.public_key(), ec.EllipticCurvePublicKey) else "rsa",
            token=token,
            key=key,
        ),
        is_remote=True,
    )


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def _words(error: PKCS11Error | None) -> str:
    """What a module's return code is called; never what was handed to it."""
    return ": ".join(filter(None, (type(error).__name__, str(error))))
