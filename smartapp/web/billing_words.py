"""What a month of charges is called on its page and in its CSV."""

from __future__ import annotations

from smartapp.configuration.handover import Method
from smartapp.store.claims import ChargeState
from smartapp.store.denials import DenialState
from smartapp.web.charge_words import CHANGE_STATES, METHODS

STATES: dict[ChargeState, str] = CHANGE_STATES | {
    ChargeState.CONFIRMED: "confirmed by the EHR",
    ChargeState.WITHDRAWN: "taken back",
    ChargeState.UNKNOWN: "nobody knows: sent, and no answer came",
    ChargeState.HANDED_OVER: "handed over to billing",
    ChargeState.REFUSED: "refused where it was sent",
}
"""Of charges; what changes are called is elsewhere."""

WAITS: dict[ChargeState, str] = {
    ChargeState.UNKNOWN: "Look in the EHR, or where billing receives them, whether they are there.",
    ChargeState.TAKING_BACK: "Look whether they are still there: until somebody knows they count as charged.",
    ChargeState.TAKEN_BACK: "The old charge is gone and the new one is not there yet: open the patient.",
    ChargeState.SENT: "An answer may still come; the next opening of the patient's page asks for it.",
    ChargeState.REFUSED: "Nothing was charged. The patient's page says what was answered.",
    ChargeState.AWAITING: "A second person approves or declines them, on the patient's page.",
    ChargeState.TO_ENTER: "Somebody enters them in billing, and says so on the patient's worksheet.",
}
"""Who must do what, one sentence for each state that waits."""

DENIED: dict[DenialState, str] = {
    DenialState.OPEN: "denied, nothing done yet",
    DenialState.CORRECTED: "denied, a corrected claim was sent",
    DenialState.APPEALED: "denied, appealed",
    DenialState.WRITTEN_OFF: "denied, written off",
    DenialState.TAKEN_BACK: "the denial was taken back",
}

DONE: dict[DenialState, str] = {
    DenialState.CORRECTED: "A corrected claim was sent",
    DenialState.APPEALED: "It was appealed",
    DenialState.WRITTEN_OFF: "It was written off",
}
"""What somebody may say was done about a denial."""

NOT_TOLD = "not told"


def way(method: str | None) -> str:
    """How a charge was handed over; of an old row nobody has opened it is not told."""
    return NOT_TOLD if method is None else METHODS[Method(method)]
