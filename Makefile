# Everything below needs Python 3.11 or later and make; peers and bench need what .ci/run installs.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet

N ?= 200

.PHONY: help run test demo check bench crash rows herd pollers connectors wave format schema peers .venv clean
help:
	@echo "make run     an RA with a CA of its own; prints the enrolment URL and the challenge"
	@echo "make test    the test suite"
	@echo "make demo    enrols one device with the bundled client and with every real client that is installed"
	@echo "make check   ruff, mypy, import contracts, hadolint"
	@echo "make bench   how many enrolments per second, beside another server and the crypto floor"
	@echo "make crash   kills the RA N times while devices enrol, and counts what that did to them (N=200)"
	@echo "make rows    how long it takes to start with, and to search, a journal of 100,000 transactions"
	@echo "make herd    10,000 devices enrol within a minute, before a slow CA"
	@echo "make connectors  what the RA adds to a CA: time and rate, beside the connector alone"
	@echo "make wave    5,000 devices enrol by challenges of a simulated Intune that takes 0.3 s for an answer"
	@echo "make pollers 10,000 open connections poll, 1,000 times a second"

run: .venv/runtime.stamp
	@test -e var/ra.toml || $(BIN)/scep-ra init var --yes >/dev/null
	@echo "Challenge: $$(cat var/challenge.txt)"
	@exec $(BIN)/scep-ra serve --config var/ra.toml

test: .venv
	$(BIN)/pytest

demo: .venv
	$(BIN)/python -m tests.interop.demo

check: .venv
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

wave: .venv
	$(BIN)/python -m benchmarks.intune

bench: .venv
	$(BIN)/python -m benchmarks.enrolment

crash: .venv
	$(BIN)/python -m benchmarks.crash -n $(N)

rows herd pollers connectors: .venv
	$(BIN)/python -m benchmarks.$@

format: .venv
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

schema: .venv
	$(BIN)/scep-ra check-config --schema > config/schema.json
	$(BIN)/python docs/configuration.py > docs/configuration.md
	$(BIN)/python docs/events.py
	$(BIN)/python docs/states.py
	$(BIN)/python docs/conformance.py
	$(BIN)/python docs/intune.py
	$(BIN)/python docs/connectors_table.py

peers:
	.ci/peers

# Hash-locked: what is installed is what was locked. The checkout itself is installed without looking for anything.
.venv: .venv/dev.stamp

.venv/runtime.stamp: requirements.txt requirements-build.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install --require-hashes --requirement requirements.txt --requirement requirements-build.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev.stamp: requirements-dev.txt .venv/runtime.stamp
	$(PIP) install --require-hashes --requirement requirements-dev.txt
	@touch $@

clean:
	rm -rf .venv .cache
