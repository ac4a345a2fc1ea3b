"""Which rule of ours would have prevented a denial, by the claim adjustment reason code (CARC) of it.

In our own words: the descriptions of the codes belong to X12 and are not here. Only codes that the sources
below name; of any other code nothing is said. A payer may mean something else by a code: the remittance's own
remark and the payer's portal come first.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

CHECKED = "2026-12-02"
"""The day the sources were looked at."""


class DenialReason(Struct, frozen=True):
    """`rules`: ids of the register (docs/rules.md) that speak of it; none where no rule of ours can.
    `source`: where the code is said to mean this."""

    about: str
    prevented_by: str
    rules: tuple[str, ...]
    source: str


REASONS: Mapping[str, DenialReason] = {
    "4": DenialReason(
        "a modifier that is missing, or does not go with the code",
        "Under a therapist GP, GO or GN is proposed, and CQ or CO for an assistant's share. Modifiers of "
        "other services of the day are billing's to add.",
        ("R5-5", "R5-6"),
        "apexflowrcm.com/denial-codes/carc-4-modifier-missing-inconsistent",
    ),
    "11": DenialReason(
        "a diagnosis that does not go with the code",
        "A payer's table may ask for diagnoses; the form asks for one, and never chooses it.",
        ("D40",),
        "apexflowrcm.com/denial-codes",
    ),
    "16": DenialReason(
        "something that the claim does not say, among it consent or who ordered",
        "Order and consent are shown by the record or confirmed by a person before anything is written.",
        ("R5-1", "R5-2"),
        "cptcodecalculator.com/guides/virtual-care-reimbursement-denial-code-2026",
    ),
    "18": DenialReason(
        "the same service twice, or by two practitioners in one period",
        "A charge stands once under its own key, start-up once an episode, and charges of others in this EHR "
        "are looked for. What others bill outside it cannot be seen.",
        ("R1.4-6", "R1.4-13", "D29"),
        "cptcodecalculator.com/guides/virtual-care-reimbursement-denial-code-2026",
    ),
    "24": DenialReason(
        "a plan that pays a lump sum for the patient",
        "No rule can tell: put the payer into the site's table as one that does not cover the code.",
        (),
        "fairpath.ai/knowledge-hub/rpm/capitation",
    ),
    "50": DenialReason(
        "a service the payer does not hold to be necessary",
        "An order is asked for, and where a payer's table names criteria or diagnoses the code is for "
        "review.",
        ("R5-1", "D40"),
        "clausea.us/blog/denial-code-50-guide",
    ),
    "97": DenialReason(
        "a service that the payer holds to be part of another one",
        "Codes that exclude each other never stand together; minutes of another service are not counted, and "
        "a surgery in the 90 days before is asked about.",
        ("R1.4-1", "R1.4-2", "R1.4-3", "R4-3", "D36"),
        "denialcodeguide.com/co/97",
    ),
    "107": DenialReason(
        "an add-on without the service it belongs to",
        "An add-on is earned only where its twenty-minute base is earned or charged in the same month.",
        ("R1.4-4",),
        "immedicaresolutions.com/wiki/co-107-denial-code",
    ),
    "119": DenialReason(
        "more of it than the plan pays for in a time",
        "One device code a 30-day period, one start-up an episode, add-on units up to their cap.",
        ("R2.3", "R1.4-13", "D15"),
        "clausea.us/denial-codes/CO-119-benefit-maximum-for-this-time-period-or-occurrence-has-been-reached",
    ),
    "151": DenialReason(
        "more or more often than what was handed in supports",
        "Days and seconds are counted as they are, never rounded up; the packet holds each of them.",
        ("R1.3-1", "R1.3-3", "R4-4", "R4-5"),
        "apexflowrcm.com/denial-codes",
    ),
    "197": DenialReason(
        "an authorisation that was needed beforehand",
        "Where a payer's table asks for one, the code is for review until somebody names its number.",
        ("D40",),
        "apexflowrcm.com/denial-codes",
    ),
    "B7": DenialReason(
        "somebody who may not be paid for it on that day",
        "Therapists are never proposed for RPM; who bills RTM is asked where the record does not tell.",
        ("R5-4", "D14"),
        "apexflowrcm.com/denial-codes",
    ),
}
