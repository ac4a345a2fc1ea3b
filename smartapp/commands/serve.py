"""`smartapp serve`: the production server. Settings come from the environment (docs/settings.md).

It listens on loopback unless told otherwise: a reverse proxy with TLS stands in front (docs/operate.md). On
SIGTERM it takes no new connections, finishes what is under way, and ends.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from sqlalchemy.exc import SQLAlchemyError

from smartapp.commands.checks import CANNOT, Fault, Parser
from smartapp.configuration.settings import ConfigurationError

PATIENCE_SECONDS = 75
"""One request to an EHR takes at most 60 seconds; a write is one, and a look before and after it."""

LINGER_SECONDS = 2


def run(arguments: Sequence[str]) -> int:
    """The command. Exit status 0 after a signal; 2 with the reasons why it does not start."""
    try:
        options = _parser().parse_args(list(arguments))
        _serve(options)
    except (Fault, ConfigurationError) as fault:
        print(f"smartapp serve: {fault}", file=sys.stderr)
        return CANNOT
    except SQLAlchemyError as fault:
        # Its text may hold the database's address.
        print(f"smartapp serve: the database: {type(fault).__name__}", file=sys.stderr)
        return CANNOT
    except OSError as fault:
        print(f"smartapp serve: cannot listen there: {fault.strerror}", file=sys.stderr)
        return CANNOT
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    return 0


def _parser() -> argparse.ArgumentParser:
    from smartapp.serving import THREADS

    parser = Parser(prog="smartapp serve", description=__doc__, allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="the port (default: 8000)")
    parser.add_argument(
        "--threads",
        type=_from(8),
        default=THREADS,
        help=f"requests answered at a time (default: {THREADS}, twice those that may wait for one EHR)",
    )
    parser.add_argument(
        "--patience",
        type=_from(1),
        default=PATIENCE_SECONDS,
        metavar="SECONDS",
        help=f"how long requests under way may take when it is stopped (default: {PATIENCE_SECONDS})",
    )
    return parser


def _from(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"a number from {least}")
        return value

    return number


def _serve(options: argparse.Namespace) -> None:
    from smartapp import create_app
    from smartapp.logs import write_json_lines
    from smartapp.serving import AppServer, serve_until_told
    from smartapp.web.tracing import request_id_if_any

    write_json_lines(request_id_if_any)
    server = AppServer(
        create_app(),
        options.host,
        options.port,
        threads=options.threads,
        patience=options.patience,
        linger=LINGER_SECONDS,
    )
    serve_until_told(server, lambda: print(f"listening on {options.host}:{options.port}", flush=True))
