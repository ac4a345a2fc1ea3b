"""Makes docs/conformance.md: each requirement and each threat, how it is met, and the tests that show it.

    .venv/bin/python -m tests.conformance            writes the page
    .venv/bin/python -m tests.conformance --check    says what is missing, and whether the page is stale

Words, numbers and levels are in conformance.yaml; which test shows what stands at the tests themselves, as
`@pytest.mark.smart(41, 34)` and `@pytest.mark.threat("5.1")`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
WORDS = ROOT / "tests" / "conformance.yaml"
PAGE = ROOT / "docs" / "conformance.md"
MARKS = re.compile(r"pytest\.mark\.(smart|threat)\(")
SHOWN_BY_TESTS = {"SHALL", "SHALL NOT"}
Tests = Mapping[str, Iterable[str]]


@dataclass
class Shown:
    """Names of tests by the requirement or the threat they show. A pytest plugin that collects them."""

    smart: dict[int, list[str]] = field(default_factory=dict)
    threat: dict[str, list[str]] = field(default_factory=dict)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            name = item.nodeid.split("[")[0]
            for kind, shown in (("smart", self.smart), ("threat", self.threat)):
                for number in (number for mark in item.iter_markers(kind) for number in mark.args):
                    tests = shown.setdefault(number, [])
                    if name not in tests:
                        tests.append(name)


def collect() -> Shown:
    """Which tests show what. Raises RuntimeError where they cannot be collected."""
    shown, said = Shown(), StringIO()
    arguments = ["--collect-only", "--quiet", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
    with redirect_stdout(said):
        code = pytest.main([*arguments, *map(str, marked_files())], plugins=[shown])
    if code != pytest.ExitCode.OK:
        raise RuntimeError(said.getvalue()[-4000:])
    return shown


def marked_files() -> list[Path]:
    """The files of tests that say of a test what it shows."""
    return [
        path for path in sorted((ROOT / "tests").rglob("test_*.py")) if MARKS.search(path.read_text("utf-8"))
    ]


def read_words() -> dict[str, Any]:
    """conformance.yaml."""
    words: dict[str, Any] = yaml.safe_load(WORDS.read_text("utf-8"))
    return words


def gaps(words: Mapping[str, Any], shown: Shown) -> list[str]:
    """What is missing, a line each."""
    requirements, threats = words["requirements"], words["threats"]
    lines = [
        f"requirement {number} is marked at {tests[0]} but not in the list"
        for number, tests in shown.smart.items()
        if number not in requirements
    ]
    lines += [
        f"threat {row} is marked at {tests[0]} but not in the list"
        for row, tests in shown.threat.items()
        if row not in threats
    ]
    for number, entry in requirements.items():
        if ("met" in entry) == ("not_applicable" in entry):
            lines.append(f"requirement {number} needs either `met` or `not_applicable`")
        excused = number in shown.smart or "not_applicable" in entry
        if not excused and entry["level"] in SHOWN_BY_TESTS:
            lines.append(f"requirement {number} ({entry['level']}) has neither a test nor a reason")
        lines += [
            f"requirement {number}: there is no {name}" for name in entry.get("also", ()) if not exists(name)
        ]
    lines += [
        f"{name} shows {number} by its mark already: `also` need not name it"
        for entries, by_mark in ((requirements, shown.smart), (threats, shown.threat))
        for number, entry in entries.items()
        for name in entry.get("also", ())
        if name in by_mark.get(number, ())
    ]
    for row, entry in threats.items():
        lines += [f"threat {row}: there is no {name}" for name in entry.get("also", ()) if not exists(name)]
        if row not in shown.threat and not entry.get("also"):
            lines.append(f"threat {row} has no test")
    return lines


def exists(name: str) -> bool:
    """Whether a test of that name (`path::function`) is there, without importing it."""
    path, function = name.split("::")
    if not (ROOT / path).is_file():
        return False
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    return any(isinstance(node, ast.FunctionDef) and node.name == function for node in tree.body)


HEAD = """# Conformance
For the people who let this app near their EHR, and for testers.
Made by `python -m tests.conformance`; not edited by hand.

## SMART App Launch 2.2.0, as a client
The numbers are those of the requirement list in Inferno's SMART App Launch test kit
(`hl7.fhir.uv.smart-app-launch_2.2.0@n`); what each demands is read there. The words are ours: how this app
meets it.
"""
MIDDLE = """
## Threats
What this app is built against. How to report a hole: [SECURITY.md](../SECURITY.md).
"""
LIMITS = """
## Limitations
- Tests show a requirement at the app's own door, against servers that answer as told; a certification is
  another matter.
- An authorization server that doesn't send `iss` in its answers (RFC 9207) is not refused for that; a
  callback path for each EHR stands against a mix-up all the same.
"""


def render(words: Mapping[str, Any], shown: Shown) -> str:
    """The page."""
    requirements, threats = words["requirements"], words["threats"]
    lines = [HEAD, summary(requirements, shown), "", "| n | level | how | shown by |", "|---|---|---|---|"]
    for number, entry in requirements.items():
        how = entry.get("met") or f"not applicable: {entry['not_applicable']}"
        tests = [*shown.smart.get(number, ()), *entry.get("also", ())]
        lines.append(f"| {number} | {entry['level']} | {how} | {links(tests)} |")
    lines += [MIDDLE, "| n | threat | defence | shown by |", "|---|---|---|---|"]
    for row, entry in threats.items():
        tests = [*shown.threat.get(row, ()), *entry.get("also", ())]
        lines.append(f"| {row} | {entry['title']} | {entry['met']} | {links(tests)} |")
    return "\n".join(lines) + "\n" + LIMITS


def summary(requirements: Mapping[int, Mapping[str, Any]], shown: Shown) -> str:
    """How many, in one table."""
    lines = ["| level | all | shown by tests | not applicable | neither |", "|---|---|---|---|---|"]
    for level in ("SHALL", "SHALL NOT", "SHOULD", "SHOULD NOT", "MAY"):
        of_level = {number: entry for number, entry in requirements.items() if entry["level"] == level}
        tested = sum(number in shown.smart for number in of_level)
        without = sum(
            "not_applicable" in entry for number, entry in of_level.items() if number not in shown.smart
        )
        lines.append(
            f"| {level} | {len(of_level)} | {tested} | {without} | {len(of_level) - tested - without} |"
        )
    return "\n".join(lines)


def links(tests: Iterable[str]) -> str:
    """Names of tests as links to their files, a file named once."""
    by_file: dict[str, list[str]] = {}
    for name in tests:
        path, function = name.split("::")
        by_file.setdefault(path, []).append(function.removeprefix("test_").replace("_", " "))
    return "<br>".join(
        f"[{Path(path).stem}](../{path}): {'; '.join(sorted(names))}"
        for path, names in sorted(by_file.items())
    )


def main(arguments: list[str]) -> int:
    """Write the page, or with --check only look. 1 where something is missing or stale."""
    words, shown = read_words(), collect()
    missing = gaps(words, shown)
    page = render(words, shown)
    if "--check" not in arguments:
        PAGE.write_text(page, "utf-8")
    elif not PAGE.is_file() or PAGE.read_text("utf-8") != page:
        missing.append("docs/conformance.md is stale: run `python -m tests.conformance`")
    print(*missing, sep="\n", end="\n" if missing else "")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
