"""docs/reference/pages.md: every page of the app, what it needs, and which roles have that as shipped.

`python -m tests.pages` makes it anew; a test holds it against the app.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

from cryptography.fernet import Fernet
from flask import Flask
from werkzeug.routing import Rule

from launch.issuers_table import load_issuers
from smartapp.configuration.settings import Mode, Settings
from smartapp.configuration.site_file import Permissions
from smartapp.web import register
from smartapp.web.access import Access, Need, Open, access_of
from smartapp.web.permission import ROLES, Action

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "pages.md"

HEAD = """# Every page, and what it needs

Made from the app by `make docs`. What a page needs stands beside its view (`smartapp/web/access.py`) and is
asked for before the view runs; where it needs several things, any one of them is enough.

| need | who has it |
|---|---|
"""
MEANS = {
    Open.PUBLIC: "everybody: nobody need be signed in",
    Open.SIGNED_IN: "an open session of this browser, of anybody but a patient or a relative",
    Open.LOOK: "a session in which the EHR says that a clinician is signed in",
}


class Row(NamedTuple):
    """One page under one method."""

    method: str
    address: str
    endpoint: str
    access: Access
    does: str


def app_of_pages() -> Flask:
    """The app's pages, without anything behind them."""
    settings = Settings(
        keys=(Fernet.generate_key(),),
        base_url="http://127.0.0.1",
        issuers_file=Path(__file__),
        mode=Mode.TEST,
    )
    app = Flask("pages", static_folder=None)
    app.extensions["smartapp"] = SimpleNamespace(settings=settings)
    register(app, load_issuers({"ehr": {"fhir_base": "https://ehr.example/fhir", "client_id": "app"}}))
    return app


def methods_of(rule: Rule) -> list[str]:
    return sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})


def rows(app: Flask) -> Iterator[Row]:
    """In the order of their addresses. Raises ValueError where a page does not say what it needs."""
    for rule in sorted(app.url_map.iter_rules(), key=lambda one: (one.rule, methods_of(one))):
        access = access_of(app, rule.endpoint)
        if access is None:
            raise ValueError(f"{rule.rule} does not say what it needs")
        told = inspect.getdoc(app.view_functions[rule.endpoint]) or ""
        for method in methods_of(rule):
            yield Row(method, rule.rule, rule.endpoint, access, " ".join(told.split("\n\n")[0].split()))


OF_A_SESSION = "/s/<sid>/"


def of_a_session(app: Flask) -> dict[str, Row]:
    """The pages of a session that open by themselves, by what stands behind the session's address. Tests that
    hold for every page ask for these, so that a new page is held to them without being named there."""
    return {
        row.address.removeprefix(OF_A_SESSION): row
        for row in rows(app)
        if row.method == "GET" and row.address.startswith(OF_A_SESSION) and row.address.count("<") == 1
    }


def who(need: Need) -> str:
    """Who has it, as shipped."""
    if isinstance(need, Action):
        return ", ".join(sorted(ROLES[role] for role in getattr(Permissions(), need.value))) or "nobody"
    return MEANS[need]


def render(app: Flask) -> str:
    """The document."""
    named = dict.fromkeys((*Open, *Action), "")
    lines = [f"| `{need.value}` | {who(need)} |" for need in named]
    lines += [
        "",
        "Roles are as shipped; a site's file may name others (`permissions`, [contract.md](../contract.md)).",
    ]
    lines += ["", "| page | needs | does |", "|---|---|---|"]
    for row in rows(app):
        needed = " or ".join(f"`{need.value}`" for need in row.access.needs)
        besides = f"; {row.access.besides}" if row.access.besides else ""
        address = row.address.replace("|", "\\|")
        lines.append(f"| {row.method} `{address}` | {needed}{besides} | {row.does} |")
    return HEAD + "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Write the document, or with --check only look: 1 where it is stale."""
    told = render(app_of_pages())
    if "--check" not in arguments:
        PAGE.write_text(told, "utf-8")
        return 0
    return int(not PAGE.is_file() or PAGE.read_text("utf-8") != told)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
