"""The other servers, each a process on loopback that lasts as long as the tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Container, Iterator
from contextlib import contextmanager, nullcontext
from datetime import date
from pathlib import Path
from typing import Any

import requests

from launch.sandbox.patients import charts
from launch.sandbox.patients.staff import practice
from smartapp.commands.demo import free_port

HERE = Path(__file__).parent
BUILT = HERE.parent.parent / "build" / "interop" / "hapi"
"""Where `make interop-servers` puts HAPI's jars (lib) and its one class (classes)."""
NODE = shutil.which("node")
JAVA = shutil.which("java")

OURS = "urn:smart-remote-monitoring:charge"
NOT_BUILT = "not set up: make interop-servers (needs Node.js 20, Java 17 and Maven)"
READY = (
    NODE is not None
    and JAVA is not None
    and (HERE / "node_modules" / "@medplum" / "fhir-router").is_dir()
    and (BUILT / "classes" / "HapiR4.class").is_file()
)


@contextmanager
def serving(*command: str, cwd: Path = HERE) -> Iterator[str]:
    """Starts a server that takes its port as its last argument; its origin, once it says "ready"."""
    port = free_port()
    with subprocess.Popen(
        [*command, str(port)], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert any(line.strip() == "ready" for line in process.stdout), f"{command[-1]} did not start"
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def hapi() -> Any:
    """HAPI FHIR's JPA server, R4, with an H2 database in memory; INTEROP_HAPI names one that runs already."""
    if running := os.environ.get("INTEROP_HAPI"):
        return nullcontext(running)
    assert READY, NOT_BUILT
    return serving(str(JAVA), "-Xmx1500m", "-cp", f"{BUILT / 'classes'}:{BUILT / 'lib'}/*", "HapiR4")


def medplum() -> Any:
    """Medplum's FHIR router over its store in memory."""
    assert READY, NOT_BUILT
    return serving(str(NODE), "medplum_router.mjs")


class Charts:
    """The synthetic charts on one server, and a way to look at it and to put it back."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.base = f"{origin}/fhir/r4"
        self._session = requests.Session()
        # HAPI answers a search that was asked a minute ago as it did then, unless told not to.
        self._session.headers.update({"Content-Type": "application/fhir+json", "Cache-Control": "no-cache"})

    def close(self) -> None:
        self._session.close()

    def load(self, as_of: date, patients: Container[str]) -> list[str]:
        """Put these synthetic charts there; what the server would not take, a line each."""
        chosen = [
            *practice(),
            *(r for story, chart in charts(as_of, 1, 200) if story.id in patients for r in chart),
        ]
        refused = []
        for resource in sorted(chosen, key=_first_what_others_name):
            name = f"{resource['resourceType']}/{resource['id']}"
            answer = self._session.put(f"{self.base}/{name}", data=json.dumps(resource), timeout=60)
            if not answer.ok:
                refused.append(f"{name}: {answer.status_code} {answer.text[:300]}")
        return refused

    def get(self, path: str) -> Any:
        answer = self._session.get(f"{self.base}/{path}", timeout=60)
        assert answer.ok, answer.text
        return answer.json()

    def found(self, path: str) -> list[dict[str, Any]]:
        """The resources of a search's first page."""
        return [entry["resource"] for entry in self.get(path).get("entry", ())]

    def put(self, resource: dict[str, Any]) -> None:
        name = f"{resource['resourceType']}/{resource['id']}"
        answer = self._session.put(f"{self.base}/{name}", data=json.dumps(resource), timeout=60)
        assert answer.ok, answer.text

    def post(self, path: str, resource: dict[str, Any]) -> Any:
        return self._session.post(f"{self.base}/{path}", data=json.dumps(resource), timeout=60).json()

    def written(self, patient: str) -> list[dict[str, Any]]:
        """The charges that the app wrote for a patient."""
        return [
            charge
            for charge in self.found(f"ChargeItem?subject=Patient/{patient}&_count=200")
            if any(one["system"] == OURS for one in charge.get("identifier", ()))
        ]

    def take_back(self, patient: str) -> None:
        """Delete them, so that the next test finds the chart as it was."""
        for charge in self.written(patient):
            # A server that keeps references whole deletes nothing that a Provenance names.
            for told in self.found(f"Provenance?target=ChargeItem/{charge['id']}"):
                self._delete(f"Provenance/{told['id']}")
            self._delete(f"ChargeItem/{charge['id']}")

    def _delete(self, name: str) -> None:
        answer = self._session.delete(f"{self.base}/{name}", timeout=60)
        assert answer.ok, f"{name}: {answer.status_code}"


_ORDER = ("Organization", "Location", "Patient", "Practitioner", "PractitionerRole", "Device")


def _first_what_others_name(resource: dict[str, Any]) -> int:
    type_ = resource["resourceType"]
    return _ORDER.index(type_) if type_ in _ORDER else len(_ORDER)
