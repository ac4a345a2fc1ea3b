"""What tests read quickly says the same as read character by character."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from smartapp.commands.demo_check import Browser, Page
from tests.smartapp.conftest import World


class ByCharacter(Page):
    """A page as Python's own parser reads it."""

    parse_starttag = HTMLParser.parse_starttag
    parse_endtag = HTMLParser.parse_endtag
    updatepos = HTMLParser.updatepos


def same(url: str, text: str) -> None:
    quick, slow = (kind(url, 200, text, {}) for kind in (Page, ByCharacter))
    for what in ("text", "forms", "links", "by_id", "refresh"):
        assert getattr(quick, what) == getattr(slow, what)


def test_every_page_that_a_chart_leads_to_is_read_alike(world: World, browser: Browser) -> None:
    page = world.open(browser, "ready-musculoskeletal")
    links = [target for target, _ in page.links if target.startswith(world.settings.base_url)]
    assert len(links) > 5
    for url in dict.fromkeys((page.url, f"{world.ehr.base_url}/", *links)):
        same(url, browser.get(url).body)


@pytest.mark.parametrize(
    "text",
    [
        "<a href=\"x?a=1&amp;b=2\" id=plain>one</a><a HREF='y'>two</A>",
        '<form action="/a" method="post"><input name="n" value="&lt;b&gt;" checked><textarea name="t"><a>',
        '<select name="s"><option value="1"><option value="2" selected>x</select><button name="b">b</button>',
        "<form><script>if (a</b) '<a href=\"z\">'</script><style>a</style><input name=i></form><br/>",
        '<p id="a">x<b id="b">y</b></p><!-- <a href="c">no</a> --><meta http-equiv="Refresh" content="1">',
        '<a href="unfinished',
        '<a title="a > b" href="d">x</a ><div\nid="n">z</div><title><a href="t">u</a></title>',
    ],
)
def test_odd_ways_to_write_are_read_alike(text: str) -> None:
    same("http://127.0.0.1/", text)
