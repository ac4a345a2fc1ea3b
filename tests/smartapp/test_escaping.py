"""What stands on a page is escaped, however quickly it is written."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask, render_template_string
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup, escape

from smartapp.plain import on_page
from smartapp.web import escaping
from smartapp.web.escaping import escaped


class Html:
    def __html__(self) -> str:
        return "<i>"


class Odd(str):
    """A text that says of itself that it is escaped."""

    def __html__(self) -> str:
        return "&lt;"


@given(st.text() | st.text(alphabet="&<>'\"ab") | st.integers() | st.floats() | st.none() | st.booleans())
def test_everything_is_written_as_it_is_when_it_is_escaped(value: Any) -> None:
    assert escaped(value) == escape(on_page(value))


@pytest.mark.parametrize("value", [Markup("<b>"), Html(), Odd("<"), b"<", ["<"], Markup("&lt;")])
def test_so_is_what_is_no_plain_text(value: Any) -> None:
    assert escaped(value) == escape(on_page(value))


@pytest.fixture
def app() -> Flask:
    made = Flask(__name__)
    escaping.register(made)
    return made


@pytest.mark.parametrize(
    ("template", "page"),
    [
        ("{{ text }}", "&lt;b&gt;"),
        ("{% for _ in [1] %}<p title='{{ text }}'>{% endfor %}", "<p title='&lt;b&gt;'>"),
        ("{% macro m(x) %}<i>{{ x }}</i>{% endmacro %}{{ m(text) }}", "<i>&lt;b&gt;</i>"),
        ("{% set x %}<i>{{ text }}</i>{% endset %}{{ x }}", "<i>&lt;b&gt;</i>"),
        ("{{ text|safe }}{{ text|upper }}{{ [text]|join(',') }}", "<b>&lt;B&gt;&lt;b&gt;"),
        ("{{ 7 }}{{ none }}{{ number }}", "7None7"),
        ("{{ '%s'|format(text) }}{{ text ~ '<' }}", "&lt;b&gt;&lt;b&gt;&lt;"),
        ("{% autoescape false %}{{ text }}{% endautoescape %}", "<b>"),
        ("{% autoescape on %}{{ text }}{% endautoescape %}", "&lt;b&gt;"),
    ],
)
def test_a_template_writes_the_same_page(app: Flask, template: str, page: str) -> None:
    plain = Flask(__name__)
    for one in (app, plain):
        with one.app_context():
            assert render_template_string(template, text="<b>", number=7, on=True) == page


def test_the_apps_own_templates_go_this_way(shared_world: Any) -> None:
    from smartapp import create_app

    app = create_app(shared_world.settings)
    assert app.jinja_env.code_generator_class is escaping.QuickOutput
    assert "environment.escaped(" in str(app.jinja_env.compile("{{ text }}", filename="x.html", raw=True))
    app.extensions["smartapp"].close()
