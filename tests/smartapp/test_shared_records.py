"""People and devices that were read a moment ago: used again, and never for another patient."""

from __future__ import annotations

from smartapp.ehr.reading.shared import KEPT_SECONDS, SharedRecords
from smartapp.ehr.wire.bundles import Entry, batch_answers
from smartapp.store.reading import SealedChunk

BASE, OTHER = "https://ehr.example/fhir", "https://other.example/fhir"
NURSE = Entry(b'{"resourceType":"Practitioner","id":"n"}')
CUFF = Entry(b'{"resourceType":"Device","id":"d","patient":{"reference":"Patient/p1"}}')


class World:
    def __init__(self):
        self.time = 0.0
        self.sealed = {}
        self.records = SharedRecords(self.seal, lambda chunk: self.sealed[chunk.sealed], lambda: self.time)

    def seal(self, origin, resources):
        name = str(len(self.sealed)).encode()
        self.sealed[name] = resources
        return SealedChunk(origin, "", name)

    def keep(self, key, *entries, patient="p1"):
        self.records.keep(BASE, patient, key, list(entries), BASE)

    def found(self, key, patient="p1", base=BASE):
        found = self.records.found(base, patient, key)
        return None if found is None else [bytes(one.resource) for one in found]


def test_what_belongs_to_nobody_is_everybodys_at_the_same_server_for_a_few_minutes():
    here = World()
    here.keep("Practitioner/n", NURSE)
    assert here.found("Practitioner/n", "p2") == [NURSE.resource]
    assert here.found("Practitioner/n", "p2", OTHER) is None
    here.time = KEPT_SECONDS
    assert here.found("Practitioner/n") is None


def test_a_patients_device_is_given_to_readings_of_that_patient_alone():
    here = World()
    here.keep("Device/d", CUFF)
    assert here.found("Device/d") == [CUFF.resource]
    assert here.found("Device/d", "p2") is None


def test_what_names_somebody_else_or_cannot_be_read_is_not_kept():
    here = World()
    here.keep("Device/d", CUFF, patient="p2")
    here.keep("Device/e", Entry(b"{", problem="no JSON"))
    assert here.found("Device/d", "p2") is None
    assert here.found("Device/d") is None
    assert here.found("Device/e") is None


def test_that_somebody_has_no_role_is_known_too():
    here = World()
    here.keep("roles of Practitioner/n")
    assert here.found("roles of Practitioner/n") == []


def test_an_answer_that_is_no_answer_to_a_batch_brings_nothing():
    good = b'{"resourceType":"Bundle","type":"batch-response","entry":[%s]}'
    one = b'{"resource":{"resourceType":"Bundle"},"response":{"status":"200 OK"}}'
    refused = b'{"response":{"status":"403"},"resource":{"resourceType":"Bundle"}}'
    assert batch_answers(good % one, 1) == [b'{"resourceType":"Bundle"}']
    assert batch_answers(good % refused, 1) == [b""]
    assert batch_answers(good % refused.replace(b"403", b"503 busy"), 1) == [None]
    assert batch_answers(good % one, 2) is None
    assert batch_answers(good.replace(b"batch-response", b"searchset") % one, 1) is None
    assert batch_answers(b"<html>", 1) is None
