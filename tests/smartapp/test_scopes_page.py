"""What was asked for, granted and lost: the page for whoever registers the app."""

from __future__ import annotations

from collections.abc import Callable

from launch.sandbox.config import APP_SCOPE
from tests.smartapp.conftest import Browser, World


def opened(world: World, browser: Browser) -> str:
    page = world.open(browser, "ready-musculoskeletal")
    link = next(target for target, text in page.links if text == "Permissions")
    return browser.get(link).text


def test_where_everything_was_granted_the_page_says_so(shared_world: World, browser: Browser) -> None:
    told = opened(shared_world, browser)
    assert "Everything that was asked for was granted" in told
    assert "patient/Observation.rs" in told
    assert "Practitioner/syn-physician , role physician" in told
    assert "permissions" in told, "where whoever runs the app can change what a role may do"


def test_what_was_not_granted_is_named_with_what_it_costs(
    make_world: Callable[..., World], browser: Browser
) -> None:
    scope = APP_SCOPE.replace("patient/Consent.rs ", "").replace("patient/ChargeItem.crus ", "")
    told = opened(make_world(client={"scope": scope}), browser)
    assert "Consent must be confirmed by hand" in told
    assert "Decisions are shown, and nothing is written" in told
    assert "Everything that was asked for was granted" not in told
