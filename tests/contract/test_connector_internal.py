from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from connectors.api import Secret
from connectors.internal.creation import create_ca
from connectors.testing import ConnectorContract

PASSPHRASE = "correct horse battery staple"


class TestInternal(ConnectorContract):
    kind = "internal"
    secrets = (PASSPHRASE,)

    def options(self, directory: Path) -> dict[str, Any]:
        if not (directory / "ca.pem").exists():
            now = datetime.now(UTC)  # noqa: TID251 - as the contract's own clock
            create_ca(directory, key_spec="ec:p256", name="Test CA", passphrase=Secret(PASSPHRASE), now=now)
            (directory / "ca.passphrase").write_text(PASSPHRASE + "\n")
        return {}
