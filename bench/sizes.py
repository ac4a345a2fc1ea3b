"""How much is measured, and how often."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """`repetitions` of what runs in this process, `processes` of what starts one of its own."""

    readings: int
    encounters: int
    page: int
    full_model_sample: int
    """Observations parsed with fhir.resources; the time of all is scaled from them."""
    patient_year_days: int
    patients: tuple[int, ...]
    """After how many patients the memory is looked at."""
    crowds: tuple[int, int]
    """Patients of one run: few, and many."""
    populations: tuple[int, int]
    """Of one sweep: few, and many."""
    listed: int
    """Patients of one worklist."""
    repetitions: int
    processes: int


FULL = Sizes(
    readings=50_000,
    encounters=200,
    page=1_000,
    full_model_sample=1_000,
    patient_year_days=365,
    patients=(1_000, 5_000, 10_000),
    crowds=(500, 4_000),
    populations=(1_000, 10_000),
    listed=20_000,
    repetitions=9,
    processes=7,
)
QUICK = Sizes(
    readings=50_000,
    encounters=200,
    page=1_000,
    full_model_sample=500,
    patient_year_days=365,
    patients=(100, 500, 1_000),
    crowds=(500, 4_000),
    populations=(200, 1_000),
    listed=20_000,
    repetitions=3,
    processes=3,
)
TINY = Sizes(
    readings=60,
    encounters=6,
    page=20,
    full_model_sample=5,
    patient_year_days=30,
    patients=(1, 2, 4),
    crowds=(2, 20),
    populations=(2, 8),
    listed=200,
    repetitions=1,
    processes=1,
)
"""For the tests: shows that everything runs, and measures nothing."""
