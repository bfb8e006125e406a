"""Where Intune is, in which cloud, and where our token may go."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from ra.challenge.intune.options import CLOUDS, Options
from ra.challenge.intune.props import read_props
from ra.errors import Misconfigured

PROPS = """\
# a comment
AAD_APP_ID=11111111-2222-3333-4444-555555555555
AAD_APP_KEY=s3cr\\=t\\:~value
TENANT = contoso.example
PROVIDER_NAME_AND_VERSION=Old Product 1.0
MS_GRAPH_API_VERSION=1.0
"""


def options(**changes: Any) -> Options:
    usual = {
        "tenant": "contoso.example",
        "client_id": "11111111-2222-3333-4444-555555555555",
        "credential": {"method": "federated", "token": "file:token"},
    }
    return Options.model_validate(usual | changes)


def test_a_token_for_intune_is_for_a_resource_whose_name_ends_with_a_slash() -> None:
    own = options()

    assert "https://login.microsoftonline.com/contoso.example/oauth2/v2.0/token" == own.token_url
    assert "https://graph.microsoft.com/.default" == own.graph_scope
    assert "https://api.manage.microsoft.com//.default" == own.intune_scope


@pytest.mark.parametrize("cloud", CLOUDS)
def test_each_cloud_has_its_own_addresses(cloud: str) -> None:
    own, known = options(cloud=cloud), CLOUDS[cloud]

    assert own.token_url.startswith(known.authority)
    assert known.graph == own.graph
    assert own.allows(f"https://fef.{known.hosts[0]}/RACerts")


@pytest.mark.parametrize(
    "url",
    [
        "https://manage.microsoft.com.example.org/RACerts",
        "https://evilmanage.microsoft.com/RACerts",
        "http://fef.manage.microsoft.com/RACerts",
        "https://user@fef.manage.microsoft.com/RACerts",
        "https://fef.manage.microsoft.com@example.org/RACerts",
        "https://fef.manage.microsoft.us/RACerts",
        "https://fef.manage.microsoft.com/RACerts?to=example.org",
        "https://[::1]/RACerts",
        "ftp://fef.manage.microsoft.com/RACerts",
        "fef.manage.microsoft.com",
        "https://",
        "",
        "https://\x00",
    ],
)
def test_a_token_is_sent_nowhere_else(url: str) -> None:
    assert not options().allows(url)


@pytest.mark.parametrize("url", ["https://fef.msuc06.manage.microsoft.com/RACerts", "https://MANAGE.Microsoft.com./x"])
def test_a_token_is_sent_into_the_domain_and_below(url: str) -> None:
    assert options().allows(url)


def test_plain_http_to_another_machine_is_an_error() -> None:
    with pytest.raises(ValidationError, match="http:// to another machine"):
        options(authority="http://login.example.org")


@pytest.mark.parametrize(
    ("changes", "patience"),
    [
        ({}, timedelta(hours=1)),
        ({"notify_policy": "async"}, timedelta(days=7)),
        ({"notify_patience_minutes": 5}, timedelta(minutes=5)),
    ],
)
def test_a_certificate_waits_an_hour_for_intune(changes: dict[str, Any], patience: timedelta) -> None:
    assert patience == options(**changes).patience


# ---------------------------------------------------------------- com.microsoft.intune.props


def test_a_file_of_another_connector_becomes_a_block() -> None:
    imported = read_props(PROPS)

    assert {
        "type": "intune",
        "tenant": "contoso.example",
        "client_id": "11111111-2222-3333-4444-555555555555",
        "provider_name": "Old Product 1.0",
    } == imported.options
    assert "s3cr=t:~value" == imported.secret
    assert ("MS_GRAPH_API_VERSION",) == imported.ignored


def test_the_addresses_of_a_national_cloud_name_it() -> None:
    addresses = (
        "AUTH_AUTHORITY=https\\://login.microsoftonline.us/\nMSAL_GRAPH_RESOURCE_URL=https://graph.microsoft.us/\n"
    )

    assert "gcc-high" == read_props(PROPS + addresses).options["cloud"]


def test_an_address_of_no_cloud_is_kept() -> None:
    imported = read_props(PROPS + "AUTH_AUTHORITY=https://login.example.org/\n")

    assert "https://login.example.org" == imported.options["authority"]


def test_a_proxy_is_kept_and_its_password_apart() -> None:
    imported = read_props(PROPS + "PROXY_HOST=proxy.example.org\nPROXY_PORT=3128\nPROXY_USER=ra\nPROXY_PASS=pw\n")

    assert "http://proxy.example.org:3128" == imported.options["proxy"]
    assert "ra:pw" == imported.proxy_credentials
    assert "pw" not in repr(imported.options)


def test_a_file_without_a_secret_is_refused_by_name() -> None:
    with pytest.raises(Misconfigured, match="AAD_APP_KEY"):
        read_props(PROPS.replace("AAD_APP_KEY", "SOMETHING"))
