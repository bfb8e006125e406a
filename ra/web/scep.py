"""The protocol over HTTP (RFC 8894 §4.1), at every path where devices look for it.

Routes are ASGI applications and take the query and the body as raw bytes: no framework parses either (Q17, Q18).
"""

from __future__ import annotations

from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from ra.errors import Unavailable
from ra.scep.errors import Unreadable
from ra.scep.names import MediaType, Operation
from ra.scep.transport import MAX_MESSAGE_BYTES, Query, read_message, read_query
from ra.service.describe import ca_certificate_message, capabilities
from ra.service.endpoint import Directory, Endpoint
from ra.service.pki_operation import PutOff
from ra.web.edge import log_line
from ra.web.replies import HttpRefusal, HttpReply, HungUp, header, read_body, reply_to
from ra.web.services import Services

# Cisco appends /pkiclient.exe to whatever URL it is given, Windows takes mscep.dll with or without it, and some add a
# slash (Q20). Paths are found as they are: a redirect breaks most clients.
PATHS = (
    "/api/v1/scep",
    "/api/v1/scep/",
    "/api/v1/scep//pkiclient.exe{suffix:path}",
    "/api/v1/scep/pkiclient.exe{suffix:path}",
    "/scep",
    "/scep/",
    "/scep//pkiclient.exe{suffix:path}",
    "/scep/pkiclient.exe{suffix:path}",
    "/scep/{profile}{suffix:path}",
    "/cgi-bin/pkiclient.exe{suffix:path}",
    "/certsrv/mscep/mscep.dll{suffix:path}",
    "/CertSrv/mscep/mscep.dll{suffix:path}",
)


def routes(services: Services) -> list[BaseRoute]:
    """One route for each path; all lead to the same handler."""
    handler = ScepHandler(services)
    return [Route(path, handler, include_in_schema=False) for path in PATHS]


class ScepHandler:
    """An ASGI application that answers one SCEP request."""

    def __init__(self, services: Services) -> None:
        self._directory = services.directory
        self._answer_pki_operation = services.answer
        self._count_read = services.count_read
        self._next_ca = services.next_ca

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            reply = await self._answer(scope, receive)
        except HungUp:
            log_line(scope)["outcome"] = "hung-up"
            return
        except (HttpRefusal, Unreadable, Unavailable) as error:
            outcome = "unavailable" if isinstance(error, Unavailable) else "unreadable"
            log_line(scope).update(outcome=outcome, detail=str(error))
            if isinstance(error, PutOff):
                kind, name = error.header.message_type, error.header.transaction_id
                log_line(scope).update(message_type=kind.name if kind else "unknown", transaction_id=str(name))
            reply = reply_to(error)
        await reply.write(send)

    async def _answer(self, scope: Scope, receive: Receive) -> HttpReply:
        if scope["method"] not in {"GET", "POST"}:
            raise HttpRefusal(405, "SCEP is spoken by GET and POST.", ((b"allow", b"GET, POST"),))
        query = read_query(scope["query_string"])
        operation = _operation(query, scope["method"])
        log_line(scope)["operation"] = operation.value
        endpoint = find_endpoint(self._directory, scope["path_params"].get("profile"), query.ca_id)
        log_line(scope)["profile"] = endpoint.profile.name
        if operation is not Operation.PKI_OPERATION:
            self._count_read(endpoint.profile.name, operation.value)
        match operation:
            case Operation.GET_CA_CAPS:
                has_next_ca = await self._next_ca(endpoint) is not None
                body = capabilities(endpoint, has_next_ca=has_next_ca)
                return HttpReply(body=body, media_type=MediaType.CAPABILITIES)
            case Operation.GET_CA_CERT:
                return _ca_certificates(endpoint, scope)
            case Operation.GET_CA_CERT_CHAIN:
                return HttpReply(body=ca_certificate_message(endpoint)[0], media_type=MediaType.CA_CERT_CHAIN)
            case Operation.GET_NEXT_CA_CERT:
                return HttpReply(body=await self._next_ca_message(endpoint), media_type=MediaType.NEXT_CA_CERT)
            case Operation.PKI_OPERATION:
                return await self._pki_operation(endpoint, await _message(scope, receive, query), scope)

    async def _next_ca_message(self, endpoint: Endpoint) -> bytes:
        message = await self._next_ca(endpoint)
        if message is None:
            raise HttpRefusal(404, "GetNextCACert is not offered; GetCACaps says what is.")
        return message

    async def _pki_operation(self, endpoint: Endpoint, message: bytes, scope: Scope) -> HttpReply:
        answer = await self._answer_pki_operation(endpoint, message)
        log_line(scope).update(
            message_type=answer.message_type.name if answer.message_type else "unknown",
            transaction_id=answer.transaction_id,
            outcome=answer.outcome,
        )
        if answer.detail:
            log_line(scope)["detail"] = answer.detail
        if answer.alarm:
            log_line(scope)["alarm"] = True
        return HttpReply(body=answer.body, media_type=MediaType.PKI_MESSAGE)


def find_endpoint(directory: Directory, profile: str | None, ca_id: str | None) -> Endpoint:
    """The endpoint that path and `ca_id` name; where neither does, the default.

    Raises:
        HttpRefusal: there is none.
    """
    if ca_id is None:
        found = directory.default() if profile is None else directory.by_name(profile)
    else:
        found = directory.by_ca_id(_number(ca_id))
        if found and profile not in {None, found.profile.name}:
            raise HttpRefusal(404, "The ca_id belongs to another profile than the path names.")
    if found is None:
        raise HttpRefusal(404, _nobody(profile, ca_id))
    return found


def _nobody(profile: str | None, ca_id: str | None) -> str:
    if ca_id is not None:
        return "No CA has this ca_id."
    if profile is not None:
        return "There is no profile of this name."
    return "No profile is the default here: name one in the path, as /scep/NAME, or by ca_id."


def _number(ca_id: str) -> int:
    if not (ca_id.isascii() and ca_id.isdigit() and len(ca_id) < 10):  # noqa: PLR2004  # more digits than any ca_id has
        raise HttpRefusal(400, "ca_id is a whole number.")
    return int(ca_id)


def _operation(query: Query, method: str) -> Operation:
    """What is asked for. Many clients leave it out of a POST, which RFC 8894 §4.1 has for PKIOperation alone (Q19)."""
    if query.operation is not None:
        return query.operation
    if method == "POST":
        return Operation.PKI_OPERATION
    known = ", ".join(each.value for each in (Operation.GET_CA_CAPS, Operation.GET_CA_CERT, Operation.PKI_OPERATION))
    raise HttpRefusal(400, f"This is a SCEP server. Add ?operation= with one of {known}.")


async def _message(scope: Scope, receive: Receive, query: Query) -> bytes:
    """The pkiMessage: the body of a POST, or `message` of the query, which a POST without a body may have as well."""
    body = await read_body(scope, receive, MAX_MESSAGE_BYTES) if scope["method"] == "POST" else b""
    sent = body or query.message
    if not sent:
        raise HttpRefusal(400, "PKIOperation needs a message: the body of a POST, or message= of a GET.")
    return read_message(sent)


def _ca_certificates(endpoint: Endpoint, scope: Scope) -> HttpReply:
    """RFC 8894 §4.2.1 labels them; some libraries take an older label alone, and say so in Accept."""
    body, label = ca_certificate_message(endpoint)
    accepted = (header(scope, b"accept") or b"").lower()
    if MediaType.PKCS_CERTIFICATES.value.encode() in accepted:
        label = MediaType.PKCS_CERTIFICATES
    return HttpReply(body=body, media_type=label)
