"""The form of a charge, or of several that are accepted together: what a claim needs, asked once for all of
them, and the statements that they rest on, each asked once for all codes that it covers.

What has one possible answer, or is on record, is chosen beforehand. No statement is ticked beforehand.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as replace_case
from datetime import datetime
from typing import Any

from flask import abort, g
from msgspec.structs import replace
from werkzeug.datastructures import MultiDict
from wtforms import Form, SelectField, SelectMultipleField, ValidationError
from wtforms.form import BaseForm

from fhir_mappings.charge_item import (
    PERFORMING,
    ChargeDetails,
    Diagnosis,
    Performer,
    charge_item,
    performer_in,
)
from fhir_mappings.decision import Decision
from fhir_mappings.vocabulary import DISCIPLINES, Outcome, Program, Role, Unverified
from smartapp.configuration.site_file import BILLING_PROFESSIONALS
from smartapp.ehr.charges.create import counts_minutes
from smartapp.ehr.reading.display import Choice
from smartapp.ehr.reading.findings import Findings, ForTheForm
from smartapp.services import services
from smartapp.store.charges import Charge
from smartapp.store.claims import ChargeState
from smartapp.store.reading import Snapshot
from smartapp.web import own_pages, words
from smartapp.web.cards import kept_here, statable
from smartapp.web.permission import ROLES
from smartapp.web.security import Moved

NONE = "none"
"""Chosen on purpose: the charge goes without it, and billing has to add it."""
NEVER_PERFORM = frozenset({Role.THERAPIST_ASSISTANT, Role.CLINICAL_STAFF, Role.NON_CLINICAL})
"""Who can neither order nor bill: they are not offered. Whose role nobody knows is."""
_OF_A_DEVICE = frozenset({Unverified.FDA_DEVICE, Unverified.DEVICE_SUPPLIED_BY_PRACTICE})
"""Statements about the device of a line: of two lines these are two statements."""

Attested = frozenset[tuple[str, str]]
"""What was confirmed: `Decision.key` and statement."""


@dataclass(frozen=True)
class Case:
    """One decision that a page is about, with the snapshot it comes from."""

    snapshot: Snapshot
    findings: Findings
    decision: Decision


def case_of(key: str) -> Case:
    """The decision that may be charged now. Raises Moved where it is no suggestion any more."""
    found = services().jobs.findings(g.session)
    if found is None:
        raise Moved
    g.findings = found[1]
    decision = found[1].decision(key)
    if decision is None:
        abort(404)
    if decision.outcome is not Outcome.SUGGEST:
        raise Moved
    return Case(*found, decision)


def charge_of(key: str) -> Charge | None:
    """Our own charge for a decision, whatever became of it; of several, the one that was accepted last."""
    rows = services().store.charges.of_patient(g.session.issuer_id, g.session.patient or "")
    return next((row for row in reversed(rows) if row.content.decision == key), None)


def revision(key: str) -> int:
    """1, and one more for each time that this very charge was written and taken back."""
    rows = services().store.charges.of_patient(g.session.issuer_id, g.session.patient or "")
    return 1 + sum(row.content.decision == key and row.state is ChargeState.WITHDRAWN for row in rows)


def as_performed(cases: Sequence[Case], performer: str | None) -> tuple[Case, ...]:
    """The same cases decided with whoever was chosen to perform them: their own visits are the program's
    (D35), so that minutes on the day of one may not count. Asked only of codes that count minutes."""
    site = services().site
    if performer in (None, "", NONE) or not any(counts_minutes(one.decision, site) for one in cases):
        return tuple(cases)
    imagined = services().jobs.imagined(g.session, performer=performer)
    if imagined is None:
        raise Moved
    return tuple(
        replace_case(one, decision=imagined.decision(one.decision.key) or one.decision)
        if counts_minutes(one.decision, site)
        else one
        for one in cases
    )


# The form


@dataclass(frozen=True)
class Asked:
    """One statement, and what it is confirmed for."""

    value: str
    sentence: str
    pairs: Attested
    codes: tuple[str, ...]


class OneOf(SelectField):
    """One of what the chart offers, or none on purpose. `missing`: what its absence means; `short`: its name
    where it is answered."""

    def __init__(self, label: str, missing: str, short: str, **more: Any) -> None:
        super().__init__(label, **more)
        self.missing = missing
        self.short = short
        self.offered: tuple[Choice, ...] = ()

    def offer(self, choices: Iterable[Choice]) -> None:
        self.offered = tuple(choices)
        self.choices = [
            ("", "Choose…"),
            *((choice.reference, choice.text) for choice in self.offered),
            (NONE, f"None: the charge goes {self.missing}"),
        ]

    @property
    def is_offered(self) -> bool:
        return self.data == NONE or any(choice.reference == self.data for choice in self.offered)

    @property
    def in_words(self) -> str | None:
        """What was chosen; None where the charge goes without it."""
        return next((choice.text for choice in self.offered if choice.reference == self.data), None)

    def pre_validate(self, _form: BaseForm) -> None:
        if not self.is_offered:
            raise ValidationError(f"Choose one, or say that the charge goes {self.missing}.")


class Statements(SelectMultipleField):
    """Every statement must be ticked."""

    asked: tuple[Asked, ...] = ()

    def pre_validate(self, _form: BaseForm) -> None:
        number = sum(one.value not in (self.data or ()) for one in self.asked)
        if number:
            raise ValidationError(f"{number} statement{'s are' if number > 1 else ' is'} not confirmed.")


class ChargeForm(Form):
    """What a claim needs, and what must be confirmed."""

    diagnosis = OneOf("Diagnosis this monitoring treats", "without a diagnosis", "Diagnosis")
    performing = OneOf("Performing practitioner", "without a performing practitioner", "Performing")
    ordering = OneOf("Ordering practitioner", "without an ordering practitioner", "Ordering")
    place = OneOf("Encounter or account", "without an encounter or account", "Encounter or account")
    attest = Statements("You must confirm")

    def __init__(
        self,
        cases: Sequence[Case],
        sent: MultiDict[str, str] | None = None,
        chosen: Mapping[str, str] | None = None,
        attested: Collection[tuple[str, str]] = (),
    ) -> None:
        """Filled in by what was `sent`, else by what was `chosen` and `attested` before."""
        super().__init__(sent, data=dict(chosen or {}))
        offered = offers(cases)
        for field in self.fields_of_a_claim:
            field.offer(offered[field.name])
        self.cases = tuple(cases)
        """Each decided with whoever is chosen to perform it."""
        self._why_not_performing = self._perform()
        # Whether the performer may bill is asked once somebody is chosen whose role does not show it.
        later = frozenset() if self.performing.is_offered else frozenset({Unverified.BILLING_PROFESSIONAL})
        self.attest.asked = asked_of(self.cases, later)
        if sent is None:
            known = set(attested)
            self.attest.data = [one.value for one in self.attest.asked if one.pairs <= known]

    @property
    def chosen(self) -> dict[str, str]:
        return {field.name: field.data or "" for field in self.fields_of_a_claim}

    @property
    def fields_of_a_claim(self) -> tuple[OneOf, ...]:
        return (self.diagnosis, self.performing, self.ordering, self.place)

    @property
    def attested(self) -> Attested:
        ticked = set(self.attest.data or ())
        return frozenset(pair for one in self.attest.asked if one.value in ticked for pair in one.pairs)

    def attested_for(self, decision: Decision) -> tuple[Unverified, ...]:
        """What was confirmed for one code, in the order in which it is asked."""
        return tuple(entry for entry in decision.unverified if (decision.key, entry) in self.attested)

    def resource(self, case: Case, entered_at: datetime) -> dict[str, object]:
        """The ChargeItem of these choices; validated. Raises ChargeNotValid."""
        form = case.findings.form or ForTheForm()
        chosen = {name: value for name, value in self.chosen.items() if value != NONE}
        condition = next((c for c in form.conditions if c.reference == chosen.get("diagnosis")), None)
        place = chosen.get("place", "")
        return charge_item(
            case.decision,
            ChargeDetails(
                issuer=g.issuer.fhir_base,
                patient=f"Patient/{g.session.patient}",
                enterer=g.session.fhir_user or "",
                entered_at=entered_at,
                rules_version=case.findings.said["rules_version"],
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
                attested=confirmed_sentences(case.decision, self.attested_for(case.decision)),
                revision=revision(case.decision.key),
                **kept_here(case.decision, case.findings, services().site),
            ),
        )

    def forget_errors(self) -> None:
        """Nobody has sent anything yet: what is open is no error."""
        for field in self:
            field.errors = []

    def validate_performing(self, _field: OneOf) -> None:
        if self._why_not_performing:
            raise ValidationError(self._why_not_performing)

    def _perform(self) -> str:
        """Decide with the performer; why they cannot be it, or ""."""
        if not self.performing.is_offered:
            return ""
        performer, before = self.performing.data, self.cases
        why = [contradiction(one, performer, named=len(before) > 1) for one in before]
        if not any(why):
            performed = as_performed(before, performer)
            why = [
                None if one.decision.outcome is Outcome.SUGGEST else _not_with(one.decision, performer)
                for one in performed
            ]
            self.cases = before if any(why) else performed
        return " ".join(dict.fromkeys(filter(None, why)))


def confirmed_sentences(decision: Decision, attested: Collection[str]) -> tuple[str, ...]:
    """What was confirmed for a charge, as it was read: for the note in the EHR."""
    return tuple(words.attestation(one, decision.period) for one in decision.unverified if one in attested)


def asked_of(cases: Iterable[Case], later: Collection[Unverified] = ()) -> tuple[Asked, ...]:
    """Each statement once, for all codes of which it says the same. `later`: not yet."""
    groups: dict[tuple[Unverified, str, Program, str | None], list[Decision]] = {}
    for case in cases:
        one = case.decision
        for entry in statable(one):
            if entry in later:
                continue
            line = one.line if entry in _OF_A_DEVICE else None
            sentence = words.attestation(entry, one.period)
            groups.setdefault((entry, sentence, one.program, line), []).append(one)
    alone = [entry for entry, *_ in groups]
    return tuple(
        Asked(
            entry if alone.count(entry) == 1 else f"{entry} {found[0].key}",
            sentence,
            frozenset((one.key, entry) for one in found),
            tuple(dict.fromkeys(one.code for one in found)),
        )
        for (entry, sentence, *_), found in groups.items()
    )


# Who performs


def contradiction(case: Case, performer: str, *, named: bool = False) -> str | None:
    """Why whoever was chosen cannot be who bills this: a therapist never bills RPM (R5-4), and a modifier
    says whose therapy it is. `named`: the page is about several codes."""
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
                f"{modifier} says that a {ROLES[therapist]} bills {rule.code if named else 'this'}, and "
                f"{own_pages.name_of(performer)} works as {ROLES[role]}. "
                "Choose the therapist whose time it is."
            )
    return None


def _not_with(decision: Decision, performer: str) -> str:
    """Why a code is not to be charged with that performer."""
    found = "; ".join(
        f"{words.REQUIREMENTS[part.requirement]}: {words.amount(part.found, part.unit)}, "
        f"{words.amount(part.needed, part.unit)} needed"
        for part in decision.requirements
        if not part.met
    )
    why = " ".join(map(words.reason, decision.reasons))
    return (
        f"With {own_pages.name_of(performer)} as performing practitioner {decision.code} cannot be "
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


# What may be chosen, and what is chosen beforehand


def offers(cases: Sequence[Case]) -> dict[str, tuple[Choice, ...]]:
    """What can be chosen for each field."""
    case = cases[0]
    choices, form = case.findings.choices, case.findings.form or ForTheForm()
    people = tuple(one for one in choices.practitioners if _role(case, one.reference) not in NEVER_PERFORM)
    signed_in = g.session.fhir_user
    listed = signed_in in {person.reference for person in choices.practitioners}
    if signed_in and not listed and _role(case, signed_in) not in NEVER_PERFORM:
        people = (Choice(signed_in, g.session.user_name or signed_in), *people)
    places = (*_opened_from_first(choices.encounters), *form.accounts)
    return {"diagnosis": form.conditions, "performing": people, "ordering": people, "place": places}


def _opened_from_first(encounters: tuple[Choice, ...]) -> tuple[Choice, ...]:
    """The Encounter that the EHR opened this app from stands first and says so."""
    here = f"Encounter/{g.session.encounter}"
    opened = tuple(
        replace(choice, text=f"{choice.text} (opened from here)")
        for choice in encounters
        if choice.reference == here
    )
    return (*opened, *(choice for choice in encounters if choice.reference != here))


def chosen_beforehand(cases: Sequence[Case]) -> dict[str, str]:
    """What has one possible answer, or is on record: a single diagnosis, whoever is signed in and may bill
    it, the only therapist of the modifier, who ordered the monitoring, the Encounter that the EHR opened this
    app from, else the patient's only account."""
    offered = offers(cases)
    fields = {name: [choice.reference for choice in found] for name, found in offered.items()}
    fitting = [one for one in fields["performing"] if all(contradiction(case, one) is None for case in cases)]
    user, here = g.session.fhir_user, f"Encounter/{g.session.encounter}"
    therapists = [one for one in fitting if _role(cases[0], one) in DISCIPLINES]
    if user in fitting and _role(cases[0], user) in BILLING_PROFESSIONALS:
        fitting = [user]
    elif therapists and any(case.decision.modifiers for case in cases):
        fitting = therapists
    likely = {**fields, "performing": fitting, "ordering": _who_ordered(cases, fields["ordering"])}
    accounts = [one for one in fields["place"] if one.startswith("Account/")]
    likely["place"] = [here] if here in fields["place"] else accounts or fields["place"]
    chosen = {name: found[0] for name, found in likely.items() if len(found) == 1}
    possible = {**fields, "performing": fitting}
    before = _chosen_before(cases[0])
    return {**chosen, **{name: one for name, one in before.items() if one in possible[name]}}


def _who_ordered(cases: Sequence[Case], offered: list[str]) -> list[str]:
    """Those whom the orders on record name; everybody where they name nobody who can be chosen."""
    named = {one for case in cases for one in case.findings.ordered_by.get(case.decision.program, ())}
    return [one for one in offered if one in named] or offered


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
        for condition in (case.findings.form or ForTheForm()).conditions
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
