"""One record has one name: what the reader calls it is what chart, evidence and packet call it."""

from __future__ import annotations

import json
from datetime import date
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from fhir_mappings.chart import Chart
from fhir_mappings.identity import made_up_name
from fhir_mappings.terminology import load_terminology
from smartapp.ehr.wire.looks import look

BASE = "https://ehr.example/fhir"
FULL_URLS = st.one_of(
    st.none(),
    st.text(max_size=20),
    st.uuids().map(lambda name: f"urn:uuid:{name}"),
    st.sampled_from([f"{BASE}/Observation/o1", "Observation/o1", "urn:uuid:", f"{BASE}/Patient/p1"]),
)


@given(
    id=st.one_of(st.none(), st.from_regex(r"[A-Za-z0-9\-.]{1,64}", fullmatch=True)),
    full_url=FULL_URLS,
    status=st.sampled_from(["final", "banana"]),
    indent=st.sampled_from([None, 1]),
)
def test_for_any_bytes_and_full_url_the_readers_name_is_the_charts(id, full_url, status, indent):
    resource = {
        "resourceType": "Observation",
        **({} if id is None else {"id": id}),
        "status": status,
        "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": "2026-03-05T08:00:00-05:00",
        "component": [{"valueQuantity": {"value": 120}}],
        "device": {"reference": "Device/none"},
    }
    raw = json.dumps(resource, indent=indent).encode()
    chart = Chart(load_terminology(), ZoneInfo("America/New_York"), date(2026, 4, 1), base=BASE)
    chart.add(raw, full_url)
    seen = look(raw)
    readers = seen.reference or made_up_name(seen.resourceType, raw)
    assert {entry.resource for entry in chart.record("Patient/p1").excluded} == {readers}
