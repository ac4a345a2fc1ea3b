"""Sweeps of the sandbox's patients, for what reads their state."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from importlib.resources import files
from pathlib import Path

from smartapp.configuration.site_file import SiteFile, read_site_file
from smartapp.population.deciding import Settings
from smartapp.population.engine import InProcess
from smartapp.population.progress import Progress
from smartapp.population.state import State
from smartapp.population.sweep import Asked, Report, sweep

KEYS = (b"c3ludGhldGljLWtleS1vZi1hLWxpc3Qtb2YtdGVzdHM=",)


def swept_sandbox(
    state: Path,
    charts: Path | None,
    as_of: date,
    *,
    keys: Sequence[bytes] = KEYS,
    site: SiteFile | None = None,
    shards: int = 4,
) -> Report:
    """A full sweep of exported charts; without any a night in which nothing came."""
    site = site or read_site_file(Path(str(files("launch") / "sandbox" / "site.yaml")))
    assert site.timezone is not None
    paths = () if charts is None else tuple(sorted(charts.glob("*.*json")))
    night = charts is None
    asked = Asked(paths, as_of, Settings(site.timezone, site), night, None if night else shards)
    return sweep(State(state, keys, make=True), asked, InProcess(), Progress(None), lambda _: None)
