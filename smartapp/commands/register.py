"""`smartapp register`: the registration sheet an EHR's team asks for, as text, Markdown or JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence

from smartapp.commands.checks import CANNOT, Fault, Parser, as_json
from smartapp.commands.registered import Registered, add_options, registered
from smartapp.commands.registration import Sheet, sheet
from smartapp.configuration.settings import ConfigurationError, read_setting, setting


def run(arguments: Sequence[str]) -> int:
    """The command. Exit status 0; 2 and one line where it can't be carried out."""
    parser = Parser(prog="smartapp register", description=__doc__, allow_abbrev=False)
    add_options(parser)
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print JSON")
    shape.add_argument("--markdown", action="store_true", help="print Markdown")
    try:
        options = parser.parse_args(list(arguments))
        made = sheet_of(registered(options))
    except (Fault, ConfigurationError) as fault:
        print(f"smartapp register: {fault}", file=sys.stderr)
        return CANNOT
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    if options.json:
        print(as_json(made))
    else:
        print("\n".join(_markdown(made) if options.markdown else _text(made)))
    return 0


def sheet_of(here: Registered) -> Sheet:
    """The sheet of one EHR, with what the app asks for at a launch."""
    from smartapp.services import FEATURES

    return sheet(
        here.issuer,
        FEATURES,
        launch_url=here.launch_url,
        redirect_uri=here.redirect_uri,
        jwks_url=here.jwks_url,
        retention_years=int(read_setting(setting("retention_years"))),
        session_hours=int(read_setting(setting("session_hours"))),
    )


def _facts(made: Sheet) -> Iterator[tuple[str, str]]:
    yield "app name", made.app_name
    yield "what it does", made.purpose
    yield "FHIR base (iss)", made.fhir_base
    yield "launch URL", made.launch_url
    yield "redirect URI", made.redirect_uri
    yield "JWKS URL", made.jwks_url or "none: this client signs nothing"
    yield "client type", made.client_type
    yield "client authentication", made.client_auth
    yield "PKCE", made.pkce
    yield "launch type", made.launch
    yield "scope style", made.scope_style
    yield "scopes, v2", made.scope_v2
    yield "scopes, v1", made.scope_v1


def _tables(made: Sheet) -> Iterator[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """Title, columns and rows of each table."""
    yield (
        "Scopes, and what each is for",
        ("v2", "v1", "needed", "serves", "without it"),
        [
            (line.v2, line.v1, "required" if line.required else "optional", line.serves, line.without)
            for line in made.scopes
        ],
    )
    yield (
        "FHIR resources",
        ("type", "interactions", "search parameters"),
        [
            (line.type, ", ".join(line.interactions), ", ".join(line.search_parameters) or "none")
            for line in made.resources
        ],
    )
    yield (
        "Data kept",
        ("what", "how, and how long"),
        [(line.what, line.how_long) for line in made.data_kept],
    )


def _lists(made: Sheet) -> Iterator[tuple[str, Iterable[str]]]:
    yield "Frame and browser", made.embedding
    yield "Questions for the EHR's team", made.questions


def _text(made: Sheet) -> Iterator[str]:
    yield f"Registration of {made.app_name}"
    yield ""
    for name, value in _facts(made):
        yield f"{name + ':':24} {value}"
    for title, columns, rows in _tables(made):
        yield ""
        yield title
        for row in rows:
            yield f"  {row[0]}"
            for name, value in zip(columns[1:], row[1:], strict=True):
                yield f"    {name + ':':18} {value}"
    for title, lines in _lists(made):
        yield ""
        yield title
        for line in lines:
            yield f"  - {line}"


def _markdown(made: Sheet) -> Iterator[str]:
    yield f"# Registration of {made.app_name}"
    yield ""
    yield "| | |"
    yield "|---|---|"
    for name, value in _facts(made):
        yield f"| {name} | {_cell(value)} |"
    for title, columns, rows in _tables(made):
        yield ""
        yield f"## {title}"
        yield f"| {' | '.join(columns)} |"
        yield f"|{'---|' * len(columns)}"
        for row in rows:
            yield f"| {' | '.join(_cell(value) for value in row)} |"
    for title, lines in _lists(made):
        yield ""
        yield f"## {title}"
        for line in lines:
            yield f"- {line}"


def _cell(value: str) -> str:
    """A table's cell; addresses and scopes as code, so that nothing of them is eaten."""
    plain = value.replace("|", "\\|")
    return f"`{plain}`" if "/" in plain and "; " not in plain and ", " not in plain else plain
