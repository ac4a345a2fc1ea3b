"""Runs `smartapp evaluate` in process on a built chart, reads case files, and compares what came out."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from tests.oracle import DEVICE_CODES, MANAGEMENT

from .chart import Event, Resource, build_resources, site_file

Answer = Any  # the contract's JSON: an object for one patient, an array for several
Evaluate = Callable[..., Answer]

NEW_YORK = "America/New_York"
COUNTED = ("suggest", "provisional", "charged")
UNMET = ("short", "out-of-reach")
OUTCOMES = {"charged", "short", "out-of-reach", "blocked", "review", "provisional", "suggest"}
REQUIREMENTS = {
    "monitoring-days": "days",
    "management-time": "seconds",
    "live-contact": "count",
    "set-up": "count",
    "base-code": "count",
}
UNVERIFIED = {
    *("consent", "order", "plan-of-care", "enrolment", "fda-device", "device-supplied-by-practice", "time"),
    *("conversation", "staff-role", "billing-professional", "prior-charges", "other-program", "in-facility"),
    *("same-day-services", "global-period", "rules-of-the-year"),
    *("established-patient", "initiating-visit", "staff-employed"),
}
DECISION_KEYS = {
    *("code", "program", "line", "quantity", "outcome", "period", "service_date", "requirements", "reasons"),
    *("resolved", "unverified", "modifiers", "forecast"),
}
#: Codes that never stand together in one window (R1.4), as the oracle has them. Windows must overlap for
#: it to matter.
EXCLUDED_PAIRS = [
    *(pair for codes in DEVICE_CODES.values() for pair in combinations(codes, 2)),
    *((first, later) for first, *others in MANAGEMENT.values() for later in others),
    *(("99091", code) for code in MANAGEMENT["rpm"]),
]


class Shape(AssertionError):
    """The output is not of the contract's shape, whatever the case."""


# -- case files ----------------------------------------------------------


STATED = "attestations.yaml"


class CaseLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML without its guesses: 10:00 stays a text, not 600; 2026-03-01 too, not a date; and so does `on`."""


CaseLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in ("tag:yaml.org,2002:null",)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
CaseLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|false)$"), list("tf"))


def as_yaml(told: Any) -> str:
    """As YAML, its keys in their order; by libyaml, since thousands of tests write a site's file."""
    return str(yaml.dump(told, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False))


@dataclass(frozen=True)
class Case:
    """One worked case: where it stands, what it says, the chart, and the answer."""

    file: str
    name: str
    source: str
    says: str
    given: list[Event]
    expect: dict[str, Any]
    as_of: str
    payer: str | None = "medicare"
    timezone: str | None = NEW_YORK
    terminology: dict[str, Any] | None = None
    options: tuple[str, ...] = ()
    site: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of the site's file."""
    files: Mapping[str, Any] = field(default_factory=dict)
    """Tables that lie beside it, by name."""
    attestations: tuple[Mapping[str, Any], ...] = ()
    """What was stated and settled, of p1 unless said, on one day by one person."""

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"


@cache
def read_cases(folder: Path) -> tuple[Case, ...]:
    """Every case of every file, in order; read once a process. Raises on a key that no case has."""
    return tuple(
        Case(file=path.stem, **told | {"options": tuple(str(option) for option in told.get("options", ()))})
        for path in sorted(folder.glob("*.yaml"))
        for told in yaml.load(path.read_text(), CaseLoader)
    )


def write_case(case: Case, folder: Path) -> tuple[Path, Path]:
    """Writes a chart (one NDJSON file a resource type) and a site file: (chart folder, site file)."""
    resources = build_resources(case.given, case.timezone or NEW_YORK)
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in case.files.items():
        (folder / name).write_text(as_yaml(table))
    if case.attestations:
        stated = {"patient": "Patient/p1", "by": "Practitioner/biller", "at": "2026-12-01"}
        told = [{**stated, **entry} for entry in case.attestations]
        (folder / STATED).write_text(as_yaml(told))
    return write_chart(resources, folder), write_site(
        folder, case.timezone, case.payer, case.terminology, case.site
    )


def write_chart(resources: list[Resource], folder: Path) -> Path:
    """One NDJSON file a resource type, in a folder of their own."""
    chart = folder / "chart"
    chart.mkdir(parents=True, exist_ok=True)
    lines: dict[str, list[str]] = {}
    for resource in resources:
        lines.setdefault(resource["resourceType"], []).append(json.dumps(resource))
    for resource_type, rows in lines.items():
        (chart / f"{resource_type}.ndjson").write_text("\n".join(rows) + "\n")
    return chart


def write_site(
    folder: Path,
    timezone: str | None = NEW_YORK,
    payer: str | None = "medicare",
    terminology: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
) -> Path:
    """The site file as YAML."""
    site = folder / "site.yaml"
    keys = {**site_file(timezone, payer, terminology), **(more or {})}
    site.write_text(as_yaml(keys))
    return site


# -- what came out ----------------------------------------------------------


def answers(answer: Answer) -> list[dict[str, Any]]:
    """The answers, one a patient, whether the contract gave an object or an array."""
    return answer if isinstance(answer, list) else [answer]


def check_shape(answer: Answer) -> None:
    """What holds for every answer: keys, closed sets, order, quantities, dates, excluded pairs."""
    for one in answers(answer):
        if one["patient"] is None:
            continue
        decisions = one["decisions"]
        order = [(d["period"]["start"], d["period"]["end"], d["code"]) for d in decisions]
        _hold(order == sorted(order), f"decisions are not in order: {order}")
        _hold(len(set(order)) == len(order), f"two decisions for one code and window: {order}")
        resources = [e["resource"] for e in one["excluded"]]
        _hold(resources == sorted(resources), f"excluded is not in order: {resources}")
        for decision in decisions:
            _check_decision(decision)
        _check_pairs(decisions)


def _check_decision(d: dict[str, Any]) -> None:
    where = f"{d['code']} from {d['period']['start']}"
    _hold(set(d) == DECISION_KEYS, f"{where}: keys {sorted(set(d) ^ DECISION_KEYS)}")
    _hold(d["outcome"] in OUTCOMES, f"{where}: outcome {d['outcome']}")
    unmet = d["outcome"] in UNMET
    _hold((d["quantity"] == 0) == unmet, f"{where}: quantity {d['quantity']} with {d['outcome']}")
    if d["outcome"] != "charged":
        _hold((d["service_date"] is None) == unmet, f"{where}: service date {d['service_date']}")
        missing = {r["requirement"] for r in d["requirements"] if not r["met"]}
        if d["outcome"] == "review":  # an undocumented set-up or an unclear talk is a question, not a lack
            missing -= {"set-up", "live-contact"}
        _hold(bool(missing) == unmet, f"{where}: {d['outcome']} with {sorted(missing)} not met")
    for r in d["requirements"]:
        _hold(REQUIREMENTS.get(r["requirement"]) == r["unit"], f"{where}: requirement {r}")
        _hold(r["met"] == (r["found"] >= r["needed"]), f"{where}: {r}")
        _hold(bool(r["reference"]), f"{where}: a requirement without its reference: {r}")
    _hold(set(d["unverified"]) <= UNVERIFIED, f"{where}: unverified {d['unverified']}")
    if d["outcome"] == "review":
        _hold(bool(d["reasons"]), f"{where}: review without a reason")


def _check_pairs(decisions: list[dict[str, Any]]) -> None:
    standing = [d for d in decisions if d["outcome"] in COUNTED]
    for one, other in EXCLUDED_PAIRS:
        for a in (d for d in standing if d["code"] == one):
            for b in (d for d in standing if d["code"] == other):
                if a["outcome"] == b["outcome"] == "charged":
                    continue  # what the EHR already holds is not ours to undo
                if any(entry["reason"] in (one, other) for entry in (*a["resolved"], *b["resolved"])):
                    continue  # somebody found that the payer accepts both (D38)
                apart = a["period"]["end"] < b["period"]["start"] or b["period"]["end"] < a["period"]["start"]
                _hold(apart, f"{one} and {other} stand together from {a['period']['start']}")


def _hold(condition: bool, message: str) -> None:
    if not condition:
        raise Shape(message)


def check_case(case: Case, answer: Answer) -> None:
    """Compares an answer with what the case expects; raises AssertionError naming every difference."""
    check_shape(answer)
    told = {one["patient"]: one for one in answers(answer)}
    expected = case.expect.get("patients") or {"p1": case.expect}
    problems: list[str] = []
    for patient, expect in expected.items():
        one = told.get(f"Patient/{patient}")
        if one is None:
            problems.append(f"no answer for {patient}: {sorted(map(str, told))}")
        else:
            problems += list(_differences(expect, one))
    if problems:
        raise AssertionError(f"{case}\n  {case.says}\n  " + "\n  ".join(problems) + f"\n{brief(answer)}")


def _differences(expect: Mapping[str, Any], one: dict[str, Any]) -> Iterator[str]:
    found: list[dict[str, Any]] = []
    for wanted in expect.get("decisions", []):
        matching = [d for d in one["decisions"] if _is_meant(wanted, d)]
        if len(matching) != 1:
            yield f"{_label(wanted)}: {len(matching)} decisions"
            continue
        found += matching
        yield from _compare(wanted, matching[0])
    if expect.get("only"):
        for extra in (d for d in one["decisions"] if not any(d is f for f in found)):
            yield f"{extra['code']} from {extra['period']['start']} was not expected ({extra['outcome']})"
    for unwanted in expect.get("absent", []):
        for d in one["decisions"]:
            if _is_meant({"code": unwanted} if isinstance(unwanted, str) else unwanted, d):
                yield f"{d['code']} from {d['period']['start']} should not appear ({d['outcome']})"
    for code in expect.get("never", []):
        for d in one["decisions"]:
            if d["code"] == code and d["outcome"] in COUNTED:
                yield f"{code} from {d['period']['start']} must not be {d['outcome']}"
    reasons = Counter(e["reason"] for e in one["excluded"])
    for reason, count in expect.get("excluded", {}).items():
        if reasons[reason] != int(count):
            yield f"excluded as {reason}: {reasons[reason]}, expected {count} ({dict(reasons)})"
    out = {e["resource"]: e["reason"] for e in one["excluded"]}
    for resource in expect.get("left_out", []):
        if resource not in out:
            yield f"{resource} should have been excluded"
    for resource in expect.get("counted", []):
        if resource in out:
            yield f"{resource} should count, was excluded as {out[resource]}"
    for key in ("payer", "timezone", "as_of"):
        if key in expect and one[key] != expect[key]:
            yield f"{key}: {one[key]}, expected {expect[key]}"


def _is_meant(wanted: Mapping[str, Any], d: dict[str, Any]) -> bool:
    """A decision is named by its code, and by `month`, `start` or `period` where there are several."""
    start = wanted.get("start") or (wanted.get("period") or [None])[0]
    if "month" in wanted:
        start = f"{wanted['month']}-01"
    return d["code"] == wanted["code"] and start in (None, d["period"]["start"])


def _label(wanted: Mapping[str, Any]) -> str:
    window = wanted.get("month") or wanted.get("start") or wanted.get("period", "")
    return f"{wanted['code']} {window}".strip()


FOUND = {
    "days": "monitoring-days",
    "seconds": "management-time",
    "contacts": "live-contact",
    "setups": "set-up",
    "base": "base-code",
}


def _compare(wanted: Mapping[str, Any], d: dict[str, Any]) -> Iterator[str]:
    label = _label(wanted)
    requirements = {r["requirement"]: r for r in d["requirements"]}
    for key, want in wanted.items():
        got: Any
        if key in ("code", "month", "start"):
            continue
        if key in FOUND:
            got, want = requirements.get(FOUND[key], {}).get("found"), int(want)
        elif key in ("needs_days", "needs_seconds"):
            got, want = requirements.get(FOUND[key.removeprefix("needs_")], {}).get("needed"), int(want)
        elif key == "period":
            got, want = [d["period"]["start"], d["period"]["end"]], list(want)
        elif key == "quantity":
            got, want = d["quantity"], int(want)
        elif key == "modifiers":
            got, want = sorted(d["modifiers"]), sorted(want)
        elif key in ("reasons", "unverified"):
            got, want = sorted(set(want) & set(d[key])), sorted(want)
            if got != want:
                got = d[key]
        elif key == "not_unverified":
            got, want = sorted(set(want) & set(d["unverified"])), []
        elif key == "no_reasons":
            got, want = d["reasons"], []
        elif key == "evidence":
            got, want = requirements.get("monitoring-days", {}).get("evidence"), list(want)
        elif key == "forecast":
            got = d["forecast"] and {k: str(d["forecast"][k]) for k in want or d["forecast"]}
        else:
            got = d[key]
        if got != want:
            yield f"{label}: {key} is {got!r}, expected {want!r}"


def brief(answer: Answer) -> str:
    """The answer in a few lines, for the message of a failure."""
    lines = []
    for one in answers(answer):
        for d in one.get("decisions", []):
            found = ", ".join(f"{r['requirement']} {r['found']}/{r['needed']}" for r in d["requirements"])
            lines.append(
                f"    {d['code']} {d['period']['start']}..{d['period']['end']} {d['outcome']} "
                f"x{d['quantity']} [{found}] {d['reasons']}"
            )
        lines.append(f"    excluded {dict(Counter(e['reason'] for e in one['excluded']))}")
    return "\n".join(lines)
