"""Logs hide, cap and escape; metrics add up over processes."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog

from connectors.api import Secret
from ra.telemetry import (
    MAX_LOGGED_CHARACTERS,
    METRICS,
    MULTIPROCESS_VARIABLE,
    PrometheusMetrics,
    configure_logs,
)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What is logged while the test runs."""
    stream = io.StringIO()
    configure_logs(stream=stream)
    yield stream
    structlog.reset_defaults()
    logging.basicConfig(handlers=[logging.NullHandler()], force=True)


def test_an_event_is_one_json_object_on_one_line(log: io.StringIO) -> None:
    structlog.get_logger().info("request", status=200, profile="default")

    line = json.loads(log.getvalue())
    assert log.getvalue().count("\n") == 1
    assert (line["event"], line["level"], line["status"], line["profile"]) == ("request", "info", 200, "default")
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize("key", ["challenge_password", "X-API-Key".replace("-", "_"), "Authorization", "client_secret"])
def test_a_key_that_sounds_like_a_secret_is_hidden(log: io.StringIO, key: str) -> None:
    structlog.get_logger().info("request", **{key: "NQ3C6-GS3ZN"})

    assert "NQ3C6" not in log.getvalue()
    assert json.loads(log.getvalue())[key] == "***"


def test_a_secret_under_an_innocent_key_is_hidden(log: io.StringIO) -> None:
    structlog.get_logger().info("request", value=Secret("NQ3C6-GS3ZN"))

    assert "NQ3C6" not in log.getvalue()


@pytest.mark.parametrize("forger", ["\n", "\r", "\x1b[31m", "\u2028", "\u202e", "\x00", "\x7f", "\ud800"])
@pytest.mark.parametrize("console", [False, True])
def test_what_could_forge_a_line_is_escaped(forger: str, console: bool) -> None:
    stream = io.StringIO()
    configure_logs(stream=stream, console=console)

    structlog.get_logger().info("request", transaction_id=f"a{forger}b")

    assert f"a{forger}b" not in stream.getvalue()
    assert f"u{ord(forger[0]):04x}" in stream.getvalue()
    assert stream.getvalue().count("\n") == 1


def test_a_detail_of_several_lines_is_read_as_sentences(log: io.StringIO) -> None:
    structlog.get_logger().info("request", detail="one thing\nanother")

    assert "one thing; another" == json.loads(log.getvalue())["detail"]


def test_long_text_is_capped_and_bytes_are_not_shown(log: io.StringIO) -> None:
    structlog.get_logger().info("request", transaction_id="a" * 10_000, body=b"secret")

    line = json.loads(log.getvalue())
    assert len(line["transaction_id"]) == MAX_LOGGED_CHARACTERS + 1
    assert line["body"] == "<6 bytes>"


def test_an_exception_is_told_by_type_and_place_alone(log: io.StringIO) -> None:
    try:
        int("what the device sent")
    except ValueError as error:
        structlog.get_logger().error("fault", exc_info=error)

    line = json.loads(log.getvalue())
    assert "device" not in log.getvalue()
    assert line["error"] == "ValueError"
    assert line["where"].startswith("test_telemetry.py:")


def test_the_standard_librarys_loggers_go_the_same_way(log: io.StringIO) -> None:
    try:
        int("what the device sent")
    except ValueError:
        logging.getLogger("uvicorn.error").exception("Exception in %s", "application")

    line = json.loads(log.getvalue())
    assert (line["event"], line["level"], line["error"]) == ("Exception in application", "error", "ValueError")
    assert "Traceback" not in log.getvalue()
    assert "device" not in log.getvalue()


def test_events_below_the_level_are_left_out() -> None:
    stream = io.StringIO()
    configure_logs(stream=stream, level="warning")

    structlog.get_logger().info("request")

    assert stream.getvalue() == ""


def test_every_metric_of_the_table_is_rendered_with_its_help() -> None:
    metrics = PrometheusMetrics()
    metrics.answered("default", "PKCS_REQ", "success", 0.004)
    metrics.legacy_used("default", "sha1")
    metrics.quirk_seen("default", "ber")
    metrics.http_answered("PKIOperation", 200)
    metrics.notified("intune", "issued", "accepted")
    metrics.fault()

    scraped = metrics.scrape().decode()

    for metric in METRICS:
        assert f"# HELP {metric.name} {metric.help}" in scraped
    assert 'scep_ra_pki_operations_total{message_type="PKCS_REQ",outcome="success",profile="default"} 1.0' in scraped
    assert 'scep_ra_pki_operation_seconds_bucket{le="0.005",message_type="PKCS_REQ",profile="default"} 1.0' in scraped
    assert 'scep_ra_legacy_algorithms_total{algorithm="sha1",profile="default"} 1.0' in scraped
    assert 'scep_ra_quirks_total{profile="default",quirk="ber"} 1.0' in scraped
    notified = 'scep_ra_notifications_total{occasion="issued",outcome="accepted",validator="intune"} 1.0'
    assert notified in scraped
    assert 'scep_ra_http_requests_total{operation="PKIOperation",status="200"} 1.0' in scraped
    assert "scep_ra_faults_total 1.0" in scraped


def test_gauges_tell_what_is_now() -> None:
    metrics = PrometheusMetrics()

    for in_use, waiting, is_open in ((1, 0, False), (1, 3, False), (0, 3, True)):
        metrics.gate_changed("lab", in_use=in_use, waiting=waiting, is_open=is_open)
    metrics.gate_changed("vault", in_use=7, waiting=0, is_open=False)
    metrics.enrolments_changed(5)
    metrics.lagged(0.1234)
    metrics.identity_ends("ra", datetime(2031, 1, 1, tzinfo=UTC))
    metrics.credential_ends("intune", datetime(2031, 1, 1, tzinfo=UTC))
    metrics.sent_away("default", "lag")
    lines = metrics.scrape().decode().splitlines()

    assert 'scep_ra_connector_requests_in_flight{connector="lab"} 0.0' in lines
    assert 'scep_ra_connector_requests_in_flight{connector="vault"} 7.0' in lines
    assert 'scep_ra_connector_requests_waiting{connector="lab"} 3.0' in lines
    assert 'scep_ra_connector_left_alone{connector="lab"} 1.0' in lines
    assert "scep_ra_enrolments_in_flight 5.0" in lines
    assert "scep_ra_event_loop_lag_seconds 0.123" in lines
    assert 'scep_ra_identity_not_after_seconds{identity="ra"} 1.924992e+09' in lines
    assert 'scep_ra_credential_not_after_seconds{validator="intune"} 1.924992e+09' in lines
    assert 'scep_ra_enrolments_sent_away_total{profile="default",why="lag"} 1.0' in lines


def test_a_worker_that_was_killed_no_longer_counts_among_those_that_live(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib, os; from ra.telemetry import PrometheusMetrics\n"
        "metrics = PrometheusMetrics(pathlib.Path(sys.argv[1])); metrics.enrolments_changed(3); metrics.fault()\n"
        "print(metrics.scrape().decode(), flush=True); os.kill(os.getpid(), 9)"
    )
    environment = {**os.environ, MULTIPROCESS_VARIABLE: str(tmp_path)}  # noqa: TID251  # of the child, not of the service

    scrapes = [
        subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=environment, capture_output=True, check=False)
        for _ in range(2)
    ]

    assert b"scep_ra_enrolments_in_flight 3.0" in scrapes[-1].stdout
    assert b"scep_ra_faults_total 2.0" in scrapes[-1].stdout


def test_a_scrape_adds_up_what_all_workers_counted(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from ra.telemetry import PrometheusMetrics\n"
        "metrics = PrometheusMetrics(pathlib.Path(sys.argv[1])); metrics.fault(); print(metrics.scrape().decode())"
    )
    environment = {**os.environ, MULTIPROCESS_VARIABLE: str(tmp_path)}  # noqa: TID251  # of the child, not of the service

    scrapes = [
        subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=environment, capture_output=True, check=True)
        for _ in range(2)
    ]

    assert b"scep_ra_faults_total 2.0" in scrapes[-1].stdout
