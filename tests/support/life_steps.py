"""What may happen to a charge: steps of clinics, of billing and of the EHR."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlsplit

from smartapp.store.claims import HANDED, ChargeState
from smartapp.store.denials import DenialState, Denied
from tests.support.life_truth import BY, ISSUER, PHYSICIAN, Known, Watched, service_of


class Steps(Watched):
    """Each step says what it did, or None where there was nothing to do."""

    def accept(self) -> str | None:
        who = self.actor
        page = self.look(who)
        links = [t for t, text in page.links if text.startswith("Review and accept")]
        together = [t for t, text in page.links if text.startswith("Accept ") and "together" in text]
        choice = self.rng.choice([*links, *together * 2]) if links else None
        if choice is None:
            return None
        return self._accept(who, choice)

    def _accept(self, who: str, link: str) -> str:
        form = self.world.form_at(self.browsers[who], link)
        key = urlsplit(link).path.rsplit("/", 1)[1]
        self.old_forms.append((who, form))
        if self.rng.random() < 0.15:
            return f"{who} prepares {key}"
        self.submit(who, form)
        if self.rng.random() < 0.25:
            self.submit(who, form)
            return f"{who} accepts {key} twice"
        return f"{who} accepts {key}"

    def press_old(self) -> str | None:
        if not self.old_forms:
            return None
        who, form = self.rng.choice(self.old_forms)
        page = self.submit(who, form)
        return f"{who} presses an old form of {urlsplit(form.action).path.rsplit('/', 1)[1]}: {page.status}"

    def refresh(self) -> str:
        who = self.actor
        self.read_again(who)
        return f"{who} reads again"

    def withdraw(self, who: str = "") -> str | None:
        who = who or self.actor
        page = self.look(who)
        links = [t for t, text in page.links if text == "Withdraw it"]
        if not links:
            return None
        asked = self.get(who, self.rng.choice(links))
        if not [f for f in asked.forms if urlsplit(f.action).path.endswith("/withdraw")]:
            return f"{who} cannot withdraw: {asked.status}"
        check = self.submit(who, asked.form("/withdraw"), reason="Synthetic words.")
        forms = [f for f in check.forms if "/changes/" in f.action]
        if not forms:
            return f"{who} cannot withdraw: {check.status}"
        done = self.submit(who, forms[-1])
        return f"{who} withdraws: {done.status}"

    def change(self, who: str = "") -> str | None:
        who = who or self.actor
        page = self.look(who)
        links = [(t, text) for t, text in page.links if text.startswith("Review this change of")]
        if not links:
            return None
        target, text = self.rng.choice(links)
        asked = self.get(who, target)
        forms = [f for f in asked.forms if "/changes/" in f.action]
        if not forms:
            return f"{who} cannot change: {asked.status}"
        form = forms[-1]
        self.old_forms.append((who, form))
        statements = [c.value for c in form.controls if c.name == "attest"]
        done = self.submit(who, form, **({"attest": statements} if statements else {}))
        return f"{who}: {text}: {done.status}"

    def unfinished(self, who: str = "") -> str | None:
        """Go on with, or leave, changes and charges without an end."""
        who = who or self.actor
        for change in self.world.store.changes.of_patient(ISSUER, self.patient):
            if change.state in {ChargeState.TAKEN_BACK, ChargeState.UNKNOWN, ChargeState.SENT}:
                page = self.look(who, f"changes/of/{change.id}")
                forms = [f for f in page.forms if f.action.endswith(("/again", "/leave"))]
                if forms:
                    form = self.rng.choice(forms)
                    self.submit(who, form)
                    return f"{who} goes on with a change: {form.action.rsplit('/', 1)[1]}"
        for row in self.rows():
            if row.state in {ChargeState.UNKNOWN, ChargeState.SENT}:
                page = self.look(who, f"charges/{row.content.decision}/result")
                forms = [f for f in page.forms if f.action.endswith("/again")]
                if forms:
                    self.submit(who, forms[0])
                    return f"{who} asks again of {row.content.decision}"
        return None

    def approve(self, who: str = "", yes: bool | None = None) -> str | None:
        who = who or self.actor
        page = self.look(who)
        links = [t for t, text in page.links if "approve" in text.lower()]
        if not links:
            return None
        asked = self.get(who, self.rng.choice(links))
        yes = self.rng.random() < 0.7 if yes is None else yes
        no = [f for f in asked.forms if f.action.endswith("/decline")]
        if not yes:
            if not no:
                return None
            return f"{who} declines: {self.submit(who, no[0], reason='Synthetic words.').status}"
        forms = [
            f
            for f in asked.forms
            if f.action.endswith("/approve") or ("/approvals/" in f.action and f not in no)
        ]
        if not forms:
            return None
        self.old_forms.append((who, forms[0]))
        return f"{who} approves: {self.submit(who, forms[0]).status}"

    def worksheet(self, who: str = "", back: bool | None = None) -> str | None:
        who = who or self.actor
        sheet = self.look(who, "worksheet")
        wanted = {None: ("I entered it in billing", "Take it back"), True: ("Take it back",)}[back]
        links = [(t, text) for t, text in sheet.links if text in wanted]
        if not links:
            return None
        target, text = self.rng.choice(links)
        asked = self.get(who, target)
        if text == wanted[-1]:
            form = asked.form("/take-back")
            ticks = any(c.name == "gone" for c in form.controls)
            done = self.submit(who, form, reason="Synthetic words.", **({"gone": "yes"} if ticks else {}))
        else:
            form = asked.form("/entered")
            done = self.submit(who, form, entered="yes")
        self.old_forms.append((who, form))
        return f"{who}: {text}: {done.status}"

    def month(self, who: str = "", reopen: bool | None = None) -> str | None:
        who = who or "physician"
        page = self.look(who)
        links = [t for t, text in page.links if text == "Certified months"]
        if not links:
            return None
        months = self.get(who, links[0])
        keys = [t for t, _ in months.links if re.search(r"/\d{4}-\d{2}$", t)]
        for key in self.rng.sample(keys, len(keys)):
            one = self.get(who, key)
            for form in one.forms:
                if form.action.endswith("/reopen") and reopen is not False:
                    self.submit(who, form, reason="Synthetic words.")
                    return f"{who} reopens {key[-7:]}"
                if form.action.endswith("/certify") and not reopen:
                    asks = any(c.name == "uncharged" for c in form.controls)
                    self.submit(who, form, **({"uncharged": "yes"} if asks else {}))
                    return f"{who} certifies {key[-7:]}"
        return None

    def deny(self) -> str | None:
        rows = [
            row for row in self.rows() if row.state in {ChargeState.CONFIRMED, ChargeState.WITHDRAWN, *HANDED}
        ]
        if not rows:
            return None
        row = self.rng.choice(rows)
        day = row.content.service_date or self.world.today
        self.world.store.denials.record([Denied(row.identifier, day, "50")], BY, self.world.now())
        return f"{row.content.decision} ({row.state.value}) is denied"

    def follow_up(self, state: DenialState | None = None) -> str | None:
        found = [one for one in self.world.store.denials.of_patient(ISSUER, self.patient) if one.stands]
        if not found:
            return None
        one = self.rng.choice(found)
        state = state or self.rng.choice(
            [DenialState.CORRECTED, DenialState.APPEALED, DenialState.WRITTEN_OFF, DenialState.TAKEN_BACK]
        )
        self.world.store.denials.follow_up(one, state, BY, self.world.now())
        return f"a denial is {state.value}"

    def _pick(self, of_app: bool = True) -> str | None:
        live = [name for name, one in self.live().items() if one.of_app or not of_app]
        return self.rng.choice(live) if live else None

    def ehr_status(self) -> str | None:
        name = self._pick()
        if name is None:
            return None
        status = self.rng.choice(
            [
                "entered-in-error",
                "entered-in-error",
                "billed",
                "billable",
                "aborted",
                "not-billable",
                "unknown",
            ]
        )
        with self.by_others():
            self.world.ehr_changes("ChargeItem", name, status=status)
        return f"the EHR makes {self.known[name].service.code} {status}"

    def ehr_deletes(self) -> str | None:
        name = self._pick()
        if name is None:
            return None
        with self.by_others():
            self.world.ehr.sandbox.store.delete("ChargeItem", name)
        return f"the EHR deletes {self.known[name].service.code}"

    def ehr_renames(self) -> str | None:
        """Given back with another id."""
        name = self._pick()
        if name is None:
            return None
        body = self.held()[name]
        with self.by_others():
            self.world.ehr.sandbox.store.delete("ChargeItem", name)
            new = self.world.ehr_creates({k: v for k, v in body.items() if k not in {"id", "meta"}})
        self.known[new] = self.known.pop(name)
        return f"the EHR gives {self.known[new].service.code} another id"

    def ehr_rewrites(self) -> str | None:
        name = self._pick()
        if name is None:
            return None
        known, body = self.known[name], self.held()[name]
        code = known.service.code
        shapes: dict[str, Any] = {
            "no identifier": {"identifier": []},
            "other identifier": {"identifier": [{"system": "urn:ehr", "value": "7"}]},
            "prefix": {"code": {"coding": [{"system": "urn:ehr:procedures", "code": f"CPT-{code}"}]}},
            "modifier": {"code": {"coding": [{"system": "urn:ehr:procedures", "code": f"{code}-GP"}]}},
            "text": {
                "code": {"coding": [{"system": "urn:ehr:procedures", "code": "7"}], "text": f"CPT(R) {code}"}
            },
            "quantity": {"quantity": {"value": 2}},
            "no code": {"code": {"coding": [{"system": "urn:ehr:procedures", "code": "7"}]}},
        }
        kind = self.rng.choice(list(shapes))
        more = shapes[kind]
        if kind == "no code" and not body.get("identifier"):
            return None
        if kind == "no identifier" and code not in json.dumps(body["code"]):
            return None
        with self.by_others():
            changed = {**body, **more}
            if not changed.get("identifier"):
                changed.pop("identifier", None)
            self.world.ehr.sandbox.store.update(changed, None)
        return f"the EHR rewrites {code}: {kind}"

    def ehr_duplicate(self) -> str | None:
        """Somebody else charges something that was, or could be, charged from here."""
        rows = self.rows()
        if not rows:
            return None
        body = dict(self.rng.choice(rows).content.resource)
        body.pop("identifier")
        body.pop("definitionUri", None)
        body["status"] = self.rng.choice(["billable", "planned", "billed"])
        with self.by_others():
            new = self.world.ehr_creates(body)
        self.known[new] = Known(service_of(body), False, body)
        return f"somebody else charges {self.known[new].service.code}"

    def ehr_takes_duplicate_back(self) -> str | None:
        found = [name for name, one in self.live().items() if not one.of_app]
        if not found:
            return None
        with self.by_others():
            self.world.ehr_changes("ChargeItem", found[0], status="entered-in-error")
        return "somebody else takes theirs back"

    def record(self) -> str | None:
        """An Encounter or a run of readings becomes an error, or stands again."""
        if self.changed_records and self.rng.random() < 0.5:
            self.restore()
            return "the record stands again"
        type_ = self.rng.choice(["Encounter", "Observation"])
        found = [
            one for one in self.world.resources(type_, self.patient) if one["status"] in {"finished", "final"}
        ]
        if not found:
            return None
        number = 1 if type_ == "Encounter" else min(len(found), self.rng.choice([1, 4, 10]))
        with self.by_others():
            for one in self.rng.sample(found, min(number, len(found))):
                self.changed_records.setdefault((type_, one["id"]), one)
                self.world.ehr_changes(type_, one["id"], status="entered-in-error")
        return f"{number} {type_} in error"

    def restore(self) -> None:
        with self.by_others():
            for (type_, name), one in self.changed_records.items():
                self.world.ehr_changes(type_, name, status=one["status"])
        self.changed_records.clear()

    def log_time(self) -> str | None:
        """Time is logged and signed, or what was is withdrawn."""
        page = self.look("physician", "time")
        signed = [one for one in self.world.store.time_log.of_patient(ISSUER, self.patient) if one.counts]
        if signed and self.rng.random() < 0.5:
            return self._withdraw_time()
        hour, length = self.rng.randrange(7, 20), self.rng.choice([8, 12, 25])
        typed = {
            "day": f"2026-03-{self.rng.randrange(2, 30):02}",
            "start": f"{hour:02}:00",
            "end": f"{hour:02}:{length}" if length > 9 else f"{hour:02}:0{length}",
            "person": PHYSICIAN,
            "program": "rpm" if self.patient == "ready-physiologic" else "rtm",
            "activity": "phone-call",
            "live": "yes",
            "note": "Synthetic words",
        }
        entry = self.submit("physician", page.form("/time"), **typed)
        if entry.status != 200:
            return f"time is not logged: {entry.status}"
        done = self.submit("physician", entry.form("/sign"), confirm="yes")
        return f"{length} minutes are logged: {done.status}"

    def _withdraw_time(self) -> str | None:
        found = [one for one in self.world.store.time_log.of_patient(ISSUER, self.patient) if one.counts]
        if not found:
            return None
        entry = self.look("physician", f"time/{self.rng.choice(found).id}")
        forms = [form for form in entry.forms if form.action.endswith("/withdraw")]
        if not forms:
            return f"an entry cannot be withdrawn: {entry.status}"
        return f"an entry is withdrawn: {self.submit('physician', forms[0]).status}"

    def fault(self) -> str:
        fault = self.rng.choice(["422", "503", "done-503"])
        self.faults[:] = [fault, *(["dark"] * self.rng.choice([0, 0, 1, 3]))]
        return f"the EHR will answer {self.faults}"

    STEPS = (
        ("accept", 6),
        ("press_old", 2),
        ("refresh", 2),
        ("withdraw", 2),
        ("change", 3),
        ("unfinished", 2),
        ("approve", 3),
        ("worksheet", 3),
        ("month", 1),
        ("deny", 2),
        ("follow_up", 1),
        ("ehr_status", 2),
        ("ehr_deletes", 1),
        ("ehr_renames", 1),
        ("ehr_rewrites", 2),
        ("ehr_duplicate", 1),
        ("ehr_takes_duplicate_back", 1),
        ("record", 3),
        ("log_time", 3),
        ("fault", 1),
    )

    def step(self) -> None:
        names, weights = zip(*self.STEPS, strict=True)
        for _ in range(30):
            name = self.rng.choices(names, weights)[0]
            if name == "approve" and not self.site.startswith(("approval", "both")):
                continue
            if name == "worksheet" and not self.site.startswith("worksheet"):
                continue
            if name == "month" and "lock" not in self.site and self.site != "both":
                continue
            said = getattr(self, name)()
            if said is not None:
                self.told.append(said)
                if name != "fault":
                    self.faults.clear()
                return
