"""Synthetic populations, as a Bulk Data export brings them: many patients of 90 readings each, with ids,
moments and values of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from bench.charts import chart_lines

READINGS, ENCOUNTERS = 90, 6
_PATIENTS_A_NURSE = 40
"""So many share one: each has a time of day of their own, so that nobody is with two at once."""
_OWN = (b'{"resourceType":"Observation"', b'{"resourceType":"Encounter"')
_OF_STAFF = b'{"resourceType":"Practitioner"'
_NURSE = b"synthetic-nurse"
_WHEN = b'"effectiveDateTime":"'


def population(file: Path, patients: int) -> Path:
    """A file of so many patients, with their records one after another and their staff."""
    with file.open("wb") as out:
        for number in range(patients):
            out.writelines(of_patient(number))
    return file


def of_patient(number: int) -> Iterator[bytes]:
    """One patient's records; of the staff that several share, those that are first told here."""
    nurse = b"%s-%05d" % (_NURSE, number // _PATIENTS_A_NURSE)
    own = b'"id":"%07d-' % number
    minute = b":%02d:" % (number % _PATIENTS_A_NURSE)
    for line in chart_lines(READINGS, ENCOUNTERS, f"synthetic-patient-{number:05d}", number):
        if line.startswith(_OF_STAFF):
            if number % _PATIENTS_A_NURSE == 0 and _NURSE in line:
                yield line.replace(_NURSE, nurse)
            continue
        told = line.replace(b'"id":"', own, 1) if line.startswith(_OWN) else line
        if told.startswith(_OWN[1]):
            told = told.replace(_NURSE, nurse).replace(b"synthetic-physician", nurse)
            start = told.index(b'"period"')
            told = told[:start] + _at(told[start:], minute)
        yield told


def _at(period: bytes, minute: bytes) -> bytes:
    """The same days, for half a minute of a time of day of one's own."""
    first, rest = period.split(b"T", 1)
    between, last = rest.split(b"T", 1)
    return first + b"T10" + minute + b"00" + between[8:] + b"T10" + minute + b"50" + last[8:]


def news(file: Path, patients: Iterable[int]) -> Path:
    """A file of a day's news: a further reading of each of these."""
    with file.open("wb") as out:
        for number in patients:
            told = next(line for line in of_patient(number) if line.startswith(_OWN[0]))
            told = told.replace(b'"id":"', b'"id":"new-', 1)
            before, when = told.split(_WHEN)
            out.write(before + _WHEN + b"2026-04-14" + when[10:])
    return file
