"""`smartapp seed URL` writes the synthetic charts to a FHIR server; `smartapp unseed URL` takes them back.

For a server that takes writes and holds test data: one on this machine, a public sandbox, or one that you
vouch for. Each resource bears a tag of this app's own; a list of what was written is kept in a folder that
only you can read. After a failure the same command goes on where it ended.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import msgspec

from launch.sandbox.config import ZONE
from launch.sandbox.patients import charts, stories
from launch.sandbox.patients.staff import practice
from launch.urls import Url
from smartapp.commands.checks import CANNOT, Fault, Parser
from smartapp.testing.removing import Remover
from smartapp.testing.sandboxes import is_loopback
from smartapp.testing.seeding import Progress, Seeder, Stopped
from smartapp.testing.target import VOUCH, Target, base_of, target_at
from smartapp.testing.written import Seed, WrittenList, folder_of, open_list

READINGS = 200
"""Of the chart that stands for very large ones."""
STOPPED = 1


def run_seed(arguments: Sequence[str]) -> int:
    """`smartapp seed`. Exit status 0; 1 where it ended half-way; 2 where it can't be carried out as asked."""
    parser = Parser(prog="smartapp seed", description=__doc__, allow_abbrev=False)
    _add_common(parser)
    parser.add_argument(
        "--patients", type=int, metavar="N", help="the first N charts; all of them if left out"
    )
    parser.add_argument(
        "--as-of",
        type=date.fromisoformat,
        metavar="DAY",
        help="the day the charts are told on; today if left out",
    )
    parser.add_argument("--readings", type=int, metavar="N", help=f"of the largest chart ({READINGS})")
    parser.add_argument("--yes", action="store_true", help="do not ask before writing to another machine")
    parser.add_argument(
        VOUCH, dest="vouched", action="store_true", help="of a server that nothing else vouches for"
    )
    return _carried_out("seed", parser, arguments, _seed)


def run_unseed(arguments: Sequence[str]) -> int:
    """`smartapp unseed`. Exit status 0; 1 where something is left; 2 where it can't be carried out."""
    parser = Parser(prog="smartapp unseed", description=__doc__, allow_abbrev=False)
    _add_common(parser)
    return _carried_out("unseed", parser, arguments, _unseed)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", help="the server's FHIR base")
    parser.add_argument("--folder", type=Path, help="where lists are kept (default: the user's state folder)")
    parser.add_argument(
        "--token-variable", metavar="NAME", help="environment variable that holds a bearer token"
    )


def _carried_out(
    name: str,
    parser: argparse.ArgumentParser,
    arguments: Sequence[str],
    command: Callable[[Target, WrittenList, Any], int],
) -> int:
    try:
        options = parser.parse_args(list(arguments))
        base = base_of(options.url)
        with (
            target_at(base, _token(options)) as target,
            open_list(folder_of(base, options.folder)) as written,
        ):
            return command(target, written, options)
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    except Stopped as stopped:
        print(f"smartapp {name}: {stopped}. The same command goes on from here.", file=sys.stderr)
        return STOPPED
    except KeyboardInterrupt:
        print(f"\nsmartapp {name}: interrupted. The same command goes on from here.", file=sys.stderr)
        return STOPPED
    except Fault as fault:
        print(f"smartapp {name}: {fault}", file=sys.stderr)
        return CANNOT


def _token(options: argparse.Namespace) -> str | None:
    if options.token_variable is None:
        return None
    token = os.environ.get(options.token_variable)
    if not token:
        raise Fault(f"there is no environment variable {options.token_variable}")
    return token


def _seed(target: Target, written: WrittenList, options: argparse.Namespace) -> int:
    target.statement()
    why = target.why_test_data(vouched=options.vouched)
    seed = _which(written, options)
    number = len(stories()) if options.patients is None else options.patients
    if not 1 <= number <= len(stories()):
        raise Fault(f"--patients takes a number from 1 to {len(stories())}")
    print(f"{target.base.base}: test data, {why}.")
    _may_write(target.base, options)
    line = ProgressLine()
    seeder = Seeder(target, written, seed, line.seeded)
    patients = []
    for title, resources in _charts(seed, number):
        seeder.write(title, resources)
        line.end()
        patients += [one for one in resources if one["resourceType"] == "Patient"]
    tally = seeder.tally
    before = f", {tally.there} were there" if tally.there else ""
    print(f"{tally.written} resources of {number} charts written{before}, as of {seed.as_of}.")
    for refused in tally.refused:
        print(f"  refused: {refused.name}: {refused.why}")
    for patient in patients:
        entry = written.of(f"Patient/{patient['id']}")
        if entry is not None and entry.at:
            print(f"  {entry.at}")
    print(
        f"What was written is listed in {written.path}. `smartapp unseed {options.url}` removes exactly that."
    )
    return 0


def _which(written: WrittenList, options: argparse.Namespace) -> Seed:
    """The seed to go on with, or a new one. Raises Fault where another one is there."""
    begun = written.seed
    if begun is None:
        day = options.as_of or datetime.now(ZONE).date()
        run = f"t{secrets.token_hex(4)}"
        readings = READINGS if options.readings is None else options.readings
        return Seed(run=run, as_of=day.isoformat(), readings=readings, own_ids=True)
    asked = Seed(
        run=begun.run,
        as_of=begun.as_of if options.as_of is None else options.as_of.isoformat(),
        readings=begun.readings if options.readings is None else options.readings,
        own_ids=begun.own_ids,
    )
    if asked != begun:
        raise Fault(
            f"charts as of {begun.as_of} with {begun.readings} readings were seeded there already: "
            "unseed them before others are written"
        )
    return msgspec.structs.replace(begun)


def _may_write(base: Url, options: argparse.Namespace) -> None:
    """Ask before anything leaves this machine. Raises Fault for a no."""
    if is_loopback(base):
        return
    warning = f"This writes synthetic charts to {base.origin}, which is not this machine."
    if options.yes:
        print(warning)
    elif not sys.stdin.isatty():
        raise Fault(f"{warning} --yes says that it may")
    elif input(f"{warning} Go on? [y/N] ").strip().lower() not in {"y", "yes"}:
        raise Fault("nothing was written")


def _charts(seed: Seed, number: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The practice, then chart by chart."""
    yield "the practice", practice()
    for made, (story, resources) in enumerate(charts(date.fromisoformat(seed.as_of), readings=seed.readings)):
        if made == number:
            return
        yield story.id, resources


def _unseed(target: Target, written: WrittenList, _options: argparse.Namespace) -> int:
    if not list(written):
        if written.seed is not None:
            written.remove()
        print("Nothing is listed as written there.")
        return 0
    line = ProgressLine()
    removed = Remover(target, written, line.removing).remove()
    line.end()
    print(f"{removed.gone} resources removed.")
    for name, why in removed.left:
        print(f"  still there: {name}: {why}")
    for name in removed.unknown:
        print(f"  sent, and never answered: {name}; `smartapp seed` finds what arrived, then unseed again")
    if removed.left or removed.unknown:
        print(f"They stay in {written.path}.")
        return STOPPED
    return 0


class ProgressLine:
    """On a terminal one line that changes; in a log a line a chart, and nothing in between."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._last = ""

    def seeded(self, progress: Progress) -> None:
        self._show(f"  {progress.chart}: {progress.done} of {progress.total}")

    def removing(self, left: int) -> None:
        self._show(f"  {left} to remove")

    def end(self) -> None:
        """What was shown last stays."""
        if self._last:
            print("" if self._terminal else self._last, flush=True)
        self._last = ""

    def _show(self, text: str) -> None:
        if self._terminal:
            print(f"\r{text:{len(self._last)}}", end="", flush=True)
        self._last = text
