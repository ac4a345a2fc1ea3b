"""Reading a chart: whole, once, only this patient's, and honest about what is missing."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import pairwise
from urllib.parse import parse_qs, urlsplit

import pytest

from fhir_mappings.needs import Needs, TypeNeed
from launch.errors import HttpError, HttpProblem
from launch.http import Response
from launch.issuers import Issuer
from launch.profiles import load_profile
from launch.scopes import Scopes
from smartapp.ehr.fhir import look, names_another_patient, outcome_text, relative, search_target
from smartapp.ehr.reader import ChartReading, Notice, NoticeKind, ReadingFailed, ReadingStopped, date_slices
from smartapp.ehr.subjects import Whose
from smartapp.store.reading import SealedChunk

BASE = "https://ehr.example/fhir"
NEEDS = Needs(date(2026, 1, 1), date(2026, 3, 1), (TypeNeed("Observation", dated=True),), (), ())


def bundle(*resources, following=None):
    links = [{"relation": "next", "url": following}] if following else []
    return 200, {"resourceType": "Bundle", "link": links, "entry": [{"resource": r} for r in resources]}


def observation(name, patient="p1", **more):
    return {"resourceType": "Observation", "id": name, "subject": {"reference": f"Patient/{patient}"}, **more}


def outcome(text):
    return {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "diagnostics": text}]}


@dataclass
class FakeEhr:
    """Stands in for a SessionClient: answers by a function, remembers what was asked."""

    answer: object
    profile: str = "sandbox"
    asked: list = field(default_factory=list)
    patience: list = field(default_factory=list)

    @property
    def issuer(self):
        return Issuer("fake", BASE, "app", load_profile(self.profile))

    def fhir(self, method, target, *, headers=None, limits=None, body=None):
        self.asked.append((target, headers or {}))
        self.patience.append(limits.total)
        if urlsplit(target).netloc not in {"", "ehr.example"}:
            raise HttpError(HttpProblem.FOREIGN_URL)
        status, content = self.answer(target, headers or {})
        return Response(status, {}, json.dumps(content).encode(), target, "ehr.example", "r1")


def reading(ehr, **more):
    options = {"page_limit": 50, "byte_limit": 10_000_000, "tick": lambda _: True, **more}
    return ChartReading(
        ehr,
        Scopes.parse("patient/*.rs user/*.rs"),
        "p1",
        seal=lambda origin, resources: SealedChunk(origin, "", b""),
        tick_seconds=1,
        **options,
    )


def read(ehr, **more):
    """Observations alone; the references that were kept, and the notices."""
    kept = []
    run = reading(ehr, **more)
    run.read_rest(NEEDS, lambda resource: kept.append(resource.reference))
    return sorted(kept), run.finish_notices(), run


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


def test_pages_that_lead_in_a_circle_are_cut_off_and_told():
    kept, notices, run = read(FakeEhr(lambda *_: bundle(observation("o1"), following=f"{BASE}?page=1")))
    assert kept == ["Observation/o1"]
    assert [notice.kind for notice in notices] == [NoticeKind.CUT_OFF]
    assert run.unread == {"Observation"}


def test_a_next_page_on_another_server_is_not_followed_and_told():
    ehr = FakeEhr(lambda *_: bundle(observation("o1"), following="https://evil.example/fhir?page=2"))
    _, notices, run = read(ehr)
    assert notices == (Notice(NoticeKind.CUT_OFF, "Observation", "the next page lies on another server"),)
    assert run.unread == {"Observation"}


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
    assert ehr.asked[0][1] == {"Prefer": "handling=strict"}


def test_a_server_that_only_knows_subject_is_asked_by_subject():
    def answer(target, _):
        return bundle(observation("o1")) if "subject=" in target else (400, outcome("patient unknown"))

    assert read(FakeEhr(answer))[0] == ["Observation/o1"]


def test_where_a_category_is_needed_each_is_searched():
    ehr = FakeEhr(lambda *_: bundle(), profile="epic")
    read(ehr)
    asked = {parse_qs(urlsplit(target).query)["category"][0] for target, _ in ehr.asked}
    assert asked == set(load_profile("epic").observation_categories)


def test_a_refused_type_is_told_with_what_the_ehr_said_and_is_unread():
    _, notices, run = read(FakeEhr(lambda *_: (403, outcome("no scope"))))
    assert notices == (Notice(NoticeKind.REFUSED, "Observation", "403 no scope"),)
    assert run.unread == {"Observation"}


def test_an_ehr_that_breaks_off_gives_no_answer_rather_than_half_of_one():
    def answer(target, _):
        return (404, outcome("expired")) if "page=2" in target else bundle(following=f"{BASE}?page=2")

    with pytest.raises(ReadingFailed, match="page-refused"):
        read(FakeEhr(answer))


def test_an_ehr_that_is_out_of_order_fails_the_reading():
    with pytest.raises(ReadingFailed, match="ehr-unavailable"):
        read(FakeEhr(lambda *_: (503, {})))


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
    assert run.unread == frozenset()


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
    (notice,) = run.finish_notices()
    assert (notice.kind, notice.what, notice.count) == (NoticeKind.CUT_OFF, "Observation", 1)
    assert notice.detail == "an entry that is no resource"
    assert run.unread == {"Observation"}
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
    assert run.unread == {"ChargeItem"}


@pytest.mark.parametrize("patient", [{"id": "p2"}, {"id": 1}, {}, {"resourceType": "Observation"}])
def test_another_patient_in_place_of_the_sessions_own_ends_the_reading(patient):
    answer = (200, {"resourceType": "Patient", **patient})
    with pytest.raises(ReadingFailed, match="patient-refused"):
        reading(FakeEhr(lambda *_: answer)).read_first(lambda _: None)


def test_what_the_ehr_remarks_without_saying_that_it_is_a_remark_is_told_as_one():
    kept, notices, _ = read(FakeEhr(lambda *_: bundle(observation("o1"), outcome("only a part"))))
    assert kept == ["Observation/o1"]
    assert notices == (Notice(NoticeKind.SERVER_SAYS, "Observation", "only a part"),)


def test_a_page_larger_than_this_app_reads_is_cut_off_and_told():
    def answer(*_):
        raise HttpError(HttpProblem.TOO_LARGE)

    _, notices, run = read(FakeEhr(answer))
    (notice,) = notices
    assert (notice.kind, notice.detail) == (
        NoticeKind.CUT_OFF,
        "a page is larger than this app reads at once",
    )
    assert run.unread == {"Observation"}


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
    from smartapp.site import load_site

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
    record = chart.record(f"Patient/{patient}")
    answer = to_contract(
        record, assess(record, site.policy, record.as_of), site.policy.payer, site.policy.version
    )
    assert twin["decisions"] == answer["decisions"]
    assert twin["decisions"]
