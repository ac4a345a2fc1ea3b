"""Accepting a charge: choose and confirm, see exactly what will be written, write it once, see the result.

What has one possible answer is chosen beforehand, every statement is ticked by a person, and nothing is
written by a single click: the choices come first, then the very resource that will be sent, then the write.
What was said so far goes along in the addresses, sealed, so that Back and reload show it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from dataclasses import replace as replace_case
from datetime import datetime, timedelta

import msgspec
from flask import Blueprint, Response, abort, g, make_response, redirect, render_template, request, url_for
from msgspec.structs import replace
from werkzeug.wrappers import Response as AnyResponse

from fhir_mappings.charge_item import (
    PERFORMING,
    ChargeDetails,
    ChargeNotValid,
    Diagnosis,
    Performer,
    charge_item,
    performer_in,
)
from fhir_mappings.decision import Decision
from fhir_mappings.vocabulary import DISCIPLINES, Outcome, Program, Role
from smartapp.ehr.charges.create import Acceptance, counts_minutes
from smartapp.ehr.charges.workflow import Result, Step
from smartapp.ehr.reading.display import Choice
from smartapp.ehr.reading.findings import Findings, ForTheForm
from smartapp.services import services
from smartapp.site_file import BILLING_PROFESSIONALS
from smartapp.store.charges import Charge, Leaving
from smartapp.store.claims import HANDED, ChargeState
from smartapp.store.reading import Snapshot
from smartapp.store.vault import SealBroken
from smartapp.web import own_pages, words
from smartapp.web.audit_record import record_of
from smartapp.web.cards import card_view, kept_here, rules_not_confirmed
from smartapp.web.errors import error_page
from smartapp.web.gaps import gaps_of
from smartapp.web.leaving import chosen_here, kept, leaving_of, shown
from smartapp.web.permission import ROLES, Action, looking_refusal, refused_here
from smartapp.web.security import Moved, require_same
from smartapp.web.waiting import client_here
from smartapp.web.windows import ACCEPTABLE

pages = Blueprint("charges", __name__, url_prefix="/s/<sid>/charges/<key>")

NONE = "none"
"""Chosen on purpose: the charge goes without it, and billing has to add it."""
PREVIEW_LIFE = timedelta(minutes=30)
FIELDS = ("diagnosis", "performing", "ordering", "place")
NEVER_PERFORM = frozenset({Role.THERAPIST_ASSISTANT, Role.CLINICAL_STAFF, Role.NON_CLINICAL})
"""Who can neither order nor bill: they are not offered. Whose role nobody knows is."""


@dataclass(frozen=True)
class Field:
    """One thing a claim line needs: what it is called, what may be chosen, what its absence means."""

    name: str
    title: str
    choices: tuple[Choice, ...]
    missing: str


class Draft(msgspec.Struct, frozen=True):
    """What was said so far of one charge in one session, as it goes along in an address."""

    session: str
    key: str
    attested: tuple[str, ...]
    chosen: dict[str, str]
    entered_at: datetime


@dataclass(frozen=True)
class Form:
    """What the clinician said so far."""

    attested: frozenset[str]
    chosen: dict[str, str]

    @classmethod
    def sent(cls) -> Form:
        return cls(
            frozenset(request.form.getlist("attest")), {name: request.form.get(name, "") for name in FIELDS}
        )

    def draft(self, key: str, entered_at: datetime) -> str:
        """Sealed: the EHR's own ids stay out of addresses."""
        draft = Draft(g.session.id, key, tuple(sorted(self.attested)), self.chosen, entered_at)
        return services().store.vault.seal_text(msgspec.json.encode(draft).decode(), _of_draft(draft.key))


@dataclass(frozen=True)
class Case:
    """The decision a page is about, with the snapshot it comes from."""

    snapshot: Snapshot
    findings: Findings
    decision: Decision


@pages.before_request
def _only_those_who_may() -> Response | None:
    """Patients, relatives, and whoever's role may not accept, never get further; what became of a charge
    every clinician may see."""
    looks = request.endpoint == f"{pages.name}.result"
    refusal = looking_refusal(g.session) if looks else refused_here(Action.ACCEPT)
    if refusal is None:
        return None
    return error_page(
        403, "Charges cannot be written here", refusal, "The patient page shows what is earned and why."
    )


@pages.get("")
def preview(key: str) -> AnyResponse:
    """The choices and statements a charge needs."""
    charge = charge_of(key)
    if charge is not None and charge.state not in ACCEPTABLE:
        return redirect(url_for("charges.result", sid=g.session.id, key=key))
    own_pages.bring_up_to_date()
    own_pages.fill_form()
    case = case_of(key)
    if (shut := shut_page(case)) is not None:
        return shut
    draft = _draft(key)
    if draft is None:
        return _choices_page(case, _first_form(case), (), 200)
    case, form, problems = _understood(case, Form(frozenset(draft.attested), draft.chosen))
    return _choices_page(case, form, problems, 200)


@pages.post("/check")
def check(key: str) -> AnyResponse:
    """On to the preview; or the choices again, with what is still open."""
    case = _posted_case(key)
    if (shut := shut_page(case)) is not None:
        return shut
    case, form, problems = _understood(case, Form.sent())
    if problems:
        return _choices_page(case, form, problems, 422)
    entered_at = services().clock.now().replace(microsecond=0)
    try:
        leaving_of(case.findings, case.decision, _resource(case, form, entered_at))
    except ChargeNotValid as error:
        return _choices_page(case, form, (f"This charge cannot be written: {error}.",), 422)
    draft = form.draft(key, entered_at)
    return redirect(url_for("charges.checked", sid=g.session.id, key=key, draft=draft), 303)


@pages.get("/check")
def checked(key: str) -> AnyResponse:
    """The very resource that will be written. What was written meanwhile is shown as that, and what is open
    again leads back to the choices."""
    charge = charge_of(key)
    if charge is not None and charge.state not in ACCEPTABLE:
        return _to_result(key)
    draft, sealed = _draft(key), request.args.get("draft")
    if draft is None:
        return redirect(url_for("charges.preview", sid=g.session.id, key=key), 303)
    back = redirect(url_for("charges.preview", sid=g.session.id, key=key, draft=sealed), 303)
    case = case_of(key)
    if (shut := shut_page(case)) is not None:
        return shut
    case, form, problems = _understood(case, Form(frozenset(draft.attested), draft.chosen))
    if problems or not _is_recent(draft.entered_at):
        return back
    entered_at = draft.entered_at
    resource = _resource(case, form, entered_at)
    leaving = leaving_of(case.findings, case.decision, resource)
    return make_response(
        render_template(
            "check.html",
            case=case,
            card=card_view(case.decision, case.findings, services().site),
            form=form,
            said=_said(case, form),
            draft=sealed,
            entered_at=entered_at.isoformat(),
            preview=_digest(resource, leaving),
            leaving=shown(leaving),
            why=chosen_here(case.findings, case.decision, resource).why,
        )
    )


@pages.post("")
def accept(key: str) -> AnyResponse:
    """Write it. Pressing again leads to what was written the first time."""
    if request.form.get("patient") != g.session.patient:
        raise Moved
    charge = charge_of(key)
    if charge is not None and (charge.state is ChargeState.CONFIRMED or charge.state in HANDED):
        return _to_result(key)
    case = _posted_case(key)
    if (shut := shut_page(case)) is not None:
        return shut
    case, form, problems = _understood(case, Form.sent())
    if problems:
        return _choices_page(case, form, problems, 422)
    resource = _resource(case, form, _entered_at())
    leaving = leaving_of(case.findings, case.decision, resource)
    if _digest(resource, leaving) != request.form.get("preview"):
        raise Moved
    here = services()
    attested = tuple(entry for entry in case.decision.unverified if entry in form.attested)
    acceptance = Acceptance(
        g.session, case.snapshot, case.findings, case.decision, attested, resource, kept(leaving)
    )
    result = here.writer.accept(client_here(), acceptance)
    return told(key, result)


@pages.post("/again")
def ask_again(key: str) -> AnyResponse:
    """Find out what became of a charge without an answer."""
    charge = charge_of(key)
    if charge is None or request.form.get("patient") != g.session.patient:
        raise Moved
    here = services()
    return told(key, here.writer.ask_again(client_here(), g.session, charge))


@pages.get("/result")
def result(key: str) -> AnyResponse:
    """What became of the charge. One that is on its way is looked up in the EHR first."""
    charge = charge_of(key)
    if charge is None:
        return redirect(url_for("patient.page", sid=g.session.id))
    if charge.state in {ChargeState.SENT, ChargeState.UNKNOWN}:
        here = services()
        charge = here.writer.look_up(client_here(), g.session, charge).row or charge
    found = services().jobs.findings(g.session.id)
    g.findings = None if found is None else found[1]
    return make_response(
        render_template(
            "result.html",
            charge=charge,
            key=key,
            record=record_of(charge),
            person=g.findings and g.findings.patient,
        )
    )


# What a request is about


def case_of(key: str) -> Case:
    """The decision that may be charged now. Raises Moved where it is no suggestion any more."""
    found = services().jobs.findings(g.session.id)
    if found is None:
        raise Moved
    g.findings = found[1]
    decision = found[1].decision(key)
    if decision is None:
        abort(404)
    if decision.outcome is not Outcome.SUGGEST:
        raise Moved
    return Case(*found, decision)


def shut_page(case: Case) -> Response | None:
    """Says that the rules of its service date must be confirmed first (D37); no form can open it."""
    shut = rules_not_confirmed(case.decision, services().site)
    if shut is None:
        return None
    return error_page(409, f"{case.decision.code} cannot be charged yet", shut, "Nothing was written.")


def _posted_case(key: str) -> Case:
    found = services().jobs.findings(g.session.id)
    if found is None:
        raise Moved
    as_good = {name for name, keys in found[1].same_as.items() if key in keys}
    require_same(g.session.patient, found[0].id, as_good)
    return case_of(key)


def charge_of(key: str) -> Charge | None:
    """Our own charge for a decision, whatever became of it; of several, the one that was accepted last."""
    rows = services().store.charges.of_patient(g.session.issuer_id, g.session.patient or "")
    return next((row for row in reversed(rows) if row.content.decision == key), None)


def revision(key: str) -> int:
    """1, and one more for each time that this very charge was written and taken back."""
    rows = services().store.charges.of_patient(g.session.issuer_id, g.session.patient or "")
    return 1 + sum(row.content.decision == key and row.state is ChargeState.WITHDRAWN for row in rows)


def _entered_at() -> datetime:
    """When the preview was made; too old a preview is no preview any more."""
    try:
        entered_at = datetime.fromisoformat(request.form.get("entered_at", ""))
        recent = _is_recent(entered_at)
    except (ValueError, TypeError):
        raise Moved from None
    if not recent:
        raise Moved
    return entered_at


def _is_recent(entered_at: datetime) -> bool:
    return timedelta() <= services().clock.now() - entered_at <= PREVIEW_LIFE


def _of_draft(key: str) -> str:
    """What the draft of a charge is sealed for: this session, this charge."""
    return f"draft of {key} in {g.session.id}"


def _draft(key: str) -> Draft | None:
    """What the address says; None where it says nothing, or nothing of this session and charge."""
    try:
        text = services().store.vault.unseal_text(request.args.get("draft", ""), _of_draft(key))
        draft = msgspec.json.decode(text, type=Draft)
    except (SealBroken, ValueError):
        return None
    return draft if (draft.session, draft.key) == (g.session.id, key) else None


# The performer


def as_performed(case: Case, performer: str | None) -> Case:
    """The same case decided with whoever was chosen to perform it: their own visits are the program's (D35),
    so that minutes on the day of one may not count. Asked only of codes that count minutes."""
    if performer in (None, "", NONE) or not counts_minutes(case.decision, services().site):
        return case
    imagined = services().jobs.imagined(g.session, performer=performer)
    if imagined is None:
        raise Moved
    decision = imagined.decision(case.decision.key)
    return case if decision is None else replace_case(case, decision=decision)


def _understood(case: Case, form: Form) -> tuple[Case, Form, tuple[str, ...]]:
    """The case with the performer of a form, the form, and what is still open of the two."""
    fields = _fields(case)
    if problems := _not_chosen(fields, form):
        return case, form, (*_not_confirmed(case, form), *problems)
    performer = form.chosen["performing"]
    if (problem := _contradicts(case, performer)) is not None:
        return case, form, (*_not_confirmed(case, form), problem)
    performed = as_performed(case, performer)
    if performed.decision.outcome is not Outcome.SUGGEST:
        return case, form, (_not_with(case, performed, performer),)
    return performed, form, _not_confirmed(performed, form)


def _contradicts(case: Case, performer: str) -> str | None:
    """Why whoever was chosen cannot be who bills this: a therapist never bills RPM (R5-4), and a modifier
    says whose therapy it is."""
    rule = services().site.policy.code(case.decision.code)
    role = _role(case, performer)
    if performer == NONE or role is Role.UNKNOWN:
        return None
    if rule.program is Program.RPM and role in DISCIPLINES:
        return (
            f"A therapist cannot bill {rule.code}, and {own_pages.name_of(performer)} works as "
            f"{ROLES[role]}. Choose the physician or other professional who bills it."
        )
    for discipline, modifier in rule.therapy_modifiers.items():
        therapist = next(role for role, of in DISCIPLINES.items() if of == discipline)
        if modifier in case.decision.modifiers and role is not therapist:
            return (
                f"{modifier} says that a {ROLES[therapist]} bills this, and {own_pages.name_of(performer)} "
                f"works as {ROLES[role]}. Choose the therapist whose time it is."
            )
    return None


def _not_with(case: Case, performed: Case, performer: str) -> str:
    """Why a code is not to be charged with that performer."""
    found = "; ".join(
        f"{words.REQUIREMENTS[part.requirement]}: {words.amount(part.found, part.unit)}, "
        f"{words.amount(part.needed, part.unit)} needed"
        for part in performed.decision.requirements
        if not part.met
    )
    why = " ".join(map(words.reason, performed.decision.reasons))
    return (
        f"With {own_pages.name_of(performer)} as performing practitioner {case.decision.code} cannot be "
        "charged: minutes on the day of their own visit with the patient do not count. "
        + " ".join(filter(None, [f"{found}." if found else "", why]))
    ).strip()


def _role(case: Case, reference: str) -> Role:
    """In which role somebody works: as the site's file says, else as the chart's staff records do."""
    named = services().site.role_of(g.session.issuer_id, reference)
    if named is not None:
        return named
    if reference == g.session.fhir_user:
        return case.findings.user_role
    return case.findings.roles.get(reference, Role.UNKNOWN)


# The choices


def _fields(case: Case) -> tuple[Field, ...]:
    choices, form = case.findings.choices, case.findings.form or ForTheForm()
    people = tuple(one for one in choices.practitioners if _role(case, one.reference) not in NEVER_PERFORM)
    signed_in = g.session.fhir_user
    listed = signed_in in {person.reference for person in choices.practitioners}
    if signed_in and not listed and _role(case, signed_in) not in NEVER_PERFORM:
        people = (Choice(signed_in, g.session.user_name or signed_in), *people)
    places = (*_opened_from_first(choices.encounters), *form.accounts)
    return (
        Field("diagnosis", "Diagnosis this monitoring treats", form.conditions, "without a diagnosis"),
        Field("performing", "Performing practitioner", people, "without a performing practitioner"),
        Field("ordering", "Ordering practitioner", people, "without an ordering practitioner"),
        Field("place", "Encounter or account", places, "without an encounter or account"),
    )


def _opened_from_first(encounters: tuple[Choice, ...]) -> tuple[Choice, ...]:
    """The Encounter that the EHR opened this app from stands first and says so; it is not chosen by that."""
    here = f"Encounter/{g.session.encounter}"
    opened = tuple(
        replace(choice, text=f"{choice.text} (opened from here)")
        for choice in encounters
        if choice.reference == here
    )
    return (*opened, *(choice for choice in encounters if choice.reference != here))


def _first_form(case: Case) -> Form:
    """Chosen beforehand is what has one possible answer: a single choice, whoever is signed in and may bill
    it, the only therapist of the modifier, the Encounter that the EHR opened this app from."""
    fields = {field.name: [choice.reference for choice in field.choices] for field in _fields(case)}
    fitting = [one for one in fields["performing"] if _contradicts(case, one) is None]
    user, here = g.session.fhir_user, f"Encounter/{g.session.encounter}"
    therapists = [one for one in fitting if _role(case, one) in DISCIPLINES]
    if user in fitting and _role(case, user) in BILLING_PROFESSIONALS:
        fitting = [user]
    elif case.decision.modifiers and therapists:
        fitting = therapists
    fields["performing"] = fitting
    if here in fields["place"]:
        fields["place"] = [here]
    chosen = {name: found[0] for name, found in fields.items() if len(found) == 1}
    before = _chosen_before(case)
    return Form(frozenset(), {**{name: one for name, one in before.items() if one in fields[name]}, **chosen})


def _chosen_before(case: Case) -> dict[str, str]:
    """What was chosen for the last charge that was accepted in this session: whoever charges several codes of
    a patient answers once, and sees it filled in. Statements are never taken over."""
    rows = services().store.charges.of_patient(g.session.issuer_id, g.session.patient or "")
    last = next((row for row in reversed(rows) if row.content.session_id == g.session.id), None)
    if last is None:
        return {}
    resource = last.content.resource
    codes = {coding["code"] for reason in resource.get("reason", ()) for coding in reason["coding"]}
    diagnosis = (
        condition.reference
        for condition in case.findings.choices.conditions
        if codes & {coding["code"] for coding in condition.codings}
    )
    places = [resource.get("context"), *resource.get("account", ())]
    found = {
        "diagnosis": next(diagnosis, None),
        "performing": performer_in(resource, PERFORMING),
        "ordering": performer_in(resource, "ordering"),
        "place": next((place["reference"] for place in places if place), None),
    }
    return {name: reference for name, reference in found.items() if reference is not None}


def _not_confirmed(case: Case, form: Form) -> tuple[str, ...]:
    """Statements that are open, in words. Nothing is written while one is."""
    number = sum(entry not in form.attested for entry in case.decision.unverified)
    return (f"{number} statement{'s are' if number > 1 else ' is'} not confirmed.",) if number else ()


def _not_chosen(fields: Iterable[Field], form: Form) -> tuple[str, ...]:
    """What a claim needs and nobody chose, in words."""
    return tuple(
        f"{field.title}: choose one, or say that the charge goes {field.missing}."
        for field in fields
        if form.chosen.get(field.name) not in {NONE, *(choice.reference for choice in field.choices)}
    )


def _said(case: Case, form: Form) -> list[tuple[str, str, bool]]:
    """Each field in words: its title, what was chosen, and whether something is missing."""
    said = []
    for field in _fields(case):
        text = next((c.text for c in field.choices if c.reference == form.chosen[field.name]), None)
        said.append((field.title, text or f"Missing: the charge goes {field.missing}.", text is None))
    return said


def _choices_page(case: Case, form: Form, problems: tuple[str, ...], status: int) -> Response:
    return make_response(
        render_template(
            "choices.html",
            case=case,
            card=card_view(case.decision, case.findings, services().site),
            fields=_fields(case),
            form=form,
            problems=problems,
            without=NONE,
            chosen=chosen_here(case.findings, case.decision),
            gaps=gaps_of(case.findings),
        ),
        status,
    )


def _resource(case: Case, form: Form, entered_at: datetime) -> dict[str, object]:
    """The ChargeItem of these choices; validated. Raises ChargeNotValid."""
    chosen = {name: value for name, value in form.chosen.items() if value != NONE}
    condition = next(
        (
            c
            for c in (case.findings.form or ForTheForm()).conditions
            if c.reference == chosen.get("diagnosis")
        ),
        None,
    )
    place = chosen.get("place", "")
    return charge_item(
        case.decision,
        ChargeDetails(
            issuer=g.issuer.fhir_base,
            patient=f"Patient/{g.session.patient}",
            enterer=g.session.fhir_user or "",
            entered_at=entered_at,
            rules_version=case.findings.contract["rules_version"],
            performers=tuple(
                Performer(function, chosen[function])
                for function in ("performing", "ordering")
                if function in chosen
            ),
            diagnoses=()
            if condition is None
            else tuple(
                Diagnosis(coding["system"], coding["code"], coding.get("display", ""))
                for coding in condition.codings
            ),
            context=place if place.startswith("Encounter/") else None,
            account=place if place.startswith("Account/") else None,
            attested=confirmed_sentences(case.decision, form.attested),
            revision=revision(case.decision.key),
            **kept_here(case.decision, case.findings, services().site),
        ),
    )


def confirmed_sentences(decision: Decision, attested: Collection[str]) -> tuple[str, ...]:
    """What was confirmed for a charge, as it was read: for the note in the EHR."""
    return tuple(words.attestation(one, decision.period) for one in decision.unverified if one in attested)


def _digest(resource: dict[str, object], leaving: Leaving) -> str:
    """Of all that the preview showed: the charge, and what leaves."""
    return hashlib.sha256(msgspec.json.encode([resource, leaving], order="deterministic")).hexdigest()


# What became of it


def told(key: str, result: Result[Charge]) -> AnyResponse:
    """Where a finished attempt leads. A written charge makes the
    snapshot old: the chart is read again, unless what was read holds it already."""
    if result.step in {Step.MOVED, Step.OVERLAPS, Step.LOCKED}:
        page = render_template(
            "moved.html", result=result, why=result.step.value, compared=_compared(result.before, result.now)
        )
        return make_response(page, 409)
    if result.step is Step.WRITTEN and not result.shown:
        services().jobs.read_again(g.session)
    return _to_result(key)


def _compared(before: Decision | None, now: Decision | None) -> list[tuple[str, str, str]]:
    """What of a decision is another than it was shown: what it is, before, now."""
    if before is None or before == now:
        return []
    shown, present = _in_words(before), {} if now is None else _in_words(now)
    rows = [(name, shown.get(name, ""), present.get(name, "")) for name in {**shown, **present}]
    return [row for row in rows if row[1] != row[2]]


def _in_words(decision: Decision) -> dict[str, str]:
    found = {
        words.REQUIREMENTS[part.requirement]: words.amount(part.found, part.unit)
        for part in decision.requirements
    }
    return {
        f"{decision.code}": words.outcome(decision.outcome),
        "Quantity": str(decision.quantity),
        "Service date": words.day(decision.service_date),
        **found,
        "Why": " ".join(map(words.reason, decision.reasons)),
        "To be confirmed": " ".join(words.ATTESTATIONS[entry] for entry in decision.unverified),
    }


def _to_result(key: str) -> AnyResponse:
    return redirect(url_for("charges.result", sid=g.session.id, key=key), 303)
