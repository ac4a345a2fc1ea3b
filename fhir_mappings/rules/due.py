"""On which day an answer may become another one, though no record came (a night's sweep asks only then).

A day too early costs a patient decided once more; a day too late would keep an answer that no longer holds.
So every way in which the rules look at the day that is asked about has a day here, whether or not it changes
anything this time:

- a window ends: what was provisional is earned, what was short is lost, the next one opens;
- a threshold can no longer be reached: the day after a forecast's last one;
- a month begins, and its management codes with it; thresholds change by date;
- something in the record is dated later, or ends: `Chart.days_ahead`.

Where the rules look at every day as it comes (a program that was set up and waits for its first reading, what
was not read, what somebody settled), the answer may be another one tomorrow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date

from fhir_mappings.decision import Assessment, Decision
from fhir_mappings.local_time import ONE_DAY, next_month
from fhir_mappings.record import PatientRecord
from fhir_mappings.rules.policy import Policy
from fhir_mappings.rules.tables import Kind
from fhir_mappings.vocabulary import RequirementKind

NEVER = date.max
"""Nothing is monitored, and nothing is dated later: only new records can change that."""


def due_day(record: PatientRecord, assessment: Assessment, policy: Policy, ahead: Iterable[date]) -> date:
    """The first day after the record's on which the answer may be another one. On every day before it the
    answer is this one, word for word, but for the day itself. `ahead`: `Chart.days_ahead` of the patient."""
    tomorrow = record.as_of + ONE_DAY
    if (
        not record.completeness.whole
        or record.resolutions
        or any(charge.occurrence is None for charge in record.charges)
        or any(_waits(decision, policy) for decision in assessment.decisions)
    ):
        return tomorrow
    days = set(ahead)
    if assessment.decisions:
        days.add(next_month(record.as_of.replace(day=1)))
        for decision in assessment.decisions:
            days.update(_days_of(decision))
            days.update(row.start for row in policy.code(decision.code).monitoring_days)
    return min((day for day in days if day >= tomorrow), default=NEVER)


def _waits(decision: Decision, policy: Policy) -> bool:
    """Is it of a start-up that waits for the first reading? Its period moves with the day."""
    return policy.code(decision.code).kind is Kind.START_UP and any(
        one.requirement is RequirementKind.MONITORING_DAYS and not one.found for one in decision.requirements
    )


def _days_of(decision: Decision) -> Iterator[date]:
    yield decision.period.end + ONE_DAY
    if decision.service_date is not None:
        yield decision.service_date + ONE_DAY
    if decision.forecast is not None:
        yield decision.forecast.reachable_until + ONE_DAY
