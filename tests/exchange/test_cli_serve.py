"""`scep-ra serve`: starts only what is sound, keeps answering while it is reconfigured, and stops when it is told."""

from __future__ import annotations

import ipaddress
import json
import signal
import socket
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from ra.cli.app import run
from tests.fakes.serving import command, serving
from tests.interop.running import clean_environment, faulty_lines

ROOT = Path(__file__).resolve().parents[2]


def test_it_serves_devices_on_one_port_and_operators_on_the_other(directory: Path, ports: tuple[int, int]) -> None:
    with serving(directory, ports, "--json") as served:
        capabilities = httpx.get(f"{served.url}?operation=GetCACaps")
        ready = httpx.get(f"{served.admin_url}/readyz")
        metrics = httpx.get(f"{served.admin_url}/metrics")
        astray = httpx.get(served.url.replace("/scep", "/metrics"))
        container_is_healthy = health_check(ports[1])

    assert "SCEPStandard" in capabilities.text.splitlines()
    assert ready.json()["status"] == "ok"
    assert 'scep_ra_http_requests_total{operation="GetCACaps",status="200"} 1.0' in metrics.text
    assert astray.status_code == 404
    assert container_is_healthy
    assert not health_check(ports[1])
    assert "scep_ra_faults_total 0.0" in metrics.text.splitlines()
    assert served.process.returncode == 0
    assert faulty_lines(served.log.read_text("utf-8")) == []


def health_check(admin_port: int) -> bool:
    """What the Dockerfile's HEALTHCHECK says, here for another port than its own."""
    joined = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", "")
    command = next(line.partition(" CMD ")[2] for line in joined.splitlines() if line.startswith("HEALTHCHECK"))
    environment = {**clean_environment(), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    done = subprocess.run(json.loads(command.replace("8081", str(admin_port))), env=environment, check=False)
    return done.returncode == 0


def test_the_faults_of_a_log_are_seen() -> None:
    log = (
        '{"level": "info"}\n{"level": "error", "event": "fault"}\nTraceback (most recent call last):\n7\n{"url": "x"}\n'
    )

    assert faulty_lines(log) == log.splitlines()[1:4]


def test_two_workers_share_the_connections(directory: Path, ports: tuple[int, int]) -> None:
    with serving(directory, ports, "--json", "--workers", "2") as served:
        served.wait_for("Application startup complete.", times=2)
        clients = [httpx.Client() for _ in range(16)]
        for _ in range(5):
            for client in clients:
                client.get(f"{served.url}?operation=GetCACaps").raise_for_status()
        held = connections_by_process(ports[0])
        for client in clients:
            client.close()
        first_line = served.log.read_text("utf-8").splitlines()[0]

    assert json.loads(first_line) == {
        "url": served.url,
        "listen": f"127.0.0.1:{ports[0]}",
        "admin_url": served.admin_url,
        "workers": 2,
    }
    assert sum(held.values()) == 16
    assert len(held) == 2


def connections_by_process(port: int) -> Counter[int]:
    """How many established connections to a local port each process holds: Linux tells by socket inode."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]]
    inodes = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01"}
    held: Counter[int] = Counter()
    for each in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            target = str(each.readlink())
        except OSError:
            continue
        if target in inodes:
            held[int(each.parts[2])] += 1
    return held


def test_sighup_takes_up_a_changed_configuration(directory: Path, ports: tuple[int, int]) -> None:
    path = directory / "ra.toml"
    with serving(directory, ports) as served:
        path.write_text(path.read_text("utf-8").replace("legacy = []", 'legacy = ["3des"]'), "utf-8")

        served.process.send_signal(signal.SIGHUP)
        served.wait_for("Application startup complete.", times=2)
        served.wait_for("Finished server process")
        capabilities = httpx.get(f"{served.url}?operation=GetCACaps").text

    assert "DES3" in capabilities.splitlines()


def test_sighup_with_a_broken_configuration_leaves_the_old_worker_serving(
    directory: Path, ports: tuple[int, int]
) -> None:
    path = directory / "ra.toml"
    with serving(directory, ports) as served:
        path.write_text(path.read_text("utf-8").replace('connector = "lab"', 'connector = "nowhere"'), "utf-8")

        served.process.send_signal(signal.SIGHUP)
        served.wait_for("keeping worker")
        answer = httpx.get(f"{served.url}?operation=GetCACaps")
        metrics = httpx.get(f"{served.admin_url}/metrics").text

    assert answer.status_code == 200
    assert 'profiles.default.connector names \\"nowhere\\", which is not there' in served.log.read_text("utf-8")
    assert "scep_ra_faults_total 0.0" in metrics.splitlines()
    assert served.process.returncode == 0


def test_a_taken_port_is_told_in_one_sentence(directory: Path, ports: tuple[int, int]) -> None:
    with socket.create_server(("127.0.0.1", ports[1])):
        done = subprocess.run(command(directory), capture_output=True, text=True, check=False, env=clean_environment())

    assert done.returncode == 2
    assert done.stderr == (
        f"scep-ra: server.admin_listen: 127.0.0.1:{ports[1]} cannot be listened on: Address already in use; "
        "set another there, or by --admin-listen\n"
    )


def test_a_key_that_others_may_read_stops_the_start(directory: Path) -> None:
    (directory / "ra.key").chmod(0o644)

    done = subprocess.run(
        command(directory, "--json"), capture_output=True, text=True, check=False, env=clean_environment()
    )

    assert done.returncode == 2
    assert done.stdout == ""
    assert "is open to others than its owner (mode 0644): chmod 600 it" in json.loads(done.stderr)["error"]


def test_the_command_line_stands_above_the_file_in_every_worker(directory: Path, ports: tuple[int, int]) -> None:
    path = directory / "ra.toml"
    text = path.read_text("utf-8").replace(f'admin_listen = "127.0.0.1:{ports[1]}"', 'admin_listen = "127.0.0.1:1"')
    path.write_text(text, "utf-8")

    with serving(directory, ports, "--admin-listen", f"127.0.0.1:{ports[1]}") as served:
        alive = httpx.get(f"{served.admin_url}/livez")

    assert alive.status_code == 200


def test_tls_is_spoken_on_both_listeners(
    directory: Path, ports: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    write_server_certificate(directory)
    path = directory / "ra.toml"
    text = path.read_text("utf-8").replace('public_url = "http:', 'public_url = "https:')
    path.write_text(text + '[server.tls]\ncertificate = "tls.pem"\nkey = "tls.key"\n', "utf-8")
    tls_ca = str(directory / "tls.pem")
    challenge = (directory / "challenge.txt").read_text("utf-8").strip()
    out = str(directory / "device")

    with serving(directory, ports, scheme="https") as served:
        enrolled = run(
            ["client", "enrol", "--url", served.url, "--challenge", challenge, "--tls-ca", tls_ca, "--out", out]
        )
        distrusted = run(["client", "caps", "--url", served.url])
        plain = run(["client", "caps", "--url", served.admin_url.replace("https:", "http:")])
        container_is_healthy = health_check(ports[1])

    assert enrolled == 0
    assert distrusted == 3
    assert plain == 3
    assert container_is_healthy
    assert "CERTIFICATE_VERIFY_FAILED" in capsys.readouterr().err


def write_server_certificate(directory: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.fromtimestamp(directory.stat().st_mtime, UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (directory / "tls.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (directory / "tls.key").touch(0o600)
    (directory / "tls.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
