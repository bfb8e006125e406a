"""The command line: `scep-ra`, one file per command. Importing it costs nothing; typer and rich load when it runs.

Worker processes import this module again (they are spawned from the same program), so nothing else may live here.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command that the arguments name, and ends the process with its exit code."""
    from ra.cli.app import run  # noqa: PLC0415 - see above

    sys.exit(run(sys.argv[1:]))
