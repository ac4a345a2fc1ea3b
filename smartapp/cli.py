"""The `smartapp` command. Each subcommand is loaded only when it is asked for: `evaluate` needs no Flask."""

from __future__ import annotations

import sys
from collections.abc import Callable

from smartapp.plain import harmless_terminal


def _evaluate(arguments: list[str]) -> int:
    from smartapp.commands.evaluate import run

    return run(arguments)


def _rules(arguments: list[str]) -> int:
    from smartapp.commands.rules import run

    return run(arguments)


def _demo(arguments: list[str]) -> int:
    from smartapp.commands.demo import run

    return run(arguments)


def _serve(arguments: list[str]) -> int:
    from smartapp.commands.serve import run

    return run(arguments)


def _migrate(arguments: list[str]) -> int:
    from smartapp.commands.migrate import run
    from smartapp.configuration.settings import ConfigurationError

    try:
        return run(arguments)
    except ConfigurationError as fault:
        print(f"smartapp migrate: {fault}", file=sys.stderr)
        return 2


def _keys(arguments: list[str]) -> int:
    from smartapp.commands.keys import run

    return run(arguments)


def _audit(arguments: list[str]) -> int:
    from smartapp.commands.audit import run

    return run(arguments)


def _purge(arguments: list[str]) -> int:
    from smartapp.commands.purge import run

    return run(arguments)


def _doctor(arguments: list[str]) -> int:
    from smartapp.commands.doctor.command import run

    return run(arguments)


def _packet(arguments: list[str]) -> int:
    from smartapp.commands.packet import run

    return run(arguments)


def _denials(arguments: list[str]) -> int:
    from smartapp.commands.denials import run

    return run(arguments)


def _internal_audit(arguments: list[str]) -> int:
    from smartapp.commands.internal_audit import run

    return run(arguments)


def _register(arguments: list[str]) -> int:
    from smartapp.commands.register import run

    return run(arguments)


def _config(arguments: list[str]) -> int:
    from smartapp.commands.config_check import run

    return run(arguments)


def _connect(arguments: list[str]) -> int:
    from smartapp.commands.connect import run

    return run(arguments)


def _sweep(arguments: list[str]) -> int:
    from smartapp.commands.sweep import run

    return run(arguments)


def _nightly(arguments: list[str]) -> int:
    from smartapp.commands.nightly import run

    return run(arguments)


def _export(arguments: list[str]) -> int:
    from smartapp.commands.export import run

    return run(arguments)


def _seed(arguments: list[str]) -> int:
    from smartapp.commands.seed import run_seed

    return run_seed(arguments)


def _unseed(arguments: list[str]) -> int:
    from smartapp.commands.seed import run_unseed

    return run_unseed(arguments)


COMMANDS: dict[str, tuple[Callable[[list[str]], int], str]] = {
    "evaluate": (_evaluate, "decide which codes are earned, from FHIR files"),
    "export": (_export, "bring a population from an EHR by Bulk Data, sealed, for sweep"),
    "sweep": (_sweep, "decide a whole population from a Bulk Data export, and each night what changed"),
    "nightly": (_nightly, "export what changed, sweep it, hand out rows: one night, for cron or a timer"),
    "rules": (_rules, "print the rules in force on a day, and what nobody has checked lately"),
    "demo": (_demo, "start the sandbox EHR and the app; --check drives the whole way"),
    "connect": (_connect, "start the app for one FHIR server with test data, open or SMART"),
    "seed": (_seed, "write the synthetic charts to a FHIR server with test data"),
    "unseed": (_unseed, "remove from a FHIR server exactly what seed and connect wrote"),
    "serve": (_serve, "the production server; finishes what is under way when it is stopped"),
    "migrate": (_migrate, "make or update the tables of the app's database"),
    "audit": (_audit, "verify or export the chained audit trail"),
    "packet": (_packet, "list and export the kept evidence of what was written"),
    "denials": (_denials, "read in what payers denied, from a CSV of a remittance; count it"),
    "internal-audit": (
        _internal_audit,
        "a sample of a month's charges checked, and auditors' screens",
    ),
    "purge": (_purge, "remove what is past its time: sessions, charges, logged time, audit contents"),
    "register": (_register, "print the registration sheet an EHR's team asks for"),
    "doctor": (_doctor, "check an EHR from discovery to a search; writes nothing unless asked to"),
    "config": (_config, "`config check`: settings, issuers, site, keys, database, permissions"),
    "keys": (_keys, "make, rotate and list signing keys; seal the database with the newest key"),
}


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
        return COMMANDS[given[0]][0](given[1:])
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        print("smartapp: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
