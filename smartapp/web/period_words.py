"""What pages and audit records say of episodes of care, and of where the 30-day periods begin."""

from __future__ import annotations

from datetime import date

from fhir_mappings.anchor import AnchorSource
from smartapp.web import words

ANCHOR_SOURCES: dict[str, str] = {
    AnchorSource.DEVICE_CHARGE: "A device charge in the EHR fixes it.",
    AnchorSource.ENROLMENT: "It was confirmed here.",
    AnchorSource.EPISODE_OF_CARE: "The first day with counted data within the episode of care in the EHR.",
    AnchorSource.CONFIRMED_EPISODE: "The first day with counted data within the episode confirmed here.",
    AnchorSource.SET_UP: "The first day with counted data from the documented set-up on.",
    AnchorSource.FIRST_QUALIFYING_DAY: "The first day with counted data that was read.",
    "accepted-charge": "The first charge that was accepted here fixed it.",
    "charged-elsewhere": "Device periods were charged in another system.",
    "enrolment-record": "The practice's own enrolment record says so.",
}

EPISODE_SOURCES: dict[str, str] = {
    "enrolment-record": "The practice's own enrolment record says so.",
    "plan-of-care": "The order or plan of care says so.",
    "discharge-record": "A discharge or the end of treatment is documented.",
}
"""What an episode of care is known from: a closed set, none of which is "it fits better"."""


def anchor_source(source: str) -> str:
    return ANCHOR_SOURCES.get(source, words.plain(source))


def charged_elsewhere(charged_on: date) -> str:
    """What somebody confirms who sets an anchor day because of a charge that this EHR does not hold."""
    return (
        "A device period of this program was charged in another system, with the date of service "
        f"{words.day(charged_on)}. I have seen that charge, or its record."
    )


def anchor_change(
    who: str,
    day: date | str,
    instead_of: date | str | None,
    source: str,
    charged_on: date | str | None = None,
) -> str:
    """Who had the periods begin on which day, instead of which, and why."""
    if words.day(day) == words.day(instead_of):
        told = f"{who} confirmed {words.day(day)}"
    else:
        until_then = f", until then {words.day(instead_of)}" if instead_of else ""
        told = f"{who} had them begin on {words.day(day)}{until_then}"
    charge = f" Date of service of that charge: {words.day(charged_on)}." if charged_on else ""
    return f"{told}. {anchor_source(source)}{charge}"
