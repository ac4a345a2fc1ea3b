"""A stub as EHR, in a process of its own: it replays synthetic charts, and decides nothing.

`python -m bench.replay READINGS` prints its address and serves until its standard input ends. Whoever
launches names the patient by number (`patient_id`); the numbers from `LONG_FROM` on have the long chart. A
line on standard input is how many milliseconds each answer to a FHIR request waits from then on.
"""

from __future__ import annotations

import gzip
import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from bench.charts import AS_OF, PATIENT, ZONE, chart_lines
from launch.sandbox.keys import SigningKey

CLIENT = "synthetic-client"
LONG_FROM = 50_000
NINETY_DAYS = timedelta(days=90)
NOON = datetime(AS_OF.year, AS_OF.month, AS_OF.day, 12, tzinfo=ZONE)
"""What its clock shows, and that of the app beside it, always."""

_READINGS = "Observation"
_FHIR = {"Content-Type": "application/fhir+json", "Content-Encoding": "gzip"}
_CHARGE_ITEM = {
    "type": "ChargeItem",
    "interaction": [{"code": code} for code in ("create", "read", "update", "search-type")],
    "conditionalCreate": True,
}
_STATEMENT = {
    "resourceType": "CapabilityStatement",
    "status": "active",
    "fhirVersion": "4.0.1",
    "rest": [{"mode": "server", "resource": [_CHARGE_ITEM], "interaction": [{"code": "batch"}]}],
}
_KEY = SigningKey()
Resource = tuple[str, bytes]
"""Its id and its bytes."""


def patient_id(number: int) -> str:
    return f"synthetic-patient-{number:05d}"


def short_chart() -> list[bytes]:
    """A reading on each of the last ninety days, and the conversations of these days."""
    first = (AS_OF - NINETY_DAYS).isoformat()
    return [line for line in chart_lines(365, 40) if _day_of(line) >= first]


class Charts:
    """The resources of one chart, as a search finds them."""

    def __init__(self, lines: list[bytes]) -> None:
        self.by_type: dict[str, list[Resource]] = {}
        for line in lines:
            told = json.loads(line)
            self.by_type.setdefault(told["resourceType"], []).append((told["id"], line.rstrip()))
        self.by_type.get(_READINGS, []).sort(key=lambda one: _day_of(one[1]))
        self._days = [_day_of(text) for _, text in self.by_type.get(_READINGS, ())]

    def read(self, type_: str, id_: str) -> bytes | None:
        return dict(self.by_type.get(type_, ())).get(id_)

    def found(self, type_: str, asked: Mapping[str, list[str]]) -> list[Resource]:
        """What a search by patient, date, category, code or `_id` finds."""
        every = self.by_type.get(type_, [])
        if "_id" in asked:
            return [one for one in every if one[0] in asked["_id"][0].split(",")]
        if "patient" not in asked and "subject" not in asked:
            return []
        if type_ == _READINGS:
            every = self._readings(asked)
        return every

    def _readings(self, asked: Mapping[str, list[str]]) -> list[Resource]:
        if asked.get("category", ["vital-signs"]) != ["vital-signs"]:
            return []
        codes = {part.rpartition("|")[2].encode() for part in asked.get("code", [""])[0].split(",")} - {b""}
        first = min((text[2:] for text in asked.get("date", ()) if text[:2] == "ge"), default="")
        end = max((text[2:] for text in asked.get("date", ()) if text[:2] == "lt"), default="9999")
        return [
            one
            for day, one in zip(self._days, self.by_type.get(_READINGS, ()), strict=True)
            if first <= day < end and (not codes or any(b'"%s"' % code in one[1] for code in codes))
        ]


def _day_of(line: bytes) -> str:
    """The day that an Observation or Encounter says first; of all others one that is after every day."""
    for mark in (b'"effectiveDateTime":"', b'"period":{"start":"'):
        _, found, after = line.partition(mark)
        if found:
            return after[:10].decode()
    return "9998"


class Replay:
    """Gives each request the same answer every time."""

    def __init__(self, base: str, charts: Mapping[bool, Charts]) -> None:
        """`charts`: the short one, and under True the long one."""
        self.base = base
        self._charts = charts
        self._searched = cache(self._search)

    def answer(self, method: str, target: str, form: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        url = urlsplit(target)
        path = url.path.removeprefix("/fhir").strip("/")
        if not url.path.startswith("/fhir") or path.startswith(".well-known"):
            return self._signing_in(path, parse_qs(form.decode()))
        if path == "metadata":
            return 200, _FHIR, gzip.compress(json.dumps(_STATEMENT).encode(), 1)
        if method == "POST" and path == "":
            return 501, {}, b""
        patient, type_ = _whose(target), path.split("/")[0]
        if "/" not in path:
            page = self._searched(type_, url.query.replace(patient, PATIENT), _is_long(patient))
            return 200, _FHIR, page if patient == PATIENT else _renamed(page, patient)
        found = next(
            (text for chart in self._charts.values() if (text := self._read(chart, path, patient))), None
        )
        return (404, {}, b"") if found is None else (200, _FHIR, gzip.compress(found, 1))

    def _read(self, chart: Charts, path: str, patient: str) -> bytes | None:
        type_, _, id_ = path.partition("/")
        found = chart.read(type_, id_.replace(patient, PATIENT))
        return None if found is None else found.replace(PATIENT.encode(), patient.encode())

    def _search(self, type_: str, query: str, long: bool) -> bytes:
        """One page, compressed, and the links to itself and the next one."""
        asked = parse_qs(query)
        found = self._charts[long].found(type_, asked)
        count, first = int(asked.get("_count", ["100"])[0]), int(asked.get("_from", ["0"])[0])
        links = [{"relation": "self", "url": f"{self.base}/{type_}?{query}"}]
        if first + count < len(found):
            rest = {name: values for name, values in asked.items() if name != "_from"}
            following = urlencode({**rest, "_from": first + count}, doseq=True)
            links.append({"relation": "next", "url": f"{self.base}/{type_}?{following}"})
        entries = b",".join(
            b'{"fullUrl":"%s/%s/%s","resource":%s,"search":{"mode":"match"}}'
            % (self.base.encode(), type_.encode(), id_.encode(), text)
            for id_, text in found[first : first + count]
        )
        head = {"resourceType": "Bundle", "type": "searchset", "total": len(found), "link": links}
        body = b'%s,"entry":[%s]}' % (json.dumps(head).encode()[:-1], entries)
        return gzip.compress(body, 6)

    def _signing_in(self, path: str, form: Mapping[str, list[str]]) -> tuple[int, dict[str, str], bytes]:
        told: dict[str, Any]
        origin = self.base.removesuffix("/fhir")
        if path == "jwks":
            told = _KEY.jwks()
        elif path == "token":
            number, _, nonce = form["code"][0].partition(".")
            told = {
                "access_token": "synthetic",
                "token_type": "Bearer",
                "expires_in": 3600,
                "patient": patient_id(int(number)),
                "id_token": _KEY.sign(self._claims(nonce)),
            }
        else:
            told = {
                "issuer": origin,
                "authorization_endpoint": f"{origin}/authorize",
                "token_endpoint": f"{origin}/token",
                "jwks_uri": f"{origin}/jwks",
                "capabilities": ["launch-ehr", "client-public", "sso-openid-connect", "permission-v2"],
                "code_challenge_methods_supported": ["S256"],
            }
        return 200, {"Content-Type": "application/json"}, json.dumps(told).encode()

    def _claims(self, nonce: str) -> dict[str, Any]:
        return {
            "iss": self.base.removesuffix("/fhir"),
            "sub": "synthetic-physician",
            "aud": CLIENT,
            "nonce": nonce,
            "iat": int((NOON - timedelta(days=1)).timestamp()),
            "exp": int((NOON + timedelta(days=300)).timestamp()),
            "fhirUser": f"{self.base}/Practitioner/synthetic-physician",
        }


def _whose(target: str) -> str:
    """The patient that a target names; the chart's own where it names none."""
    place = target.find(PATIENT[:-5])
    return target[place : place + len(PATIENT)] if place >= 0 else PATIENT


def _is_long(patient: str) -> bool:
    return int(patient[-5:]) >= LONG_FROM


def _renamed(page: bytes, patient: str) -> bytes:
    return gzip.compress(gzip.decompress(page).replace(PATIENT.encode(), patient.encode()), 1)


def pages_of(number: int, readings: int, count: int) -> Iterator[bytes]:
    """The compressed pages of one patient's readings, as they are replayed."""
    chart = Charts(list(chart_lines(readings)) if number >= LONG_FROM else short_chart())
    replay = Replay("http://127.0.0.1/fhir", {number >= LONG_FROM: chart})
    for first in range(0, len(chart.by_type[_READINGS]), count):
        query = f"patient={patient_id(number)}&_count={count}&_from={first}"
        yield replay.answer("GET", f"/fhir/{_READINGS}?{query}", b"")[2]


def serve(readings: int) -> None:
    """Until standard input ends. `readings`: of the long chart."""
    charts = {False: Charts(short_chart()), True: Charts(list(chart_lines(readings)))}
    delay = 0.0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        disable_nagle_algorithm = True

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path.startswith("/fhir") and "/.well-known/" not in self.path:
                time.sleep(delay)
            status, headers, content = replay.answer(self.command, self.path, body)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer  # noqa: N815

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(NOON.timestamp() if timestamp is None else timestamp)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    replay = Replay(f"http://127.0.0.1:{server.server_port}/fhir", charts)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(replay.base, flush=True)
    for line in sys.stdin:
        delay = int(line) / 1000
        print("done", flush=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
