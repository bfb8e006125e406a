"""The commands under one name, and what every error becomes: one sentence on stderr and an exit code.

Exit codes: 0 ok, 1 failed, 2 usage or configuration, 3 unreachable.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer

from connectors.api import BackendUnavailable, ConnectorError
from connectors.api import Misconfigured as BadConnector
from ra import __version__
from ra.cli.output import FAILED, NOT_CONFIGURED, UNREACHABLE, complain
from ra.client.errors import BadArgument, Unreachable
from ra.errors import Misconfigured, RaError, Unavailable

COMMANDS = {
    "init": "Write a configuration with keys, certificates, a database and a random challenge.",
    "serve": "Serve SCEP until SIGTERM; SIGHUP replaces the workers one by one.",
    "check-config": "Read the configuration, its keys and certificates, and ask the CAs; say what is wrong with them.",
    "doctor": "Ask database, CAs and validators, look at identities and listeners; say what is wrong and what to do.",
    "client": "Ask a SCEP server, as a device would.",
    "explain": "Say in words what a SCEP message is, and what is odd about it.",
    "transactions": "List what was asked for, say how it stands, say a person's word about it.",
    "certs": "List certificates, show them, have them revoked.",
    "ca": "Show what a CA publishes: its certificates, its CRL.",
    "why": "Say why requests were refused lately, and what is to be done about it.",
    "connectors": "Say which CAs are asked for nothing new, and have one asked again.",
    "otp": "Mint one-time secrets, list them, withdraw them.",
    "keys": "Say how the RA's own keys and certificates stand; have one followed by another.",
    "intune": "Take over the settings of another Intune connector.",
    "outbox": "List what is still to be told to somebody, and have what was given up tried again.",
    "audit": "Find out whether the audit was changed; hand it on to others.",
    "backup": "Write the journal into a file, while the service runs.",
    "restore": "Fill an empty database from a backup.",
    "db": "Bring the journal's tables up to date, or move them to another database.",
    "bench": "Enrol many devices and measure.",
    "simulate": "Serve as Vault, EJBCA, Intune or Jamf Pro would, all in memory: to try a set-up.",
}
"""Each is one file beside this one, and is imported when it is asked for: help is quick, and `serve` stays small."""


def run(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code."""
    as_json = "--json" in arguments
    try:
        result = _app(arguments)(list(arguments), prog_name="scep-ra", standalone_mode=False)
    except typer.TyperException as error:
        # A group that is named without a command has printed its help and raises no message.
        message = error.format_message().replace("Value error, ", "")
        return complain(message or "name a command", NOT_CONFIGURED, as_json=as_json)
    except (typer.Abort, KeyboardInterrupt):
        return 128 + signal.SIGINT
    except BrokenPipeError:
        return FAILED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return complain(f"{where}{error.strerror or error}", FAILED, as_json=as_json)
    except (RaError, ConnectorError) as error:
        return complain(str(error), _exit_code(error), as_json=as_json)
    return result if isinstance(result, int) else 0


def _exit_code(error: RaError | ConnectorError) -> int:
    match error:
        case Misconfigured() | BadConnector() | BadArgument():
            return NOT_CONFIGURED
        case Unreachable() | Unavailable() | BackendUnavailable():
            return UNREACHABLE
        case _:
            return FAILED


def _app(arguments: Sequence[str]) -> typer.Typer:
    """All commands by name and help; the one that is asked for with all its options."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback(help="A SCEP (RFC 8894) registration authority in front of the certificate authority you have.")(
        _options
    )
    wanted = next((each for each in arguments if not each.startswith("-")), None)
    for name, sentence in COMMANDS.items():
        if name != wanted:
            app.command(name, help=sentence)(_not_loaded)
            continue
        command = import_module(f"ra.cli.{name.replace('-', '_')}").command
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, help=sentence)
        else:
            app.command(name, help=sentence)(command)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """What stands before a command."""


def _not_loaded() -> None:
    """Stands for a command in the list of commands."""
