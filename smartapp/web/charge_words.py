"""What is said of charges, of their changes, and of the ways in which they leave."""

from __future__ import annotations

from fhir_mappings.reconciliation import ChangeKind, ChangeReason
from smartapp.configuration.handover import Method
from smartapp.store.charges import Charge
from smartapp.store.claims import ChargeState
from smartapp.web import words

CHANGES: dict[ChangeKind, str] = {
    ChangeKind.KEEP: "As it should be",
    ChangeKind.UPDATE: "To be updated",
    ChangeKind.REPLACE: "To be replaced",
    ChangeKind.WITHDRAW: "To be withdrawn",
    ChangeKind.DISAGREES: "Does not agree",
}

CHANGE_REASONS: dict[ChangeReason, str] = {
    ChangeReason.MORE_UNITS: "The record earns more units now.",
    ChangeReason.FEWER_UNITS: "The record earns fewer units now.",
    ChangeReason.HIGHER_CODE: "The record earns a higher code of the same group now.",
    ChangeReason.LOWER_CODE: "The record earns a lower code of the same group now.",
    ChangeReason.NOT_MET: "The record does not meet this code any more.",
    ChangeReason.BASE_GONE: "The base code of the same month is neither met nor charged any more.",
    ChangeReason.EVIDENCE_GONE: "Records it rests on do not count any more; others still earn it.",
    ChangeReason.DUPLICATE: "Another suggestion written from here stands for the same.",
    ChangeReason.ALREADY_CHARGED: "Another charge of this code stands for the same time.",
    ChangeReason.EXCLUDED_BY_OTHER: "Another charge in the same time excludes this code.",
    ChangeReason.NOT_OURS: "It was not written from here, so nothing is changed from here.",
    ChangeReason.HANDED_OVER: "It was handed over: tell billing, since nothing is changed there from here.",
    ChangeReason.NOT_PLANNED: "Billing has taken it up, so nothing is changed from here.",
    ChangeReason.IN_DOUBT: "There is a doubt that a person must settle first.",
    ChangeReason.RECORD_INCOMPLETE: "Not everything could be read, so what is missing may only be unread.",
    ChangeReason.PERIOD_UNCLEAR: "Which period it stands for is not clear.",
    ChangeReason.CODE_UNCLEAR: "Which code it stands for is not clear: it names several of them, or none.",
    ChangeReason.CREDITED: "Units of this code were taken back by a credit.",
    ChangeReason.NOT_READ: "Its records lie before what was read.",
    ChangeReason.STILL_OPEN: "The period is still open.",
}

CHANGE_STATES: dict[ChargeState, str] = {
    ChargeState.PREPARED: "prepared, not sent",
    ChargeState.AWAITING: "awaits a second person's approval",
    ChargeState.SENT: "sent, not confirmed yet",
    ChargeState.TAKEN_BACK: "half done: the old charge is taken back, the new one is not in the EHR yet",
    ChargeState.CONFIRMED: "done",
    ChargeState.WITHDRAWN: "taken back since",
    ChargeState.STALE: "not done, because the chart or the charge had moved on",
    ChargeState.UNKNOWN: "sent, and the EHR gave no answer",
    ChargeState.REFUSED: "refused by the EHR",
    ChargeState.DECLINED: "not approved",
    ChargeState.HANDED_OVER: "handed over",
    ChargeState.TO_ENTER: "accepted, to be entered in billing by hand",
    ChargeState.ENTERED: "entered in billing by a person",
    ChargeState.TAKING_BACK: "that it is taken back was sent, and there was no answer",
}

METHODS: dict[Method, str] = {
    Method.CHARGE_ITEM: "a ChargeItem",
    Method.ORACLE_CREATE: "a charge by the EHR's own operation",
    Method.TASK: "a task for billing",
    Method.DOCUMENT: "a document for billing",
    Method.DFT: "a message for billing (DFT)",
    Method.WORKSHEET: "the worksheet",
}

EARNED_NO_MORE = "The record, as it was read last, does not earn this as it was accepted."
CHARGED_MEANWHILE = "A charge of this code in this time stands already."

WAYS_BACK: dict[Method, str] = {
    Method.ORACLE_CREATE: "",
    Method.TASK: "The task is cancelled in the EHR, unless billing has taken it up.",
    Method.DOCUMENT: "The document is marked as entered in error in the EHR. Where somebody entered the "
    "charge from it, they must take it out.",
    Method.DFT: "A second message takes the charge back (FT1-6 CR, under the same number).",
    Method.WORKSHEET: "It is taken off the worksheet. Nothing is sent: where somebody entered it in billing "
    "already, take it out there too.",
}
"""What taking back does, where a charge left otherwise than as a ChargeItem."""

_CHARGE_STATUSES = {
    "planned": "for billing to review",
    "billable": "ready to be billed",
    "billed": "billed",
    "not-billable": "not to be billed",
    "aborted": "given up",
    "entered-in-error": "taken back, as entered in error",
}


def charge_status(value: object) -> str:
    """What the EHR says of a charge; one that nobody knows here by its own name."""
    return _CHARGE_STATUSES.get(str(value), words.plain(value))


def handed_state(row: Charge) -> str:
    """How far a charge came that left otherwise than as a ChargeItem, in words."""
    told = CHANGE_STATES[row.state]
    handed = row.content.handed
    if row.state is ChargeState.ENTERED and handed is not None:
        who = handed.by_name or "somebody without a name here"
        told = f"entered in billing by {who}, {words.day(handed.at.date())}"
    return f"{told}. {row.problem}" if row.problem else told
