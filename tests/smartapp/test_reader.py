"""Reading a chart: whole, once, only this patient's, and honest about what is missing."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import pairwise
from urllib.parse import parse_qs, quote, urlsplit
from zoneinfo import ZoneInfo

import msgspec
import pytest

from fhir_mappings.identity import relative
from fhir_mappings.local_time import LocalClock
from fhir_mappings.needs import Needs, TypeNeed
from fhir_mappings.terminology import load_terminology
from launch.errors import HttpError, HttpProblem
from launch.http import Response
from launch.issuers import Issuer
from launch.limiter import Turn
from launch.profiles import load_profile
from launch.scopes import Scopes
from smartapp.ehr.reading.fetch import ReadingFailed, ReadingStopped
from smartapp.ehr.reading.findings import Findings
from smartapp.ehr.reading.notices import Notice, NoticeKind, missing_from
from smartapp.ehr.reading.reader import ChartReading
from smartapp.ehr.reading.searches import Learned, code_groups, date_slices
from smartapp.ehr.wire.bundles import outcome_text, search_target
from smartapp.ehr.wire.looks import look, names_another_patient
from smartapp.ehr.wire.patient_scope import Whose
from smartapp.web import reading_words
from tests.support.unsealed import unsealed_pages

BASE = "https://ehr.example/fhir"
TERMINOLOGY = load_terminology()
LOST_PAGE = ("Observation", "the EHR did not give the next page (410)")
NEEDS = Needs(date(2026, 1, 1), date(2026, 3, 1), (TypeNeed("Observation", dated=True),), (), ())


def bundle(*resources, following=None):
    links = [{"relation": "next", "url": following}] if following else []
    return 200, {"resourceType": "Bundle", "link": links, "entry": [{"resource": r} for r in resources]}


def observation(name, patient="p1", **more):
    return {"resourceType": "Observation", "id": name, "subject": {"reference": f"Patient/{patient}"}, **more}


def outcome(text, severity="warning", code="processing"):
    issue = {"severity": severity, "code": code, "diagnostics": text}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


@dataclass
class FakeEhr:
    """Stands in for a SessionClient: answers by a function, remembers what was asked."""

    answer: object
    profile: str = "sandbox"
    asked: list = field(default_factory=list)
    patience: list = field(default_factory=list)

    parallel: int = 8

    @property
    def issuer(self):
        return Issuer("fake", BASE, "app", replace(load_profile(self.profile), max_parallel=self.parallel))

    def fhir(self, method, target, *, headers=None, limits=None, body=None, turn=None):
        self.asked.append((target, headers or {}))
        self.patience.append(limits.total)
        if urlsplit(target).netloc not in {"", "ehr.example"}:
            raise HttpError(HttpProblem.FOREIGN_URL)
        status, content = self.answer(target, headers or {})
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return Response(status, {}, body, target, "ehr.example", "r1")


def reading(ehr, granted="patient/*.rs user/*.rs", **more):
    options = {"page_limit": 50, "byte_limit": 10_000_000, "tick": lambda _: True, "turn": Turn.FIRST, **more}
    return ChartReading(
        ehr,
        Scopes.parse(granted),
        "p1",
        terminology=TERMINOLOGY,
        clock=LocalClock(ZoneInfo("America/New_York")),
        pages=unsealed_pages(),
        tick_seconds=1,
        **options,
    )


def read(ehr, **more):
    """Observations alone; the references that were kept, and the notices."""
    kept = []
    run = reading(ehr, **more)
    run.read_rest(NEEDS, lambda resource: kept.append(resource.reference))
    return sorted(kept), run.notices(), run


def missing(run):
    """The types of which something may be missing."""
    return {one.type for one in missing_from(run.notices())}


def test_slices_cover_every_day_once_and_the_last_one_is_open():
    slices = date_slices(date(2026, 1, 1), date(2026, 1, 30), 8)
    assert slices[0][0] == date(2026, 1, 1)
    assert all(end == begin for (_, end), (begin, _) in pairwise(slices))
    assert slices[-1][1] is None
    assert len(slices) == 8


def test_there_are_never_more_slices_than_days():
    assert date_slices(date(2026, 1, 1), date(2026, 1, 2), 8) == (
        (date(2026, 1, 1), date(2026, 1, 2)),
        (date(2026, 1, 2), None),
    )


def test_a_resource_that_two_slices_bring_is_kept_once():
    kept, _, _ = read(FakeEhr(lambda *_: bundle(observation("o1"))))
    assert kept == ["Observation/o1"]


def test_every_page_is_read():
    def answer(target, _):
        return (
            bundle(observation("o2"))
            if "page=2" in target
            else bundle(observation("o1"), following=f"{BASE}?page=2")
        )

    kept, notices, _ = read(FakeEhr(answer))
    assert kept == ["Observation/o1", "Observation/o2"]
    assert notices == ()


def test_a_further_page_of_somebody_elses_records_ends_the_search_and_is_told():
    def answer(target, _):
        if "page=2" in target:
            return bundle(observation("o2", patient="p2"), observation("o3"))
        return bundle(observation("o1"), following=f"{BASE}?page=2")

    _, notices, run = read(FakeEhr(answer))
    (told,) = (one for one in notices if one.kind is NoticeKind.CUT_OFF)
    assert told.detail == "a further page holds records of another patient"
    assert missing(run) == {"Observation"}


def test_an_ehr_that_counts_more_than_it_gives_was_not_fully_read():
    def answer(total):
        status, page = bundle(observation("o1"))
        return lambda *_: (status, {**page, "total": total})

    _, notices, run = read(FakeEhr(answer(3)))
    assert {one.detail for one in notices} == {"the EHR counts 3 and gave 1"}
    assert missing(run) == {"Observation"}
    for total in (0, 1, None, "3"):
        _, notices, run = read(FakeEhr(answer(total)))
        assert (notices, missing(run)) == ((), set())


def test_pages_that_lead_in_a_circle_are_cut_off_and_told():
    kept, notices, run = read(FakeEhr(lambda *_: bundle(observation("o1"), following=f"{BASE}?page=1")))
    assert kept == ["Observation/o1"]
    assert [notice.kind for notice in notices] == [NoticeKind.CUT_OFF]
    assert missing(run) == {"Observation"}


def test_a_next_page_on_another_server_is_not_followed_and_told():
    ehr = FakeEhr(lambda *_: bundle(observation("o1"), following="https://evil.example/fhir?page=2"))
    _, notices, run = read(ehr)
    detail = "the next page lies on another server"
    assert notices == (Notice(NoticeKind.CUT_OFF, "Observation", detail),)
    assert missing(run) == {"Observation"}


def test_too_many_pages_are_cut_off_and_told():
    counter = iter(range(10_000))
    _, notices, _ = read(FakeEhr(lambda *_: bundle(following=f"{BASE}?page={next(counter)}")), page_limit=3)
    assert {notice.detail for notice in notices} == {"more pages than this app reads at once"}


def test_too_many_bytes_are_cut_off_and_told():
    counter = iter(range(10_000))
    _, notices, _ = read(
        FakeEhr(lambda *_: bundle(observation("o1"), following=f"{BASE}?page={next(counter)}")), byte_limit=10
    )
    assert {notice.detail for notice in notices} == {"more data than this app reads at once"}


def test_another_patients_resources_are_dropped_and_counted():
    kept, notices, _ = read(FakeEhr(lambda *_: bundle(observation("o1"), observation("x", "p2"))))
    assert kept == ["Observation/o1"]
    assert [(n.kind, n.what) for n in notices] == [(NoticeKind.FOREIGN, "Observation")]


def test_strict_handling_is_asked_for_and_given_up_where_the_server_does_not_understand():
    def answer(_, headers):
        return (400, outcome("strict")) if "Prefer" in headers else bundle(observation("o1"))

    ehr = FakeEhr(answer)
    kept, notices, _ = read(ehr)
    assert kept == ["Observation/o1"]
    assert notices == ()
    assert ehr.asked[0][1]["Prefer"] == "handling=strict"


def test_a_server_that_only_knows_subject_is_asked_by_subject():
    def answer(target, _):
        return bundle(observation("o1")) if "subject=" in target else (400, outcome("patient unknown"))

    assert read(FakeEhr(answer))[0] == ["Observation/o1"]


def test_where_a_category_is_needed_each_is_searched():
    ehr = FakeEhr(lambda *_: bundle(), profile="epic")
    read(ehr)
    asked = {parse_qs(urlsplit(target).query)["category"][0] for target, _ in ehr.asked}
    assert asked == set(load_profile("epic").observation_categories)


CODED = msgspec.structs.replace(NEEDS, codings=(("http://loinc.org", "85354-9"), ("urn:clinic", "HEP")))


def by_code(ehr, **more):
    run = reading(ehr, **more)
    kept = []
    run.read_rest(CODED, kept.append)
    return sorted(one.reference for one in kept), run


def queries(ehr, name):
    return {value for target, _ in ehr.asked for value in parse_qs(urlsplit(target).query).get(name, ())}


def test_where_a_category_is_needed_every_declared_coding_is_searched_by_itself_too():
    def answer(target, _):
        return bundle(observation("o1")) if "code=" in target else (403, outcome("not this category"))

    ehr = FakeEhr(answer, profile="epic")
    kept, run = by_code(ehr)
    assert kept == ["Observation/o1"]
    assert queries(ehr, "code") == {"http://loinc.org|85354-9,85354-9,urn:clinic|HEP,HEP"}
    assert {notice.kind for notice in run.notices()} == {NoticeKind.BESIDE}
    assert missing(run) == set(), "nothing that counts is unsearched"


def test_where_the_search_by_code_is_refused_too_the_readings_are_missing():
    run = by_code(FakeEhr(lambda *_: (403, outcome("no")), profile="epic"))[1]
    assert missing(run) == {"Observation"}


def test_a_server_that_turns_out_to_want_a_category_is_searched_by_code():
    def answer(target, _):
        return bundle(observation("o1")) if "code=" in target else (400, outcome("needs a category"))

    ehr = FakeEhr(answer)
    kept, run = by_code(ehr)
    assert kept == ["Observation/o1"]
    assert missing(run) == set()
    assert {notice.kind for notice in run.notices()} == {NoticeKind.BESIDE}
    assert queries(ehr, "category") == set(load_profile("generic").observation_categories)
    refusing = by_code(FakeEhr(lambda *_: (400, outcome("needs a category"))))[1]
    assert missing(refusing) == {"Observation"}


@pytest.mark.parametrize("status", [400, 403, 422])
def test_generic_asks_without_a_category_first_so_that_no_reading_without_one_is_missed(status):
    ehr = FakeEhr(lambda *_: bundle(observation("o1")), profile="generic")
    assert by_code(ehr)[0] == ["Observation/o1"]
    assert queries(ehr, "category") == queries(ehr, "code") == set()

    def refuses(target, _):
        return bundle(observation("o1")) if "code=" in target else (status, outcome("needs a category"))

    kept, run = by_code(FakeEhr(refuses, profile="generic"))
    assert (kept, missing(run)) == (["Observation/o1"], set())


def test_a_server_that_refused_once_is_not_asked_to_refuse_again():
    def answer(target, _):
        return bundle(observation("o1")) if "code=" in target else (400, outcome("needs a category"))

    learned = Learned()
    first = FakeEhr(answer, profile="generic")
    by_code(first, learned=learned)
    bare = [target for target, _ in first.asked if "code=" not in target and "category=" not in target]
    assert 0 < len(bare) <= 4 * first.issuer.max_parallel, "the first refusal stands for all slices"
    second = FakeEhr(answer, profile="generic")
    kept, _ = by_code(second, learned=learned)
    assert kept == ["Observation/o1"]
    assert not [target for target, _ in second.asked if "code=" not in target and "category=" not in target]


def test_codings_are_searched_in_groups_that_fit_in_an_address():
    codings = [("http://loinc.org", f"{number}-1") for number in range(200)]
    groups = code_groups(codings)
    assert all(len(quote(group, safe="")) <= 1500 for group in groups)
    tokens = [token for group in groups for token in group.split(",")]
    assert [token.split("|")[1] for token in tokens if "|" in token] == [code for _, code in codings]
    assert code_groups([("", "a,b")]) == ("a\\,b",)
    assert code_groups([]) == ()


def in_parts(target):
    """Whether a search is for some of the days; the last ones begin in February and have no end."""
    return "date=lt" in target or "date=ge2026-02" in target


def many_pages(*resources):
    """The first of so many pages that they are read in parts."""
    status, page = bundle(*resources, following=f"{BASE}?page=2")
    return status, page | {"total": 16 * max(1, len(resources))}


def test_readings_of_few_pages_are_one_search_and_those_of_many_are_read_in_parts():
    few = FakeEhr(lambda target, _: bundle() if "page=2" in target else bundle(following=f"{BASE}?page=2"))
    read(few)
    assert len(few.asked) == 2
    many = FakeEhr(lambda target, _: bundle() if in_parts(target) else many_pages(observation("o1")))
    kept, _, _ = read(many)
    assert kept == ["Observation/o1"]
    assert len(many.asked) == 1 + 8


def test_where_nobody_says_how_many_there_are_a_few_pages_come_first():
    def answer(target, _):
        if in_parts(target):
            return bundle()
        number = int((parse_qs(urlsplit(target).query).get("page") or ["1"])[0])
        return bundle(observation(f"o{number}"), following=f"{BASE}?page={number + 1}")

    ehr = FakeEhr(answer)
    kept, _, _ = read(ehr)
    assert kept == [f"Observation/o{number}" for number in range(1, 5)]
    assert len(ehr.asked) == 4 + 8


def asked_for(target):
    return int(parse_qs(urlsplit(target).query)["_count"][0])


def test_parts_of_a_long_chart_come_in_larger_pages():
    ehr = FakeEhr(lambda target, _: bundle() if in_parts(target) else many_pages(observation("o1")))
    read(ehr)
    assert [asked_for(target) for target, _ in ehr.asked] == [250, *[1000] * 8]


@pytest.mark.parametrize(
    "too_much",
    [
        (400, outcome("_count is too large")),
        (413, outcome("too much")),
        (504, "<html>"),
        HttpError(HttpProblem.TOO_LARGE),
    ],
    ids=["not understood", "refused", "given up", "larger than is taken"],
)
def test_a_server_to_which_a_large_page_is_too_much_is_asked_for_small_ones(too_much):
    def answer(target, _):
        if not in_parts(target):
            return many_pages(observation("o1"))
        if asked_for(target) <= 250:
            day = next(part for part in target.split("&") if part.startswith("date="))
            return bundle(observation(day.replace("=", "-")))
        if isinstance(too_much, HttpError):
            raise too_much
        return too_much

    kept, notices, run = read(FakeEhr(answer))
    assert len(kept) == 1 + 8
    assert notices == ()
    assert missing(run) == set()


def test_what_one_slice_lacks_is_missing_for_its_own_days():
    def answer(target, _):
        if "date=ge2026-01-15" in target:
            return 410, outcome("gone")
        return bundle() if in_parts(target) else many_pages()

    run = read(FakeEhr(answer))[2]
    (found,) = missing_from(run.notices())
    assert (found.type, found.start, found.end) == ("Observation", date(2026, 1, 14), date(2026, 1, 23))


def test_a_server_that_says_its_answer_is_not_whole_is_believed():
    for said in (outcome("timeout", severity="error"), outcome("some source is down", code="incomplete")):
        kept, notices, run = read(FakeEhr(lambda *_, said=said: bundle(observation("o1"), said)))
        assert kept == ["Observation/o1"]
        (notice,) = notices
        assert (notice.kind, notice.said) == (NoticeKind.CUT_OFF, said["issue"][0]["diagnostics"])
        assert missing(run) == {"Observation"}


def test_a_type_nobody_asked_for_is_neither_refused_nor_missing():
    needs = msgspec.structs.replace(NEEDS, types=(TypeNeed("CarePlan"), TypeNeed("Consent")))
    run = reading(
        FakeEhr(lambda *_: bundle()),
        "patient/Patient.r",
        asked=Scopes.parse("patient/Consent.rs"),
    )
    run.read_rest(needs, lambda _: None)
    assert run.notices() == (Notice(NoticeKind.NOT_GRANTED, "Consent"),)


@dataclass
class RawEhr(FakeEhr):
    """Answers with bytes as they stand."""

    def fhir(self, method, target, *, headers=None, limits=None, body=None, turn=None):
        self.asked.append((target, headers or {}))
        return Response(200, {}, self.answer(target, headers or {}), target, "ehr.example", "r1")


def page_of(*resources):
    entries = b",".join(b'{"resource": ' + text + b"}" for text in resources)
    return b'{"resourceType": "Bundle", "entry": [' + entries + b"]}"


def broken_reading(name, patient="p1", code="85354-9", day="2026-01-20"):
    whole = observation(name, patient, code={"coding": [{"system": "http://loinc.org", "code": code}]})
    whole["effectiveDateTime"] = day
    return json.dumps(whole).encode()[:-1] + b', "valueQuantity": {"value": NaN}}'


def test_an_entry_that_cannot_be_read_loses_itself_and_is_missed_on_its_own_day():
    good = json.dumps(observation("o1")).encode()
    kept, _, run = read(RawEhr(lambda *_: page_of(good, broken_reading("o9"))))
    assert kept == ["Observation/o1", "Observation/o9"]
    (found,) = missing_from(run.notices())
    day = date(2026, 1, 20)
    assert (found.type, found.start, found.end, found.entries) == ("Observation", day, day, 1)


def test_a_broken_laboratory_result_and_a_broken_reading_of_somebody_else_are_not_missed():
    kept, notices, _ = read(RawEhr(lambda *_: page_of(broken_reading("o9", code="2345-7"))))
    assert (kept, notices) == (["Observation/o9"], ())
    kept, notices, _ = read(RawEhr(lambda *_: page_of(broken_reading("o9", patient="p2"))))
    assert (kept, [notice.kind for notice in notices]) == ([], [NoticeKind.FOREIGN])


def test_half_a_character_in_the_patients_name_closes_no_chart():
    body = (
        rb'{"resourceType": "Patient", "id": "p1", "birthDate": "1980-01-01", "name": [{"text": "\ud800"}]}'
    )
    kept = []
    run = reading(RawEhr(lambda target, _: body if "?" not in target else page_of()))
    run.read_first(kept.append)
    (patient,) = kept
    assert json.loads(patient.raw)["birthDate"] == "1980-01-01"
    assert json.loads(patient.raw)["name"] == [{"text": "\ufffd"}]
    assert run.notices() == (Notice(NoticeKind.DAMAGED, "Patient"),)
    other = body.replace(b'"p1"', b'"p2"')
    with pytest.raises(ReadingFailed, match="patient-refused"):
        reading(RawEhr(lambda target, _: other if "?" not in target else page_of())).read_first(kept.append)


def test_two_versions_of_one_record_are_both_handed_on():
    old, new = (observation("o1", meta={"versionId": number}) for number in "12")
    kept, _, _ = read(FakeEhr(lambda *_: bundle(old, new)))
    assert kept == ["Observation/o1", "Observation/o1"]


def test_a_device_that_is_refused_by_its_id_is_missing_and_one_that_is_gone_is_not():
    def reads(status):
        pointing = observation("o1", device={"reference": "Device/d1"})
        return read(FakeEhr(lambda target, _: (status, {}) if target == "Device/d1" else bundle(pointing)))[2]

    assert missing(reads(404)) == set()
    assert missing(reads(403)) == {"Device"}
    assert missing(reads(500)) == {"Device"}


def test_a_refused_type_is_told_with_what_the_ehr_said_and_is_unread():
    _, notices, run = read(FakeEhr(lambda *_: (403, outcome("no scope"))))
    assert notices == (Notice(NoticeKind.REFUSED, "Observation", "403", said="no scope"),)
    assert missing(run) == {"Observation"}


def test_a_page_that_is_refused_later_is_cut_off_and_not_the_end_of_the_reading():
    def answer(target, _):
        if "page=2" in target:
            return 410, outcome("expired")
        return bundle(observation("o1"), following=f"{BASE}?page=2")

    kept, notices, _ = read(FakeEhr(answer))
    assert kept == ["Observation/o1"]
    assert notices == (Notice(NoticeKind.CUT_OFF, *LOST_PAGE, said="expired"),)


def test_a_type_the_ehr_has_a_fault_for_is_told_and_the_rest_is_read():
    needs = Needs(NEEDS.start, NEEDS.end, (*NEEDS.types, TypeNeed("Account"), TypeNeed("Consent")), (), ())

    def answer(target, _):
        return (500, {}) if target.startswith(("Account", "Consent")) else bundle(observation("o1"))

    kept = []
    run = reading(FakeEhr(answer))
    run.read_rest(needs, kept.append)
    assert [one.reference for one in kept] == ["Observation/o1"]
    assert run.notices() == (
        Notice(NoticeKind.BROKEN, "Account", "500"),
        Notice(NoticeKind.BROKEN, "Consent", "500"),
    )
    assert missing(run) == {"Consent"}, "no decision hangs on an Account"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((503, {}), "ehr-broken"),
        ((429, {}), "ehr-throttled"),
        ((200, b"\xef\xbb\xbf\n<!doctype html><title>Sign in</title>"), "web-page"),
        ((403, {}), "patient-refused"),
    ],
)
def test_without_the_patients_own_record_nothing_is_read_and_the_page_says_why(answer, why):
    with pytest.raises(ReadingFailed, match=why):
        reading(FakeEhr(lambda *_: answer)).read_first(lambda _: None)
    assert reading_words.failure(why) not in reading_words.failure("nobody knows")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((500, {}), NoticeKind.BROKEN),
        ((429, {}), NoticeKind.THROTTLED),
        ((200, b"<html>Sign in</html>"), NoticeKind.WEB_PAGE),
        ((403, {}), NoticeKind.REFUSED),
        (HttpError(HttpProblem.TIMEOUT), NoticeKind.SLOW),
        (HttpError(HttpProblem.BUSY), NoticeKind.THROTTLED),
        (HttpError(HttpProblem.CONNECTION), NoticeKind.NOT_ANSWERED),
    ],
)
def test_each_way_to_give_no_readings_has_words_of_its_own_and_is_missing(answer, kind):
    def given(*_):
        if isinstance(answer, HttpError):
            raise answer
        return answer

    _, notices, run = read(FakeEhr(given))
    assert kind in {notice.kind for notice in notices} <= {kind, NoticeKind.NOT_SEARCHED}
    assert missing(run) == {"Observation"}


def test_an_ehr_that_fell_silent_is_not_asked_for_everything_else():
    def answer(target, _):
        if in_parts(target):
            raise HttpError(HttpProblem.TIMEOUT)
        return many_pages()

    ehr = FakeEhr(answer)
    ehr.parallel = 2
    _, notices, run = read(ehr)
    assert len(ehr.asked) < 8
    assert {notice.kind for notice in notices} == {NoticeKind.SLOW, NoticeKind.NOT_SEARCHED}
    assert missing(run) == {"Observation"}


def test_a_reading_that_was_taken_over_stops():
    with pytest.raises(ReadingStopped):
        read(FakeEhr(lambda *_: bundle()), tick=lambda _: False)


def test_devices_that_readings_point_to_are_read_by_id_even_through_a_metric():
    def answer(target, _):
        if target == "DeviceMetric/m1":
            return 200, {"resourceType": "DeviceMetric", "id": "m1", "source": {"reference": "Device/d1"}}
        if target == "Device/d1":
            return 200, {"resourceType": "Device", "id": "d1"}
        return bundle(observation("o1", device={"reference": f"{BASE}/DeviceMetric/m1"}))

    assert read(FakeEhr(answer))[0] == ["Device/d1", "DeviceMetric/m1", "Observation/o1"]


def test_a_record_that_is_not_there_is_told_without_doubting_the_whole_type():
    def answer(target, _):
        return (
            (404, {})
            if target == "Device/d1"
            else bundle(observation("o1", device={"reference": "Device/d1"}))
        )

    _, notices, run = read(FakeEhr(answer))
    assert notices == (Notice(NoticeKind.MISSING, "Device", "Device/d1"),)
    assert missing(run) == set()


def test_an_id_from_the_ehr_is_data_and_never_part_of_an_address():
    assert search_target("Observation", [("patient", "1&_count=0")]) == "Observation?patient=1%26_count%3D0"


@pytest.mark.parametrize("reference", ["Patient/p2", f"{BASE}/Patient/p2", f"{BASE}/Patient/p2/_history/3"])
def test_every_way_to_name_another_patient_is_seen(reference):
    raw = json.dumps({**observation("o1"), "subject": {"reference": reference}}).encode()
    assert names_another_patient(look(raw), "p1", BASE)


def test_odd_shapes_never_stop_the_reader():
    seen = look(b'{"resourceType": "Observation", "id": "o1", "subject": "nonsense"}')
    assert seen.reference == "Observation/o1"
    assert look(b"[]").reference == ""
    assert seen.whose("p1", BASE) is Whose.UNREADABLE
    assert relative(f"{BASE}/Device/d/_history/1", BASE) == "Device/d"


def test_what_the_ehr_says_is_one_short_plain_line():
    said = outcome_text(json.dumps(outcome("a\nb" + "x" * 1000)).encode())
    assert "\n" not in said
    assert len(said) == 300
    assert outcome_text(b"<html>") == ""


def test_what_cannot_be_read_is_handed_on_without_its_bytes_and_hides_no_good_copy():
    odd = observation("o1") | {"subject": "nonsense"}
    kept = []
    run = reading(FakeEhr(lambda *_: bundle(odd, observation("o1"), 5)))
    run.read_rest(NEEDS, kept.append)
    assert sorted((one.reference.split("~")[0], bool(one.raw)) for one in kept) == [
        ("Observation/", False),
        ("Observation/o1", False),
        ("Observation/o1", True),
    ]
    told = {(notice.kind, notice.what) for notice in run.notices()}
    assert told == {(NoticeKind.UNREADABLE, "Observation")}
    assert missing(run) == {"Observation"}
    assert run.by_type == {"Observation": 1}


@pytest.mark.parametrize("charge", [{"subject": {"reference": "Patient/p2"}}, {"subject": 5}, {}])
def test_a_charge_that_is_dropped_or_cannot_be_read_makes_all_prior_charges_doubtful(charge):
    item = {"resourceType": "ChargeItem", "id": "c1", **charge}
    run = reading(
        FakeEhr(
            lambda target, _: (
                (200, {"resourceType": "Patient", "id": "p1"}) if "?" not in target else bundle(item)
            )
        )
    )
    run.read_first(lambda _: None)
    assert missing(run) == {"ChargeItem"}


@pytest.mark.parametrize("patient", [{"id": "p2"}, {"id": 1}, {}, {"resourceType": "Observation"}])
def test_another_patient_in_place_of_the_sessions_own_ends_the_reading(patient):
    answer = (200, {"resourceType": "Patient", **patient})
    with pytest.raises(ReadingFailed, match="patient-refused"):
        reading(FakeEhr(lambda *_: answer)).read_first(lambda _: None)


def test_what_the_ehr_remarks_without_saying_that_it_is_a_remark_is_told_as_one():
    kept, notices, _ = read(FakeEhr(lambda *_: bundle(observation("o1"), outcome("only a part"))))
    assert kept == ["Observation/o1"]
    assert notices == (Notice(NoticeKind.SERVER_SAYS, "Observation", said="only a part"),)


def test_a_page_larger_than_this_app_reads_is_cut_off_and_told():
    def answer(*_):
        raise HttpError(HttpProblem.TOO_LARGE)

    _, notices, run = read(FakeEhr(answer))
    (notice,) = notices
    assert (notice.kind, notice.detail) == (
        NoticeKind.CUT_OFF,
        "a page is larger than this app reads at once",
    )
    assert missing(run) == {"Observation"}


def test_a_nested_bundle_is_no_way_around_looking_at_whose_a_record_is():
    inner = {"resourceType": "Bundle", "entry": [{"resource": observation("x", "p2")}]}
    kept, _, _ = read(FakeEhr(lambda *_: bundle(inner)))
    (name,) = kept
    assert name.startswith("Bundle/~")


def test_a_reading_without_time_left_fails_and_asks_no_more():
    ehr = FakeEhr(lambda *_: bundle(observation("o1")))
    with pytest.raises(ReadingFailed, match="timeout"):
        read(ehr, seconds=0.0)
    assert ehr.asked == []


def test_no_request_may_take_longer_than_the_reading_has_left():
    ehr = FakeEhr(lambda *_: bundle(observation("o1")))
    read(ehr, seconds=5.0)
    assert 0 < max(ehr.patience) <= 5.0


# Against the sandbox


@pytest.mark.parametrize("patient", ["ready-cognitive", "messy-chart", "both-programs", "hospital-stay"])
def test_the_page_decides_as_evaluate_does_on_the_same_resources(shared_world, browser, patient):
    from fhir_mappings.chart import Chart
    from fhir_mappings.decision import to_contract
    from fhir_mappings.rules.engine import assess
    from smartapp.configuration.site import load_site

    page = shared_world.open(browser, patient)
    twin = json.loads(browser.get(page.url + "decisions.json").body)
    session_id = urlsplit(page.url).path.split("/")[2]
    site = load_site(replace(shared_world.settings))
    store = shared_world.store
    snapshot = store.reading.snapshot_of(session_id)
    result = json.loads(snapshot.result)
    chart = Chart(
        site.terminology,
        site.zone,
        date.fromisoformat(twin["as_of"]),
        shared_world.fhir_base,
        date.fromisoformat(result["history_from"]),
    )
    for resource in sorted(store.reading.resources(snapshot.id), key=lambda item: item.reference):
        chart.add(resource.raw)
    for one in missing_from(msgspec.json.decode(snapshot.result, type=Findings).notices):
        chart.add_missing(one)
    record = chart.record(f"Patient/{patient}")
    answer = to_contract(
        record, assess(record, site.policy, record.as_of), site.policy.payer, site.policy.version
    )
    assert twin["decisions"] == answer["decisions"]
    assert twin["decisions"]


# Earlier ids of the same person


def person(name, **replaced):
    """A Patient; `replaces`: the ids that it stands for."""
    links = [
        {"type": "replaces", "other": {"reference": f"Patient/{old}"}} for old in replaced.get("replaces", ())
    ]
    return {"resourceType": "Patient", "id": name, "link": links}


def merged(people, records):
    """A server that keeps each record under the id it came with."""

    def answer(target, headers):
        path, _, query = target.partition("?")
        type_, _, name = path.partition("/")
        if type_ == "Patient":
            return (200, people[name]) if name in people else (404, {})
        asked = parse_qs(query)
        (patient,) = asked.get("patient") or [""]
        return bundle(*(one for one in records.get(patient, ()) if one["resourceType"] == type_))

    return FakeEhr(answer)


def read_all(ehr, **more):
    kept = {}
    run = reading(ehr, **more)
    run.read_first(lambda one: kept.update({one.reference: one.raw}))
    run.read_rest(NEEDS, lambda one: kept.update({one.reference: one.raw}))
    return sorted(kept), run


def charge(name, patient):
    return {"resourceType": "ChargeItem", "id": name, "subject": {"reference": f"Patient/{patient}"}}


def test_records_under_every_id_that_the_patients_replaces_are_asked_for():
    ehr = merged(
        {
            "p1": person("p1", replaces=["p2"]),
            "p2": person("p2", replaces=["p3"]),
            "p3": person("p3", replaces=["p1"]),
        },
        {
            "p1": [observation("o1"), charge("c1", "p1")],
            "p2": [observation("o2", "p2"), charge("c2", "p2")],
            "p3": [observation("o3", "p3"), observation("stranger", "p4")],
        },
    )
    kept, run = read_all(ehr)
    assert kept == [
        *("ChargeItem/c1", "ChargeItem/c2"),
        *("Observation/o1", "Observation/o2", "Observation/o3"),
        *("Patient/p1", "Patient/p2", "Patient/p3"),
    ]
    assert [(one.kind, one.what) for one in run.notices()] == [(NoticeKind.FOREIGN, "Observation")]


def test_nobody_elses_records_are_asked_for_where_nothing_was_replaced():
    ehr = merged({"p1": person("p1")}, {"p1": [observation("o1"), observation("o2", "p2")]})
    kept, _ = read_all(ehr)
    assert kept == ["Observation/o1", "Patient/p1"]
    assert not any("p2" in target for target, _ in ehr.asked)


def test_a_record_at_another_server_is_not_asked_for():
    elsewhere = person("p1")
    elsewhere["link"] = [
        {"type": "replaces", "other": {"reference": "https://other.example/fhir/Patient/p2"}}
    ]
    ehr = merged({"p1": elsewhere}, {})
    assert read_all(ehr)[0] == ["Patient/p1"]
    assert not any("p2" in target for target, _ in ehr.asked)


def test_an_earlier_id_that_the_ehr_does_not_give_ends_nothing():
    kept, run = read_all(merged({"p1": person("p1", replaces=["p2"])}, {"p1": [observation("o1")]}))
    assert kept == ["Observation/o1", "Patient/p1"]
    assert [(one.kind, one.detail) for one in run.notices()] == [(NoticeKind.MISSING, "Patient/p2")]


def test_evidence_under_an_earlier_id_is_still_there():
    ehr = merged({"p1": person("p1", replaces=["p2"]), "p2": person("p2")}, {"p2": [observation("o2", "p2")]})
    run = reading(ehr)
    run.read_first(lambda _: None)
    plain = ehr.answer
    ehr.answer = lambda target, headers: (
        (200, observation("o2", "p2")) if target == "Observation/o2" else plain(target, headers)
    )
    run.check({"Observation/o2": "1"}, lambda _: None)
    assert run.gone == set()


def test_evidence_under_an_earlier_id_is_not_gone_while_that_id_is_not_known_yet():
    ehr = merged({"p1": person("p1", replaces=["p2"]), "p2": person("p2")}, {"p2": [observation("o2", "p2")]})
    plain = ehr.answer
    ehr.answer = lambda target, headers: (
        (200, observation("o2", "p2")) if target == "Observation/o2" else plain(target, headers)
    )
    run = reading(ehr)
    run.read_first(lambda _: None, known={"Observation/o2": "1", "Observation/o3": "1"})
    assert run.gone == {"Observation/o3"}


def test_what_came_under_an_earlier_id_before_it_was_known_is_taken():
    ehr = merged(
        {"p1": person("p1", replaces=["p2"]), "p2": person("p2")},
        {"p1": [observation("o2", "p2"), observation("o3", "p3")]},
    )
    kept = []
    run = reading(ehr)
    run.read_first(lambda one: kept.append(one.reference), assumed=NEEDS)
    assert sorted(kept) == ["Observation/o2", "Patient/p1", "Patient/p2"]
    assert [(one.kind, one.count) for one in run.notices()] == [(NoticeKind.FOREIGN, 1)]


def staff_of(answer_to_list):
    """Two people whom an Encounter names; `answer_to_list`: to a search by `_id`."""
    people = [{"individual": {"reference": f"Practitioner/{name}"}} for name in "ab"]
    call = {
        "resourceType": "Encounter",
        "id": "e1",
        "subject": {"reference": "Patient/p1"},
        "participant": people,
    }

    def answer(target, _):
        if target.startswith("Encounter"):
            return bundle(call)
        if target.startswith("Practitioner?"):
            return answer_to_list
        if target.startswith("Practitioner/"):
            return 200, {"resourceType": "Practitioner", "id": target.split("/")[1]}
        return bundle()

    ehr, kept, learned = FakeEhr(answer), [], Learned()
    needs = msgspec.structs.replace(NEEDS, types=(TypeNeed("Encounter", dated=True),))
    for _ in range(2):
        reading(ehr, learned=learned).read_rest(needs, lambda one: kept.append(one.reference))
    return set(kept) - {"Encounter/e1"}, [one for one, _ in ehr.asked if one.startswith("Practitioner")]


BOTH = {"Practitioner/a", "Practitioner/b"}


def test_people_are_read_many_at_a_time():
    found = bundle(*({"resourceType": "Practitioner", "id": name} for name in "ab"))
    kept, asked = staff_of(found)
    assert kept == BOTH
    assert not [target for target in asked if target.startswith("Practitioner/")]


def test_where_a_list_brings_others_or_nothing_each_is_read_by_itself_and_no_list_is_asked_for_again():
    for odd in (bundle({"resourceType": "Practitioner", "id": "z"}), (400, outcome("one value")), bundle()):
        kept, asked = staff_of(odd)
        assert kept == BOTH
        assert len([target for target in asked if "_id=" in target]) <= 2  # strict and not, of one reading
