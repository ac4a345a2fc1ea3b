"""What billing is told beside a decision, which changes nothing of it (R5-5, R5-6, R5-8)."""

from __future__ import annotations

from collections.abc import Mapping

from fhir_mappings.vocabulary import Hint

HINTS: Mapping[Hint, str] = {
    Hint.MODIFIER_25: (
        "There is a visit to one of the program's people on the service date: whether the visit's own code "
        "bears modifier 25 is for billing to decide. It never goes on this code."
    ),
    Hint.ASSISTANT_NOT_NEEDED: (
        "The therapist's own minutes earn the same units: with the assistant's the code bears CQ or CO, "
        "without them neither. Somebody chooses which minutes are charged."
    ),
    Hint.DIGITAL_MENTAL_HEALTH: (
        "Digital mental health treatment with a cleared device (21 CFR 882.5801 or 882.5803) may belong to "
        "G0552, G0553 and G0554 instead: the app never chooses them."
    ),
    Hint.CENTRE: (
        "A rural health clinic or federally qualified health center reports these codes singly, beside its "
        "visits; G0511 has ended."
    ),
    Hint.DENIED: (
        "The payer denied this charge, as was recorded here. It is corrected, appealed or written off; it is "
        "never charged anew."
    ),
}
NEVER_HERE = frozenset({"26", "TC"})
"""Modifiers of a professional and a technical part: none of these codes has them."""
