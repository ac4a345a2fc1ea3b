"""`smartapp config check`: everything the app would start with, one line a check. Changes nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from smartapp.commands.checks import CANNOT, Checks, Fault, Parser, as_json, listed, load_authorities
from smartapp.commands.handover_checked import check_handover
from smartapp.commands.rules_checked import check_rules
from smartapp.configuration.settings import SETTINGS, ConfigurationError, read_setting, unknown_settings

if TYPE_CHECKING:
    from launch.issuers import Issuer, Issuers
    from smartapp.configuration.site import Site
    from smartapp.store.database import Database


class CheckId(Enum):
    """The checks, by their stable ids (docs/doctor.md)."""

    SETTING = "setting"
    SETTING_UNKNOWN = "setting.unknown"
    ISSUERS = "issuers"
    ISSUER = "issuer"
    SITE = "site"
    HANDOVER = "handover"
    WORKLIST = "worklist"
    CDS_HOOKS = "cds-hooks"
    RULES = "rules"
    KEYS_ENCRYPTION = "keys.encryption"
    KEYS_FOLDER = "keys.folder"
    KEYS_ACTIVE = "keys.active"
    KEYS_PUBLISHED = "keys.published"
    DATABASE = "database"
    DATABASE_SCHEMA = "database.schema"
    PERMISSIONS = "permissions"


def _machine_now() -> datetime:
    return datetime.now(UTC)


def run(arguments: Sequence[str], now: Callable[[], datetime] = _machine_now) -> int:
    """The command. Exit status 0; 1 where a check failed; 2 and one line for a call nobody understands."""
    parser = Parser(prog="smartapp config", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)
    check = commands.add_parser("check", help="check every setting, file, key and the database")
    check.add_argument("--json", action="store_true", help="print JSON")
    try:
        options = parser.parse_args(list(arguments))
    except Fault as fault:
        print(f"smartapp config: {fault}", file=sys.stderr)
        return CANNOT
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    checks = ConfigCheck(os.environ, now()).run()
    if options.json:
        print(as_json({"checks": list(checks), "counts": checks.counts}))
    else:
        checks.print(sys.stdout)
    return checks.exit_status


class ConfigCheck:
    """One walk through the configuration. A part that can't be read does not stop the others."""

    def __init__(self, environ: Mapping[str, str], now: datetime) -> None:
        self._environ = environ
        self._now = now
        self._checks = Checks()
        self._values: dict[str, Any] = {}
        self._private: list[Path] = []
        """Files and folders that hold something secret."""

    def run(self) -> Checks:
        self._settings()
        self._issuers()
        self._site()
        self._keys()
        self._database()
        self._permissions()
        return self._checks

    def _settings(self) -> None:
        for known in SETTINGS:
            try:
                self._values[known.name] = read_setting(known, self._environ)
            except ConfigurationError as fault:
                says = str(fault).removeprefix(f"{known.variable} ")
                self._checks.failure(CheckId.SETTING, says, known.variable)
                continue
            given = "set" if self._environ.get(known.variable, "").strip() else "not set: the default"
            self._checks.ok(CheckId.SETTING, given, known.variable)
        for name in unknown_settings(self._environ):
            self._checks.failure(
                CheckId.SETTING_UNKNOWN, "there is no such setting; the app does not start", name
            )
        if "base_url" in self._values and urlsplit(self._values["base_url"]).scheme != "https":
            self._checks.failure(CheckId.SETTING, "must be an https address", "SMARTAPP_BASE_URL")

    def _issuers(self) -> None:
        path: Path | None = self._values.get("issuers_file")
        if path is None:
            return
        from smartapp.configuration.issuers_file import read_issuers

        try:
            issuers = read_issuers(path, self._values.get("signing_keys"), self._environ)
        except ConfigurationError as fault:
            self._checks.failure(CheckId.ISSUERS, str(fault))
            return
        self._checks.ok(CheckId.ISSUERS, f"{path} lists {listed(issuer.id for issuer in issuers)}")
        self._values["issuers"] = issuers
        for issuer in issuers:
            self._issuer(issuer)

    def _issuer(self, issuer: Issuer) -> None:
        from launch.client_auth import signing_key
        from launch.errors import ConfigurationError as LaunchConfigurationError
        from launch.issuers import ClientAuth

        try:
            if issuer.client_auth is ClientAuth.PRIVATE_KEY_JWT:
                signing_key(issuer)
            if issuer.ca_bundle is not None:
                load_authorities(issuer.ca_bundle)
        except LaunchConfigurationError as fault:
            self._checks.failure(CheckId.ISSUER, fault.sentence, issuer.id)
            return
        except OSError:
            self._checks.failure(
                CheckId.ISSUER, f"{issuer.ca_bundle} holds no certificates in PEM", issuer.id
            )
            return
        if not issuer.frame_ancestors:
            self._checks.warning(
                CheckId.ISSUER, "no frame_ancestors: the EHR cannot show the app in a frame", issuer.id
            )
        elif "*" in issuer.fhir_base:
            self._checks.warning(
                CheckId.ISSUER, "a * in fhir_base trusts every practice on that host", issuer.id
            )
        else:
            says = f"profile {issuer.profile.id}, {issuer.client_auth.value}"
            self._checks.ok(CheckId.ISSUER, says, issuer.id)

    def _site(self) -> None:
        from smartapp.configuration.site import read_site

        try:
            site = read_site(*(self._values.get(name) for name in ("site_file", "timezone", "payer")))
            if "issuers" in self._values:
                site.check_users(self._values["issuers"])
        except ConfigurationError as fault:
            self._checks.failure(CheckId.SITE, str(fault))
            return
        if site.policy.rule is None:
            self._checks.warning(
                CheckId.SITE,
                f"no table of rules for payer {site.policy.payer}: everything that is met is for review",
            )
        else:
            self._checks.ok(CheckId.SITE, f"time zone {site.zone.key}, payer {site.policy.payer}")
        check_rules(self._checks, CheckId.RULES, site.policy, site.today(self._now))
        if "issuers" in self._values:
            self._turned_on(site, self._values["issuers"])

    def _turned_on(self, site: Site, issuers: Issuers) -> None:
        from smartapp.commands.worklist_checked import check_cds_hooks, check_worklist

        check_handover(self._checks, CheckId.HANDOVER, site.handover, issuers)
        if "keys" in self._values:
            keys, today = self._values["keys"], site.today(self._now)
            check_worklist(self._checks, CheckId.WORKLIST, site, issuers, keys, today)
        check_cds_hooks(self._checks, CheckId.CDS_HOOKS, site, issuers)

    def _keys(self) -> None:
        from launch.errors import ConfigurationError as LaunchConfigurationError
        from smartapp.configuration.signing_keys import KeyAlgorithm, PublishedKeys, SigningKeys

        folder: Path | None = self._values.get("signing_keys")
        try:
            published = PublishedKeys(self._values.get("issuers", ()), folder).jwks()["keys"]
        except (ConfigurationError, LaunchConfigurationError) as fault:
            self._checks.failure(CheckId.KEYS_PUBLISHED, str(fault))
        else:
            names = listed(key["kid"] for key in published) if published else "no key"
            self._checks.ok(CheckId.KEYS_PUBLISHED, f"/.well-known/jwks.json holds {names}")
        if folder is None:
            return
        if not folder.is_dir():
            self._checks.failure(
                CheckId.KEYS_FOLDER, f"there is no folder {folder}; `smartapp keys new` makes it"
            )
            return
        self._private.append(folder)
        keys = SigningKeys(folder)
        try:
            entries = keys.entries()
            for entry in entries:
                if entry.retired is None:
                    keys.private_pem(entry.kid)
        except ConfigurationError as fault:
            self._checks.failure(CheckId.KEYS_FOLDER, str(fault))
            return
        self._private += sorted(folder.glob("*.pem"))
        self._checks.ok(CheckId.KEYS_FOLDER, f"{folder} holds {len(entries)} keys")
        for algorithm in KeyAlgorithm:
            active = keys.active(algorithm)
            if active is not None:
                says = f"{active.kid} since {active.created:%Y-%m-%d}"
                self._checks.ok(CheckId.KEYS_ACTIVE, says, algorithm.value)

    def _database(self) -> None:
        url: str | None = self._values.get("database_url")
        if url is None:
            return
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError, SQLAlchemyError

        from smartapp.store.database import Database, SchemaOutdated

        try:
            parsed = make_url(url)
            file = parsed.database if parsed.get_backend_name() == "sqlite" else None
            if file and file != ":memory:":
                if not Path(file).is_file():  # connecting would make one
                    self._checks.failure(
                        CheckId.DATABASE, f"there is no file {file}; `smartapp migrate` makes it"
                    )
                    return
                self._private += [Path(file), Path(f"{file}-wal")]
            with closing(Database(url)) as database:
                database.check_schema()
                self._encryption(database)
        except SchemaOutdated as fault:
            self._checks.ok(CheckId.DATABASE, "answers")
            self._checks.failure(CheckId.DATABASE_SCHEMA, f"{fault} Run `smartapp migrate`.")
        except (ArgumentError, ImportError):
            self._checks.failure(
                CheckId.DATABASE, "SMARTAPP_DATABASE_URL names no database whose driver is installed"
            )
        except SQLAlchemyError as fault:
            # Its own text may hold the address with its password.
            self._checks.failure(CheckId.DATABASE, f"does not answer ({type(fault).__name__})")
        else:
            self._checks.ok(CheckId.DATABASE, "answers")
            self._checks.ok(CheckId.DATABASE_SCHEMA, "the tables are those of this version")

    def _encryption(self, database: Database) -> None:
        if "keys" not in self._values:
            return
        from smartapp.commands.encryption import keys_in_use
        from smartapp.store.vault import Vault

        found = keys_in_use(database, Vault(self._values["keys"]))
        if found.unknown:
            self._checks.failure(CheckId.KEYS_ENCRYPTION, found.says())
        elif found.unready:
            self._checks.warning(CheckId.KEYS_ENCRYPTION, found.says())
        else:
            self._checks.ok(CheckId.KEYS_ENCRYPTION, found.says())

    def _permissions(self) -> None:
        from smartapp.configuration.signing_keys import readable_by_others

        for path in self._private:
            if not path.exists():  # the log of a database that nobody has open
                continue
            match readable_by_others(path):
                case "":
                    self._checks.ok(CheckId.PERMISSIONS, "its owner alone can read it", str(path))
                case "its group":
                    self._checks.warning(
                        CheckId.PERMISSIONS, "its group can read it; chmod g-rwx if it need not", str(path)
                    )
                case _:
                    self._checks.failure(
                        CheckId.PERMISSIONS, "everybody on this machine can read it: chmod go-rwx", str(path)
                    )
