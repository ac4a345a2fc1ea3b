"""The app in a process of its own, that opens a chart whenever it is told to, and says what that took.

It runs as a script, with another commit's code on the path too, and so imports nothing of `bench` and asks
for modules by the names they had: `python -P bench/opened.py FHIR_BASE CLIENT ISO_MOMENT FOLDER`. A line on
standard input is the number of a patient; the answer is a line of JSON, all seconds of this process's
processor time but for `wall`.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography.fernet import Fernet

from smartapp import create_app
from smartapp.clock import ahead_of_the_machine
from smartapp.store import Store

APP = "http://127.0.0.1:5000"
LOOKS = 5
"""How often the page is asked for again, to see what showing it costs."""


class Deciding:
    """Counts the processor time of whatever decides."""

    def __init__(self) -> None:
        self.seconds = 0.0
        maker = first_of("smartapp.ehr.reading.findings", "smartapp.ehr.findings").FindingsMaker
        findings = maker.findings

        def counted(*given: Any, **more: Any) -> Any:
            begun = time.thread_time()
            try:
                return findings(*given, **more)
            finally:
                self.seconds += time.thread_time() - begun

        maker.findings = counted


def first_of(*names: str) -> Any:
    """The module that is called by one of these names."""
    for name in names[:-1]:
        try:
            return import_module(name)
        except ModuleNotFoundError:
            continue
    return import_module(names[-1])


def make_app(base: str, client: str, moment: str, folder: Path) -> Any:
    """The app with one EHR, its own database and the clock of that EHR."""
    issuers = folder / "issuers.toml"
    issuers.write_text(
        f'[issuers.synthetic]\nfhir_base = "{base}"\nclient_id = "{client}"\nprofile = "sandbox"\n'
        "requests_per_minute = 100000\n",
        "utf-8",
    )
    configuration = first_of("smartapp.configuration.settings", "smartapp.config")
    settings = configuration.Settings(
        keys=(Fernet.generate_key(),),
        base_url=APP,
        issuers_file=issuers,
        site_file=folder / "site.yaml",
        database_url=f"sqlite:///{folder / 'bench.sqlite3'}",
        mode=configuration.Mode.TEST,
        clock_ahead=ahead_of_the_machine(datetime.fromisoformat(moment)),
    )
    with closing(Store(settings.database_url, settings.keys)) as store:
        store.database.migrate()
    return create_app(settings)


def opened(app: Any, base: str, number: int, deciding: Deciding) -> dict[str, Any]:
    """Launch for a patient, wait until the chart is read, and show the page."""
    browser = app.test_client()
    deciding.seconds, begun = 0.0, time.monotonic()
    page, launching = _timed(lambda: _launched(browser, base, number))
    start = time.process_time()
    _read(browser, page)
    reading = time.process_time() - start
    answer, rendering = _timed(lambda: browser.get(page, base_url=APP))
    wall = time.monotonic() - begun
    if b"Reading the chart" in answer.data or answer.status_code != 200:
        raise RuntimeError(f"no answer came: {answer.status_code}")
    told = browser.get(f"{page}decisions.json", base_url=APP).data
    looks = [rendering, *(_timed(lambda: browser.get(page, base_url=APP))[1] for _ in range(LOOKS))]
    return {
        "launch": launching,
        "reading": reading - deciding.seconds,
        "deciding": deciding.seconds,
        "rendering": min(looks),
        "all": launching + reading + rendering,
        "wall": wall,
        "answer": hashlib.sha256(told).hexdigest(),
    }


def _launched(browser: Any, base: str, number: int) -> str:
    """The address of the patient page, as the EHR's answer leads to it."""
    asked = browser.get(f"/launch?iss={base}&launch={number}", base_url=APP)
    if "probed" in asked.location:
        asked = browser.get(asked.location, base_url=APP)
    carried = parse_qs(urlsplit(asked.location).query)
    code = f"{number}.{carried['nonce'][0]}"
    back = f"{urlsplit(carried['redirect_uri'][0]).path}?code={code}&state={carried['state'][0]}"
    return str(browser.get(back, base_url=APP).location)


def _read(browser: Any, page: str) -> None:
    """Ask for the page, which begins the reading, and wait for the thread that reads."""
    browser.get(page, base_url=APP)
    for thread in threading.enumerate():
        if thread.name.startswith("reading-"):
            thread.join()


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    found = work()
    return found, time.process_time() - start


if __name__ == "__main__":
    base, client, moment, folder = sys.argv[1:]
    deciding = Deciding()
    served = make_app(base, client, moment, Path(folder))
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(opened(served, base, int(line), deciding)), flush=True)
