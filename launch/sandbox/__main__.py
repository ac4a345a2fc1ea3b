"""`python -m launch.sandbox serve|export|patients`: the sandbox EHR as a process of its own."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path

from launch.sandbox.config import ZONE, Client, ConfigurationError
from launch.sandbox.patients import READINGS, export, stories
from launch.sandbox.quirks import Quirks
from launch.sandbox.server import serve_sandbox

DEFAULT_CLIENT = "remote-monitoring-app"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m launch.sandbox", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    today = datetime.now(ZONE).date()
    common.add_argument(
        "--as-of", type=date.fromisoformat, default=today, help="the day of the charts: YYYY-MM-DD"
    )
    common.add_argument("--seed", type=int, default=1)
    common.add_argument("--readings", type=int, default=READINGS, help="size of the large patient")

    serve = commands.add_parser(
        "serve", parents=[common], help="serve on a loopback address until interrupted"
    )
    serve.add_argument("--port", type=int, default=0, help="0: one that is free")
    serve.add_argument("--bind", default="127.0.0.1", help="a loopback address")
    serve.add_argument("--host-name", default="localhost", help="the name in the base URL")
    serve.add_argument("--app-launch-url", help="where the app's launch begins")
    serve.add_argument("--app-worklist-url", help="where the app begins without a patient")
    serve.add_argument("--cds-url", help="where CDS services are listed, to be asked when a chart is opened")
    serve.add_argument("--client-id", default=DEFAULT_CLIENT, help="of the app, a public client")
    serve.add_argument("--redirect-uri", action="append", default=[], help="of the app; may be repeated")
    serve.add_argument(
        "--client",
        action="append",
        default=[],
        type=Path,
        metavar="FILE.json",
        help="a client's registration",
    )
    serve.add_argument("--data", type=Path, help="folder of the store; without it all is in memory")
    serve.add_argument(
        "--crowd", type=int, default=0, metavar="N", help="patients that exports tell of besides"
    )
    serve.add_argument("--crowd-since", type=date.fromisoformat, metavar="DAY", help="when they began")
    serve.add_argument(
        "--crowd-ahead",
        type=float,
        default=0,
        metavar="SECONDS",
        help="how far their day is ahead of the clock",
    )
    serve.add_argument("--frame", action=argparse.BooleanOptionalAction, default=True)
    serve.add_argument("--token-seconds", type=int, default=3600)
    serve.add_argument(
        "--clock-ahead",
        type=float,
        default=0,
        metavar="SECONDS",
        help="of the machine's clock; may be negative",
    )
    serve.add_argument("--quirk", action="append", default=[], metavar="NAME[=N]")

    write = commands.add_parser("export", parents=[common], help="write the charts as FHIR files")
    write.add_argument("folder", type=Path)
    commands.add_parser("patients", help="list the synthetic patients")
    return parser


def _serve(arguments: argparse.Namespace) -> None:
    clients = [Client.from_json(path.read_text("utf-8")) for path in arguments.client]
    if arguments.redirect_uri:
        clients.insert(0, Client(arguments.client_id, redirect_uris=tuple(arguments.redirect_uri)))
    ahead = arguments.clock_ahead
    running = serve_sandbox(
        arguments.host_name,
        arguments.port,
        arguments.bind,
        clients=tuple(clients),
        launch_url=arguments.app_launch_url,
        worklist_url=arguments.app_worklist_url,
        cds_url=arguments.cds_url,
        as_of=arguments.as_of,
        clock=lambda: time.time() + ahead,
        seed=arguments.seed,
        readings=arguments.readings,
        data=arguments.data,
        crowd=arguments.crowd,
        crowd_since=arguments.crowd_since,
        crowd_ahead_seconds=arguments.crowd_ahead,
        frame=arguments.frame,
        access_token_seconds=arguments.token_seconds,
        quirks=Quirks.named(arguments.quirk),
    )
    print(f"sandbox EHR ready at {running.base_url}/ (FHIR base {running.config.fhir_base})", flush=True)
    running.run()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0, or 2 with one line on stderr where it can't be run as asked."""
    arguments = _parser().parse_args(argv)
    try:
        match arguments.command:
            case "serve":
                _serve(arguments)
            case "export":
                for path in export(arguments.folder, arguments.as_of, arguments.seed, arguments.readings):
                    print(path)
            case "patients":
                for story in stories():
                    print(f"{story.id}: {story.title}. {story.line}")
    except (ConfigurationError, ValueError, OSError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
