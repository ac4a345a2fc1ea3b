"""The synthetic charts: the same bytes each time, visibly synthetic, and true to their stories."""

from __future__ import annotations

import importlib
import json
from datetime import date, datetime, timedelta
from importlib.resources import files
from zoneinfo import ZoneInfo

import pytest
import yaml

from launch.sandbox import export, stories
from launch.sandbox.__main__ import main
from launch.sandbox.patients import charts, resources
from launch.sandbox.patients.chart import last_full_month

AS_OF = date(2026, 4, 1)
ZONE = ZoneInfo("America/New_York")
DAYS = (AS_OF, date(2026, 3, 1), date(2026, 7, 31), date(2028, 2, 29), date(2026, 11, 22))


@pytest.fixture(scope="module")
def chart():
    found = {story.id: held for story, held in charts(AS_OF, readings=300)}
    return found.__getitem__


def of_type(chart, type_):
    return [resource for resource in chart if resource["resourceType"] == type_]


def reading_days(chart, first=date.min, last=date.max):
    days = {
        datetime.fromisoformat(reading["effectiveDateTime"]).astimezone(ZONE).date()
        for reading in of_type(chart, "Observation")
    }
    return {day for day in days if first <= day <= last}


def visits(chart, *codes):
    return [
        visit
        for visit in of_type(chart, "Encounter")
        if visit["type"][0].get("coding", [{}])[0].get("code") in codes
    ]


def minutes(found):
    spans = (
        datetime.fromisoformat(visit["period"]["end"]) - datetime.fromisoformat(visit["period"]["start"])
        for visit in found
    )
    return sum(span.total_seconds() for span in spans) / 60


def test_there_are_at_least_twelve_stories_each_with_a_title_and_a_line():
    assert len(stories()) >= 12
    assert len({story.id for story in stories()}) == len(stories())
    assert all(story.title and story.line for story in stories())


@pytest.mark.parametrize("as_of", DAYS)
def test_the_same_day_and_seed_give_the_same_bytes(as_of):
    assert json.dumps(list(resources(as_of, 7, 50))) == json.dumps(list(resources(as_of, 7, 50)))
    assert json.dumps(list(resources(as_of, 8, 50))) != json.dumps(list(resources(as_of, 7, 50)))


@pytest.mark.parametrize("as_of", DAYS)
def test_nothing_is_measured_after_the_day(as_of):
    for story, chart in charts(as_of, readings=50):
        if story.id not in ("messy-chart", "new-year-2026"):
            assert all(day <= as_of for day in reading_days(chart)), story


def test_every_id_is_one_of_a_kind_and_every_patient_visibly_synthetic():
    everything = list(resources(AS_OF, readings=50))
    assert len({(one["resourceType"], one["id"]) for one in everything}) == len(everything)
    for patient in (one for one in everything if one["resourceType"] == "Patient"):
        assert patient["name"][0]["family"].startswith("Synthetic-")
        assert patient["identifier"][0]["value"].startswith("SYN-")


def test_every_chart_but_the_messy_one_is_valid_r4(chart):
    checked = [
        resource
        for story in stories()
        if story.id != "messy-chart"
        for type_ in (
            "Patient",
            "Device",
            "Encounter",
            "EpisodeOfCare",
            "Consent",
            "CarePlan",
            "ServiceRequest",
            "Condition",
        )
        for resource in of_type(chart(story.id), type_)
    ]
    checked += [resource for story in stories() for resource in of_type(chart(story.id), "ChargeItem")]
    checked += of_type(chart("ready-physiologic"), "Observation")[:20]
    checked += [one for one in resources(AS_OF, readings=1) if "Practitioner" in one["resourceType"]]
    checked += of_type(chart("nothing"), "Coverage") + of_type(chart("nothing"), "Account")
    for resource in checked:
        type_ = resource["resourceType"]
        model = getattr(importlib.import_module(f"fhir.resources.R4B.{type_.lower()}"), type_)
        model.model_validate(resource)


@pytest.mark.parametrize("patient", ["respiratory", "musculoskeletal", "cognitive", "physiologic"])
@pytest.mark.parametrize("as_of", DAYS)
def test_who_is_ready_has_a_closed_period_and_a_month_with_a_call(patient, as_of):
    chart = {story.id: held for story, held in charts(as_of, readings=1)}[f"ready-{patient}"]
    assert len(reading_days(chart, as_of - timedelta(days=30), as_of - timedelta(days=1))) >= 16
    first, last = last_full_month(as_of)
    calls = visits(chart, "RTM-CALL", "RTM-VIDEO", "RPM-CALL")
    managed = calls + visits(chart, "RTM-REVIEW", "RPM-REVIEW")
    assert calls
    assert minutes(managed) >= 20
    for visit in managed:
        assert first <= datetime.fromisoformat(visit["period"]["start"]).date() <= last


def test_one_day_is_missing_and_can_still_come(chart):
    days = reading_days(chart("one-day-short"))
    assert len(days) == 15
    assert min(days) + timedelta(days=29) >= AS_OF
    assert AS_OF not in days
    assert len(reading_days(chart("single-day"))) == 1


def test_sixteen_is_out_of_reach(chart):
    days = reading_days(chart("out-of-reach"))
    left = (min(days) + timedelta(days=29) - AS_OF).days + 1
    assert len(days) == 5
    assert 0 < left < 16 - len(days)


def test_nobody_was_called(chart):
    assert minutes(visits(chart("no-conversation"), "RTM-REVIEW")) >= 20
    assert not visits(chart("no-conversation"), "RTM-CALL", "RTM-VIDEO")


def test_the_stay_in_hospital_takes_the_month_below_sixteen(chart):
    [stay] = visits(chart("hospital-stay"), "INPATIENT-STAY")
    start, end = (datetime.fromisoformat(stay["period"][side]) for side in ("start", "end"))
    inside = {day for day in reading_days(chart("hospital-stay")) if start.date() < day < end.date()}
    assert len(inside) == 5
    assert len(reading_days(chart("hospital-stay"))) - len(inside) == 13


def test_the_new_year_period_has_days_on_both_sides(chart):
    days = reading_days(chart("new-year-2026"))
    assert min(days) == date(2025, 12, 10)
    assert max(days) <= date(2026, 1, 8)
    assert date(2025, 12, 31) in days
    assert any(day.year == 2026 for day in days)
    assert 2 <= len(days) < 16


def test_both_programs_are_ordered_and_agreed_to(chart):
    assert len(of_type(chart("both-programs"), "ServiceRequest")) == 2
    assert len(of_type(chart("both-programs"), "Device")) == 2


def test_the_large_chart_is_as_large_as_asked(chart):
    assert len(of_type(chart("fifty-thousand-readings"), "Observation")) == 300
    assert not of_type(chart("nothing"), "Observation")


def test_the_messy_chart_holds_what_a_strict_create_refuses(chart):
    readings = of_type(chart("messy-chart"), "Observation")
    assert {"entered-in-error", "preliminary", "banana"} <= {reading["status"] for reading in readings}
    assert any("device" in one and set(one["device"]) == {"display"} for one in readings)
    assert any(not isinstance(one.get("effectiveDateTime", ""), str) for one in readings)
    periods = [visit["period"] for visit in of_type(chart("messy-chart"), "Encounter")]
    assert any(period.get("end", "9") < period["start"] for period in periods)


def test_an_export_writes_files_that_stand_on_their_own(tmp_path, capsys):
    written = export(tmp_path, AS_OF, readings=20)
    assert len(written) == len(stories()) + 1
    bundle = json.loads((tmp_path / "ready-respiratory.json").read_text("utf-8"))
    assert {"Patient", "Observation", "Practitioner"} <= {
        e["resource"]["resourceType"] for e in bundle["entry"]
    }
    lines = (tmp_path / "fifty-thousand-readings.ndjson").read_text("utf-8").splitlines()
    assert sum(json.loads(line)["resourceType"] == "Observation" for line in lines) == 20
    assert main(["export", str(tmp_path / "b"), "--as-of", "2026-04-01", "--readings", "5"]) == 0
    assert "ready-respiratory.json" in capsys.readouterr().out


def test_the_site_s_terminology_declares_every_local_coding_of_the_charts(chart):
    site = yaml.safe_load(files("launch.sandbox").joinpath("site.yaml").read_text("utf-8"))
    declared = {
        (entry["system"], entry["code"]) for entries in site["terminology"].values() for entry in entries
    }
    used = set()
    for resource in resources(AS_OF, readings=1):
        for coding in codings(resource):
            if coding.get("system") in ("urn:sandbox:flowsheet", "urn:sandbox:device", "urn:sandbox:visit"):
                used.add((coding["system"], coding["code"]))
    # Two are undeclared on purpose: a row nobody knows, and a stay that its class alone describes.
    assert used - declared == {("urn:sandbox:flowsheet", "ZZZ"), ("urn:sandbox:visit", "INPATIENT-STAY")}


def codings(value):
    if isinstance(value, dict):
        if "code" in value and "system" in value:
            yield value
        for item in value.values():
            yield from codings(item)
    elif isinstance(value, list):
        for item in value:
            yield from codings(item)


@pytest.mark.parametrize("as_of", DAYS)
def test_the_calls_that_are_on_paper_are_nowhere_in_the_chart(as_of):
    chart = {story.id: held for story, held in charts(as_of, readings=1)}["calls-not-in-the-ehr"]
    assert len(reading_days(chart, as_of - timedelta(days=30), as_of - timedelta(days=1))) >= 16
    assert [visit["class"]["code"] for visit in of_type(chart, "Encounter")] == ["AMB"], "the set-up alone"
    assert not of_type(chart, "Consent")
