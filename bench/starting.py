"""How long the app takes to start, beyond Flask and authlib, which it can't do without."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from cryptography.fernet import Fernet

from bench.charts import SITE
from bench.figure import Figure
from bench.measure import Spread, processes_by_turns, run_process
from bench.sizes import Sizes

SECONDS_BEYOND = 0.5

_APP = "import smartapp; smartapp.create_app()"
_LIBRARIES = "import authlib, flask"
_ISSUERS = '[issuers.synthetic]\nfhir_base = "https://ehr.invalid/fhir"\nclient_id = "synthetic"\n'


def measure(sizes: Sizes) -> list[Figure]:
    with TemporaryDirectory(prefix="bench-") as folder:
        environment = _production(Path(folder))
        run_process(["-m", "smartapp.cli", "migrate"], environment)
        ours, theirs = processes_by_turns([["-c", _APP], ["-c", _LIBRARIES]], sizes.processes, environment)
    beyond = [one.seconds - other.seconds for one, other in zip(ours, theirs, strict=True)]
    whole = median(use.seconds for use in ours)
    return [
        Figure(
            "start, beyond flask and authlib",
            Spread.of(beyond),
            "s",
            SECONDS_BEYOND,
            note=f"import and create_app, {whole:.2f} s in all",
        )
    ]


def _production(folder: Path) -> dict[str, str]:
    """A whole production configuration: an issuer, a site, a database."""
    issuers, site = folder / "issuers.toml", folder / "site.yaml"
    issuers.write_text(_ISSUERS, "utf-8")
    site.write_text(json.dumps(SITE), "utf-8")
    return {
        "SMARTAPP_KEYS": Fernet.generate_key().decode(),
        "SMARTAPP_BASE_URL": "https://app.invalid",
        "SMARTAPP_ISSUERS_FILE": str(issuers),
        "SMARTAPP_SITE_FILE": str(site),
        "SMARTAPP_DATABASE_URL": f"sqlite:///{folder / 'bench.sqlite3'}",
    }
