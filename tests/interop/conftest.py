"""The app before independent FHIR servers, through SMART, over real HTTP on loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass

import pytest

from launch.sandbox import stories
from smartapp.commands.demo_check import Browser
from tests.interop.front import Front
from tests.interop.servers import Charts, hapi, medplum
from tests.smartapp.conftest import World, database_url, make_world, new_database
from tests.support.sandbox import DAY

__all__ = ["database_url", "make_world", "new_database"]

PLAYED = {"hapi": hapi, "medplum": medplum}
ALL = tuple(story.id for story in stories(200))
#: Medplum's store in memory looks at every resource it holds for every search: one chart is enough.
CHARTS = {"hapi": ALL, "medplum": ("ready-musculoskeletal",)}


@dataclass
class Foreign:
    """A world whose records another server holds."""

    world: World
    front: Front
    charts: Charts


@pytest.fixture(scope="session")
def served() -> Iterator[Callable[[str], Charts]]:
    """A function from a server's name to it, started at first use, with the charts on it."""
    with ExitStack() as stack:
        known: dict[str, Charts] = {}

        def start(name: str) -> Charts:
            if name not in known:
                charts = stack.enter_context(closing(Charts(stack.enter_context(PLAYED[name]()))))
                known[name] = charts
                refused = charts.load(DAY, CHARTS[name])
                assert not refused or name == "hapi", refused
            return known[name]

        yield start


@pytest.fixture(params=PLAYED)
def server(request: pytest.FixtureRequest) -> str:
    """Each of the servers in turn."""
    name: str = request.param
    return name


def patient_browser() -> Browser:
    """One that waits as long as a server of another kind on a busy machine may take for a write."""
    return Browser(patience=180.0)


@pytest.fixture
def browser() -> Iterator[Browser]:
    with closing(patient_browser()) as opened:
        yield opened


@pytest.fixture
def issuer_more() -> str:
    """More lines of the server's entry in the issuers file."""
    return ""


@pytest.fixture
def foreign(
    server: str, issuer_more: str, served: Callable[[str], Charts], make_world: Callable[..., World]
) -> Foreign:
    """A world of the test's own before one of the servers, of which nothing more is known."""
    charts, world = served(server), make_world(profile="generic", issuer_more=issuer_more)
    return Foreign(world, Front(world.ehr, charts.origin), charts)
