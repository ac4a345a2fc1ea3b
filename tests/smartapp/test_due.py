"""Until the day that is told as due, an answer stays word for word what it is (what a night rests on)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import date, timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from fhir_mappings.chart import Chart
from fhir_mappings.local_time import zone_named
from fhir_mappings.rules.due import NEVER, due_day
from fhir_mappings.rules.policy import Policies
from fhir_mappings.terminology import load_terminology
from smartapp.configuration.site_file import read_site_file
from smartapp.population.deciding import answer_of
from tests.support.chart import Resource
from tests.support.evaluation import write_site
from tests.support.random_charts import RandomChart, charts

CHARTS = int(os.environ.get("POPULATION_CHARTS", "60"))
FURTHEST = 70
"""Days ahead that are looked at: more than two periods."""
Told = tuple[dict[str, Any], date]
Ask = Callable[[RandomChart, date], list[Told]]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    folder = tmp_path_factory.mktemp("due")

    @cache
    def site(zone: str, payer: str | None) -> tuple[Any, Policies]:
        read = read_site_file(write_site(folder, zone, payer))
        return load_terminology(read.terminology), read.policies(None)

    def asked(chart: RandomChart, day: date) -> list[Told]:
        terminology, policies = site(chart.zone, chart.payer)
        history = date.fromisoformat(chart.history_from) if chart.history_from else None
        read = Chart(
            terminology, zone_named(chart.zone), day, history_from=history, codes=policies.default.known
        )
        for resource in chart.resources():
            read.add(json.dumps(resource).encode())
        found = []
        for patient in read.patients():
            record = read.record(patient)
            told, assessment = answer_of(record, policies)
            policy = policies.of(record.payer)
            found.append((told, due_day(record, assessment, policy, read.days_ahead(patient))))
        return found

    return asked


@pytest.mark.parametrize("series", range(2))
def test_an_answer_is_the_same_on_every_day_before_it_is_due(ask, series):
    looked_at: list[int] = []

    @seed(series)
    @settings(
        max_examples=CHARTS,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(charts(), st.data())
    def holds(chart: RandomChart, data: st.DataObject) -> None:
        as_of = date.fromisoformat(chart.as_of)
        for position, (told, due) in enumerate(ask(chart, as_of)):
            assert due > as_of
            last = min((due - as_of).days - 1, FURTHEST)
            looked_at.append(last)
            for ahead in sorted({last, data.draw(st.integers(0, last))} - {0}):
                later, _ = ask(chart, as_of + timedelta(days=ahead))[position]
                assert {**later, "as_of": None} == {**told, "as_of": None}, (ahead, due)

    holds()
    assert sum(last > 0 for last in looked_at) > len(looked_at) / 4


def test_without_anything_monitored_no_day_is_due(ask):
    nothing = RandomChart("America/New_York", "medicare", "2026-03-01", [])
    resource: Resource = {"resourceType": "Patient", "id": "p1"}

    class Bare(RandomChart):
        def resources(self) -> list[Resource]:
            return [resource]

    ((_, due),) = ask(Bare(nothing.zone, nothing.payer, nothing.as_of), date(2026, 3, 1))
    assert due == NEVER
