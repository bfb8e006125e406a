"""A client that others wrote, jscep, fetches certificates and the CRL."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509

from tests.interop.clients import Order, Refused, enrol_with_jscep, retrieve_with_jscep
from tests.interop.running import RunningRa
from tests.peers import require

pytestmark = pytest.mark.peer


def order_of(ra: RunningRa, profile: str, directory: Path) -> Order:
    require("java")
    require("jscep")
    return Order(ra.url_of(profile), ra.challenge, directory, "interop.example")


def test_jscep_gets_its_certificate_and_the_crl(ra_server: RunningRa, tmp_path: Path) -> None:
    order = order_of(ra_server, "complete", tmp_path)
    own = x509.load_pem_x509_certificate(enrol_with_jscep(order).read_bytes())

    certificate, crl = retrieve_with_jscep(order)

    assert own == x509.load_pem_x509_certificate(certificate.read_bytes())
    assert own.issuer == x509.load_pem_x509_crl(crl.read_bytes()).issuer
    assert {"GET_CERT", "GET_CRL"} <= {message_type for message_type, _ in ra_server.operations}


def test_jscep_is_told_that_there_is_no_such_certificate_where_that_is_off(
    ra_server: RunningRa, tmp_path: Path
) -> None:
    order = order_of(ra_server, "default", tmp_path)
    enrol_with_jscep(order)

    with pytest.raises(Refused, match="badCertId"):
        retrieve_with_jscep(order)
