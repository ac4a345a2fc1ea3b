"""What becomes of a charge after it was handed over: a person entered it, or somebody takes it back.

Each is done once, over the row that everybody meets in, and audited with who and why.
"""

from __future__ import annotations

import secrets

from launch.errors import HttpError, LaunchError
from launch.ports import Clock, LaunchSession
from launch.tokens import SessionClient
from smartapp.configuration.settings import Settings
from smartapp.ehr.charges.create import handed, packet_of
from smartapp.ehr.charges.evidence import rules_version_of, service_date_of
from smartapp.ehr.charges.guards import Guards
from smartapp.ehr.charges.workflow import Delivery, Hand
from smartapp.ehr.handover.choice import Handovers
from smartapp.ehr.handover.method import Handover
from smartapp.ehr.wire.sending import Fate
from smartapp.store import Store
from smartapp.store.charges import Charge
from smartapp.store.claims import HANDED, ChargeState

BILLING = "billing"
"""Where a person enters a charge."""
UNANSWERED = "That it is taken back was sent, and there was no answer: ask billing whether it arrived."


class AfterHandover:
    """Entered by a person; taken back."""

    def __init__(
        self, settings: Settings, store: Store, clock: Clock, guards: Guards, handovers: Handovers
    ) -> None:
        self._lease = settings.job_lease * 3
        self._charges = store.charges
        self._clock = clock
        self._guards = guards
        self._handovers = handovers

    def entered(self, session: LaunchSession, row: Charge) -> str | None:
        """The session's user entered it in billing. Says why that is not kept; None where it is, by whoever
        pressed first."""
        if row.state is not ChargeState.TO_ENTER:
            return None if row.state is ChargeState.ENTERED else "It stands on the worksheet no more."
        days = (service_date_of(row),)
        if (locked := self._guards.locked(row.issuer_id, row.patient, days)) is not None:
            return locked
        now = self._clock.now()
        row = handed(row, f"{BILLING}/{row.identifier.rpartition('|')[2][:12]}", now, session)
        kept = self._charges.hand_over(
            row,
            ChargeState.ENTERED,
            "charge-entered-by-person",
            now,
            packet_of(row, None),
            None,
            days if self._guards.locks else (),
            snapshot_sha256=row.content.snapshot_sha256,
            attested=", ".join(row.content.attested),
            **self._facts(row, session),
        )
        if kept:
            return None
        after = self._charges.get(row.identifier)
        entered = after is not None and after.state is ChargeState.ENTERED
        return None if entered else "It was changed by somebody else meanwhile."

    def no_way_back(self, row: Charge) -> str | None:
        """Why this charge cannot be taken back from here; None where it can."""
        if row.state is not ChargeState.TO_ENTER and row.state not in HANDED:
            return "It was not handed over, or it was taken back since."
        return self._handovers.of(row).no_way_back(row)

    def take_back(
        self, client: SessionClient, session: LaunchSession, row: Charge, reason: str
    ) -> str | None:
        """Take back what was handed over, in its own way. Says why that was not done, or is not known; None
        where it is taken back. Raises HttpError and LaunchError only where nothing was sent."""
        if (why := self.no_way_back(row)) is not None:
            return why
        days = (service_date_of(row),)
        if (locked := self._guards.locked(row.issuer_id, row.patient, days)) is not None:
            return locked
        way, hand = self._handovers.of(row), Hand(client, session)
        before = ChargeState.HANDED_OVER if row.state is ChargeState.TAKING_BACK else row.state
        asked = way.is_taken_back(hand, row) if row.state is ChargeState.TAKING_BACK else False
        if asked is None:
            return row.problem or UNANSWERED
        holder = secrets.token_hex(12)
        lease, locked_days = self._lease, days if self._guards.locks else ()
        if not self._charges.begin_taking_back(row, holder, self._clock.now(), lease, locked_days):
            if (locked := self._guards.locked(row.issuer_id, row.patient, days)) is not None:
                return locked
            return "Somebody else is at it at this moment. Look again in a few seconds."
        answer = Delivery(Fate.TAKEN) if asked else way.take_back(hand, row)
        if answer.fate is Fate.IN_DOUBT:
            asked = self._asked(way, hand, row)
            if asked is True:
                answer = Delivery(Fate.TAKEN)
            elif asked is False and answer.certain:
                answer = Delivery(Fate.REFUSED, answer.problem)
        if answer.fate is Fate.TAKEN:
            ended = self._end(row, session, holder, ChargeState.WITHDRAWN, "charge-withdrawn", reason)
            return None if ended else "It was changed by somebody else meanwhile."
        if answer.fate is Fate.REFUSED:
            problem = f"It was not taken back: {answer.problem}"
            self._end(row, session, holder, before, "charge-withdrawal-refused", reason, problem)
            return problem
        problem = f"{UNANSWERED} {answer.problem}"
        state = ChargeState.TAKING_BACK
        self._end(row, session, holder, state, "charge-withdrawal-unknown", reason, problem)
        return problem

    def _asked(self, way: Handover, hand: Hand, row: Charge) -> bool | None:
        try:
            return way.is_taken_back(hand, row)
        except (HttpError, LaunchError):
            return None

    def _end(
        self,
        row: Charge,
        session: LaunchSession,
        holder: str,
        state: ChargeState,
        event: str,
        reason: str,
        problem: str | None = None,
    ) -> bool:
        facts = {"handed_over": row.name, "method": row.content.method.value, **self._facts(row, session)}
        return self._charges.took_back(row, holder, state, event, reason, self._clock.now(), problem, **facts)

    def _facts(self, row: Charge, session: LaunchSession) -> dict[str, str | int | bool | None]:
        return {
            "issuer": row.issuer_id,
            "patient": row.patient,
            "user": session.fhir_user,
            "session": session.id,
            "accepted_by": row.content.confirmed_by,
            "code": row.code,
            "decision": row.content.decision,
            "identifier": row.identifier,
            "rules_version": rules_version_of(row.content.evidence),
        }
