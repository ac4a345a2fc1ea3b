"""`smartapp keys`: make, rotate, retire and list the signing keys of the folder SMARTAPP_SIGNING_KEYS.

`smartapp keys encryption` and `smartapp keys reseal` are about the encryption keys, SMARTAPP_KEYS.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from smartapp.commands.checks import CANNOT, Fault, Parser, as_json
from smartapp.commands.encryption import encryption
from smartapp.commands.reseal import reseal
from smartapp.configuration.settings import ConfigurationError
from smartapp.configuration.signing_keys import (
    PUBLISHED_FOR,
    KeyAlgorithm,
    KeyEntry,
    SigningKeys,
    public_pem,
)

VARIABLE = "SMARTAPP_SIGNING_KEYS"


def run(arguments: Sequence[str]) -> int:
    """Exit status 0; 1 where an encryption key is missing, new or still needed; 2 with one line."""
    try:
        options = _parser().parse_args(list(arguments))
        if options.command == "reseal":
            return reseal(only_check=options.check)
        if options.command == "encryption":
            return encryption(new=options.new)
        folder = options.folder or os.environ.get(VARIABLE, "")
        if not folder:
            raise Fault(f"no folder: set {VARIABLE}, or give --folder")
        _do(options, SigningKeys(Path(folder)), datetime.now(UTC))
    except (Fault, ConfigurationError) as fault:
        print(f"smartapp keys: {fault}", file=sys.stderr)
        return CANNOT
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    return 0


def _parser() -> argparse.ArgumentParser:
    common = Parser(add_help=False)
    common.add_argument("--folder", metavar="DIR", help=f"the keys' folder (default: {VARIABLE})")
    parser = Parser(prog="smartapp keys", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)
    new = commands.add_parser("new", parents=[common], help="make the first key of an algorithm")
    rotate = commands.add_parser(
        "rotate", parents=[common], help="make a new key; the old one stays published"
    )
    rotate.add_argument("--retire", action="store_true", help="end the old key, an hour after the rotation")
    rotate.add_argument("--at-once", action="store_true", help="with --retire: do not wait for that hour")
    for command in (new, rotate):
        command.add_argument(
            "--algorithm",
            choices=[algorithm.value for algorithm in KeyAlgorithm],
            default=KeyAlgorithm.ES384.value,
            help="ES384 (default) or RS384 for an EHR, Ed25519 for audit exports",
        )
    listing = commands.add_parser("list", parents=[common], help="list the keys; nothing private is shown")
    listing.add_argument("--json", action="store_true", help="print JSON")
    public = commands.add_parser("public", parents=[common], help="print a key's public half as PEM")
    public.add_argument("kid", metavar="KID", help="the key's id, as `list` shows it")
    resealing = commands.add_parser("reseal", help="seal the database with the newest encryption key")
    resealing.add_argument("--check", action="store_true", help="change nothing, say what needs which key")
    ours = commands.add_parser("encryption", help="list the encryption keys by their ids; how they stand")
    ours.add_argument("--new", action="store_true", help="print a new key and the two steps of a rotation")
    return parser


def _do(options: argparse.Namespace, keys: SigningKeys, now: datetime) -> None:
    match options.command:
        case "new":
            entry = keys.new(KeyAlgorithm(options.algorithm), now)
            print(f"{entry.kid} is the active {entry.algorithm} key.")
            if entry.algorithm.for_clients:
                print("It is published at /.well-known/jwks.json. Register that address with the EHR, set")
                print('client_auth = "private-key-jwt" and signing_key = "@keys", and restart the app.')
        case "rotate" if options.retire:
            entry = keys.retire(KeyAlgorithm(options.algorithm), now, at_once=options.at_once)
            print(f"{entry.kid} is retired: published no more, its private half deleted.")
        case "rotate":
            _rotate(keys, KeyAlgorithm(options.algorithm), now)
        case "list":
            _list(keys.entries(), in_json=options.json)
        case _:
            found = keys.find(options.kid)
            if found is None:
                raise Fault("no key has that id")
            print(public_pem(found), end="")


def _rotate(keys: SigningKeys, algorithm: KeyAlgorithm, now: datetime) -> None:
    entry = keys.rotate(algorithm, now)
    print(f"{entry.kid} is the active {algorithm} key.")
    if algorithm.for_clients:
        ready = now + PUBLISHED_FOR
        print("Both keys are published now. The key before it signs until everybody can know the new one:")
        print(f"restart the app after {ready:%Y-%m-%d %H:%M} UTC, then `smartapp keys rotate --retire`.")


def _list(entries: Sequence[KeyEntry], *, in_json: bool) -> None:
    if in_json:
        shown = [
            {
                "kid": entry.kid,
                "algorithm": entry.algorithm,
                "state": entry.state,
                "created": entry.created,
                "retiring_since": entry.retiring_since,
                "retired": entry.retired,
                "published": entry.published,
            }
            for entry in entries
        ]
        print(as_json({"keys": shown}))
        return
    print(f"{'key id':32} {'alg':8} {'state':9} created")
    for entry in entries:
        print(f"{entry.kid:32} {entry.algorithm:8} {entry.state:9} {entry.created:%Y-%m-%d %H:%M} UTC")
