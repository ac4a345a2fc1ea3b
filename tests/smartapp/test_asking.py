"""Whom a user may see: what one of them was answered shuts no door for the others."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from launch.profiles import SearchMethod
from launch.scopes import Scopes
from smartapp.ehr.reading import asking as module
from smartapp.ehr.reading.asking import Asking, NotAnswered

PATIENT = "Patient/syn-7"
RESOURCE = {"resourceType": "Patient", "id": "syn-7", "name": [{"text": "Synthetic"}]}
PAGE = {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": RESOURCE}]}
TOGETHER = {
    "resourceType": "Bundle",
    "type": "batch-response",
    "entry": [{"resource": RESOURCE, "response": {"status": "200"}}],
}
SEARCH_ONLY, READ = Scopes.parse("user/Patient.s"), Scopes.parse("user/Patient.r")


def user(asked, **answers):
    """A client of one EHR that answers each method with a status and a body."""

    def fhir(method, target, **_):
        asked.append(method)
        status, body = answers[method]
        return SimpleNamespace(status=status, ok=status == 200, body=body)

    profile = SimpleNamespace(search_method=SearchMethod.GET)
    base = "https://ehr.example/fhir"
    issuer = SimpleNamespace(id="general", fhir_base=base, max_parallel=2, profile=profile)
    return SimpleNamespace(issuer=issuer, fhir=fhir)


def said(document):
    return 200, json.dumps(document).encode()


@pytest.mark.parametrize("answer", [(403, b"{}"), (200, b"<html>closed for maintenance</html>")])
def test_what_one_user_is_refused_another_is_asked_for_all_the_same(answer):
    asking = Asking()
    with pytest.raises(NotAnswered):
        asking.patients(user([], GET=answer), SEARCH_ONLY, [PATIENT])
    assert asking.patients(user([], GET=said(PAGE)), SEARCH_ONLY, [PATIENT]).people.keys() == {PATIENT}


def test_a_way_that_was_refused_is_tried_again_after_a_while_and_not_before(monkeypatch):
    asking, moments = Asking(), [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: moments[-1]))
    asked: list[str] = []
    asking.patients(user(asked, POST=(400, b""), GET=said(RESOURCE)), READ, [PATIENT])
    able = user(asked, POST=said(TOGETHER), GET=said(RESOURCE))
    for later in (1.0, 3599.0, 3600.0):
        moments.append(later)
        assert asking.patients(able, READ, [PATIENT]).people.keys() == {PATIENT}
    assert asked == ["POST", "GET", "GET", "GET", "POST"]
