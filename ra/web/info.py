"""What the service says of itself: `info` to everybody, `configuration` to known callers."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from fastapi import APIRouter, Request
from pydantic import BaseModel

from ra.service.describe import capabilities
from ra.service.endpoint import Directory, Endpoint
from ra.service.health import HealthReport, Status
from ra.web import guidance
from ra.web.callers import Callers
from ra.web.edge import log_line
from ra.web.recent import Recent
from ra.web.services import Services

KEEP_SECONDS = 5.0


class MdmModel(BaseModel):
    """Whether a device management works with the service today, and how."""

    works: bool
    how: str


class StatisticsModel(BaseModel):
    """Counted in the journal, at most a few seconds ago. A RenewalReq that presents its challenge is no renewal here."""

    scep_ca: list[str]
    certificates_issued: int
    renewals_processed: int


class InfoModel(BaseModel):
    """The service at a glance."""

    service: str = "scep-ra"
    version: str
    status: Status
    supported_operations: list[str]
    supported_message_types: list[str]
    features: list[str]
    security: list[str]
    mdm_compatibility: dict[str, MdmModel]
    statistics: StatisticsModel


class ProfileModel(BaseModel):
    """One profile as a device's administrator needs to know it; never a secret."""

    name: str
    ca_id: int | None
    ca_subject: str
    ca_fingerprint_sha256: str
    capabilities: list[str]
    challenge_password_required: bool
    default_validity_days: int
    renewal_threshold_days: int
    legacy: list[str]
    url: str
    example_urls: list[str]
    setup_instructions: dict[str, list[str]]


class ConfigurationModel(BaseModel):
    """How the service is set up."""

    supported_operations: list[str]
    supported_message_types: list[str]
    debug: bool
    profiles: list[ProfileModel]


def info_router(services: Services, reports: Recent[HealthReport], callers: Callers) -> APIRouter:
    """The pages of both kinds."""
    router = APIRouter(tags=["service"])
    statistics = Recent(services.read_statistics, services.clock, KEEP_SECONDS)
    cas = sorted({_ca(each).subject.rfc4514_string() for each in services.directory})

    @router.get("/api/v1/scep/info")
    async def info(request: Request) -> InfoModel:
        """Version, state, what is supported, and live statistics."""
        log_line(request.scope)["operation"] = "info"
        counted = await statistics.get()
        return InfoModel(
            version=services.version,
            status=(await reports.get()).status,
            supported_operations=await _operations(services),
            supported_message_types=_message_types(services),
            features=list(guidance.FEATURES),
            security=list(guidance.SECURITY),
            mdm_compatibility={name: MdmModel(works=each.works, how=each.how) for name, each in guidance.MDM.items()},
            statistics=StatisticsModel(
                scep_ca=cas, certificates_issued=counted.issued, renewals_processed=counted.renewals
            ),
        )

    @router.get("/api/v1/scep/configuration", responses={401: {"description": "An API key is needed"}})
    async def configuration(request: Request) -> ConfigurationModel:
        """Profiles, their settings, and how clients are set up. Needs an API key, or debug mode."""
        line = log_line(request.scope)
        line["operation"] = "configuration"
        line["caller"] = callers.require(request.headers)
        return await _configuration(services)

    return router


async def _configuration(services: Services) -> ConfigurationModel:
    return ConfigurationModel(
        supported_operations=await _operations(services),
        supported_message_types=_message_types(services),
        debug=services.debug,
        profiles=[await _profile(each, services) for each in services.directory],
    )


async def _operations(services: Services) -> list[str]:
    following = [await services.next_ca(each) for each in services.directory]
    return guidance.operations(has_next_ca=any(each is not None for each in following))


def _message_types(services: Services) -> list[str]:
    return guidance.message_types(each.profile for each in services.directory)


async def _profile(endpoint: Endpoint, services: Services) -> ProfileModel:
    profile, public_url = endpoint.profile, services.public_url
    has_next_ca = await services.next_ca(endpoint) is not None
    url = f"{public_url}/scep/{profile.name}"
    certificate = _ca(endpoint)
    return ProfileModel(
        name=profile.name,
        ca_id=endpoint.ca_id,
        ca_subject=certificate.subject.rfc4514_string(),
        ca_fingerprint_sha256=certificate.fingerprint(SHA256()).hex(),
        capabilities=capabilities(endpoint, has_next_ca=has_next_ca).decode("ascii").split(),
        challenge_password_required=profile.challenge_password_required,
        default_validity_days=profile.default_validity_days,
        renewal_threshold_days=profile.renewal_threshold_days,
        legacy=sorted(profile.legacy),
        url=url,
        example_urls=_example_urls(endpoint, services.directory, public_url, url),
        setup_instructions={kind: list(steps) for kind, steps in guidance.instructions(url).items()},
    )


def _example_urls(endpoint: Endpoint, directory: Directory, public_url: str, url: str) -> list[str]:
    examples = [f"{url}?operation=GetCACaps", f"{url}?operation=GetCACert", f"{url}/pkiclient.exe"]
    if endpoint.ca_id is not None:
        examples.append(f"{public_url}/api/v1/scep?ca_id={endpoint.ca_id}&operation=GetCACaps")
    if directory.default() is endpoint:
        examples += [f"{public_url}/api/v1/scep", f"{public_url}/scep", f"{public_url}/cgi-bin/pkiclient.exe"]
    return examples


def _ca(endpoint: Endpoint) -> x509.Certificate:
    return x509.load_der_x509_certificate(endpoint.backend.ca_chain[0])
