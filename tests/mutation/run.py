"""One child process a mutant: the change is made, the product imported, and the items run until one fails."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import io
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import IO, Any

from .code import CodeMutant
from .suite import OURS, Item, Suite, forget_ours, run_pytest
from .tables import RULES, TableMutant

Mutant = CodeMutant | TableMutant
#: What one item may take, in seconds of the processor, beside twenty times what it takes unchanged.
PATIENCE = 3.0
PATIENCE_UNIT_TESTS = 30.0
#: And a child that uses no processor at all is stopped after so many seconds.
ASLEEP = 600
MEMORY = 4 << 30
EVERYWHERE = ""


@dataclass
class Verdict:
    """`by`: the item that failed, None for a survivor. `trouble`: the mutant could not be tried at all."""

    by: str | None
    seconds: float
    trouble: str = ""

    @property
    def killed(self) -> bool:
        return self.by is not None


@dataclass
class Baseline:
    """The unchanged product: how long each item takes and which functions of the rules it calls.

    `broken`: items that fail without any change; they say nothing and are left out.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    calls: dict[str, set[str]] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)


# -- making the change ----------------------------------------------------------


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from another syntax tree, or lets the tables be read from another folder."""

    def __init__(self, module: str, tree: Any = None, tables: Path | None = None) -> None:
        self.module, self.tree, self.tables = module, tree, tables
        self._file = ""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec is not None
        assert spec.origin is not None
        self._file = spec.origin
        spec.loader = self
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        code: CodeType = compile(
            self.tree if self.tree is not None else Path(self._file).read_text("utf-8"), self._file, "exec"
        )
        exec(code, module.__dict__)
        if self.tables is not None:
            vars(module)["files"] = lambda package: self.tables


def make_change(root: Path, mutant: Mutant) -> None:
    """From here on this process imports the mutant."""
    if isinstance(mutant, CodeMutant):
        sys.meta_path.insert(0, _Changed(mutant.module, tree=mutant.apply()))
        return
    folder = Path(tempfile.mkdtemp(prefix="mutant-tables-"))
    tables = folder / "rules"
    shutil.copytree(root / RULES, tables, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (tables / Path(mutant.file).relative_to(RULES)).write_text(mutant.text, "utf-8")
    sys.meta_path.insert(0, _Changed("fhir_mappings.rules.tables", tables=tables))


# -- what calls what ----------------------------------------------------------


class _Calls:
    """Which functions of the mutated files are called: names as in `CodeMutant.function`."""

    def __init__(self, root: Path, files: Iterable[str]) -> None:
        self._files = {str(root / file): file for file in files}
        self.found: set[str] = set()

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and (file := self._files.get(frame.f_code.co_filename)) is not None:
            name = frame.f_code.co_qualname
            if name != "<module>":
                self.found.add(f"{file}|{name.partition('.<locals>')[0]}")

    @contextlib.contextmanager
    def noted(self, into: set[str]) -> Iterator[None]:
        self.found = into
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(None)


def _forget_answers() -> None:
    """Empties the product's caches, so that each item calls what it needs; the tables stay read."""
    for name, module in list(sys.modules.items()):
        if name.startswith("fhir_mappings"):
            for value in list(vars(module).values()):
                holders = [value, *(vars(value).values() if isinstance(value, type) else ())]
                for one in holders:
                    if hasattr(one, "cache_clear") and getattr(one, "__name__", "") != "load_tables":
                        one.cache_clear()


class _PytestWatcher:
    """A plugin: notes what each test calls, how long it takes, and the first that fails."""

    def __init__(self, calls: _Calls | None, baseline: Baseline | None) -> None:
        self.calls, self.baseline = calls, baseline
        self.failed: str | None = None

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        # The worked cases run in process.
        items[:] = [item for item in items if "test_the_worked_case_comes_out_as_written" not in item.nodeid]

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and self.failed is None:
            self.failed = f"test {report.nodeid}"
        if self.baseline is not None and report.failed:
            self.baseline.broken[f"test {report.nodeid}"] = str(report.longrepr)[-300:]

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed and self.failed is None:
            self.failed = f"test {report.nodeid} (import)"

    def pytest_runtest_call(self, item: Any) -> None:
        if self.calls is not None and self.baseline is not None:
            _forget_answers()
            name = f"test {item.nodeid}"
            self.calls.found = self.baseline.calls.setdefault(name, set())
            sys.setprofile(self.calls)

    def pytest_runtest_teardown(self, item: Any) -> None:
        sys.setprofile(None)

    def pytest_runtest_makereport(self, item: Any, call: Any) -> None:
        if self.baseline is not None and call.when == "call":
            self.baseline.seconds[f"test {item.nodeid}"] = call.duration


def measure(root: Path, suite: Suite, files: Iterable[str]) -> Baseline:
    """Runs everything once on the unchanged product, in a child."""

    def work() -> dict[str, Any]:
        calls = _Calls(root, files)
        found = Baseline()
        everywhere: set[str] = set()
        with calls.noted(everywhere):
            items = suite.in_process()
        for item in items:
            assert item.run is not None
            _forget_answers()
            began = time.process_time()
            try:
                with calls.noted(found.calls.setdefault(item.name, set())):
                    item.run()
            except BaseException as fault:
                found.broken[item.name] = f"{type(fault).__name__}: {fault}"[:300]
            found.seconds[item.name] = time.process_time() - began
        watcher = _PytestWatcher(calls, found)
        calls.found = everywhere
        sys.setprofile(calls)  # what is called while the test modules are collected
        run_pytest(root, suite.unit_tests(), watcher, to_the_end=True)
        sys.setprofile(None)
        return {
            "seconds": found.seconds,
            "calls": {name: sorted(called | everywhere) for name, called in found.calls.items()},
            "broken": found.broken,
        }

    told = _in_child(work, timeout=900)
    if not isinstance(told, dict):
        raise RuntimeError(f"the unchanged product could not be measured: {told}")
    return Baseline(told["seconds"], {n: set(c) for n, c in told["calls"].items()}, told["broken"])


def _in_child(work: Callable[[], Any], timeout: float) -> Any:
    """What `work` gives in a forked child, as JSON; a text where it died."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            told = json.dumps(work())
        except BaseException as fault:
            import traceback

            traceback.print_exc()
            told = json.dumps(f"{type(fault).__name__}: {fault}")
        with os.fdopen(writing, "w") as out:
            out.write(told)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as into:
        told = into.read()
    os.waitpid(child, 0)
    return json.loads(told) if told else "the child died"


# -- running ----------------------------------------------------------


class Runner:
    """Runs mutants against the suite, `jobs` at a time. Remembers what killed their neighbours."""

    def __init__(self, root: Path, suite: Suite, baseline: Baseline, jobs: int = 1) -> None:
        self.root, self.suite, self.baseline, self.jobs = root, suite, baseline, jobs
        self.killers: dict[str, Counter[str]] = {}

    def order(self, mutant: Mutant) -> tuple[list[str], list[str]]:
        """Items in process, and unit tests, that can notice this mutant: those that killed its like first."""
        base = self.baseline
        names = [name for name in base.calls if name not in base.broken]
        if isinstance(mutant, CodeMutant) and _is_in_function(mutant):
            key = f"{mutant.file}|{mutant.function}"
            names = [name for name in names if key in base.calls[name]]
        known = self.killers.get(_kin(mutant), Counter())
        # What decides should be noticed by what is decided, and only else by what is written.
        behaviour_first = isinstance(mutant, TableMutant) and mutant.deciding

        def rank(name: str) -> tuple[int, int, bool, float]:
            page = name == "page"
            late = 2 if page else name.startswith("written ")
            return late if behaviour_first else 0, -known[name], not page, base.seconds.get(name, 0)

        tests = [name for name in names if name.startswith("test ")]
        return sorted((n for n in names if not n.startswith("test ")), key=rank), sorted(tests, key=rank)

    def run(self, mutants: Iterable[Mutant], until: float | None = None) -> Iterator[tuple[Mutant, Verdict]]:
        """Each mutant with its verdict, as they come; stops starting new ones after `until`."""
        gc.collect()
        gc.freeze()
        waiting = iter(mutants)
        running: dict[int, tuple[Mutant, IO[str], float]] = {}
        while True:
            while len(running) < self.jobs and (until is None or time.monotonic() < until):
                mutant = next(waiting, None)
                if mutant is None:
                    break
                child, said = self._start(mutant)
                running[child] = mutant, said, time.monotonic()
            if not running:
                return
            child, status = os.wait()
            mutant, said, began = running.pop(child)
            with said:
                said.seek(0)
                lines = said.read().splitlines()
            yield mutant, self._verdict(mutant, lines, status, time.monotonic() - began)

    def _verdict(self, mutant: Mutant, lines: list[str], status: int, seconds: float) -> Verdict:
        last = lines[-1] if lines else ""
        at = last.removeprefix("try ")
        if os.WIFSIGNALED(status):
            by = f"{at} ({signal.Signals(os.WTERMSIG(status)).name})"
        elif last == "survived":
            return Verdict(None, seconds)
        elif last.startswith("killed "):
            by = at = last.removeprefix("killed ")
        else:
            return Verdict(None, seconds, last or "no answer")
        self.killers.setdefault(_kin(mutant), Counter())[at] += 1
        return Verdict(by, seconds)

    def _start(self, mutant: Mutant) -> tuple[int, IO[str]]:
        items, tests = self.order(mutant)
        said = tempfile.TemporaryFile("w+", buffering=1, encoding="utf-8")  # noqa: SIM115 - the parent closes it
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child:
            return child, said
        code = 1
        try:
            self._live_and_die(mutant, items, tests, said)
            said.flush()
            code = 0
        finally:
            os._exit(code)

    def _live_and_die(self, mutant: Mutant, items: list[str], tests: list[str], out: IO[str]) -> None:
        """In the child: says which item it is at, so that the parent knows even if it never comes back."""
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.alarm(ASLEEP)
        silent = io.StringIO()
        with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
            signal.setitimer(signal.ITIMER_PROF, PATIENCE_UNIT_TESTS)
            print("try import", file=out)
            try:
                make_change(self.root, mutant)
                known = {item.name: item for item in self.suite.in_process()}
            except BaseException:
                print("killed import", file=out)
                return
            for name in items:
                print(f"try {name}", file=out)
                signal.setitimer(signal.ITIMER_PROF, PATIENCE + 20 * self.baseline.seconds.get(name, 0))
                if _fails(known[name]):
                    print(f"killed {name}", file=out)
                    return
            if tests:
                print("try unit tests", file=out)
                expected = sum(self.baseline.seconds.get(name, 0) for name in tests)
                signal.setitimer(signal.ITIMER_PROF, PATIENCE_UNIT_TESTS + 5 * expected)
                watcher = _PytestWatcher(None, None)
                names = [name.removeprefix("test ") for name in tests]
                code = run_pytest(self.root, names, watcher)
                if watcher.failed is not None:
                    print(f"killed {watcher.failed}", file=out)
                    return
                if code != 0:
                    print(f"pytest ended with {code}", file=out)
                    return
        print("survived", file=out)


def _is_in_function(mutant: CodeMutant) -> bool:
    """Not in a module or in the body of a class, which every item runs."""
    return bool(mutant.function) and not mutant.function.rpartition(".")[2].lstrip("_")[:1].isupper()


def _kin(mutant: Mutant) -> str:
    """Mutants that are likely to be killed by the same items."""
    if isinstance(mutant, CodeMutant):
        return f"{mutant.file}|{mutant.function}"
    return f"{mutant.file}|{mutant.where}" if mutant.deciding else mutant.file


def _fails(item: Item) -> bool:
    assert item.run is not None
    try:
        item.run()
    except BaseException:
        return True
    return False


def name_of(mutant: Mutant, counted: Counter[str]) -> str:
    """A short name that stays while lines move: of file, function, change, and which of the same it is."""
    where = mutant.function if isinstance(mutant, CodeMutant) else ""
    told = f"{mutant.file}|{where}|{mutant.what}"
    counted[told] += 1
    return hashlib.sha256(f"{told}|{counted[told]}".encode()).hexdigest()[:8]


def prepare_parent() -> None:
    """Imports everything that is not ours, so that children need not."""
    for name in (
        "smartapp.commands.evaluate",
        "smartapp.commands.rules",
        "tests.test_cases",
        "tests.smartapp.test_rules",
    ):
        importlib.import_module(name)
    for name in ("tests.smartapp.conftest", "tests.fhir_mappings.conftest"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    forget_ours()
    assert not any(name.startswith(OURS) for name in sys.modules)
