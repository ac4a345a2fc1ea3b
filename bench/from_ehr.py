"""What the app itself spends on opening a chart from an EHR: from the launch to the answer on the page.

The EHR is a stub that replays synthetic charts in a process of its own (`bench.replay`), the app another
process (`bench/opened.py`) whose processor time is counted. With a commit to compare with, its code is
checked out beside and opens the same charts by turns with this one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from bench.charts import SITE
from bench.figure import Figure
from bench.measure import ROOT, ProcessFailed, Spread, ratios, seconds_of
from bench.reading import decode_pages
from bench.replay import CLIENT, LONG_FROM, NOON, pages_of
from bench.sizes import Sizes

OF_BEFORE = 0.5
WALL_OF_BEFORE = 0.6
RENDERING_OF_BEFORE = 1.0
SLOWER_THAN_DECODING = 9.0
RENDERING_MS = 10.0
RENDERING_LONG_MS = 20.0
WAIT_MS = 50
PAGE = 250
"""Resources of a page, as the profile of the app that is measured asks for."""
_PARTS = ("launch", "reading", "deciding", "rendering")
Opened = Mapping[str, Any]


class Speaker:
    """A process that is told something in a line and answers in one."""

    def __init__(self, *arguments: str, tree: Path = ROOT) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(tree)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ProcessFailed("a process ended without an answer")
        return line.strip()

    def ask(self, line: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self.hear()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()


def measure(sizes: Sizes, against: str | None = None) -> list[Figure]:
    """`against`: a commit whose app opens the same charts by turns."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="bench-")))
        ehr = stack.enter_context(_closing(Speaker("-m", "bench.replay", str(sizes.readings))))
        base = ehr.hear()
        trees = {"now": ROOT} | ({} if against is None else {"before": stack.enter_context(_tree(against))})
        apps = {name: stack.enter_context(_app(base, folder / name, tree)) for name, tree in trees.items()}
        turns = Turns(apps)
        short = turns.of(1, sizes.repetitions * 3)
        long = turns.of(LONG_FROM, max(1, sizes.repetitions // 2))
        decoded = _decoding(sizes.readings, max(1, sizes.repetitions // 2))
        ehr.ask(str(WAIT_MS))
        waiting = turns.of(20_000, sizes.repetitions)
    return [*_ratios(short, long, waiting), *_alone(sizes, short["now"], long["now"], decoded)]


class Turns:
    """Has each app open the same charts, one after the other."""

    def __init__(self, apps: Mapping[str, Speaker]) -> None:
        self._apps = apps

    def of(self, first: int, repetitions: int) -> dict[str, list[Opened]]:
        """What each took, of patients nobody has opened; one more of each doesn't count."""
        told: dict[str, list[Opened]] = {name: [] for name in self._apps}
        for turn in range(repetitions + 1):
            for name, app in self._apps.items():
                opened = json.loads(app.ask(str(first + turn)))
                if turn:
                    told[name].append(opened)
        return told


def _ratios(*of: Mapping[str, list[Opened]]) -> Iterator[Figure]:
    """Beside the commit that was given, where one was."""
    short, long, waiting = of
    for name, turns, key, limit in (
        ("90 days, now / before", short, "all", OF_BEFORE),
        ("long chart, now / before", long, "all", OF_BEFORE),
        (f"90 days at {WAIT_MS} ms, now / before", waiting, "wall", WALL_OF_BEFORE),
        ("showing 90 days, now / before", short, "rendering", RENDERING_OF_BEFORE),
        ("showing the long chart, now / before", long, "rendering", RENDERING_OF_BEFORE),
    ):
        if "before" in turns:
            now, before = ([one[key] for one in turns[side]] for side in ("now", "before"))
            note = f"{_ms(now)} beside {_ms(before)}, {'the clock' if key == 'wall' else 'processor'}"
            yield Figure(name, ratios(now, before), "x", limit, note=note)


def _alone(sizes: Sizes, short: list[Opened], long: list[Opened], decoded: list[float]) -> Iterator[Figure]:
    all_long = [one["all"] for one in long]
    yield Figure(
        "long chart / gunzip and decode",
        ratios(all_long, decoded),
        "x",
        SLOWER_THAN_DECODING,
        note=f"{sizes.readings:,} readings, {_ms(all_long)} beside {_ms(decoded)}; {_parts(long)}",
    )
    for name, opened, limit, note in (
        ("showing 90 days", short, RENDERING_MS, f"of {_ms([one['all'] for one in short])}; {_parts(short)}"),
        ("showing the long chart", long, RENDERING_LONG_MS, ""),
    ):
        yield Figure(
            name, Spread.of([one["rendering"] for one in opened]).times(1000), "ms", limit, note=note
        )


def _parts(opened: list[Opened]) -> str:
    return ", ".join(f"{part} {_ms([one[part] for one in opened])}" for part in _PARTS)


def _ms(seconds: list[float]) -> str:
    return f"{median(seconds) * 1000:.0f} ms"


def _decoding(readings: int, repetitions: int) -> list[float]:
    """Seconds to uncompress and decode the same pages."""
    pages = list(pages_of(LONG_FROM, readings, PAGE))

    def decode() -> None:
        for page in pages:
            decode_pages([zlib.decompress(page, wbits=31)])

    decode()
    return [seconds_of(decode) for _ in range(repetitions)]


@contextmanager
def _closing(speaker: Speaker) -> Iterator[Speaker]:
    try:
        yield speaker
    finally:
        speaker.close()


@contextmanager
def _app(base: str, folder: Path, tree: Path) -> Iterator[Speaker]:
    """The app of a tree, with a database of its own."""
    folder.mkdir()
    (folder / "site.yaml").write_text(json.dumps(SITE), "utf-8")
    script = str(ROOT / "bench" / "opened.py")
    with _closing(Speaker("-P", script, base, CLIENT, NOON.isoformat(), str(folder), tree=tree)) as app:
        app.hear()
        yield app


@contextmanager
def _tree(commit: str) -> Iterator[Path]:
    """The code of a commit, checked out beside for as long as it is needed."""
    with TemporaryDirectory(prefix="bench-before-") as folder:
        tree = Path(folder) / "tree"
        git = ("git", "-C", str(ROOT), "worktree")
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)
