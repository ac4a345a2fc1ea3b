"""What the oracle (`oracle.py`) must say, by hand: a chart and its answer in a sentence each.

The product is not asked. Where these and the specification differ, the oracle checks the product for the
wrong thing.
"""

from __future__ import annotations

from typing import Any

import pytest

from . import oracle
from .support.chart import Event, Resource, build_resources, site_file
from .support.evaluation import NEW_YORK

Answer = dict[str, Any]

DAYS_15 = {"days": {"of": "HEP", "from": "2026-01-05", "count": 15}}
DAYS_16 = {"days": {"of": "HEP", "from": "2026-01-05", "count": 16}}
CUFF_15 = {"days": {"of": "BP", "device": "cuff", "from": "2026-01-05", "count": 15}}
CUFF_16 = {"days": {"of": "BP", "device": "cuff", "from": "2026-01-05", "count": 16}}
SETUP_04 = {"setup": {"at": "2026-01-04T09:00", "for": "10:00", "by": "nurse", "program": "rtm"}}
SETUP_05 = {"setup": {"at": "2026-01-05T07:00", "for": "10:00", "by": "nurse", "program": "rtm"}}
FIXED = {"charge": {"code": "98977", "period": ["2025-12-06", "2026-01-04"]}}
CALL_12 = {"call": {"at": "2026-01-20T10:00", "for": "12:00", "by": "nurse", "program": "rpm"}}
REVIEW_10 = {"review": {"at": "2026-01-22T10:00", "for": "10:00", "by": "nurse", "program": "rpm"}}
UNREAD = {"type": "Observation", "why": "cut-off"}
UNREAD_ENCOUNTERS = {"type": "Encounter", "why": "cut-off"}


def more(event: Event, **raw: Any) -> Event:
    """An event with FHIR elements laid over it."""
    ((word, told),) = event.items()
    return {word: {**told, "raw": {**told.get("raw", {}), **raw}}}


def one(of: str, day: int = 20, **told: Any) -> Event:
    """One reading of January, of the evening."""
    return {"reading": {"of": of, "at": f"2026-01-{day:02}T20:00", **told}}


def stay(first: str, last: str | None, code: str = "IMP", **told: Any) -> Event:
    """An Encounter of a class, from a time to another."""
    until = {} if last is None else {"until": last}
    return {"encounter": {"id": "place", "class": code, "at": first, **until, **told}}


def bundle(*entries: Resource, **told: Any) -> Event:
    return {
        "resource": {
            "resourceType": "Bundle",
            "id": "b",
            "type": "collection",
            **told,
            "entry": list(entries),
        }
    }


def page(of: str, bounds: str = "", after: str | None = "https://ehr.test/fhir/?page=2") -> Event:
    """An empty page of a search, and what it names as the next one."""
    links = [{"relation": "self", "url": f"https://ehr.test/fhir/{of}?patient=p1{bounds}"}]
    links += [{"relation": "next", "url": after}] if after else []
    return {"resource": {"resourceType": "Bundle", "id": f"{of}-page", "type": "searchset", "link": links}}


def hep(name: str, day: int, **told: Any) -> Resource:
    """A home exercise as it stands in a Bundle."""
    (built,) = [
        r
        for r in build_resources(
            [{"reading": {"of": "HEP", "id": name, "at": f"2026-01-{day:02}T08:00"}}], NEW_YORK
        )
        if r["resourceType"] == "Observation"
    ]
    return {**built, **told}


EXERCISE = ("urn:clinic:flowsheet", "HEP")
NO_VALUE = {"valueQuantity": None}
VENDOR = {"class": {"system": "urn:oid:1.2.3", "code": "3"}}
CLINIC_DAY = {"encounter": {"id": "place", "class": "AMB", "at": "2026-01-20T19:00", "for": "2:00:00"}}

RPM_MONTH = [CUFF_16, CALL_12, REVIEW_10]


def visit(by: str | list[str] = "physician", day: int = 20, word: str = "visit", **told: Any) -> Event:
    """A visit of January, in the morning."""
    return {word: {"at": f"2026-01-{day:02}T08:00", "for": "15:00", "by": by, "program": "any", **told}}


def order(code: str = "99457", by: str = "physician") -> Event:
    """Who ordered one of our codes."""
    return {
        "resource": {
            "resourceType": "ServiceRequest",
            "id": "order",
            "status": "active",
            "intent": "order",
            "subject": {"reference": "Patient/p1"},
            "code": {"coding": [{"code": code}]},
            "requester": {"reference": f"Practitioner/{by}"},
        }
    }


def works(name: str, specialty: str, organisation: str) -> Event:
    return {"staff": {"name": name, "specialty": specialty, "organisation": organisation, "degree": "MD"}}


def surgery(day: str | None, code: list[str] | None = None, **told: Any) -> Event:
    """A Procedure."""
    return {
        "procedure": {
            **({} if day is None else {"on": day}),
            **({} if code is None else {"code": code}),
            **told,
        }
    }


#: In one sentence; the chart; what is said of codes, as outcome, days or seconds found, and reasons.
SENTENCES: list[tuple[str, list[Event], dict[str, str]]] = [
    # D20: what was not read
    (
        "a whole chart is decided as it stands",
        [DAYS_16, SETUP_05],
        {"98977": "suggest 16", "98975": "suggest 16"},
    ),
    (
        "an unread page may move the anchor",
        [DAYS_16, SETUP_04, page("Observation")],
        {"98977": "review 16 record-incomplete", "98975": "review 16 record-incomplete"},
    ),
    (
        "before a set-up on the first day nothing counts",
        [DAYS_16, SETUP_05, page("Observation")],
        {"98977": "suggest 16", "98975": "suggest 16"},
    ),
    (
        "fifteen days and an unread page may be sixteen",
        [DAYS_15, SETUP_05, page("Observation")],
        {"98985": "review 15 record-incomplete", "98977": "out-of-reach 15 record-incomplete"},
    ),
    (
        "an unread page of other days touches nothing",
        [DAYS_15, SETUP_05, page("Observation", "&date=ge2026-02-04")],
        {"98985": "suggest 15"},
    ),
    (
        "the page that follows was handed over",
        [DAYS_15, SETUP_05, page("Observation"), page("", after=None)],
        {"98985": "review 15 record-incomplete"},
    ),
    (
        "a charge of thirty days fixes the anchor",
        [DAYS_16, FIXED, page("Observation")],
        {"98977@2026-01-05": "suggest 16"},
    ),
    (
        "a fixed anchor leaves open when monitoring began",
        [DAYS_16, FIXED, page("Observation")],
        {"98975": "review 16 record-incomplete setup-not-documented"},
    ),
    (
        "a broken reading may be the sixteenth",
        [DAYS_15, SETUP_05, {"resource": {**hep("x", 28), "device": [1]}}],
        {"98985": "review 15 record-incomplete"},
    ),
    (
        "a broken reading of a counted day changes nothing",
        [DAYS_15, SETUP_05, {"resource": {**hep("x", 7), "device": [1]}}],
        {"98985": "suggest 15"},
    ),
    (
        "a broken result that nobody declared is nothing",
        [
            DAYS_15,
            SETUP_05,
            {
                "resource": {
                    **hep("x", 28),
                    "device": [1],
                    "code": {"coding": [{"system": "http://loinc.org", "code": "2160-0"}]},
                }
            },
        ],
        {"98985": "suggest 15"},
    ),
    (
        "one broken reading is not two",
        [
            {"days": {"of": "HEP", "from": "2026-01-05", "count": 14}},
            SETUP_05,
            {"resource": {**hep("x", 28), "device": [1]}},
        ],
        {"98985": "suggest 14"},
    ),
    (
        "unread Encounters may hold a visit or a call",
        [CUFF_16, CALL_12, REVIEW_10, page("Encounter")],
        {"99457": "review 1320 record-incomplete"},
    ),
    (
        "unread Encounters of another month do not",
        [CUFF_16, CALL_12, REVIEW_10, page("Encounter", "&date=ge2026-02-01")],
        {"99457": "suggest 1320"},
    ),
    (
        "a day without minutes can only add to twenty-two",
        [CUFF_16, CALL_12, REVIEW_10, page("Encounter", "&date=2026-01-10")],
        {"99457": "suggest 1320", "99458": "out-of-reach 1320 record-incomplete"},
    ),
    # D21, D22: values
    (
        "a reading without a value is none",
        [DAYS_15, SETUP_05, one("HEP", raw=NO_VALUE)],
        {"98985": "suggest 15"},
    ),
    (
        "no exercise is an answer",
        [DAYS_15, SETUP_05, one("HEP", raw={"valueQuantity": {"value": 0}})],
        {"98977": "suggest 16"},
    ),
    (
        "refused is none",
        [DAYS_15, SETUP_05, one("HEP", raw={**NO_VALUE, "valueString": " Refused "})],
        {"98985": "suggest 15"},
    ),
    (
        "a word is one",
        [DAYS_15, SETUP_05, one("HEP", raw={**NO_VALUE, "valueString": "refused the stairs"})],
        {"98977": "suggest 16"},
    ),
    (
        "nobody weighs nothing",
        [
            CUFF_15,
            one(
                "BP",
                device="cuff",
                raw={
                    "valueQuantity": None,
                    "component": [
                        {
                            "code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]},
                            "valueQuantity": {"value": 0, "code": "mm[Hg]"},
                        }
                    ],
                },
            ),
        ],
        {"99445": "review 15 implausible-value", "99454": "out-of-reach 15 implausible-value"},
    ),
    # D23 to D25: where a reading comes from
    (
        "a device that is not in the chart is unknown, in RTM too",
        [DAYS_15, SETUP_05, one("HEP", device={"display": "tablet"})],
        {"98985": "review 15 device-unknown"},
    ),
    (
        "a gateway measures nothing",
        [DAYS_15, SETUP_05, one("HEP", device="gateway")],
        {"98985": "suggest 15"},
    ),
    (
        "an app of a phone serves every line of RTM",
        [
            DAYS_15,
            SETUP_05,
            {"days": {"of": "HEP", "device": "phone-app", "from": "2026-01-05", "count": 16}},
        ],
        {"98977": "suggest 16"},
    ),
    (
        "a nurse with the cuff is a conflict",
        [CUFF_15, one("BP", device="cuff", by="nurse")],
        {"99445": "review 15 source-conflict"},
    ),
    (
        "a nurse without a device typed it in",
        [DAYS_15, SETUP_05, one("HEP", by="nurse")],
        {"98985": "suggest 15"},
    ),
    (
        "typed in by hand is no physiologic reading",
        [
            CUFF_15,
            one(
                "BP",
                device="cuff",
                raw={"method": {"coding": [{"system": "http://snomed.info/sct", "code": "1156040003"}]}},
            ),
        ],
        {"99445": "suggest 15"},
    ),
    # D26: places
    (
        "a stay in a vendor's class is unclear",
        [DAYS_15, SETUP_05, one("HEP"), stay("2026-01-20T12:00", "2026-01-21T08:00", raw=VENDOR)],
        {"98985": "review 15 in-facility-unclear"},
    ),
    (
        "within a day a vendor's class is nothing",
        [DAYS_15, SETUP_05, one("HEP"), stay("2026-01-20T12:00", "2026-01-20T23:00", raw=VENDOR)],
        {"98977": "suggest 16"},
    ),
    ("a visit takes what lies in it", [DAYS_15, SETUP_05, one("HEP"), CLINIC_DAY], {"98985": "suggest 15"}),
    (
        "a visit without an end takes what names it that day",
        [DAYS_15, SETUP_05, one("HEP", encounter="place"), stay("2026-01-20T09:00", None, "AMB")],
        {"98985": "suggest 15"},
    ),
    (
        "a visit without an end leaves the rest",
        [DAYS_15, SETUP_05, one("HEP"), stay("2026-01-20T09:00", None, "AMB")],
        {"98977": "suggest 16"},
    ),
    (
        "what names a visit of another day counts",
        [
            DAYS_15,
            SETUP_05,
            one("HEP", encounter="place"),
            stay("2026-01-27T09:00", "2026-01-27T10:00", "AMB"),
        ],
        {"98977": "suggest 16"},
    ),
    (
        "a stay of dates is of whole days",
        [
            DAYS_15,
            SETUP_05,
            one("HEP"),
            stay("2026-01-20", None, raw={"period": {"start": "2026-01-20", "end": "2026-01-20"}}),
        ],
        {"98985": "suggest 15"},
    ),
    (
        "a review is nowhere",
        [
            DAYS_15,
            SETUP_05,
            one("HEP"),
            {"encounter": {**CLINIC_DAY["encounter"], "type": ["urn:clinic:visit", "RTM-REVIEW"]}},
        ],
        {"98977": "suggest 16"},
    ),
    # D27, D28: versions, deletions, what is one reading
    (
        "the tenth version is newer than the ninth",
        [
            DAYS_15,
            SETUP_05,
            bundle(
                {"resource": hep("v", 28, meta={"versionId": "9"})},
                {"resource": hep("v", 28, meta={"versionId": "10"}, status="entered-in-error")},
            ),
        ],
        {"98985": "suggest 15"},
    ),
    (
        "without dates the error is believed",
        [
            DAYS_15,
            SETUP_05,
            bundle({"resource": hep("v", 28, status="entered-in-error")}, {"resource": hep("v", 28)}),
        ],
        {"98985": "suggest 15"},
    ),
    (
        "what was deleted is gone",
        [
            DAYS_15,
            SETUP_05,
            bundle(
                {"resource": hep("v", 28)},
                {"request": {"method": "DELETE", "url": "Observation/v"}},
                type="transaction",
            ),
        ],
        {"98985": "suggest 15"},
    ),
    (
        "what was written again after it stands",
        [
            DAYS_15,
            SETUP_05,
            bundle(
                {"resource": hep("v", 28, meta={"lastUpdated": "2026-02-01T00:00:01Z"})},
                {"request": {"method": "DELETE", "url": "Observation/v"}},
                type="history",
                timestamp="2026-02-01T00:00:00Z",
            ),
        ],
        {"98977": "suggest 16"},
    ),
    (
        "an order's number makes no duplicates",
        [{"days": {**DAYS_16["days"], "raw": {"identifier": [{"value": "7"}]}}}, SETUP_05],
        {"98977": "suggest 16"},
    ),
    (
        "a corrected reading counts on its own day",
        [
            SETUP_05,
            DAYS_15,
            one("HEP", 28, raw={"identifier": [{"value": "a"}], "meta": {"lastUpdated": "2026-02-01"}}),
            one("HEP", 29, raw={"identifier": [{"value": "a"}], "meta": {"lastUpdated": "2026-02-02"}}),
        ],
        {"98977": "suggest 16"},
    ),
    # D29, D41: prior charges
    (
        "a number in words is a charge",
        [
            DAYS_16,
            SETUP_05,
            more(
                {"charge": {"code": "98977", "period": ["2026-01-05", "2026-02-03"]}},
                code={"text": "CPT(R) 98977"},
            ),
        ],
        {"98977": "charged 16"},
    ),
    (
        "inside a longer number it is none",
        [
            DAYS_16,
            SETUP_05,
            more(
                {"charge": {"code": "98977", "period": ["2026-01-05", "2026-02-03"]}},
                code={"text": "9897726"},
            ),
        ],
        {"98977": "suggest 16"},
    ),
    (
        "two numbers in words are for a human",
        [
            DAYS_16,
            SETUP_05,
            more(
                {"charge": {"code": "98977", "period": ["2026-01-05", "2026-02-03"]}},
                code={"text": "98977 98985"},
            ),
        ],
        {"98977": "review 16 charged-period-unclear"},
    ),
    (
        "what was taken back is not charged",
        [
            DAYS_16,
            SETUP_05,
            *(
                {"charge": {"code": "98977", "period": ["2026-01-05", "2026-02-03"], "quantity": n}}
                for n in (1, -1)
            ),
        ],
        {"98977": "suggest 16"},
    ),
    (
        "a charge on the second day may be the former period's",
        [DAYS_16, SETUP_05, {"charge": {"code": "98977", "on": "2026-02-05"}}],
        {"98977": "review 16 charged-period-unclear"},
    ),
    (
        "on the sixteenth day it is its own",
        [DAYS_16, SETUP_05, {"charge": {"code": "98977", "on": "2026-02-19"}}],
        {"98977": "suggest 16"},
    ),
    (
        "self-measured pressure is charged otherwise",
        [CUFF_16, {"charge": {"code": "99474", "on": "2026-01-20"}}],
        {"99454": "review 16 charged-otherwise", "99453": "review 16 charged-otherwise setup-not-documented"},
    ),
    # D30, D31: people and lengths
    (
        "a relative alone is no staff",
        [
            CUFF_16,
            more(
                {"call": {**CALL_12["call"], "for": "22:00"}},
                participant=[{"individual": {"reference": "RelatedPerson/r"}}],
            ),
        ],
        {"99457": "review 1320 staff-role"},
    ),
    (
        "one visit number, twice the same time, is once",
        [CUFF_16, *[more(CALL_12, identifier=[{"value": "9"}])] * 2, REVIEW_10],
        {"99457": "suggest 1320"},
    ),
    (
        "one visit number with two times is the shorter",
        [
            CUFF_16,
            more({"call": {**CALL_12["call"], "for": "25:00"}}, identifier=[{"value": "9"}]),
            more(CALL_12, identifier=[{"value": "9"}]),
        ],
        {"99470": "review 720 implausible-span", "99457": "out-of-reach 720 implausible-span"},
    ),
    (
        "less than twenty minutes is no length",
        [
            CUFF_16,
            more(
                {"call": {"at": "2026-01-20T10:00", "by": "nurse", "program": "rpm"}},
                length={"value": 20, "comparator": "<", "unit": "min"},
            ),
        ],
        {"99457": "out-of-reach 0"},
    ),
    # D35: whose visit it was
    ("another's visit leaves a nurse's call", [*RPM_MONTH, visit()], {"99457": "suggest 1320"}),
    (
        "the visit of who ordered it takes a nurse's minutes of that day",
        [*RPM_MONTH, visit(), order()],
        {"99457": "out-of-reach 600"},
    ),
    (
        "who ordered the other program is another",
        [*RPM_MONTH, visit(), order("98980")],
        {"99457": "suggest 1320"},
    ),
    (
        "so does the visit of who manages the care",
        [*RPM_MONTH, visit(), {"episode": {"from": "2026-01-01", "manager": "physician"}}],
        {"99457": "out-of-reach 600"},
    ),
    (
        "and of who performed what was charged",
        [*RPM_MONTH, visit(), {"charge": {"code": "99457", "on": "2025-12-31", "by": "physician"}}],
        {"99457@2026-01-01": "out-of-reach 600"},
    ),
    (
        "and of who works in the month",
        [
            *RPM_MONTH,
            visit(),
            {"review": {"at": "2026-01-23T10:00", "for": "1:00", "by": "physician", "program": "rpm"}},
        ],
        {"99457": "out-of-reach 660"},
    ),
    (
        "and of a colleague in the same specialty and organisation",
        [
            *RPM_MONTH,
            visit(),
            order(by="physician-2"),
            works("physician", "x", "a"),
            works("physician-2", "x", "a"),
        ],
        {"99457": "out-of-reach 600"},
    ),
    (
        "another specialty is another",
        [
            *RPM_MONTH,
            visit(),
            order(by="physician-2"),
            works("physician", "y", "a"),
            works("physician-2", "x", "a"),
        ],
        {"99457": "suggest 1320"},
    ),
    (
        "another organisation is another",
        [
            *RPM_MONTH,
            visit(),
            order(by="physician-2"),
            works("physician", "x", "b"),
            works("physician-2", "x", "a"),
        ],
        {"99457": "suggest 1320"},
    ),
    (
        "a visit of nobody knows whom is a question",
        [*RPM_MONTH, visit([])],
        {"99457": "review 1320 same-day-visit", "99470": "blocked 1320 99457"},
    ),
    ("but none where no minutes lie", [*RPM_MONTH, visit([], 21)], {"99457": "suggest 1320"}),
    (
        "a charged visit is of whoever performed it",
        [*RPM_MONTH, {"charge": {"code": "99213", "on": "2026-01-20", "by": "physician"}}],
        {"99457": "suggest 1320"},
    ),
    (
        "or of nobody knows whom",
        [*RPM_MONTH, {"charge": {"code": "99213", "on": "2026-01-20"}}],
        {"99457": "review 1320 same-day-visit"},
    ),
    (
        "on the service date another's visit is none",
        [*RPM_MONTH, visit(day=31)],
        {"99457": "suggest 1320"},
    ),
    (
        "on the service date one of the program's is one",
        [*RPM_MONTH, visit(day=31), order()],
        {"99457": "review 1320 visit-on-service-date"},
    ),
    (
        "with another nobody talked about it in person",
        [CUFF_16, {"review": {**REVIEW_10["review"], "for": "22:00"}}, visit(word="in-person", day=21)],
        {"99457": "out-of-reach 1320"},
    ),
    (
        "with one of the program's somebody may have",
        [
            CUFF_16,
            {"review": {**REVIEW_10["review"], "for": "22:00"}},
            visit(word="in-person", day=21),
            order(),
        ],
        {"99457": "review 1320 conversation-in-person"},
    ),
    # D32, D33: names and seconds
    (
        "LOINC by its OID is LOINC",
        [
            {
                "days": {
                    **CUFF_16["days"],
                    "raw": {
                        "code": {"coding": [{"system": "urn:oid:2.16.840.1.113883.6.1", "code": "85354-9"}]}
                    },
                }
            }
        ],
        {"99454": "suggest 16"},
    ),
    (
        "a leap second is the second before",
        [DAYS_15, SETUP_05, one("HEP", 28, raw={"effectiveDateTime": "2026-01-28T23:59:60-05:00"})],
        {"98977": "suggest 16"},
    ),
]


@pytest.mark.parametrize(
    ("events", "expected"), [row[1:] for row in SENTENCES], ids=[row[0] for row in SENTENCES]
)
def test_the_oracle_says(events: list[Event], expected: dict[str, str]) -> None:
    said = asked(events)
    assert {code: brief_of(said, code) for code in expected} == expected


#: In one sentence; the chart; keys of the site's file; what is unverified of a code, where rules say so.
UNVERIFIED_SENTENCES: list[tuple[str, list[Event], dict[str, Any], dict[str, set[str]]]] = [
    (
        "unread charges",
        [DAYS_16, CALL_12, page("ChargeItem")],
        {},
        {
            "98977": {"prior-charges"},
            "98975": {"prior-charges"},
            "98980": {"prior-charges", "time", "conversation"},
        },
    ),
    (
        "an answer that was refused",
        [DAYS_16, bundle({"response": {"status": "403"}}, type="batch-response")],
        {},
        {"98977": {"prior-charges"}},
    ),
    (
        "unread Encounters",
        [DAYS_16, page("Encounter")],
        {},
        {
            "98977": {"in-facility"},
            "98975": {"in-facility"},
            "98980": {"same-day-services", "time", "conversation"},
        },
    ),
    (
        "unread Encounters of later days",
        [DAYS_16, page("Encounter", "&date=ge2026-02-04")],
        {},
        {"98977": set()},
    ),
    (
        "a stay at no time",
        [
            DAYS_16,
            {
                "resource": {
                    "resourceType": "Encounter",
                    "id": "e",
                    "status": "finished",
                    "class": {"code": "IMP"},
                    "subject": {"reference": "Patient/p1"},
                }
            },
        ],
        {},
        {"98977": {"in-facility"}},
    ),
    (
        "a reading under a series",
        [DAYS_15, one("HEP", encounter="place"), stay("2026-01-05T08:00", "2026-03-31T17:00", "AMB")],
        {},
        {"98977": {"in-facility"}},
    ),
    (
        "a reading under a review of a month",
        [
            DAYS_15,
            one("HEP", encounter="place"),
            stay("2026-01-05T08:00", "2026-03-31T17:00", "AMB", type=["urn:clinic:visit", "RTM-REVIEW"]),
        ],
        {},
        {"98977": set()},
    ),
    (
        "perhaps another record of the patient",
        [
            DAYS_16,
            {"patient": {"raw": {"link": [{"other": {"reference": "Patient/p9"}, "type": "seealso"}]}}},
        ],
        {},
        {"98977": {"prior-charges"}},
    ),
    (
        "a charge that was taken back",
        [
            DAYS_16,
            *(
                {"charge": {"code": "98977", "period": ["2026-01-05", "2026-02-03"], "quantity": n}}
                for n in (1, -1)
            ),
        ],
        {},
        {"98977": {"prior-charges"}, "98985": set()},
    ),
    (
        "a year without rules",
        [{"days": {"of": "HEP", "from": "2026-12-10", "count": 16}}],
        {},
        {"98977": {"rules-of-the-year"}},
    ),
    (
        "a year the site confirmed",
        [{"days": {"of": "HEP", "from": "2026-12-10", "count": 16}}],
        {"rules_confirmed": [{"codes": "all", "to": "2027-11-30", "on": "2026-12-15"}]},
        {"98977": set()},
    ),
    (
        "another code was confirmed",
        [{"days": {"of": "HEP", "from": "2026-12-10", "count": 16}}],
        {"rules_confirmed": [{"codes": ["99454"], "to": "2027-11-30", "on": "2026-12-15"}]},
        {"98977": {"rules-of-the-year"}},
    ),
]
CPT = "http://www.ama-assn.org/go/cpt"
KNEE = [CPT, "27447"]
UNVERIFIED_SENTENCES += [
    # D35, D39: same-day services
    ("no visit", RPM_MONTH, {}, {"99457": set()}),
    ("another's visit beside minutes", [*RPM_MONTH, visit()], {}, {"99457": {"same-day-services"}}),
    ("a visit that takes them away", [*RPM_MONTH, visit(), order()], {}, {"99457": {"conversation"}}),
    # D39: times and talks
    ("no minutes", [CUFF_16], {}, {"99457": {"time", "conversation"}}),
    ("no talk", [CUFF_16, REVIEW_10], {}, {"99470": {"conversation"}}),
    (
        "a length alone",
        [CUFF_16, {"call": {**CALL_12["call"], "for": 0, "length": 720}}],
        {},
        {"99470": {"time", "conversation"}},
    ),
    (
        "a coding of nobody's own",
        [CUFF_16, REVIEW_10, more(CALL_12, type=None)],
        {},
        {"99457": {"time", "conversation"}},
    ),
    # D36: the global period, 2026-01-05 to 2026-02-03
    ("ninety days before", [DAYS_16, surgery("2025-11-05", KNEE)], {}, {"98977": {"global-period"}}),
    ("ninety-one days before", [DAYS_16, surgery("2025-11-04", KNEE)], {}, {"98977": set()}),
    ("after the window", [DAYS_16, surgery("2026-02-04", KNEE)], {}, {"98977": set()}),
    ("on nobody knows which day", [DAYS_16, surgery(None, KNEE)], {}, {"98977": {"global-period"}}),
    (
        "still going on",
        [DAYS_16, surgery(None, KNEE, period=["2025-01-01"], status="in-progress")],
        {},
        {"98977": {"global-period"}},
    ),
    ("done long ago", [DAYS_16, surgery(None, KNEE, period=["2025-01-01"])], {}, {"98977": set()}),
    ("not done", [DAYS_16, surgery("2026-01-02", KNEE, status="not-done")], {}, {"98977": set()}),
    (
        "the first number of surgery",
        [DAYS_16, surgery("2026-01-02", [CPT, "10021"])],
        {},
        {"98977": {"global-period"}},
    ),
    ("a number before it", [DAYS_16, surgery("2026-01-02", [CPT, "10020"])], {}, {"98977": set()}),
    (
        "the last number of surgery",
        [DAYS_16, surgery("2026-01-02", [CPT, "69990"])],
        {},
        {"98977": {"global-period"}},
    ),
    ("a number after it", [DAYS_16, surgery("2026-01-02", [CPT, "69991"])], {}, {"98977": set()}),
    ("only in words", [DAYS_16, surgery("2026-01-02")], {}, {"98977": {"global-period"}}),
    (
        "charged surgery",
        [DAYS_16, {"charge": {"code": "27447", "on": "2026-01-02"}}],
        {},
        {"98977": {"global-period"}},
    ),
    (
        "charged, and taken back",
        [DAYS_16, {"charge": {"code": "27447", "on": "2026-01-02", "status": "aborted"}}],
        {},
        {"98977": set()},
    ),
    ("Procedures that nobody read", [DAYS_16, page("Procedure")], {}, {"98977": {"global-period"}}),
]
RULED = {
    "prior-charges",
    "in-facility",
    "rules-of-the-year",
    "same-day-services",
    "global-period",
    "time",
    "conversation",
}


@pytest.mark.parametrize(
    ("events", "more_of_site", "expected"),
    [row[1:] for row in UNVERIFIED_SENTENCES],
    ids=[row[0] for row in UNVERIFIED_SENTENCES],
)
def test_the_oracle_leaves_unverified(
    events: list[Event], more_of_site: dict[str, Any], expected: dict[str, set[str]]
) -> None:
    said = asked(events, as_of="2027-02-01" if "2026-12-10" in str(events) else "2026-04-01", **more_of_site)
    assert {code: RULED & set(first_of(said, code)["unverified"]) for code in expected} == expected


def terms(**more_of_terminology: Any) -> dict[str, Any]:
    return {"terminology": {**site_file(None, None, None)["terminology"], **more_of_terminology}}


CODED = {"coding": [{"system": "urn:vendor", "code": "x"}]}
VENDOR_X = {"system": "urn:vendor", "code": "x"}
HOME_CUFF = {
    "resourceType": "Device",
    "id": "home",
    "patient": {"reference": "Patient/p1"},
    "manufacturer": "EXAMPLE CUFFS",
    "modelNumber": "EC-9",
    "type": {"text": "Blood Pressure Monitor"},
    "udiCarrier": [{"deviceIdentifier": "0088"}],
    "identifier": [{"system": "urn:asset", "value": "A-17"}],
}
AT_HOME = [
    {"resource": HOME_CUFF},
    {"days": {"of": "BP", "device": {"reference": "Device/home"}, "from": "2026-01-05", "count": 16}},
]
PLAN = {"payer": "our-plan", "coverage": [{"from": "2025-01-01", "codes": "all", "covered": "yes"}]}
RISING = [
    {"from": "2026-01-01", "codes": ["98985"], "covered": "yes", "least": 2},
    {"from": "2026-01-20", "codes": ["98985"], "covered": "yes", "least": 10},
]
FALLING = [{**RISING[0], "least": 10}, {**RISING[1], "least": 2}]


HEART = [{"from": "2026-01-01", "codes": ["99454"], "covered": "yes", "diagnoses": ["I50"]}]


def has(code: str, status: str | None = "active", **raw: Any) -> Event:
    """A Condition of ICD-10-CM."""
    return {"condition": {"code": ["http://hl7.org/fhir/sid/icd-10-cm", code], "status": status, "raw": raw}}


def plan(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"payer": "our-plan", "payer_tables": [{**PLAN, "coverage": [*PLAN["coverage"], *rows]}]}


#: In one sentence; the chart; keys of the site's file; what is said of codes.
SITES: list[tuple[str, list[Event], dict[str, Any], dict[str, str]]] = [
    ("an unknown model", AT_HOME, {}, {"99454": "absent"}),
    (
        "a model in other letters",
        AT_HOME,
        terms(devices=[{"manufacturer": "Example Cuffs", "model": "ec-9", "line": "physiologic"}]),
        {"99454": "suggest 16"},
    ),
    (
        "the text of a type",
        AT_HOME,
        terms(devices=[{"type_text": "blood pressure monitor", "line": "physiologic"}]),
        {"99454": "suggest 16"},
    ),
    ("a UDI", AT_HOME, terms(devices=[{"udi_di": "0088", "line": "physiologic"}]), {"99454": "suggest 16"}),
    (
        "a number of the clinic",
        AT_HOME,
        terms(devices=[{"identifier": {"system": "urn:asset", "value": "a-17"}, "line": "physiologic"}]),
        {"99454": "suggest 16"},
    ),
    (
        "the first entry that fits",
        AT_HOME,
        terms(devices=[{"udi_di": "0088", "line": "respiratory"}, {"model": "EC-9", "line": "physiologic"}]),
        {"99454": "absent"},
    ),
    (
        "a method that means typed in",
        [more(CUFF_16, method=CODED)],
        terms(manual_entry=[{"method": VENDOR_X}]),
        {"99454": "absent"},
    ),
    (
        "an extension that means typed in",
        [more(CUFF_16, extension=[{"url": "urn:x", "valueString": "true"}])],
        terms(manual_entry=[{"extension": "urn:x", "value": True}]),
        {"99454": "absent"},
    ),
    (
        "a setting in the office",
        [more(CUFF_16, category=[CODED])],
        terms(facility_settings=[{"category": VENDOR_X}]),
        {"99454": "absent"},
    ),
    (
        "a value that means absent",
        [more(DAYS_16, valueQuantity=None, valueCodeableConcept=CODED)],
        terms(absent_values=[VENDOR_X]),
        {"98977": "absent"},
    ),
    (
        "a coding that counts without a value",
        [more(DAYS_16, **NO_VALUE)],
        terms(
            observations=[
                {
                    "system": EXERCISE[0],
                    "code": "HEP",
                    "line": "musculoskeletal",
                    "source": "patient-reported",
                    "counts_without_value": True,
                }
            ]
        ),
        {"98977": "suggest 16"},
    ),
    (
        "a sender is silent",
        [more(DAYS_16, performer=[{"reference": "Organization/v"}])],
        terms(senders=[{"reference": "Organization/v"}]),
        {"98977": "suggest 16"},
    ),
    (
        "an organisation that is no sender",
        [more(DAYS_16, performer=[{"reference": "Organization/v"}])],
        {},
        {"98977": "absent"},
    ),
    (
        "a vendor's class that means a stay",
        [DAYS_15, one("HEP"), stay("2026-01-20T12:00", "2026-01-21T08:00", raw={"class": VENDOR_X})],
        terms(facility_classes=[VENDOR_X]),
        {"98985": "suggest 15"},
    ),
    (
        "fewer days asked late in the period",
        [{"days": {"of": "HEP", "from": "2026-01-05", "count": 8}}],
        plan(FALLING),
        {"98985": "review 8 straddles-rule-change"},
    ),
    (
        "more days asked late in the period",
        [{"days": {"of": "HEP", "from": "2026-01-05", "count": 8}}],
        plan(RISING),
        {"98985": "out-of-reach 8 straddles-rule-change"},
    ),
    (
        "a change that changes nothing",
        [{"days": {"of": "HEP", "from": "2026-01-05", "count": 12}}],
        plan(FALLING),
        {"98985": "suggest 12"},
    ),
    # D3, D4: an EpisodeOfCare that is over
    (
        "an old episode of care of something else",
        [DAYS_16, {"episode": {"from": "2024-01-05", "to": "2024-02-03"}}],
        {},
        {"98977": "suggest 16"},
    ),
    (
        "an old episode of care of the program, which it ended",
        [
            DAYS_16,
            {"days": {"of": "HEP", "on": ["2024-02-03"]}},
            {"episode": {"from": "2024-01-05", "to": "2024-02-03"}},
        ],
        {},
        {"98977": "out-of-reach 1"},
    ),
    # D40: payers
    ("a diagnosis that nobody has", [CUFF_16], plan(HEART), {"99454": "review 16 payer-criteria"}),
    ("a diagnosis of the list", [CUFF_16, has("I50.22")], plan(HEART), {"99454": "suggest 16"}),
    (
        "one that is over",
        [CUFF_16, has("I50.22", "resolved")],
        plan(HEART),
        {"99454": "review 16 payer-criteria"},
    ),
    (
        "one that began on the window's last day",
        [CUFF_16, has("I50.22", onsetDateTime="2026-02-03")],
        plan(HEART),
        {"99454": "suggest 16"},
    ),
    (
        "one that began a day later",
        [CUFF_16, has("I50.22", onsetDateTime="2026-02-04")],
        plan(HEART),
        {"99454": "review 16 payer-criteria"},
    ),
    (
        "one that has an end",
        [CUFF_16, has("I50.22", abatementDateTime="2025-01-01")],
        plan(HEART),
        {"99454": "review 16 payer-criteria"},
    ),
    (
        "one that was refuted",
        [CUFF_16, has("I50.22", verificationStatus={"coding": [{"code": "refuted"}]})],
        plan(HEART),
        {"99454": "review 16 payer-criteria"},
    ),
    (
        "criteria beside the diagnosis",
        [CUFF_16, has("I50.22")],
        plan([{**HEART[0], "covered": "criteria"}]),
        {"99454": "review 16 payer-criteria"},
    ),
    (
        "a policy that was postponed",
        [CUFF_16],
        {"payer": "unitedhealthcare"},
        {"99454": "suggest 16"},
    ),
    ("a name and no more", [CUFF_16], {"payer": "humana"}, {"99454": "review 16 payer-unknown"}),
    (
        "minutes that are kept elsewhere",
        [CUFF_16, CALL_12, REVIEW_10],
        {"minutes_kept_in": "app", "missing": [{"type": "Encounter", "why": "not-granted"}]},
        {"99457": "suggest 1320"},
    ),
    (
        "minutes that are not",
        [CUFF_16, CALL_12, REVIEW_10],
        {"missing": [{"type": "Encounter", "why": "not-granted"}]},
        {"99457": "review 1320 record-incomplete"},
    ),
    (
        "a device that was not read",
        [DAYS_15, one("HEP", device={"reference": "Device/gone"})],
        {"missing": [{"type": "Device", "why": "refused"}]},
        {"98985": "review 15 device-unknown record-incomplete"},
    ),
    (
        "three broken readings of any day",
        [{"days": {"of": "HEP", "from": "2026-01-05", "count": 13}}, SETUP_05],
        {
            "missing": [
                {
                    "type": "Observation",
                    "why": "unreadable",
                    "start": "2026-01-05",
                    "end": "2026-02-03",
                    "entries": 3,
                }
            ]
        },
        {"98985": "review 13 record-incomplete"},
    ),
    (
        "two broken readings of any day",
        [{"days": {"of": "HEP", "from": "2026-01-05", "count": 13}}, SETUP_05],
        {
            "missing": [
                {
                    "type": "Observation",
                    "why": "unreadable",
                    "start": "2026-01-05",
                    "end": "2026-02-03",
                    "entries": 2,
                }
            ]
        },
        {"98985": "suggest 13"},
    ),
    (
        "a file of nobody knows what",
        [DAYS_15, SETUP_05],
        {"missing": [{"type": "", "why": "file-not-read"}]},
        {"98985": "review 15 record-incomplete"},
    ),
]


@pytest.mark.parametrize(
    ("events", "more_of_site", "expected"), [row[1:] for row in SITES], ids=[row[0] for row in SITES]
)
def test_the_oracle_heeds_the_site_and_what_it_was_told(
    events: list[Event], more_of_site: dict[str, Any], expected: dict[str, str]
) -> None:
    said = asked([*events, *([] if SETUP_05 in events else [SETUP_05])], **more_of_site)
    assert {code: brief_of(said, code) for code in expected} == expected


def settled(reason: str, **told: Any) -> dict[str, Any]:
    """A resolution of somebody."""
    return {"patient": "Patient/p1", "resolves": reason, "by": "Practitioner/x", "at": "2026-03-01", **told}


BOTH = [CUFF_16, DAYS_16]
TWO_LINES = [DAYS_16, {"days": {"of": "PUFFS", "from": "2026-01-05", "count": 16}}]
UNPAID = {"payer": "humana"}
#: In one sentence; the chart; keys of the site's file; what was settled; what is said of codes.
SETTLED: list[tuple[str, list[Event], dict[str, Any], list[dict[str, Any]], dict[str, str]]] = [
    (
        "a payer, with a reference",
        [CUFF_16],
        UNPAID,
        [settled("payer-unknown", reference="letter 7")],
        {"99454": "suggest 16", "99453": "review 16 setup-not-documented"},
    ),
    ("a payer, without", [CUFF_16], UNPAID, [settled("payer-unknown")], {"99454": "review 16 payer-unknown"}),
    (
        "a payer, of another code",
        [CUFF_16],
        UNPAID,
        [settled("payer-unknown", reference="x", codes=["99453"])],
        {"99454": "review 16 payer-unknown"},
    ),
    (
        "a payer, of another window",
        [CUFF_16],
        UNPAID,
        [settled("payer-unknown", reference="x", period={"start": "2026-01-05", "end": "2026-02-02"})],
        {"99454": "review 16 payer-unknown"},
    ),
    (
        "a payer, until the day before",
        [CUFF_16],
        UNPAID,
        [settled("payer-unknown", reference="x", until="2026-02-02")],
        {"99454": "review 16 payer-unknown"},
    ),
    (
        "the program",
        BOTH,
        {},
        [settled("rtm-and-rpm", choice="rpm")],
        {"99454": "suggest 16", "98977": "review 16 rtm-and-rpm"},
    ),
    (
        "both programs, which is neither",
        BOTH,
        {},
        [
            settled("rtm-and-rpm", choice="rpm", codes=["99454"]),
            settled("rtm-and-rpm", choice="rtm", codes=["98977"]),
        ],
        {"99454": "review 16 rtm-and-rpm", "98977": "review 16 rtm-and-rpm"},
    ),
    (
        "the other program, chosen anew: the newer choice stands",
        BOTH,
        {},
        [settled("rtm-and-rpm", choice="rpm"), settled("rtm-and-rpm", choice="rtm")],
        {"99454": "review 16 rtm-and-rpm", "98977": "suggest 16"},
    ),
    (
        "the program that shows no enrolment: then the other waits",
        [*BOTH, {"setup": {**SETUP_05["setup"], "program": "rpm"}}],
        {},
        [settled("rtm-and-rpm", choice="rtm")],
        {"98977": "suggest 16", "99454": "review 16 rtm-and-rpm"},
    ),
    (
        "the line",
        TWO_LINES,
        {},
        [settled("two-lines", choice="respiratory")],
        {"98976": "suggest 16", "98977": "review 16 two-lines"},
    ),
    (
        "what isn't met",
        [DAYS_15],
        {},
        [settled("two-lines", choice="musculoskeletal")],
        {"98977": "out-of-reach 15"},
    ),
]


@pytest.mark.parametrize(
    ("events", "more_of_site", "resolutions", "expected"),
    [row[1:] for row in SETTLED],
    ids=[row[0] for row in SETTLED],
)
def test_the_oracle_takes_what_somebody_settled(
    events: list[Event], more_of_site: dict[str, Any], resolutions: list[Any], expected: dict[str, str]
) -> None:
    said = asked(events, resolutions=resolutions, **more_of_site)
    assert {code: brief_of(said, code) for code in expected} == expected


FACTS = {"device_facts": [{"system": "urn:clinic:device", "code": "bp-cuff", "cleared": "K1"}]}
SUPPLIED = {"device_facts": [{**FACTS["device_facts"][0], "supplied_by": "practice"}]}
UDI = {"device": {"name": "cuff", "raw": {"udiCarrier": [{"deviceIdentifier": "0088"}]}}}
MEDICAL, OURS = "fda-device", "device-supplied-by-practice"


@pytest.mark.parametrize(
    ("events", "more_of_site", "expected"),
    [
        ([CUFF_16], {}, {MEDICAL, OURS}),
        ([CUFF_16, UDI], {}, {OURS}),
        ([CUFF_16], FACTS, {OURS}),
        ([CUFF_16], SUPPLIED, set()),
        ([{"days": {"of": "CUFF-ROW", "from": "2026-01-05", "count": 16}}], SUPPLIED, {MEDICAL, OURS}),
    ],
    ids=["nothing", "a UDI", "the site", "the site, of its own supply", "without a device"],
)
def test_the_oracle_asks_about_a_device_until_it_is_told(
    events: list[Event], more_of_site: dict[str, Any], expected: set[str]
) -> None:
    said = asked(events, **more_of_site)
    assert {MEDICAL, OURS} & set(first_of(said, "99454")["unverified"]) == expected


def test_the_oracle_takes_the_end_that_a_participant_does_not_give_from_the_encounter() -> None:
    own = {
        "individual": {"reference": "Practitioner/nurse"},
        "period": {"start": "2026-01-20T10:05:00-05:00"},
    }
    said = asked([CUFF_16, more(CALL_12, participant=[own])])
    assert brief_of(said, "99470") == "out-of-reach 420"


def test_the_oracle_counts_nothing_of_a_device_that_is_for_tests() -> None:
    marked = {"meta": {"security": [{"system": "urn:oid:2.16.840.1.113883.5.8", "code": "HTEST"}]}}
    said = asked([{"device": {"name": "cuff", "raw": marked}}, CUFF_16])
    assert {e["reason"] for e in said["excluded"]} == {"test-data"}


def replaced(old: str, new: str) -> Event:
    link = {"other": {"reference": f"Patient/{new}"}, "type": "replaced-by"}
    return {"patient": {"id": old, "raw": {"active": False, "link": [link]}}}


def test_the_oracle_counts_the_records_of_a_replaced_patient_under_the_one_who_survives() -> None:
    days = {"days": {**DAYS_16["days"], "patient": "p00"}}
    said = asked([replaced("p00", "p0"), replaced("p0", "p1"), days, SETUP_05])
    assert said["patient"] == "Patient/p1"
    assert brief_of(said, "98977") == "suggest 16"


def test_the_oracle_gives_no_answer_for_a_patient_who_was_replaced_by_nobody_we_know() -> None:
    said = asked([replaced("p1", "p9"), DAYS_16, SETUP_05])
    assert said["decisions"] == []


def test_the_oracle_gives_no_answer_for_a_test_patient() -> None:
    marked = {"meta": {"security": [{"system": "urn:oid:2.16.840.1.113883.5.8", "code": "HTEST"}]}}
    assert asked([{"patient": {"raw": marked}}, DAYS_16])["decisions"] == []


def test_the_oracle_does_not_know_a_device_whose_number_two_devices_have() -> None:
    numbered = {"identifier": [{"system": "urn:serial", "value": "1"}]}
    cuffs: list[Event] = [{"device": {"name": name, "raw": numbered}} for name in ("cuff", "cuff-2")]
    days = {"days": {**CUFF_16["days"], "device": {"identifier": {"system": "urn:serial", "value": "1"}}}}
    for some, outcome in ((cuffs[:1], "suggest 16"), (cuffs, "absent")):
        assert brief_of(asked([*some, days]), "99454") == outcome


def test_the_oracle_lets_a_deleted_charge_stand_where_nothing_has_a_date() -> None:
    charge = {
        "resourceType": "ChargeItem",
        "id": "c",
        "status": "billed",
        "code": {"text": "98977"},
        "subject": {"reference": "Patient/p1"},
        "occurrenceDateTime": "2026-01-30",
    }
    gone = {"request": {"method": "DELETE", "url": "ChargeItem/c"}}
    dated = {"meta": {"lastUpdated": "2026-02-01T00:00:00Z"}}
    for version, when, outcome in (
        (charge, {}, "charged 16"),
        ({**charge, **dated}, {"timestamp": "2026-02-02T00:00:00Z"}, "suggest 16"),
    ):
        said = asked([DAYS_16, SETUP_05, bundle({"resource": version}, gone, type="history", **when)])
        assert brief_of(said, "98977") == outcome


def test_the_oracle_counts_one_service_once_on_whatever_paper_it_stands() -> None:
    item = {
        "sequence": 1,
        "productOrService": {"coding": [{"code": "98977"}]},
        "servicedPeriod": {"start": "2026-01-05", "end": "2026-02-03"},
    }
    paper = {"status": "active", "use": "claim", "patient": {"reference": "Patient/p1"}, "item": [item, item]}
    papers: list[Event] = [
        {"resource": {"resourceType": kind, "id": "x", **paper}} for kind in ("Claim", "ExplanationOfBenefit")
    ]
    for some in (papers, papers[:1]):
        said = asked(
            [DAYS_16, SETUP_05, *some, {"charge": {"code": "98977", "period": ["2026-01-05", "2026-02-03"]}}]
        )
        assert (brief_of(said, "98977"), first_of(said, "98977")["quantity"]) == ("charged 16", 2)


def asked(
    events: list[Event],
    as_of: str = "2026-04-01",
    missing: Any = (),
    resolutions: Any = (),
    **more_of_site: Any,
) -> Answer:
    """What the oracle says of a chart of New York."""
    site = {**site_file(NEW_YORK, "medicare", None), **more_of_site}
    return oracle.answer(
        build_resources(events, NEW_YORK), site, as_of, missing=missing, resolutions=resolutions
    )


def first_of(said: Answer, code: str) -> Any:
    """The first decision of a code, or (behind an @) the one of a window."""
    number, _, start = code.partition("@")
    return next(
        (d for d in said["decisions"] if d["code"] == number and start in ("", d["period"]["start"])), None
    )


def brief_of(said: Answer, code: str) -> str:
    """Outcome, days or seconds found, and the reasons."""
    if (d := first_of(said, code)) is None:
        return "absent"
    found = [
        r["found"] for r in d["requirements"] if r["requirement"] in ("monitoring-days", "management-time")
    ]
    return " ".join([d["outcome"], *map(str, found), *d["reasons"]])
