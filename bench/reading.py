"""Decode, map and decide for one patient, beside a bare decode and beside full FHIR models."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from bench.charts import AS_OF, chart_lines, new_chart, pages, terminology
from bench.figure import Figure
from bench.measure import Spread, ratios, seconds_by_turns, seconds_of
from bench.sizes import Sizes
from fhir_mappings import resources as fhir
from fhir_mappings.chart import Chart
from fhir_mappings.decision import Decision
from fhir_mappings.rules.engine import decide
from fhir_mappings.rules.policy import load_policy

SLOWER_THAN_DECODING = 4.5
FASTER_THAN_FULL_MODELS = 20.0


def measure(sizes: Sizes) -> list[Figure]:
    lines = list(chart_lines(sizes.readings, sizes.encounters))
    bundles = pages(lines, sizes.page)
    known, policy = terminology(), load_policy("medicare")

    def answer(texts: Sequence[bytes]) -> tuple[Chart, tuple[Decision, ...]]:
        """The chart goes back too, as whoever shows the evidence keeps it: freeing it is not measured."""
        chart = new_chart(known, texts)
        (patient,) = chart.patients()
        return chart, decide(chart.record(patient), policy, AS_OF)

    by_line, lines_decoded = seconds_by_turns(
        [lambda: answer(lines), lambda: decode_lines(lines)], sizes.repetitions
    )
    by_page, pages_decoded = seconds_by_turns(
        [lambda: answer(bundles), lambda: decode_pages(bundles)], sizes.repetitions
    )
    sample = [text for text in lines if b'"Observation"' in text[:40]][: sizes.full_model_sample]
    full = median(_full_models(sample, sizes.repetitions)) * sizes.readings / len(sample)
    count = f"{sizes.readings:,} readings"
    return [
        Figure(
            "pages / typed decode",
            ratios(by_page, pages_decoded),
            "x",
            SLOWER_THAN_DECODING,
            note=f"{count}, Bundles of {sizes.page}",
        ),
        Figure(
            "lines / typed decode",
            ratios(by_line, lines_decoded),
            "x",
            SLOWER_THAN_DECODING,
            note=f"{count}, NDJSON, {median(by_line) * 1000:.0f} ms",
        ),
        Figure(
            "fhir.resources / lines",
            Spread.of([full / seconds for seconds in by_line]),
            "x",
            FASTER_THAN_FULL_MODELS,
            at_least=True,
            note=f"parsing alone, {full:.1f} s scaled from {len(sample):,} Observations",
        ),
    ]


def decode_lines(lines: Sequence[bytes]) -> None:
    """Every resource decoded into this project's own structures, and let go."""
    decode = fhir.decode_resource
    for text in lines:
        decode(text)


def decode_pages(bundles: Sequence[bytes]) -> None:
    """The same, entry by entry."""
    for text in bundles:
        for entry in fhir.decode_bundle(text).entry or ():
            fhir.decode_resource(fhir.decode_entry(entry).resource)


def _full_models(sample: Sequence[bytes], repetitions: int) -> list[float]:
    from fhir.resources.R4B.observation import Observation

    def parse() -> None:
        for text in sample:
            Observation.model_validate_json(text)

    parse()
    return [seconds_of(parse) for _ in range(min(repetitions, 3))]
