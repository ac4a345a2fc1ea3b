"""An EHR that exports, on the fixed day of a test's world, and the command that asks it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from joserfc.jwk import ECKey, RSAKey

from launch.sandbox.config import Client, ClientType
from launch.sandbox.server import RunningSandbox
from smartapp.clock import ahead_of_the_machine
from tests.support.sandbox import DAY, NOON, start_sandbox

BACKEND = "backend-client"
SCOPE = "system/*.rs"


class ExportingEhr:
    """A sandbox with a backend client, the issuers file that lists it, and the keys in the environment."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, algorithm: str = "ES384", **settings: Any
    ) -> None:
        self.folder = folder
        self._key = (
            ECKey.generate_key("P-384", {"use": "sig"}, auto_kid=True)
            if algorithm == "ES384"
            else RSAKey.generate_key(2048, {"use": "sig"}, auto_kid=True)
        )
        client = Client(
            BACKEND,
            ClientType.ASYMMETRIC,
            scope=settings.pop("scope", SCOPE),
            grant_types=("client_credentials",),
            jwks={"keys": [{**self._key.as_dict(private=False), "kid": "k1", "alg": algorithm}]},
        )
        settings = {"crowd_since": DAY - timedelta(days=30), **settings}
        ahead = ahead_of_the_machine(NOON).total_seconds()
        self.running: RunningSandbox = start_sandbox(
            folder, clients=(client,), crowd_ahead_seconds=ahead, **settings
        )
        self.quirks.export_polls = 0
        self.issuers = folder / "issuers.toml"
        self.issuers.write_text(
            f"""[issuers.hospital]
fhir_base = "{self.running.config.fhir_base}"
client_id = "launched"
[issuers.hospital.backend]
client_id = "{BACKEND}"
signing_key = "BACKEND_KEY"
signing_key_id = "k1"
signing_algorithm = "{algorithm}"
group = "crowd"
""",
            "utf-8",
        )
        monkeypatch.setenv("BACKEND_KEY", self._key.as_pem(private=True).decode())
        monkeypatch.setenv("SMARTAPP_KEYS", Fernet.generate_key().decode())
        monkeypatch.setenv("SMARTAPP_ISSUERS_FILE", str(self.issuers))
        monkeypatch.setattr("smartapp.population.exporting._PAUSES", (0.0, 0.0, 0.0))
        monkeypatch.setattr("launch.bulk.LEAST_WAIT", 0.01)

    @property
    def quirks(self) -> Any:
        return self.running.sandbox.quirks

    def a_day_passes(self) -> None:
        """For whoever is in the crowd."""
        config = self.running.config
        object.__setattr__(config, "crowd_ahead_seconds", config.crowd_ahead_seconds + 86400)

    def close(self) -> None:
        self.running.close()
