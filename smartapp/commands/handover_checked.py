"""How charges leave, as the site's file says it: each way that is turned on, before anything leaves.

Nothing is connected to. What an EHR declares and grants is the doctor's to ask (`charge.handover`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from launch.scopes import Interaction, Scopes
from smartapp.commands.checks import Checks, load_authorities
from smartapp.configuration.handover import DftWay, HandoverEntry, HandoverSettings, Method, Mllp
from smartapp.configuration.signing_keys import readable_by_others

if TYPE_CHECKING:
    from launch.issuers import Issuer, Issuers

_ADDRESS = re.compile(r"(https?://|urn:)\S+")


def check_handover(checks: Checks, id_: Enum, settings: HandoverSettings, issuers: Issuers) -> None:
    """A line for each way of each entry: where it leads, or a sentence for each thing that is wrong."""
    check = _Check(checks, id_)
    for entry in settings.entries:
        for issuer in issuers:
            if entry.issuer in (None, issuer.id):
                check.entry(entry, issuer)


class _Check:
    def __init__(self, checks: Checks, id_: Enum) -> None:
        self._checks = checks
        self._id = id_

    def entry(self, entry: HandoverEntry, issuer: Issuer) -> None:
        ways = {
            Method.ORACLE_CREATE: entry.oracle_create,
            Method.TASK: entry.task,
            Method.DOCUMENT: entry.document,
            Method.DFT: entry.dft,
        }
        for method, way in ways.items():
            if way is not None:
                self._way(entry, issuer, method)
        if not any(ways.values()):
            self._checks.warning(self._id, "the entry of the site file turns no way on", issuer.id)

    def _way(self, entry: HandoverEntry, issuer: Issuer, method: Method) -> None:
        about = f"{issuer.id} {method.value}"
        failures, warnings = _failures(entry, issuer, method), list(_warnings(entry, issuer, method))
        for says in (failed := list(failures)):
            self._checks.failure(self._id, says, about)
        for says in warnings:
            self._checks.warning(self._id, says, about)
        if not failed and not warnings:
            self._checks.ok(self._id, _leads_to(entry, method), about)


def _leads_to(entry: HandoverEntry, method: Method) -> str:
    if method is Method.TASK and entry.task is not None:
        return f"tasks go to {entry.task.owner}"
    if method is Method.DFT and entry.dft is not None:
        return f"messages go {_way_of(entry.dft)}"
    return "turned on"


def _way_of(way: DftWay) -> str:
    if way.mllp is None:
        return f"into {way.folder}"
    return f"to {way.mllp.host}:{way.mllp.port}{' by TLS' if way.mllp.tls else ''}"


def _failures(entry: HandoverEntry, issuer: Issuer, method: Method) -> Iterator[str]:
    """With any of these nothing leaves that way."""
    if entry.oracle_create is not None and method is Method.ORACLE_CREATE:
        if not _ADDRESS.fullmatch(entry.oracle_create.bill_codes):
            yield "bill_codes is not the address of a code system (https://... or urn:...)"
    elif (type_ := _RECORDS.get(method)) and not _asked(issuer).can(type_, Interaction.CREATE):
        yield (
            f'nothing asks for the permission: add "patient/{type_}.crus" to extra_scopes of {issuer.id} in '
            "the issuers file, and have it registered"
        )
    elif entry.dft is not None and method is Method.DFT:
        if entry.dft.folder is not None:
            yield from _faults_of_folder(Path(entry.dft.folder))
        if entry.dft.mllp is not None:
            yield from _faults_of_mllp(entry.dft.mllp)


def _warnings(entry: HandoverEntry, issuer: Issuer, method: Method) -> Iterator[str]:
    """It works, but something will be missing."""
    if (type_ := _RECORDS.get(method)) and (asked := _asked(issuer)).can(type_, Interaction.CREATE):
        if not asked.can(type_, Interaction.UPDATE):
            yield f'without "u" in the scope of {type_} nothing can be called back'
        if not asked.can(type_, Interaction.SEARCH):
            yield f'without "s" in the scope of {type_} a charge whose answer was lost stays unknown'
    if entry.dft is not None and method is Method.DFT:
        if not entry.dft.assigning_authority:
            yield "without assigning_authority no message says whose the record numbers are (PID-3)"
        if not entry.dft.receiving_application and not entry.dft.receiving_facility:
            yield "messages name no recipient: set receiving_application or receiving_facility (MSH-5, MSH-6)"
        if entry.dft.folder is not None:
            yield from _remarks_on_folder(Path(entry.dft.folder))
        if entry.dft.mllp is not None and not entry.dft.mllp.tls:
            where = f"{entry.dft.mllp.host}:{entry.dft.mllp.port}"
            yield f"messages go to {where} unencrypted: whoever listens in that network reads them"


_RECORDS = {Method.TASK: "Task", Method.DOCUMENT: "DocumentReference"}
"""Ways that create a record of their own in the EHR, for which a scope must be asked for."""


def _asked(issuer: Issuer) -> Scopes:
    """What the issuers file asks for beside what the app always does."""
    return Scopes.parse(" ".join(issuer.extra_scopes))


def _faults_of_folder(folder: Path) -> Iterator[str]:
    try:
        there = folder.is_dir()
    except OSError:  # a folder above it lets nobody look
        there = False
    if not there:
        yield f"there is no folder {folder}"
    elif not os.access(folder, os.W_OK | os.X_OK):
        yield f"nothing can be written into {folder} by whoever runs this"
    elif readable_by_others(folder) == "everybody":
        yield f"everybody on this machine can look into {folder}, and messages name patients: chmod 0700"
    if not folder.is_absolute():
        yield f"{folder} is another folder wherever the app is started: write it from / on"


def _remarks_on_folder(folder: Path) -> Iterator[str]:
    if os.access(folder, os.F_OK) and readable_by_others(folder) == "its group":
        yield f"its group can look into {folder}: chmod 0700 unless the interface engine needs it"


def _faults_of_mllp(mllp: Mllp) -> Iterator[str]:
    """That it goes by TLS or to a private address, the site file's own reader holds."""
    if mllp.ca_file is None:
        return
    if not mllp.tls:
        yield "ca_file is of no use without TLS"
        return
    try:
        load_authorities(Path(mllp.ca_file))
    except FileNotFoundError:
        yield f"there is no file {mllp.ca_file} (ca_file)"
    except OSError:
        yield f"{mllp.ca_file} (ca_file) holds no certificates in PEM, or cannot be read"
