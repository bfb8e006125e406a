"""What Vault and OpenBao answer: the parts of their JSON that are read, and what their statuses and sentences mean."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import Field, SecretStr, ValidationError

from connectors.api import Misconfigured, ProtocolViolation, Rejected, Rejection
from connectors.certificates import from_pem
from connectors.transport import Answer, AnswerModel, Meaning, Meanings, pointing, shown


class Errors(AnswerModel):
    """The body of every refusal."""

    errors: tuple[str, ...]


class Auth(AnswerModel):
    client_token: SecretStr
    lease_duration: int
    renewable: bool


class LoggedIn(AnswerModel):
    auth: Auth


class TokenData(AnswerModel):
    ttl: int
    renewable: bool = False


class TokenFound(AnswerModel):
    data: TokenData


class WrappingData(AnswerModel):
    creation_path: str


class Wrapping(AnswerModel):
    data: WrappingData


class SecretIdData(AnswerModel):
    secret_id: SecretStr


class Unwrapped(AnswerModel):
    data: SecretIdData


class SignedData(AnswerModel):
    """`ca_chain` is absent when it would be empty."""

    certificate: str
    issuing_ca: str
    ca_chain: tuple[str, ...] = ()
    serial_number: str


class Signed(AnswerModel):
    data: SignedData


class IssuerData(AnswerModel):
    certificate: str
    ca_chain: tuple[str, ...] = ()


class Issuer(AnswerModel):
    data: IssuerData


class CrlData(AnswerModel):
    crl: str


class Crl(AnswerModel):
    data: CrlData


class StoredData(AnswerModel):
    """`revocation_time` is in seconds of the Unix epoch, 0 where there is none."""

    certificate: str
    revocation_time: int = 0


class Stored(AnswerModel):
    data: StoredData


class ListedCertificate(AnswerModel):
    common_name: str = ""
    not_before: datetime


class ListedData(AnswerModel):
    keys: tuple[str, ...]
    key_info: dict[str, ListedCertificate] = Field(default_factory=dict)


class Listed(AnswerModel):
    data: ListedData


class ServerHealth(AnswerModel):
    initialized: bool
    sealed: bool
    version: str = "of unknown version"


def explain(answer: Answer) -> str:
    """The sentences of a refusal; the first line of what is no refusal of Vault's."""
    try:
        return shown("; ".join(" ".join(each.split()) for each in Errors.model_validate_json(answer.body).errors))
    except ValidationError:
        return answer.first_line()


def _of_500(answer: Answer) -> Meaning:
    # An issuer that is unknown or disabled is an internal error to Vault, though it is the configuration's.
    text = explain(answer)
    is_ours = "unable to find PKI issuer" in text or "could not fetch the CA certificate" in text
    return Meaning.MISCONFIGURED if is_ours else Meaning.LOST


def _of_503(answer: Answer) -> Meaning:
    # "Vault is sealed", "API access to this namespace has been locked": Vault itself said so, and has done nothing.
    text = explain(answer)
    return Meaning.DOWN if "sealed" in text or "locked" in text else Meaning.LOST


STATUSES: Meanings = {
    # Vault Enterprise: this node has not seen our last write yet.
    412: Meaning.AGAIN,
    472: Meaning.DOWN,
    473: Meaning.DOWN,
    500: _of_500,
    503: _of_503,
}

HEALTH_STATUSES: Meanings = dict.fromkeys((200, 429, 472, 473, 501, 503), Meaning.ANSWER)
"""Of sys/health alone: 429 is a standby, 472 and 473 are its relatives, 501 is not initialised, 503 is sealed."""

NOT_FOUND = "no handler for route"
"""In the 404 of a mount that is not there; the 404 of a certificate that is not there says nothing at all."""

_REFUSALS: tuple[tuple[str, Rejection | None], ...] = (
    ("unknown role", None),
    ("beyond the expiration of the CA", None),
    ("request signature invalid", Rejection.CSR),
    ("certificate request could not be parsed", Rejection.CSR),
    ('"csr" is empty', Rejection.CSR),
    ("csr contains no data", Rejection.CSR),
    ("could not parse CSR's public key", Rejection.KEY),
    ("role requires", Rejection.KEY),
    ("requires a minimum of a", Rejection.KEY),
    ("RSA keys <", Rejection.KEY),
    ("Unknown key type in CSR", Rejection.KEY),
    ("empty PublicKey", Rejection.KEY),
    ("not allowed by this role", Rejection.NAME),
    ("not allowed in this role", Rejection.NAME),
    ("not allowed for OID", Rejection.NAME),
    ("Subject Alternative Name", Rejection.NAME),
    ("other SAN", Rejection.NAME),
    ("is not a valid IP address", Rejection.NAME),
    ("common_name field is required", Rejection.NAME),
    ("idna:", Rejection.NAME),
)
"""Out of the sentences of a 400 that refuses to sign, the first that is found; None where the role or the CA is wrong."""


def refusal(answer: Answer, where: str, role_setting: str) -> Rejected:
    """What a 400 says about a request for a certificate; `role_setting` is the key that names the role.

    Raises:
        Misconfigured: it is not about the request, or says nothing that is known: the device is not to blame.
    """
    text = explain(answer)
    found = next((rejection for part, rejection in _REFUSALS if part in text), None)
    if found is None:
        settings = (role_setting,)
        raise Misconfigured(pointing(f"{where} answered 400: {text}", settings), settings=settings)
    return Rejected(rejection=found, detail=text)


def crl(pem: str) -> bytes:
    """A CRL, DER.

    Raises:
        ProtocolViolation: it is none.
    """
    try:
        return x509.load_pem_x509_crl(pem.encode()).public_bytes(Encoding.DER)
    except ValueError as error:
        raise ProtocolViolation("the CRL of the answer cannot be read") from error


@lru_cache(maxsize=16)
def chain(issuer: str, ca_chain: tuple[str, ...]) -> tuple[bytes, ...]:
    """The issuer first, DER, whether or not the chain begins with it; it comes with every certificate, and is the same.

    Raises:
        ProtocolViolation: a text holds no certificate.
    """
    first, rest = from_pem(issuer)[:1], from_pem(*ca_chain)
    return rest if rest[:1] == first else (*first, *rest)
