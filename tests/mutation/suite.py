"""What a mutant is held against: the tests' own assertions, cut into items that run one after the other.

A worked case of tests/cases, a chart the oracle answered, the rules page, and each unit test that touches the
rules. What runs often runs in process; the rest goes through pytest. The product's modules are imported
anew in each child, so nothing here may import them before.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import json
import pickle
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from inspect import signature
from itertools import product
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support import evaluation

OURS = ("fhir_mappings", "smartapp", "tests.test_", "tests.fhir_mappings", "tests.smartapp")
#: Of the exhaustive boundaries of test_oracle.py: what is next to a threshold, and every so many of the rest.
BOUNDARY_STEP = 11
#: Unit tests that concern the rules, beside those of tests/fhir_mappings. Tests of the app's pages and of
#: other modules, and properties of random charts, would only cost time; without them more may survive.
UNIT_TESTS = [
    *("tests/test_cases.py", "tests/smartapp/test_rules.py", "tests/smartapp/test_what_if.py"),
    *("tests/smartapp/test_evaluate.py", "tests/smartapp/test_due.py"),
]
LEFT_OUT = {
    "tests/fhir_mappings/test_charge_item.py",
    "tests/fhir_mappings/test_outside_bytes.py",
    "tests/fhir_mappings/test_reconciliation.py",
}


@dataclass(frozen=True)
class Question:
    """A chart, and what the oracle says of it."""

    name: str
    chart: str
    as_of: str
    zone: str
    payer: str | None
    history_from: str | None
    expected: dict[str, Any]


@dataclass
class Item:
    """One assertion. `run` raises where it fails; unit tests have none and go through pytest."""

    name: str
    run: Callable[[], None] | None
    seconds: float = 0.0


class Suite:
    """All items. Made once in the parent, run in children."""

    def __init__(self, root: Path, kept: Path) -> None:
        self.root = root
        self.folder = Path(tempfile.mkdtemp(prefix="mutation-"))
        self.cases = {str(case): case for case in evaluation.read_cases(root / "tests" / "cases")}
        self.questions = _questions(root, kept)
        self._case_folders = {name: self.folder / f"case{n}" for n, name in enumerate(self.cases)}
        written = {
            name: evaluation.write_case(case, self._case_folders[name]) for name, case in self.cases.items()
        }
        # The test modules read and write the cases when they are imported and run: from here on, once.
        known = list(self.cases.values())
        evaluation.read_cases = lambda folder: iter(known)  # type: ignore[assignment]
        evaluation.write_case = lambda case, folder: written[str(case)]  # type: ignore[assignment]
        self._sites: dict[tuple[str, str | None], Path] = {}
        for n, (zone, payer) in enumerate({(q.zone, q.payer) for q in self.questions}):
            folder = self.folder / f"site{n}"
            folder.mkdir()
            self._sites[zone, payer] = evaluation.write_site(folder, zone, payer)
        self._charts: dict[str, Path] = {}
        for n, question in enumerate(self.questions):
            self._charts[question.name] = self.folder / f"chart{n}.ndjson"
            self._charts[question.name].write_text(question.chart)
        self._site_files: dict[Path, Any] = {}

    def in_process(self) -> list[Item]:
        """The items that need no pytest. Imports the product and reads its tables."""
        importlib.import_module("fhir_mappings.rules.tables").load_tables()
        cases = importlib.import_module("tests.test_cases")
        oracle = importlib.import_module("tests.test_oracle")
        rules = importlib.import_module("tests.smartapp.test_rules")
        product_ = importlib.import_module("smartapp.commands.evaluate")
        product_.load_terminology = cache(product_.load_terminology)

        def ask(question: Question) -> None:
            site = self._sites[question.zone, question.payer]
            if site not in self._site_files:
                self._site_files[site] = product_.read_site_file(site)
            told = product_.evaluate(
                [self._charts[question.name]],
                as_of=date.fromisoformat(question.as_of),
                site=self._site_files[site],
                history_from=date.fromisoformat(question.history_from) if question.history_from else None,
            )
            found = list(oracle.differences(told, question.expected))
            assert not found, found[0]

        def page() -> None:
            rules.test_the_rules_page_is_made_from_todays_tables(_run_rules)

        def worked(case: Any) -> None:
            with _captured() as said:
                cases.test_the_worked_case_comes_out_as_written(case, self._case_folders[str(case)], said)

        again = importlib.import_module("tests.fhir_mappings.test_values_again")
        found = [Item("page", page)]
        found += [
            Item(f"written {name}", test) for name, test in vars(again).items() if name.startswith("test_")
        ]
        found += [Item(f"case {name}", _bind(worked, case)) for name, case in self.cases.items()]
        found += [Item(question.name, _bind(ask, question)) for question in self.questions]
        return found

    def unit_tests(self) -> list[str]:
        """The files that go through pytest."""
        mirrored = sorted(
            str(path.relative_to(self.root))
            for path in (self.root / "tests/fhir_mappings").rglob("test_*.py")
        )
        return [name for name in (*UNIT_TESTS, *mirrored) if name not in LEFT_OUT]


def _bind(function: Callable[[Any], None], argument: Any) -> Callable[[], None]:
    return lambda: function(argument)


class _Said:
    """What pytest's `capsys` is asked for."""

    def __init__(self, out: io.StringIO, err: io.StringIO) -> None:
        self._out, self._err = out, err

    def readouterr(self) -> tuple[str, str]:
        return self._out.getvalue(), self._err.getvalue()


@contextlib.contextmanager
def _captured() -> Iterator[_Said]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield _Said(out, err)


def _run_rules(*arguments: object) -> tuple[int, str, str]:
    main = importlib.import_module("smartapp.cli").main
    with _captured() as said:
        code = main(["rules", *map(str, arguments)])
    return (code, *said.readouterr())


# -- pytest ----------------------------------------------------------

PYTEST = [
    "-q",
    "--no-header",
    "--assert=plain",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:xdist",
    "-p",
    "no:hypothesispytest",
]


def run_pytest(root: Path, names: Iterable[str], plugin: object, *, to_the_end: bool = False) -> int:
    """pytest in this process, quietly. Hypothesis tries the same examples every time and keeps none."""
    hypothesis.settings.register_profile(
        "mutation", derandomize=True, database=None, deadline=None, max_examples=60
    )
    hypothesis.settings.load_profile("mutation")
    with contextlib.chdir(root), contextlib.redirect_stdout(io.StringIO()):
        return int(pytest.main([*PYTEST, *([] if to_the_end else ["-x"]), *names], plugins=[plugin]))


# -- charts and what the oracle says of them ---------------------------------


def _questions(root: Path, folder: Path) -> list[Question]:
    """What the oracle is asked, with its answers; kept as long as nothing they come from changes."""
    sources = ["tests/oracle.py", "tests/test_oracle.py", "tests/support", "tests/mutation/suite.py"]
    kept = folder / f"oracle-{digest_of(root, sources)}.pickle"
    if kept.exists():
        found: list[Question] = pickle.loads(kept.read_bytes())
        return found
    print("asking the oracle, once", file=sys.stderr, flush=True)
    oracle = importlib.import_module("tests.oracle")
    support = importlib.import_module("tests.support.chart")
    found = []
    for name, resources, as_of, zone, payer, *more in _asked():
        (history_from,) = more or (None,)
        expected = oracle.answer(resources, support.site_file(zone, payer, None), as_of, history_from)
        chart = "\n".join(json.dumps(resource) for resource in resources) + "\n"
        found.append(Question(name, chart, as_of, zone, payer, history_from, expected))
    for old in folder.glob("oracle-*.pickle"):
        old.unlink()
    kept.write_bytes(pickle.dumps(found))
    return found


def _asked() -> Iterator[tuple[Any, ...]]:
    """What test_oracle.py asks: its random charts, and its boundaries thinned. A recorder stands in for the
    comparison."""
    module = importlib.import_module("tests.test_oracle")
    vars(module)["EXHAUSTIVE"] = True  # every boundary, so that the thinning here is the only one
    for name, test in vars(module).items():
        if not name.startswith("test_") or "ask" not in signature(test).parameters:
            continue
        marks = [mark for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize"]
        for values in product(*(mark.args[1] for mark in marks)):
            given: dict[str, Any] = {}
            for mark, value in zip(marks, values, strict=True):
                names = mark.args[0]
                given |= {names: value} if isinstance(names, str) else dict(zip(names, value, strict=True))
            asked: list[tuple[Any, ...]] = []

            def record(*question: Any, asked: list[tuple[Any, ...]] = asked) -> list[str]:
                asked.append(question)
                return []

            test(ask=record, **given)
            middle = len(asked) // 2
            for n, question in enumerate(asked):
                if not marks or n % BOUNDARY_STEP == 0 or abs(n - middle) <= 2:
                    yield f"{name} {' '.join(map(str, values))} {n}".replace("  ", " "), *question
    forget_ours()


def digest_of(root: Path, names: Iterable[str]) -> str:
    """One digest of files and folders."""
    found = hashlib.sha256()
    for name in names:
        path = root / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and file.suffix in (".py", ".yaml", ".md"):
                found.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes())
    return found.hexdigest()[:16]


def forget_ours() -> None:
    """The product and the tests that import it are imported anew by whoever needs them next."""
    for name in [name for name in sys.modules if name.startswith(OURS)]:
        del sys.modules[name]
