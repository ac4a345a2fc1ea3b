"""A patient's charges as they truly are, whatever the EHR says of them, and the pages that people see."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from smartapp.commands.demo_check import Browser, Form, Page
from smartapp.store.charges import Charge
from smartapp.store.claims import HANDED, ChargeState
from smartapp.store.denials import DenialContent
from tests.oracle import DEVICE_CODES, LINES
from tests.smartapp.conftest import World
from tests.smartapp.test_page_words import assert_readable
from tests.support.evaluation import EXCLUDED_PAIRS
from tests.support.sandbox import LONG

OURS = "urn:smart-remote-monitoring:charge"
ISSUER = "sandbox"
PATIENTS = ("ready-respiratory", "ready-musculoskeletal", "ready-cognitive", "ready-physiologic")
PHYSICIAN, THERAPIST = "Practitioner/syn-physician", "Practitioner/syn-therapist"
TAKEN_BACK = {"entered-in-error", "aborted", "not-billable"}
SITES = {
    "plain": {},
    "approval": {"site_more": "second_approval: true\n"},
    "lock": {"site_more": "lock_certified_months: true\n"},
    "both": {"site_more": "second_approval: true\nlock_certified_months: true\n"},
    "worksheet": {"issuer_more": 'write = {charge_item = "no"}\n'},
    "worksheet-lock": {
        "site_more": "lock_certified_months: true\n",
        "issuer_more": 'write = {charge_item = "no"}\n',
    },
}
BY = DenialContent("Practitioner/7")

#: Of each program the device codes, of which a period bears one.
DEVICE = [{code for line in lines for code in DEVICE_CODES.get(line, ())} for lines in LINES.values()]
EXCLUDE = [set(pair) for pair in EXCLUDED_PAIRS]


class Wrong(AssertionError):
    """What must never be so."""


class Service(NamedTuple):
    """What a charge, truly, stands for, whatever its resource says meanwhile."""

    code: str
    start: date
    end: date

    def excludes(self, other: Service) -> bool:
        if self.code == other.code == "98975" or self.code == other.code == "99453":
            return True
        if self.end < other.start or other.end < self.start:
            return False
        codes = {self.code, other.code}
        return len(codes) == 1 or codes in EXCLUDE or any(codes <= family for family in DEVICE)


def service_of(resource: dict[str, Any]) -> Service:
    period = resource.get("occurrencePeriod")
    if period is None:
        day = date.fromisoformat(resource["occurrenceDateTime"][:10])
        return Service(resource["code"]["coding"][0]["code"], day, day)
    return Service(
        resource["code"]["coding"][0]["code"],
        date.fromisoformat(period["start"][:10]),
        date.fromisoformat(period["end"][:10]),
    )


@dataclass
class Known:
    """A charge of the EHR as it truly is."""

    service: Service
    of_app: bool
    body: dict[str, Any]


class Watched:
    """One patient of one world."""

    def __init__(self, world: World, patient: str, site: str, rng: random.Random) -> None:
        self.world, self.patient, self.rng = world, patient, rng
        self.site = site
        self.stack = ExitStack()
        self.told: list[str] = []
        self.known: dict[str, Known] = {}
        self.broken: list[str] = []
        self.addresses: dict[str, str] = {}
        self.browsers = {
            name: self.stack.enter_context(closing(Browser(LONG)))
            for name in ("physician", "therapist", "checker")
        }
        self.users = {"physician": None, "therapist": THERAPIST, "checker": None}
        self.old_forms: list[tuple[str, Form]] = []
        self.changed_records: dict[tuple[str, str], dict[str, Any]] = {}
        self.elsewhere = False
        self.faults: list[str] = []
        self._watch()

    # The EHR

    def _watch(self) -> None:
        store = self.world.ehr.sandbox.store
        app = self.world.ehr.app
        create, update, answer = store.create, store.update, app.wsgi_app

        def created(resource, finder=None):
            before = None
            if resource.get("resourceType") == "ChargeItem" and not self.elsewhere:
                before = self.standing(but=key_of(resource))
            stored, new = create(resource, finder)
            body = json.loads(stored.body)
            if body.get("resourceType") == "ChargeItem" and new:
                service = service_of(body)
                if before is not None:
                    self.known[body["id"]] = Known(service, True, body)
                    for name, other in before:
                        if service.excludes(other):
                            self.broken.append(f"{service} was written beside {name} {other}")
            return stored, new

        def updated(resource, *more):
            if resource.get("resourceType") == "ChargeItem" and not self.elsewhere:
                body = json.loads(store.read("ChargeItem", resource["id"]).body)
                if body["status"] != "planned":
                    self.broken.append(f"a charge that is {body['status']} was changed from here")
            return update(resource, *more)

        def answered(environ, start_response):
            method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
            writes = method in {"POST", "PUT"} and "/ChargeItem" in path and not path.endswith("_search")
            asks = "ChargeItem" in path and not writes
            fault = self.faults[0] if self.faults else ""
            if writes and fault in {"422", "503", "done-503"}:
                self.faults.pop(0)
                if fault == "done-503":
                    answer(environ, lambda *_: lambda _: None)
                status = "422 Unprocessable" if fault == "422" else "503 Service Unavailable"
                start_response(status, [("Content-Type", "application/fhir+json")])
                return [b'{"resourceType": "OperationOutcome"}']
            if asks and fault == "dark" and method == "GET":
                self.faults.pop(0)
                start_response("503 Service Unavailable", [("Content-Type", "application/fhir+json")])
                return [b'{"resourceType": "OperationOutcome"}']
            return answer(environ, start_response)

        store.create, store.update, app.wsgi_app = created, updated, answered

        def back() -> None:
            store.create, store.update, app.wsgi_app = create, update, answer

        self.stack.callback(back)

    @contextmanager
    def by_others(self) -> Iterator[None]:
        self.elsewhere = True
        try:
            yield
        finally:
            self.elsewhere = False

    def held(self) -> dict[str, dict[str, Any]]:
        return {one["id"]: one for one in self.world.charges(self.patient)}

    def live(self) -> dict[str, Known]:
        held = self.held()
        return {
            name: one
            for name, one in self.known.items()
            if name in held and held[name]["status"] not in TAKEN_BACK
        }

    def rows(self) -> tuple[Charge, ...]:
        return self.world.store.charges.of_patient(ISSUER, self.patient)

    def denied(self) -> set[str]:
        found = self.world.store.denials.of_patient(ISSUER, self.patient)
        return {one.identifier for one in found if one.stands}

    def corrections(self, row: Charge) -> Iterator[str]:
        """Identifiers of what was written in its place, one after the other."""
        items = {one.identifier: one.charge_item for one in self.rows()}
        after = {
            change.charge_item: change.content.new.identifier
            for change in self.world.store.changes.of_patient(ISSUER, self.patient)
            if change.content.new is not None
        }
        seen, one = set(), row.identifier
        while one is not None and one not in seen:
            seen.add(one)
            one = after.get(items.get(one))
            if one is not None:
                yield one

    def standing(self, but: str = "") -> list[tuple[str, Service]]:
        """Everything that stands charged, truly. `but`: of this charge that is about to be written, not what
        it corrects."""
        live = self.live()
        found = [(name, one.service) for name, one in live.items()]
        keys = {key_of(one) for name, one in self.held().items() if name in live}
        # The EHR may have taken our identifier and the id away: such a charge may be the denied one.
        nameless = {
            known.service
            for name, known in live.items()
            if known.of_app and key_of(self.held()[name]) is None
        }
        denied = self.denied()
        for row in self.rows():
            if row.identifier == but:
                continue
            service = service_of(row.content.resource)
            corrected = set(self.corrections(row))
            if row.state in HANDED or row.state is ChargeState.TO_ENTER:
                found.append((f"row {row.state.value}", service))
            elif (
                row.identifier in denied
                and not ({row.identifier} | corrected) & keys
                and row.charge_item not in live
                and but not in corrected
                and service not in nameless
            ):
                found.append(("denied", service))
        return found

    # Pages

    def look(self, who: str, path: str = "") -> Page:
        browser = self.browsers[who]
        if who not in self.addresses:
            page = self.world.open(browser, self.patient, user=self.users[who])
            self.addresses[who] = page.url
        page = browser.get(self.addresses[who])
        page = self.world.read(browser, page)
        return self.fine(page if not path else browser.get(self.addresses[who] + path))

    def fine(self, page: Page) -> Page:
        if page.status >= 500:
            raise Wrong(f"{page.status} at {urlsplit(page.url).path}: {page.text[:300]}")
        if "html" in page.headers.get("Content-Type", ""):
            assert_readable(page)
        return page

    def read_again(self, who: str) -> Page:
        browser = self.browsers[who]
        page = self.look(who)
        return self.fine(self.world.read(browser, browser.submit(page.form("/read"))))

    def submit(self, who: str, form: Form, **filled: Any) -> Page:
        return self.fine(self.browsers[who].submit(form, **filled))

    def get(self, who: str, address: str) -> Page:
        return self.fine(self.browsers[who].get(address))

    @property
    def actor(self) -> str:
        return self.rng.choice(("physician", "physician", "therapist"))


def key_of(body: dict[str, Any]) -> str | None:
    for one in body.get("identifier") or ():
        if one.get("system") == OURS:
            return f"{OURS}|{one['value']}"
    return None
