"""How charges leave, as a site's file says it: which ways are turned on for which EHR.

A ChargeItem, where the EHR takes one, and the worksheet are always there. Everything between is off until the
site turns it on for an EHR, by naming what it needs.
"""

from __future__ import annotations

import re
from enum import StrEnum

from msgspec import Struct

from launch.addresses import is_inside
from smartapp.configuration.each_ehr import for_one_each

OWN_TASKS = "urn:smart-remote-monitoring:task"
OWN_DOCUMENTS = "urn:smart-remote-monitoring:document"
_OWNER = re.compile(
    r"(Organization|PractitionerRole|Practitioner|CareTeam|HealthcareService)/[A-Za-z0-9\-.]{1,64}"
)


class Method(StrEnum):
    """A way for a charge to leave, the best first. The first that can be used is used."""

    CHARGE_ITEM = "charge-item"
    ORACLE_CREATE = "oracle-create"
    TASK = "task"
    DOCUMENT = "document"
    DFT = "dft"
    WORKSHEET = "worksheet"


class Code(Struct, frozen=True, forbid_unknown_fields=True):
    """A coding by which the EHR knows a kind of task or document."""

    system: str
    code: str
    display: str = ""

    @property
    def concept(self) -> dict[str, object]:
        """As a CodeableConcept."""
        display = {"display": self.display} if self.display else {}
        return {"coding": [{"system": self.system, "code": self.code, **display}]}


class OracleWay(Struct, frozen=True, forbid_unknown_fields=True):
    """`ChargeItem/$create`. `bill_codes`: the address of the tenant's own system of billing codes, in which
    the operation wants its one coding."""

    bill_codes: str


class TaskWay(Struct, frozen=True, forbid_unknown_fields=True):
    """A Task to a billing pool. `owner`: who gets it, as `Organization/billing`; `code`: what kind it is."""

    owner: str
    code: Code = Code(OWN_TASKS, "enter-charge", "Enter a charge")

    def __post_init__(self) -> None:
        if not _OWNER.fullmatch(self.owner):
            raise ValueError(
                "handover: owner is who gets the task: an Organization, PractitionerRole, Practitioner, "
                "CareTeam or HealthcareService, such as Organization/billing"
            )


class DocumentWay(Struct, frozen=True, forbid_unknown_fields=True):
    """A DocumentReference with the worksheet. `type`: what kind of document it is filed as."""

    type: Code = Code(OWN_DOCUMENTS, "charge-worksheet", "Charge worksheet")


class Mllp(Struct, frozen=True, forbid_unknown_fields=True):
    """Where an interface engine listens. Without TLS only at a private address, written as a number: what a
    name leads to may change. `ca_file`: authorities beside those that this machine knows."""

    host: str
    port: int
    tls: bool = True
    ca_file: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536:
            raise ValueError("handover: port is a number from 1 to 65535")
        if not self.tls and not is_inside(self.host):
            raise ValueError("handover: mllp goes by TLS, or to a private address written as a number")


class DftWay(Struct, frozen=True, forbid_unknown_fields=True):
    """HL7 v2.5.1 DFT^P03 messages: into a `folder` that an interface engine empties, or over `mllp`.

    The names stand in MSH-3 to MSH-6; `assigning_authority` is whose the record numbers are (PID-3).
    """

    folder: str | None = None
    mllp: Mllp | None = None
    sending_application: str = "SMARTRM"
    sending_facility: str = ""
    receiving_application: str = ""
    receiving_facility: str = ""
    assigning_authority: str = ""

    def __post_init__(self) -> None:
        if (self.folder is None) is (self.mllp is None):
            raise ValueError("handover: dft names a folder, or where mllp goes, and not both")


class HandoverEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """What is turned on for one EHR. `issuer`: its name in the issuers file, needed where there are several.

    `behavioral_health`: charges of behavioural health may leave as tasks, documents and messages too, which
    more people read than a chart's own charges.
    """

    issuer: str | None = None
    behavioral_health: bool = False
    oracle_create: OracleWay | None = None
    task: TaskWay | None = None
    document: DocumentWay | None = None
    dft: DftWay | None = None


class HandoverSettings(Struct, frozen=True):
    """The entries of a site."""

    entries: tuple[HandoverEntry, ...] = ()

    def of(self, issuer_id: str) -> HandoverEntry:
        """What is turned on for an EHR; nothing where the site says nothing of it."""
        found = (entry for entry in self.entries if entry.issuer in (None, issuer_id))
        return next(found, HandoverEntry())

    def check(self, many: dict[str, bool]) -> None:
        """Raises ValueError with one line where an entry does not say which EHR it is for. `many`: the EHRs
        by name, and whether each stands for several practices."""
        for_one_each("handover", [entry.issuer for entry in self.entries], many)
