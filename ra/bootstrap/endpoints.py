"""One profile of the configuration, joined to what answers for it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_crl

from connectors.keyfiles import read_certificates
from ra.bootstrap.plugins import naming
from ra.challenge.api import Validator
from ra.challenge.combine import AllOf, AnyOf, Checked, FirstMatch, insist_on_secrets
from ra.errors import Misconfigured
from ra.keyring.checks import examine, insist
from ra.scep.certificate import read_facts
from ra.service.backend import Backend
from ra.service.endpoint import Authority, Endpoint
from ra.service.renew import insist_on_naming_sids, insist_on_revoking
from ra.service.retrieve import insist_on_source
from ra.service.ring import Holding, Ring
from ra.settings.load import Configuration
from ra.settings.model import Combination, RenewalAuthority


def build_endpoint(
    configuration: Configuration,
    name: str,
    *,
    backends: Mapping[str, Backend],
    holdings: Mapping[str, Holding],
    validators: Mapping[str, Checked],
    now: datetime,
) -> tuple[Endpoint, list[str]]:
    """The endpoint of that profile, and what the operator should know of it.

    Raises:
        Misconfigured: with one line for each thing that is wrong.
    """
    settings, policy = configuration.endpoints[name], configuration.policies[name]
    own, backend = tuple(holdings[each] for each in settings.identities), backends[settings.connector]
    before = tuple(backends[each] for each in settings.renews_from)
    there = [each for one in own for each in one.identities]
    findings = [each for one in there for each in examine(one, backend.ca_chain, now, os.urandom)]
    with naming(f"profiles.{name}"):
        insist(findings)
        insist_on_source(policy, backend)
        insist_on_revoking(policy, (backend, *before))
        insist_on_naming_sids(policy, backend, has_challenge=settings.challenge is not None)
        authorities = tuple(_authority(configuration.directory, each) for each in settings.renewal_authorities)
    endpoint = Endpoint(
        profile=policy,
        ca_id=settings.ca_id,
        backend=backend,
        validator=_combined(name, settings.challenge, validators),
        ring=Ring(own),
        renews_from=before,
        renewal_authorities=authorities,
    )
    return endpoint, [f"profiles.{name}: {each.message}" for each in findings]


def _authority(directory: Path, settings: RenewalAuthority) -> Authority:
    """Reads the certificate; the CRL is read when it is needed.

    Raises:
        Misconfigured: the certificate is not there, or is no CA's.
    """
    (certificate, *others), crl = read_certificates(directory / settings.certificate), directory / settings.crl
    der = certificate.public_bytes(Encoding.DER)
    if others or not read_facts(der).is_ca:
        raise Misconfigured(f"renewal_authorities: {settings.certificate} is not the one certificate of a CA")
    return Authority(certificate=der, read_crl=partial(_read_crl, crl))


def _read_crl(path: Path) -> bytes:
    found = path.read_bytes()
    is_pem = found.startswith(b"-----BEGIN")
    return load_pem_x509_crl(found).public_bytes(Encoding.DER) if is_pem else found


def _combined(profile: str, combination: Combination | None, validators: Mapping[str, Checked]) -> Validator | None:
    if combination is None:
        return None
    members = tuple(validators[each] for each in combination.names)
    with naming(f"profiles.{profile}.challenge"):
        insist_on_secrets(members, all_needed=bool(combination.all_of))
    if len(members) == 1:
        return members[0]
    if combination.all_of:
        return AllOf(members)
    return AnyOf(members) if combination.any_of else FirstMatch(members)
