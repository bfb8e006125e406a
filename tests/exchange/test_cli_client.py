"""`scep-ra client`, `explain` and `bench` against a running scep-ra."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from ra.cli import device
from ra.cli.app import run
from ra.client.client import Transaction
from ra.client.csr import read_subject, self_signed, write_csr
from ra.client.errors import BadArgument
from ra.client.signed import Signer
from tests.interop.running import RunningRa

Output = pytest.CaptureFixture[str]


def answer_of(arguments: list[str], capsys: Output) -> dict[str, Any]:
    capsys.readouterr()
    assert run([*arguments, "--json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def enrol(ra: RunningRa, out: Path, *options: str) -> list[str]:
    return ["client", "enrol", "--url", ra.url, "--challenge", ra.challenge, "--out", str(out), *options]


def test_caps_and_getca_tell_what_the_server_offers(ra_server: RunningRa, tmp_path: Path, capsys: Output) -> None:
    pem = tmp_path / "ca.pem"

    capabilities = answer_of(["client", "caps", "--url", ra_server.url], capsys)["capabilities"]
    certificates = answer_of(["client", "getca", "--url", ra_server.url, "--out", str(pem)], capsys)["certificates"]

    assert "SCEPStandard" in capabilities
    assert [each["subject"] for each in certificates] == ["CN=SCEP RA ra", "CN=scep-ra CA"]
    assert len(x509.load_pem_x509_certificates(pem.read_bytes())) == 2


def test_an_enrolled_device_has_a_key_and_a_certificate_that_openssl_verifies(
    ra_server: RunningRa, tmp_path: Path, capsys: Output
) -> None:
    out = tmp_path / "device"

    answer = answer_of(enrol(ra_server, out, "--subject", "CN=one,O=Example", "--san", "dns:one.example"), capsys)

    verified = subprocess.run(
        ["openssl", "verify", "-CAfile", ra_server.ca_certificate, answer["certificate"]],
        capture_output=True,
        check=False,
    )
    assert verified.returncode == 0
    assert (answer["status"], answer["subject"]) == ("issued", "CN=one,O=Example")
    assert stat.S_IMODE((out / "key.pem").stat().st_mode) == 0o600
    assert device.load_signer(out).certificate.serial_number == int(answer["serial"], 16)


def test_a_refused_device_keeps_its_key_and_takes_it_up_again(
    ra_server: RunningRa, tmp_path: Path, capsys: Output
) -> None:
    out = tmp_path / "device"

    refused = run([*enrol(ra_server, out, "--json"), "--challenge", "wrong"])
    said = json.loads(capsys.readouterr().err)["error"]
    key = (out / "key.pem").read_bytes()
    answer_of(enrol(ra_server, out), capsys)
    again = run(enrol(ra_server, out))

    assert refused == 1
    assert said == (
        "The server refused the request: BAD_REQUEST (a wrong challenge looks like this; the server's log says why)."
    )
    assert key == (out / "key.pem").read_bytes()
    assert again == 2
    assert "holds a certificate already" in capsys.readouterr().err


def test_a_certificate_is_renewed_without_a_challenge_once_it_is_time(
    ra_server: RunningRa, tmp_path: Path, capsys: Output
) -> None:
    url, (old, new) = ra_server.url_of("renewing"), (tmp_path / "old", tmp_path / "new")
    first = answer_of(
        [
            "client",
            "enrol",
            "--url",
            url,
            "--challenge",
            ra_server.challenge,
            "--out",
            str(old),
            "--san",
            "dns:a.example",
        ],
        capsys,
    )

    second = answer_of(["client", "renew", "--url", url, "--from", str(old), "--out", str(new)], capsys)

    assert "Renewal" in answer_of(["client", "caps", "--url", url], capsys)["capabilities"]
    assert ("issued", first["subject"]) == (second["status"], second["subject"])
    assert first["serial"] != second["serial"]
    assert (old / "key.pem").read_bytes() != (new / "key.pem").read_bytes()


def test_a_certificate_is_succeeded_before_its_time_with_a_challenge_and_not_without(
    ra_server: RunningRa, tmp_path: Path, capsys: Output
) -> None:
    answer_of(enrol(ra_server, tmp_path / "old"), capsys)
    renew = ["client", "renew", "--url", ra_server.url, "--from", str(tmp_path / "old"), "--out", str(tmp_path / "new")]

    refused = run(renew)
    said = capsys.readouterr().err
    answer = answer_of([*renew, "--challenge", ra_server.challenge], capsys)

    assert refused == 1
    assert "no --challenge was given, and without one this certificate is not renewed now" in said
    assert (answer["status"], answer["subject"]) == ("issued", "CN=device")


def test_what_was_sent_and_answered_can_be_kept_and_explained(
    ra_server: RunningRa, tmp_path: Path, capsys: Output
) -> None:
    answer_of(enrol(ra_server, tmp_path / "device", "--save", str(tmp_path / "kept")), capsys)
    by_get = tmp_path / "access.log"
    message = quote(b64encode((tmp_path / "kept/request.der").read_bytes()), safe="")
    by_get.write_text(f"GET /scep?operation=PKIOperation&message={message}&x=1 HTTP/1.1\n", "utf-8")

    explained = [answer_of(["explain", str(each)], capsys) for each in (tmp_path / "kept/request.der", by_get)]
    reply = answer_of(["explain", str(tmp_path / "kept/reply.der")], capsys)

    assert explained[0] == explained[1]
    assert "PKCSReq" in json.dumps(explained[0])
    assert "CertRep" in json.dumps(reply)


def test_another_ca_than_the_one_expected_is_refused_before_anything_is_sent(
    ra_server: RunningRa, tmp_path: Path, capsys: Output
) -> None:
    exit_code = run(enrol(ra_server, tmp_path / "device", "--ca-fingerprint", "00" * 32))

    assert exit_code == 1
    assert "fingerprint" in capsys.readouterr().err
    assert not (tmp_path / "device").exists()


def test_what_the_profile_does_not_serve_fails_with_a_sentence(
    ra_server: RunningRa, tmp_path: Path, capsys: Output
) -> None:
    out = tmp_path / "device"
    serial = answer_of(enrol(ra_server, out), capsys)["serial"]
    shared = ["--url", ra_server.url, "--from", str(out)]

    exit_codes = [
        run(["client", "nextca", "--url", ra_server.url]),
        run(["client", "getcert", *shared, "--serial", serial]),
        run(["client", "getcrl", *shared, "--out", str(tmp_path / "ca.crl")]),
    ]

    assert exit_codes == [1, 1, 1]
    assert "does not announce GetNextCACert" in capsys.readouterr().err


def test_certificates_and_the_crl_are_retrieved(ra_server: RunningRa, tmp_path: Path, capsys: Output) -> None:
    out, pem, crl = tmp_path / "device", tmp_path / "found.pem", tmp_path / "ca.crl"
    url = ra_server.url_of("complete")
    serial = answer_of(enrol(ra_server, out, "--url", url), capsys)["serial"]
    shared = ["--url", url, "--from", str(out)]

    found = answer_of(["client", "getcert", *shared, "--serial", serial, "--out", str(pem)], capsys)["certificates"]
    listed = answer_of(["client", "getcrl", *shared, "--out", str(crl)], capsys)

    assert [serial] == [each["serial"] for each in found]
    assert (out / "certificate.pem").read_bytes() == pem.read_bytes()
    assert "CN=scep-ra CA" == listed["issuer"]
    verify = ["openssl", "crl", "-in", str(crl), "-CAfile", str(ra_server.ca_certificate), "-noout"]
    assert "verify OK" in subprocess.run(verify, capture_output=True, text=True, check=True).stderr


def test_the_next_ca_is_shown_signed_by_the_present_one(ra_server: RunningRa, tmp_path: Path, capsys: Output) -> None:
    pem, url = tmp_path / "next.pem", ra_server.url_of("complete")

    [found] = answer_of(["client", "nextca", "--url", url, "--out", str(pem)], capsys)["certificates"]

    assert "CN=scep-ra next CA" == found["subject"]
    assert (ra_server.directory / "next" / "ca.pem").read_bytes() == pem.read_bytes()
    (tmp_path / "next.der").write_bytes(httpx.get(f"{url}?operation=GetNextCACert").raise_for_status().content)
    verify = ["openssl", "cms", "-verify", "-inform", "DER", "-in", str(tmp_path / "next.der"), "-purpose", "any"]
    subprocess.run([*verify, "-CAfile", str(ra_server.ca_certificate)], capture_output=True, check=True)


@pytest.mark.parametrize("key_type", ["ec:p256", "ec:p384"])
def test_a_device_without_rsa_enrols_where_the_profile_seals_with_the_challenge(
    ra_server: RunningRa, tmp_path: Path, capsys: Output, key_type: str
) -> None:
    url, options = ra_server.url_of("complete"), ("--key-type", key_type, "--by-password")

    answer = answer_of(enrol(ra_server, tmp_path / "device", "--url", url, *options), capsys)

    assert "issued" == answer["status"]
    assert 1 == run(enrol(ra_server, tmp_path / "other", *options))
    assert "BAD_ALG" in capsys.readouterr().err


def test_what_is_pending_is_kept_for_its_owner_and_read_back(tmp_path: Path) -> None:
    key = device.own_key(tmp_path, "rsa:2048")
    assert isinstance(key, rsa.RSAPrivateKey)
    name = read_subject("CN=waiting")
    signer = Signer(key=key, certificate=self_signed(key, name, datetime(2030, 1, 1, tzinfo=UTC), 7))
    transaction = Transaction(
        key=key, csr=write_csr(key, name, challenge_password="secret"), signer=signer, transaction_id="42"
    )

    device.save_pending(tmp_path, transaction)
    kept = device.load_pending(tmp_path)

    assert (transaction.csr, transaction.transaction_id) == (kept.csr, kept.transaction_id)
    assert transaction.signer.certificate == kept.signer.certificate
    assert stat.S_IMODE((tmp_path / "pending.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"signer_key": "x"}'])
def test_a_changed_pending_file_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "pending.json").write_text(content, "utf-8")

    with pytest.raises(BadArgument, match=r"pending\.json cannot be read"):
        device.load_pending(tmp_path)


def test_a_server_without_tls_is_told_as_such(ra_server: RunningRa, capsys: Output) -> None:
    exit_code = run(["client", "caps", "--url", ra_server.url.replace("http://", "https://")])

    assert 3 == exit_code
    assert "the server speaks plain HTTP there, and no HTTPS" in capsys.readouterr().err


def test_bench_enrols_every_device_and_measures(ra_server: RunningRa, capsys: Output) -> None:
    answer = answer_of(
        ["bench", "--url", ra_server.url, "--challenge", ra_server.challenge, "--count", "6", "--connections", "3"],
        capsys,
    )

    assert (answer["devices"], answer["failed"], answer["failures"]) == (6, 0, [])
    assert 0 < answer["milliseconds"]["p50"] <= answer["milliseconds"]["p99"]


def test_bench_fails_where_a_device_is_refused(ra_server: RunningRa, capsys: Output) -> None:
    exit_code = run(["bench", "--url", ra_server.url, "--challenge", "wrong", "-n", "2"])

    said = capsys.readouterr()
    assert exit_code == 1
    assert "2, 2 failed" in said.out
    assert "" == said.err  # where nobody watches there are no bars


def test_explain_says_what_getcacert_answers(ra_server: RunningRa, tmp_path: Path, capsys: Output) -> None:
    message = tmp_path / "getcacert"
    message.write_bytes(httpx.get(f"{ra_server.url}?operation=GetCACert").content)

    exit_code = run(["explain", str(message)])

    lines = capsys.readouterr().out.splitlines()
    assert exit_code == 0
    assert lines[0].startswith("degenerate SignedData: 2 certificates, 0 CRLs")
    assert any(line.startswith("  certificate: CN=SCEP RA ra") for line in lines)


def test_explain_reads_standard_input_and_prints_json(ra_server: RunningRa) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ra", "explain", "-", "--json"],
        input=ra_server.ca_certificate.read_bytes(),
        capture_output=True,
        check=True,
    )

    answer = json.loads(done.stdout)
    assert (answer["label"], answer["value"]) == ("certificate", "CN=scep-ra CA")
    assert {"label", "value", "note", "children"} == set(answer["children"][0])
