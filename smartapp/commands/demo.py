"""`smartapp demo`: the whole thing on one machine, with synthetic patients. `--check` drives it headless.

Two servers on loopback: the sandbox EHR as a process of its own under http://localhost, and the app under
http://127.0.0.1, so that for a browser they are two sites, as in the field. Key and database are made in a
fresh folder that only the user can read, and removed at the end. The clocks of both show the day of --as-of;
without it today, or where no rules are known for today the last day that they are known for.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack, closing
from datetime import date, datetime, time, timedelta
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from smartapp.configuration.settings import Mode, Settings

if TYPE_CHECKING:
    from smartapp.configuration.site import Site

EHR_HOST = "localhost"
APP_HOST = "127.0.0.1"
CLIENT_ID = "remote-monitoring-app"
ISSUER = "sandbox"
READY_SECONDS = 60
AUDITOR = "demo-auditor"
STATE, CDS_KEYS = "sweep", "cds-keys.json"
"""In the demo's folder: the state of a sweep over its charts, and with what its EHR signs as a CDS client."""


class DemoError(Exception):
    """The demo could not be started or the check failed; its text is one plain line."""


class Demo:
    """Both servers and their folder. A context manager: everything is stopped and removed at its end.

    `as_of` is the moment at which it begins, as a clock on the site's wall shows it.
    """

    def __init__(
        self,
        *,
        ehr_port: int = 0,
        app_port: int = 0,
        readings: int = 50_000,
        as_of: datetime | None = None,
    ) -> None:
        self._ehr_port = ehr_port or free_port()
        self._app_port = app_port or free_port()
        self._readings = readings
        self._as_of = as_of
        self._cleanup = ExitStack()
        self.auditor_secret = secrets.token_urlsafe(24)
        """Secret of a client that may look into every chart's charges: the check's own way to see them."""

    @property
    def ehr_url(self) -> str:
        return f"http://{EHR_HOST}:{self._ehr_port}"

    @property
    def app_url(self) -> str:
        return f"http://{APP_HOST}:{self._app_port}"

    @property
    def fhir_base(self) -> str:
        return f"{self.ehr_url}/fhir/r4"

    def __enter__(self) -> Demo:
        try:
            self.folder = Path(tempfile.mkdtemp(prefix="smartapp-demo-"))  # mode 0700
            self._cleanup.callback(shutil.rmtree, self.folder, ignore_errors=True)
            site = self._write_site_file()
            self.begins, ahead = self._begins(site)
            self.settings = self._settings(ahead)
            self._start_ehr()
            self._sweep(site)
            self._start_app()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    @property
    def _site_file(self) -> Path:
        return self.folder / "site.yaml"

    def _write_site_file(self) -> Site:
        from smartapp.configuration.site import read_site

        # Read as a file: the app never imports the sandbox.
        shipped = (files("launch") / "sandbox" / "site.yaml").read_text("utf-8")
        self._site_file.write_text(
            f"{shipped}permissions: {{bill: [physician]}}\n"
            f"worklist: [{{state: {STATE}}}]\n"
            f"cds_hooks: [{{client: '{self.ehr_url}/cds-client', keys: {CDS_KEYS}}}]\n",
            encoding="utf-8",
        )
        return read_site(self._site_file, None, None)

    def _begins(self, site: Site) -> tuple[datetime, timedelta]:
        """The moment at which the demo begins, and how far its clocks run ahead of the machine's."""
        now = datetime.now(site.zone)
        begins = self._as_of or datetime.combine(min(now.date(), _last_day_of_rules(site)), now.time())
        begins = begins.replace(tzinfo=site.zone)
        # Of instants: between two times of one zone an hour that the clocks lost or gained would not count.
        return begins, timedelta(seconds=round(begins.timestamp() - now.timestamp()))

    def _settings(self, ahead: timedelta) -> Settings:
        from cryptography.fernet import Fernet

        issuers = self.folder / "issuers.toml"
        issuers.write_text(
            f"[issuers.{ISSUER}]\n"
            f'fhir_base = "{self.fhir_base}"\n'
            f'client_id = "{CLIENT_ID}"\n'
            'profile = "sandbox"\n'
            'front_page = "Sandbox EHR"\n'
            f'frame_ancestors = ["{self.ehr_url}"]\n'
            'extra_scopes = ["patient/DeviceMetric.rs", "patient/CarePlan.rs", "patient/Encounter.cu"]\n',
            encoding="utf-8",
        )
        return Settings(
            keys=(Fernet.generate_key(),),
            base_url=self.app_url,
            issuers_file=issuers,
            database_url=f"sqlite:///{self.folder / 'smartapp.sqlite3'}",
            site_file=self._site_file,
            mode=Mode.DEMO,
            clock_ahead=ahead,
        )

    def _start_ehr(self) -> None:
        auditor = self.folder / "auditor.json"
        auditor.write_text(
            json.dumps(
                {
                    "client_id": AUDITOR,
                    "type": "confidential-symmetric",
                    "client_secret": self.auditor_secret,
                    "grant_types": ["client_credentials"],
                    "scope": "system/ChargeItem.rs",
                }
            ),
            encoding="utf-8",
        )
        command = [
            *(sys.executable, "-m", "launch.sandbox", "serve"),
            *("--port", str(self._ehr_port), "--host-name", EHR_HOST),
            *("--client-id", CLIENT_ID, "--client", str(auditor)),
            *("--app-launch-url", f"{self.app_url}/launch"),
            *("--app-worklist-url", f"{self.app_url}/launch/worklist"),
            *("--cds-url", f"{self.app_url}/cds-services"),
            *("--redirect-uri", f"{self.app_url}/callback/{ISSUER}"),
            *("--readings", str(self._readings)),
            *("--as-of", self.begins.date().isoformat()),
            *("--clock-ahead", str(self.settings.clock_ahead.total_seconds())),
        ]
        log = self._cleanup.enter_context((self.folder / "ehr.log").open("w+", encoding="utf-8"))
        # Every part of the command is ours: this interpreter, ports, a fresh folder.
        process = subprocess.Popen(  # noqa: S603
            command, stdout=subprocess.PIPE, stderr=log, text=True
        )
        self._cleanup.callback(_stop, process)
        waiting = threading.Timer(READY_SECONDS, process.kill)
        waiting.start()
        assert process.stdout is not None
        line = process.stdout.readline()
        waiting.cancel()
        if "ready" not in line:
            log.seek(0)
            said = log.read().strip().splitlines()
            raise DemoError(f"the sandbox EHR did not start: {said[-1] if said else 'no reason given'}")
        # Whatever it prints later must not fill the pipe.
        threading.Thread(target=process.stdout.read, daemon=True).start()

    def _sweep(self, site: Site) -> None:
        """Decide all charts of the EHR, as a night would, and take its keys."""
        import requests

        from smartapp.population.deciding import Settings as SweepSettings
        from smartapp.population.engine import InProcess
        from smartapp.population.progress import Progress
        from smartapp.population.state import State
        from smartapp.population.sweep import Asked, sweep

        keys = requests.get(f"{self.ehr_url}/auth/jwks", timeout=10)
        (self.folder / CDS_KEYS).write_bytes(keys.content)
        charts, day = self.folder / "charts", self.begins.date()
        told = [*("--as-of", day.isoformat()), *("--readings", str(self._readings))]
        command = [sys.executable, "-m", "launch.sandbox", "export", str(charts), *told]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - every part is ours
        paths = tuple(sorted(charts.glob("*.*json")))
        settings = SweepSettings(site.zone.key, site.declared)
        state = State(self.folder / STATE, self.settings.keys, make=True)
        sweep(state, Asked(paths, day, settings, night=False), InProcess(), Progress(None), lambda _: None)
        shutil.rmtree(charts)

    def _start_app(self) -> None:
        from smartapp import create_app
        from smartapp.serving import AppServer
        from smartapp.store import Store

        with closing(Store(self.settings.database_url, self.settings.keys)) as store:
            store.database.migrate()
        self._cleanup.enter_context(AppServer(create_app(self.settings), APP_HOST, self._app_port))

    def charges(self, patient: str) -> list[dict[str, Any]]:
        """The EHR's own list of a patient's ChargeItems, read with a token of the auditor's."""
        import requests

        configuration = requests.get(f"{self.fhir_base}/.well-known/smart-configuration", timeout=10).json()
        token = requests.post(
            configuration["token_endpoint"],
            data={"grant_type": "client_credentials", "scope": "system/ChargeItem.rs"},
            auth=(AUDITOR, self.auditor_secret),
            timeout=10,
        )
        if token.status_code != 200:
            raise DemoError(f"the EHR gave the auditor no token: {token.status_code}")
        found = requests.get(
            f"{self.fhir_base}/ChargeItem",
            params={"patient": patient, "_count": "200"},
            headers={"Authorization": f"Bearer {token.json()['access_token']}"},
            timeout=10,
        )
        if found.status_code != 200:
            raise DemoError(f"the EHR gave the auditor no charges: {found.status_code}")
        return [entry["resource"] for entry in found.json().get("entry", [])]


def _last_day_of_rules(site: Site) -> date:
    """The last day of service that every code's table covers."""
    return min(rule.covers_to for rule in site.policy.codes.values())


def _moment(text: str) -> datetime:
    """`2026-04-15`, which is its noon, or `2026-04-15T23:55`. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        raise ValueError("a time as a clock on the site's wall shows it, without a zone")
    return datetime.combine(moment, time(12)) if len(text) == len("2026-04-15") else moment


def free_port() -> int:
    """A loopback port that is free now."""
    with socket.socket() as probe:
        probe.bind((APP_HOST, 0))
        return int(probe.getsockname()[1])


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="smartapp demo", description=__doc__)
    parser.add_argument("--check", action="store_true", help="drive the whole way headless, then stop")
    parser.add_argument("--port", type=int, default=0, help="of the app; 0: one that is free")
    parser.add_argument("--ehr-port", type=int, default=0, help="of the sandbox EHR; 0: one that is free")
    parser.add_argument(
        "--as-of",
        type=_moment,
        metavar="DAY",
        help="begin on this day at noon, or at a time of it: 2026-04-15, 2026-04-15T23:55",
    )
    parser.add_argument("--readings", type=int, default=50_000, help="size of the largest chart")
    return parser


def run(arguments: Sequence[str]) -> int:
    """The command. Exit status 0; 1 where a step failed; 2 for a call that cannot be understood."""
    try:
        options = _parser().parse_args(list(arguments))
    except SystemExit as stop:  # argparse has said what is wrong
        return int(stop.code or 0)
    # Ended from outside, the folder with its key must go as well.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Demo(
            ehr_port=options.ehr_port,
            app_port=options.port,
            readings=options.readings,
            as_of=options.as_of,
        ) as demo:
            if options.check:
                from smartapp.commands.demo_check import check

                check(demo)
                return 0
            _explain(demo)
            threading.Event().wait()
    except KeyboardInterrupt:
        print("\nStopped. Key, database and synthetic charts are gone.")
        return 0
    except (DemoError, OSError) as error:
        print(f"smartapp demo: {error}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _explain(demo: Demo) -> None:
    print(
        f"""
  DEMO: synthetic patients, loopback only. It is {demo.begins:%A, %-d %B %Y} there.

  1. Open   {demo.ehr_url}/
     It is the sandbox EHR. Choose "Ready: home exercise" and "Open inside the chart" (or in a new tab).
  2. The app reads the chart and says what stands. Press a day of the strip, or open "Why" at a code.
  3. Press "Review and accept", confirm the statements, choose what the claim needs, and write the charge.
  4. Back in the EHR, "Chart" lists the new ChargeItem.

  Without a patient: "Open the worklist in a new tab" there, or
     {demo.app_url}/launch/worklist?iss={demo.fhir_base}
  A card (CDS Hooks): "Chart" of a patient asks the app for one, and shows its answer.

  The app is at {demo.app_url}/ . Ctrl-C stops both.
""",
        flush=True,
    )
