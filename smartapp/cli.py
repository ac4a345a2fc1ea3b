"""The `smartapp` command. Each subcommand is loaded only when it is asked for: `evaluate` needs no Flask."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module

from smartapp.plain import harmless_terminal

COMMANDS: dict[str, tuple[str, str]] = {
    "evaluate": ("evaluate:run", "decide which codes are earned, from FHIR files"),
    "export": ("export:run", "bring a population from an EHR by Bulk Data, sealed, for sweep"),
    "sweep": ("sweep:run", "decide a whole population from a Bulk Data export, and each night what changed"),
    "nightly": (
        "nightly:run",
        "export what changed, sweep it, hand out rows: one night, for cron or a timer",
    ),
    "rules": ("rules:run", "print the rules in force on a day, and what nobody has checked lately"),
    "demo": ("demo:run", "start the sandbox EHR and the app; --check drives the whole way"),
    "connect": ("connect:run", "start the app for one FHIR server with test data, open or SMART"),
    "seed": ("seed:run_seed", "write the synthetic charts to a FHIR server with test data"),
    "unseed": ("seed:run_unseed", "remove from a FHIR server exactly what seed and connect wrote"),
    "serve": ("serve:run", "the production server; finishes what is under way when it is stopped"),
    "migrate": ("migrate:run", "make or update the tables of the app's database"),
    "audit": ("audit:run", "verify or export the chained audit trail"),
    "packet": ("packet:run", "list and export the kept evidence of what was written"),
    "denials": ("denials:run", "read in what payers denied, from a CSV of a remittance; count it"),
    "internal-audit": (
        "internal_audit:run",
        "a sample of a month's charges checked, and auditors' screens",
    ),
    "purge": ("purge:run", "remove what is past its time: sessions, charges, logged time, audit contents"),
    "register": ("register:run", "print the registration sheet an EHR's team asks for"),
    "doctor": (
        "doctor.command:run",
        "check an EHR from discovery to a search; writes nothing unless asked to",
    ),
    "config": ("config_check:run", "`config check`: settings, issuers, site, keys, database, permissions"),
    "keys": ("keys:run", "make, rotate and list signing keys; seal the database with the newest key"),
}
"""Each with its module below `smartapp.commands` and its function there, and what it is for."""


def _loaded(place: str) -> Callable[[list[str]], int]:
    module, _, function = place.partition(":")
    command: Callable[[list[str]], int] = getattr(import_module(f"smartapp.commands.{module}"), function)
    return command


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand. Exit status 2 with one line for a call that can't be understood."""
    with harmless_terminal():
        return _main(arguments)


def _main(arguments: list[str] | None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["--version"]:
        from smartapp.release import release

        print(f"smartapp {release()}")
        return 0
    if given[:1] in ([], ["-h"], ["--help"]):
        print("usage: smartapp COMMAND [options]; smartapp --version\n")
        for name, (_, purpose) in COMMANDS.items():
            print(f"  {name:14} {purpose}")
        print("\nsmartapp COMMAND --help tells the options of one.")
        return 0 if given else 2
    if given[0] not in COMMANDS:
        print(f"smartapp: no command {given[0]!r}; there are: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        return _loaded(COMMANDS[given[0]][0])(given[1:])
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        print("smartapp: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
