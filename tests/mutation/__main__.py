"""`python -m tests.mutation`: tries every mutant and tells what survived.

Exit status 1 where a mutant survived that docs/quality.md does not explain: any of a table, or so many of
the code that fewer than 95 in 100 were killed.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import yaml

from .code import code_mutants, enum_members
from .run import Baseline, Mutant, Runner, Verdict, measure, name_of, prepare_parent
from .suite import Suite, digest_of
from .tables import RULES, TableMutant, as_text, table_files, table_mutants

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".mutation"
QUALITY = ROOT / "docs" / "quality.md"
LEAST_OF_CODE = 0.95
#: What may change a verdict beside the mutated file itself.
SUITE = [
    "fhir_mappings",
    "smartapp/commands/evaluate.py",
    "smartapp/commands/rules.py",
    "smartapp/commands/rules_document.py",
    "smartapp/configuration/site_file.py",
    "tests",
    "docs/rules.md",
]


@dataclass
class Result:
    """One mutant and what became of it. `by` None: it survived; `tried` false: there was no time for it."""

    name: str
    mutant: Mutant
    by: str | None = None
    tried: bool = False

    @property
    def is_table(self) -> bool:
        return isinstance(self.mutant, TableMutant)

    @property
    def where(self) -> str:
        if isinstance(self.mutant, TableMutant):
            return self.mutant.file
        return f"{self.mutant.file}:{self.mutant.line} {self.mutant.function}".strip()


def code_files(root: Path) -> list[str]:
    found = [str(path.relative_to(root)) for path in sorted((root / RULES).glob("*.py"))]
    return [*found, "fhir_mappings/local_time.py"]


def all_mutants(root: Path, *, code: bool, tables: bool) -> list[Result]:
    """Every mutant with its name, file by file."""
    found: list[Mutant] = []
    if code:
        enums = enum_members(root, "fhir_mappings")
        for file in code_files(root):
            found += code_mutants(root, file, enums)
    if tables:
        codes = sorted(path.stem for path in (root / RULES / "codes").glob("*.yaml"))
        sources = list(yaml.safe_load((root / RULES / "sources.yaml").read_text("utf-8")))
        for file in table_files(root):
            found += table_mutants(root, file, codes, sources)
    counted: Counter[str] = Counter()
    return [Result(name_of(mutant, counted), mutant) for mutant in found]


def unchanged(root: Path) -> TableMutant:
    """A mutant that is none: what kills it would kill every mutant, and say nothing."""
    file = "fhir_mappings/rules/settings.yaml"
    table = yaml.safe_load((root / file).read_text("utf-8"))
    return TableMutant(file, "", "unchanged", "", "", True, lambda: as_text(table))


def changed_since(root: Path, commit: str) -> set[str] | None:
    """Files that differ from a commit, in the working tree too; None where git does not know it."""
    told = subprocess.run(
        ["git", "diff", "--name-only", commit, "--"], cwd=root, capture_output=True, text=True, check=False
    )
    return set(told.stdout.split()) if told.returncode == 0 else None


class Kept:
    """Verdicts of earlier runs. A kill stays one while the mutated file is the same; a survivor is tried
    again once anything changed that might kill it."""

    def __init__(self, root: Path, path: Path) -> None:
        self.root, self.path = root, path
        self.suite = digest_of(root, SUITE)
        self._digests: dict[str, str] = {}
        self._found: dict[tuple[str, str], tuple[str | None, str]] = {}
        if path.exists():
            for line in path.read_text("utf-8").splitlines():
                name, digest, by, suite = json.loads(line)
                self._found[name, digest] = by, suite

    def _digest(self, file: str) -> str:
        if file not in self._digests:
            self._digests[file] = digest_of(self.root, [file])
        return self._digests[file]

    def recall(self, result: Result) -> None:
        known = self._found.get((result.name, self._digest(result.mutant.file)))
        if known is not None and (known[0] is not None or known[1] == self.suite):
            result.by, result.tried = known[0], True

    def keep(self, result: Result) -> None:
        line = [result.name, self._digest(result.mutant.file), result.by, self.suite]
        with self.path.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")


def recorded_commit(path: Path = QUALITY) -> str:
    """The commit at which docs/quality.md was measured; `unknown` where it names none."""
    found = re.search(r"commit `([0-9a-f]{7,40})`", path.read_text("utf-8")) if path.exists() else None
    return found[1] if found else "unknown"


def explained(path: Path = QUALITY) -> set[str]:
    """Names of survivors that docs/quality.md explains: the first cell of a row of a table."""
    if not path.exists():
        return set()
    return set(re.findall(r"^\| `([0-9a-f]{8})` \|", path.read_text("utf-8"), re.MULTILINE))


def kind_of_killer(by: str) -> str:
    """Which part of the suite that was."""
    if by.endswith(")") and "(SIG" in by:
        return "endless, or out of memory"
    first = by.split()[0]
    kinds = {
        "import": "import",
        "case": "worked case",
        "page": "rules page",
        "written": "values written twice",
        "test": "unit test",
        "unit": "unit test",
    }
    return kinds.get(first, "oracle")


def report(results: list[Result], baseline: Baseline | None) -> str:
    """What was found, as Markdown."""
    lines = ["| file | mutants | killed | survived | not tried |", "|---|---|---|---|---|"]
    by_file: dict[str, list[Result]] = {}
    for result in results:
        file = result.mutant.file
        if result.is_table:
            part = Path(file).relative_to(RULES)
            file = f"{RULES}/{part.parts[0]}" + ("/*.yaml" if len(part.parts) > 1 else "")
        by_file.setdefault(file, []).append(result)

    def row(name: str, of: list[Result]) -> str:
        tried = [one for one in of if one.tried]
        killed = sum(one.by is not None for one in tried)
        return f"| {name} | {len(of)} | {killed} | {len(tried) - killed} | {len(of) - len(tried)} |"

    lines += [row(f"`{name}`", of) for name, of in sorted(by_file.items())]
    for name, of in (
        ("**all code**", [one for one in results if not one.is_table]),
        ("**all tables**", [one for one in results if one.is_table]),
    ):
        if of:
            lines.append(row(name, of))
    killers = Counter(kind_of_killer(one.by) for one in results if one.by is not None)
    lines += ["", "Killed by: " + ", ".join(f"{kind} {count}" for kind, count in killers.most_common())]
    only_shown = [
        one
        for one in results
        if isinstance(one.mutant, TableMutant) and one.mutant.deciding and one.by == "page"
    ]
    if only_shown:
        lines += ["", "Values that decide, noticed by the rules page alone:", ""]
        lines += [f"- {one.where}: {one.mutant.what}" for one in only_shown]
    survivors = [one for one in results if one.tried and one.by is None]
    if survivors:
        lines += ["", "| name | where | change |", "|---|---|---|"]
        lines += [
            f"| `{one.name}` | {one.where} | {one.mutant.what.replace('|', chr(92) + '|')} |"
            for one in survivors
        ]
    if baseline is not None and baseline.broken:
        lines += ["", "Left out, since they fail without any change:", ""]
        lines += [f"- {name}: {' '.join(why.split())[:200]}" for name, why in baseline.broken.items()]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument(
        "--changed-since",
        metavar="COMMIT",
        help="only files that differ from this commit; `recorded`: the one docs/quality.md was measured at",
    )
    parser.add_argument("--minutes", type=float, metavar="N", help="start no mutant after so many minutes")
    parser.add_argument("--only", action="append", default=[], metavar="FILE", help="only this file")
    parser.add_argument("--name", action="append", default=[], help="only the mutant of this name")
    parser.add_argument("--tables", action="store_true", help="only the tables")
    parser.add_argument("--code", action="store_true", help="only the code")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="so many at a time")
    parser.add_argument("--fresh", action="store_true", help="forget the verdicts of earlier runs")
    options = parser.parse_args(arguments)
    until = time.monotonic() + 60 * options.minutes if options.minutes else None
    results = all_mutants(
        ROOT, code=options.code or not options.tables, tables=options.tables or not options.code
    )
    if options.changed_since:
        commit = recorded_commit() if options.changed_since == "recorded" else options.changed_since
        changed = changed_since(ROOT, commit)
        if changed is None:
            print(f"{commit} is no commit here: every file is tried", file=sys.stderr)
        else:
            results = [one for one in results if one.mutant.file in changed]
    if options.only:
        results = [one for one in results if any(one.mutant.file.endswith(file) for file in options.only)]
    if options.name:
        results = [one for one in results if one.name in options.name]
    CACHE.mkdir(exist_ok=True)
    if options.fresh:
        (CACHE / "verdicts.jsonl").unlink(missing_ok=True)
    kept = Kept(ROOT, CACHE / "verdicts.jsonl")
    for result in results:
        kept.recall(result)
    left = [one for one in results if not one.tried]
    baseline = None
    if left:
        baseline = _try(left, kept, options.jobs, until)
    told = report(results, baseline)
    (CACHE / "report.md").write_text(told, "utf-8")
    print(told)
    return _status(results)


def _try(left: list[Result], kept: Kept, jobs: int, until: float | None) -> Baseline:
    prepare_parent()
    suite = Suite(ROOT, CACHE)
    baseline = measure(ROOT, suite, code_files(ROOT))
    print(
        f"{len(left)} mutants, {len(baseline.calls)} items, {len(baseline.broken)} of them left out",
        file=sys.stderr,
        flush=True,
    )
    if until is not None:  # where time may run out, a fair sample of everything
        left = sorted(left, key=lambda one: one.name)
    of = {id(one.mutant): one for one in left}
    runner = Runner(ROOT, suite, baseline, jobs)
    _, control = next(runner.run([unchanged(ROOT)]))
    if control.killed or control.trouble:
        raise SystemExit(f"the product fails without any change: {control.by or control.trouble}")
    began = time.monotonic()
    for number, (mutant, verdict) in enumerate(runner.run((one.mutant for one in left), until), 1):
        _note(of[id(mutant)], verdict, kept)
        if number % 50 == 0:
            survived = sum(one.tried and one.by is None for one in left)
            spent = time.monotonic() - began
            print(f"{number}/{len(left)} in {spent:.0f} s, {survived} survived", file=sys.stderr, flush=True)
    return baseline


def _note(result: Result, verdict: Verdict, kept: Kept) -> None:
    if verdict.trouble:
        print(f"not tried: {result.name} {result.where}: {verdict.trouble}", file=sys.stderr, flush=True)
        return
    result.by, result.tried = verdict.by, True
    kept.keep(result)
    if not verdict.killed:
        print(f"survived: {result.name} {result.where} {result.mutant.what}", file=sys.stderr, flush=True)


def _status(results: list[Result]) -> int:
    known = explained()
    tried = [one for one in results if one.tried]
    open_ones = [one for one in tried if one.by is None and one.name not in known]
    if any(one.is_table for one in open_ones):
        return 1
    code = [one for one in tried if not one.is_table]
    return 1 if code and len(open_ones) > (1 - LEAST_OF_CODE) * len(code) else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
