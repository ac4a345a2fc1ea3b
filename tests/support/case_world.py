"""A world whose EHR holds the chart of one worked case, and whose app has its site, on its day."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from datetime import date
from typing import Any
from urllib.parse import urlsplit

from smartapp import create_app
from smartapp.serving import AppServer
from smartapp.store.charges import Enrolment
from tests.support.chart import build_resources, site_file
from tests.support.evaluation import NEW_YORK, Case, as_yaml

PHYSICIAN = "Practitioner/syn-physician"
NURSE = "Practitioner/syn-nurse"
PATIENT = "nothing"
"""The sandbox's patient whose chart the case's becomes."""
SHARED = {"Practitioner", "PractitionerRole", "Organization", "Location", "DeviceMetric"}


class CaseWorld:
    """What a test does there, and reads."""

    def __init__(self, world: Any, browser: Any, case: Case) -> None:
        self.world, self.browser, self.case = world, browser, case
        self.page = world.open(browser, PATIENT)

    def answer(self) -> dict[str, Any]:
        told = self.browser.get(f"{self.page.url}decisions.json").body
        answer = json.loads(told.replace(f"Patient/{PATIENT}", "Patient/p1"))
        return {key: value for key, value in answer.items() if key not in {"resolutions", "attestations"}}

    def waiting(self, reason: str, codes: Collection[str] = ()) -> list[str]:
        """Keys of the decisions that are for review for a reason, in order."""
        return [
            f"{one['code']}-{one['period']['start']}"
            for one in self.answer()["decisions"]
            if one["outcome"] == "review" and reason in one["reasons"] and (not codes or one["code"] in codes)
        ]

    def outcome(self, key: str) -> str:
        code, _, start = key.partition("-")
        decisions = self.answer()["decisions"]
        return next(
            one["outcome"] for one in decisions if (one["code"], one["period"]["start"]) == (code, start)
        )

    def form(self, key: str, reason: str) -> Any:
        """The form to which the row of the decision leads, or the page where it says a reason once."""
        links = [target for target, _ in self.browser.get(self.page.url).links if "/settled/" in target]
        own = [target for target in links if target.endswith(f"/{key}/{reason}")]
        link = next(iter(own or [target for target in links if target.endswith("/rtm-and-rpm")]))
        return self.browser.get(link).form(f"/{reason}")

    def settle(self, key: str, reason: str, **said: str) -> Any:
        form = self.form(key, reason)
        names = {control.name for control in form.controls}
        scopes = [control.value for control in form.controls if control.name == "scope"]
        if scopes and "scope" not in said:
            said["scope"] = "these" if "choice" in said and "these" in scopes else "this"
        said = {"confirm": "yes", **said}
        return self.browser.submit(form, **{name: value for name, value in said.items() if name in names})

    def settle_as_the_case_does(self, reason: str, **changes: str) -> tuple[str, Any]:
        """Fill the form in with what the case says; the key it was opened from, and the page after it."""
        told = next(one for one in self.case.attestations if one["resolves"] == reason)
        expected = {one["code"] for one in expected_of(self.case)["decisions"]}
        waiting = self.waiting(reason, told.get("codes", expected)) or self.waiting(reason)
        key = waiting[0]
        said = {name: told[name] for name in ("choice", "reference", "until") if name in told}
        if "choice" in said:
            said["choice"] = said["choice"].rpartition(" as ")[2]
        return key, self.settle(key, reason, **(said | changes))

    def settled(self) -> Any:
        return self.browser.get(f"{self.page.url}settled")


def set_up(
    world: Any,
    case: Case,
    *,
    nurse: str = "clinical-staff",
    begun: bool = True,
    users: Iterable[dict[str, str]] = (),
    **site: Any,
) -> None:
    """Give a world that is not served yet the case's chart and site, and serve it. `begun`: somebody
    confirmed where the 30-day periods begin, so that older data are not in question."""
    payer = case.options[1] if "--payer" in case.options else case.payer
    told = site_file(case.timezone, payer, case.terminology) | dict(case.site) | site
    told["users"] = [{"user": PHYSICIAN, "role": "physician"}, {"user": NURSE, "role": nurse}, *users]
    place = world.settings.site_file
    for name, table in case.files.items():
        (place.parent / name).write_text(as_yaml(table))
    place.write_text(as_yaml(told))
    _hold(world, case)
    if begun:
        _begin_periods(world, case)
    port = urlsplit(world.settings.base_url).port
    world.stack.enter_context(AppServer(create_app(world.settings), "127.0.0.1", port))


def expected_of(case: Case) -> dict[str, Any]:
    """What the case says of its first patient."""
    found: dict[str, Any] = case.expect.get("patients", {"p1": case.expect})["p1"]
    return found


def _hold(world: Any, case: Case) -> None:
    """The sandbox's patient has the chart of the case's first one, and no other."""
    store = world.ehr.sandbox.store
    with store.database.read() as connection:
        held = connection.execute("SELECT type, id FROM resource WHERE patient = ?", (PATIENT,)).fetchall()
    for type_, id_ in held:
        store.delete(type_, id_)
    for resource in build_resources(case.given, NEW_YORK):
        text = json.dumps(resource).replace("Patient/p1", f"Patient/{PATIENT}")
        if resource["resourceType"] == "Patient":
            text = json.dumps({**resource, "id": PATIENT})
        if "Patient/p2" in text or resource["id"] == "p2":
            continue
        body = json.loads(text)
        shared = resource["resourceType"] in SHARED
        store.load_as_it_is(text, body["resourceType"], body["id"], None if shared else PATIENT)


def _begin_periods(world: Any, case: Case) -> None:
    first = min(date.fromisoformat(one["days"]["from"]) for one in case.given if "days" in one)
    for program in ("rtm", "rpm"):
        enrolment = Enrolment(
            "sandbox", PATIENT, program, first, "enrolment-record", PHYSICIAN, world.now(), False
        )
        assert world.store.charges.confirm_anchor(enrolment)
