"""What the service says of itself, and to whom."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from ra.errors import Unavailable
from ra.scep.names import Capability, Legacy
from ra.web.app import build_public
from tests.fakes.services import API_KEY, PUBLIC_URL, FakeRa, ask, endpoint

INFO = "/api/v1/scep/info"
CONFIGURATION = "/api/v1/scep/configuration"


def get(ra: FakeRa, url: str, headers: Mapping[str, str | bytes] | None = None) -> httpx.Response:
    return asyncio.run(ask(build_public(ra.services()), "GET", url, headers=headers))


def test_info_says_what_is_served() -> None:
    info = get(FakeRa(), INFO).json()

    assert (info["service"], info["version"], info["status"]) == ("scep-ra", "1.2.3", "ok")
    assert info["supported_operations"] == ["GetCACaps", "GetCACert", "GetCACertChain", "PKIOperation"]
    assert info["supported_message_types"] == ["PKCSReq", "RenewalReq", "CertPoll"]
    assert info["features"]
    assert info["security"]
    assert info["mdm_compatibility"].keys() == {"microsoft_intune", "ios_mdm", "android_enterprise"}


def test_info_claims_no_capability_that_is_not_announced() -> None:
    ra = FakeRa()
    announced = get(ra, "/scep?operation=GetCACaps").text.split()
    info = get(ra, INFO).json()

    assert ("GetNextCACert" in info["supported_operations"]) == (Capability.GET_NEXT_CA_CERT in announced)
    assert Capability.RENEWAL not in announced
    assert info["mdm_compatibility"]["microsoft_intune"]["works"] is True


def test_info_has_live_statistics() -> None:
    assert get(FakeRa(), INFO).json()["statistics"] == {
        "scep_ca": ["CN=Test CA"],
        "certificates_issued": 17,
        "renewals_processed": 3,
    }


def test_without_the_journal_info_is_not_available() -> None:
    reply = get(FakeRa(failure=Unavailable("the disk of db7 is full")), INFO)

    assert reply.status_code == 503
    assert reply.headers["retry-after"] == "30"
    assert "db7" not in reply.text


@pytest.mark.parametrize(
    "headers",
    [{"Authorization": f"Bearer {API_KEY}"}, {"Authorization": f"bearer  {API_KEY}"}, {"X-API-Key": API_KEY}],
)
def test_configuration_is_shown_to_a_known_caller(headers: dict[str, str]) -> None:
    assert get(FakeRa(), CONFIGURATION, headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer another key"},
        {"Authorization": f"Basic {API_KEY}"},
        {"Authorization": API_KEY},
        {"X-API-Key": API_KEY + "x"},
        {"X-API-Key": b"\xe9"},
        {"Authorization": "Bearer another key", "X-API-Key": API_KEY},
    ],
)
def test_configuration_is_not_shown_to_a_stranger(headers: Mapping[str, str | bytes]) -> None:
    reply = get(FakeRa(), CONFIGURATION, headers)

    assert reply.status_code == 401
    assert reply.headers["www-authenticate"] == 'Bearer realm="scep-ra"'
    assert "profiles" not in reply.text


def test_in_debug_mode_configuration_is_shown_to_everybody() -> None:
    assert get(FakeRa(debug=True), CONFIGURATION).status_code == 200


def test_configuration_says_how_each_profile_is_set_up() -> None:
    ra = FakeRa(
        debug=True,
        endpoints=(
            endpoint(legacy=frozenset({Legacy.SHA1})),
            endpoint("open", None, challenge_password_required=False),
        ),
    )

    default, other = get(ra, CONFIGURATION).json()["profiles"]

    certificate = x509.load_der_x509_certificate(ra.endpoints[0].backend.ca_chain[0])
    assert (default["name"], default["ca_id"], default["ca_subject"]) == ("default", 1, "CN=Test CA")
    assert certificate.fingerprint(SHA256()).hex() == default["ca_fingerprint_sha256"]
    assert (default["default_validity_days"], default["renewal_threshold_days"]) == (365, 30)
    assert (default["challenge_password_required"], other["challenge_password_required"]) == (True, False)
    assert default["legacy"] == ["sha1"]
    assert "SHA-1" in default["capabilities"]
    assert other["ca_id"] is None


def test_every_example_url_is_answered() -> None:
    ra = FakeRa(debug=True)
    profiles = get(ra, CONFIGURATION).json()["profiles"]
    examples = [url for each in profiles for url in each["example_urls"]]

    statuses = {url: get(ra, _with_operation(url.removeprefix(PUBLIC_URL))).status_code for url in examples}

    assert statuses == dict.fromkeys(examples, 200)
    assert len(examples) == 11


def _with_operation(path: str) -> str:
    return path if "operation=" in path else f"{path}?operation=GetCACaps"


def test_setup_instructions_name_the_profiles_url() -> None:
    _, other = get(FakeRa(debug=True), CONFIGURATION).json()["profiles"]

    steps = other["setup_instructions"]
    assert steps.keys() >= {"microsoft_intune", "ios_mdm", "android_enterprise", "strongswan", "certmonger"}
    assert f"{PUBLIC_URL}/scep/other" in steps["ios_mdm"][0]


def test_other_methods_are_refused() -> None:
    reply = asyncio.run(ask(build_public(FakeRa().services()), "POST", INFO))

    assert reply.status_code == 405
    assert reply.headers["allow"] == "GET"
