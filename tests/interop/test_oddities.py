"""One oddity of real EHRs at a time between the app and HAPI FHIR.

A named doubt is right only where something of the record cannot be had; every other oddity ends in the
decision that the undisturbed server leads to.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from werkzeug.wrappers import Response

from tests.interop.test_servers import accept, decided

pytestmark = pytest.mark.interop

PATIENT = "ready-physiologic"


@pytest.fixture
def server():
    return "hapi"


def searches(type_):
    """Whether a request is a search of a type."""
    return lambda request: request.method == "GET" and request.path.endswith(f"/{type_}")


def asked_otherwise(request, query):
    """The same request with another query."""
    environ = dict(request.environ) | {"QUERY_STRING": urlencode(query)}
    return type(request)(environ)


def outcome(status, code, text):
    issue = {"severity": "error", "code": code, "diagnostics": text}
    body = json.dumps({"resourceType": "OperationOutcome", "issue": [issue]})
    return Response(body, status, content_type="application/fhir+json")


def observations_want_a_category(request, forward):
    named = {"category", "code", "_id", "_getpages"} & request.args.keys()
    if searches("Observation")(request) and not named:
        return outcome(400, "required", "category or code is required")
    return forward(request)


def dates_want_a_comparator(request, forward):
    wrong = [value for value in request.args.getlist("date") if not value[:2].isalpha()]
    return outcome(400, "invalid", "date needs a comparator") if wrong else forward(request)


def five_on_a_page(request, forward):
    query = parse_qsl(request.query_string.decode())
    if "_count" in dict(query):
        query = [(name, "5" if name == "_count" else value) for name, value in query]
        return forward(asked_otherwise(request, query))
    return forward(request)


def as_fhir(resource):
    return Response(json.dumps(resource), 200, content_type="application/fhir+json")


def bundle_of(answer):
    return json.loads(answer.get_data()) if b'"Bundle"' in answer.get_data()[:200] else None


def with_next(change):
    """Pages of five whose link to the next page is another one."""

    def oddity(request, forward):
        answer = five_on_a_page(request, forward)
        bundle = bundle_of(answer)
        for link in (bundle or {}).get("link", ()):
            if link["relation"] == "next":
                link["url"] = change(link["url"], request)
        return answer if bundle is None else as_fhir(bundle)

    return oddity


def only_every(number, answer):
    """Every so-manieth look gets this answer instead."""
    count, lock = itertools.count(1), threading.Lock()

    def oddity(request, forward):
        if request.method != "GET":
            return forward(request)
        with lock:
            turn = next(count) % number == 0
        return answer() if turn else forward(request)

    return oddity


def busy_now_and_then():
    count, lock = itertools.count(1), threading.Lock()

    def oddity(request, forward):
        with lock:
            turn = next(count) % 9 == 0
        if not turn:
            return forward(request)
        answer = outcome(429, "throttled", "later")
        answer.headers["Retry-After"] = "1"
        return answer

    return oddity


def slow_account(request, forward):
    if searches("Account")(request):
        time.sleep(10)
    return forward(request)


def remarks(request, forward):
    answer = forward(request)
    bundle = bundle_of(answer)
    if bundle is None or not searches("Observation")(request):
        return answer
    said = {"severity": "information", "code": "informational", "diagnostics": "nothing of note"}
    bundle.setdefault("entry", []).append(
        {"resource": {"resourceType": "OperationOutcome", "issue": [said]}, "search": {"mode": "outcome"}}
    )
    return as_fhir(bundle)


def refused(type_, status):
    return lambda request, forward: (
        outcome(status, "forbidden", "not for you") if searches(type_)(request) else forward(request)
    )


def broken_off(request, forward):
    answer = forward(request)
    if searches("Observation")(request) and len(answer.get_data()) > 3000:
        return Response(answer.get_data()[:-900], 200, content_type="application/fhir+json")
    return answer


def web_page(request, forward):
    if searches("Observation")(request):
        return Response("<html><title>Sign in</title></html>", 200, content_type="text/html")
    return forward(request)


HARMLESS = {
    "Observation without a category or code is refused": lambda: observations_want_a_category,
    "a date without a comparator is refused": lambda: dates_want_a_comparator,
    "five on a page": lambda: five_on_a_page,
    "next pages by a relative link": lambda: with_next(
        lambda url, _: urlsplit(url)._replace(scheme="", netloc="").geturl()
    ),
    "429 with Retry-After now and then": busy_now_and_then,
    "every fifteenth answer is a 500": lambda: only_every(15, lambda: outcome(500, "exception", "oops")),
    "Account takes ten seconds": lambda: slow_account,
    "a remark beside what was found": lambda: remarks,
    "Account is refused": lambda: refused("Account", 403),
    "Condition is a fault of the server": lambda: refused("Condition", 500),
}

DOUBTFUL = {
    "next pages on another server": lambda: with_next(
        lambda url, _: "http://elsewhere.invalid/fhir/r4?page=2"
    ),
    "next pages that lead to what was not asked for": lambda: with_next(
        lambda url, request: f"{request.base_url}?{urlsplit(url).query}"
    ),
    "next pages that lead to themselves": lambda: with_next(lambda _, request: request.url),
    "answers that break off": lambda: broken_off,
    "a web page for an answer": lambda: web_page,
    "Observation is refused": lambda: refused("Observation", 403),
    "Encounter is refused": lambda: refused("Encounter", 403),
}


def suggested(told):
    return {(one["code"], one["period"]["start"]) for one in told["decisions"] if one["outcome"] == "suggest"}


@pytest.fixture
def undisturbed(foreign, browser):
    return decided(foreign, browser, PATIENT)[1]


@pytest.mark.parametrize("oddity", HARMLESS)
def test_it_ends_in_the_right_decision(foreign, browser, undisturbed, oddity):
    foreign.front.oddity = HARMLESS[oddity]()
    page, told = decided(foreign, browser, PATIENT)
    assert told["decisions"] == undisturbed["decisions"], page.text


@pytest.mark.parametrize("oddity", DOUBTFUL)
def test_the_doubt_is_named_and_nothing_lower_is_suggested(foreign, browser, undisturbed, oddity):
    foreign.front.oddity = DOUBTFUL[oddity]()
    page, told = decided(foreign, browser, PATIENT)
    assert not told["completeness"]["whole"]
    assert "The chart was not fully read" in page.text
    assert suggested(told) <= suggested(undisturbed)


def test_a_charge_goes_through_an_ehr_whose_searches_fail_now_and_then(foreign, browser):
    foreign.front.oddity = only_every(15, lambda: outcome(503, "transient", "later"))
    try:
        assert "The charge is in the EHR" in accept(foreign, browser, PATIENT, "99454").text
        foreign.front.oddity = None
        assert len(foreign.charts.written(PATIENT)) == 1
    finally:
        foreign.front.oddity = None
        foreign.charts.take_back(PATIENT)
