"""Whatever is cut, late, doubled or killed: an accepted charge is there once, or its row is *unknown*.

A hundred sequences; `python -m tests.support.fault_run` runs as many as one likes.
"""

from __future__ import annotations

from contextlib import closing

import pytest

from smartapp.configuration.handover import Method
from smartapp.ehr.charges.workflow import Found, Holds
from smartapp.ehr.handover.dft import DftHandover
from smartapp.ehr.handover.fhir_record import FhirRecordHandover
from smartapp.store.claims import ChargeState
from tests.support.fault_run import WAYS, FaultWorld, Run, Wrong, fault_run


def test_a_hundred_sequences_end_with_the_accepted_charge_once_or_unknown():
    ended = fault_run(100, seed=1)
    assert ended.total() == 100
    assert {way for way, _ in ended} == {way.value for way in WAYS}
    assert {"confirmed", "handed-over", "entered", "unknown", "withdrawn"} <= {how for _, how in ended}


def test_the_run_notices_a_message_that_is_sent_again_without_an_acknowledgement(monkeypatch):
    monkeypatch.setattr(DftHandover, "find", lambda *_: Found(Holds.NOT_YET))
    with pytest.raises(Wrong, match="dft"):
        fault_run(100, seed=1)


def test_the_run_notices_a_record_that_is_taken_for_written_and_is_not(monkeypatch):
    monkeypatch.setattr(FhirRecordHandover, "find", lambda *_: Found(Holds.OURS, "Task/task-0"))
    with pytest.raises(Wrong, match="there is no charge"):
        fault_run(100, seed=1)


def test_a_refusal_of_a_second_sending_says_nothing_of_a_first_that_may_still_arrive(tmp_path):
    with closing(FaultWorld(tmp_path)) as world:
        run = Run(world, 1, "a late first, a refused second")
        run.method, run.ehr.conditional = Method.TASK, True
        faults = ["late", "422"]
        run.chance = lambda _: False
        run.pick = lambda choices: faults.pop(0) if faults else choices[0]
        with world.run_by(run):
            run.begin()
            run.press()
            run.again()
            assert run.row.state is ChargeState.UNKNOWN, "the second was refused, the first may be on its way"
            run.ehr.arrive()
            run.again()
        assert run.row.state is ChargeState.HANDED_OVER
        assert run.standing == 1
