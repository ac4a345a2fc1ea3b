"""Which EHR's last sweep makes a worklist: `worklist` of the site's file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from fhir_mappings.vocabulary import Role
from smartapp.configuration.each_ehr import for_one_each


class WorklistEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """One EHR's worklist. `issuer`: its name in the issuers file, needed where there are several.

    `state`: the folder of `smartapp sweep --state`, as seen from the site's file. `counts_for`: roles that
    are told how many patients the sweep has, whom the EHR was not asked about for them.
    """

    state: str
    issuer: str | None = None
    counts_for: frozenset[Role] = frozenset()

    def __post_init__(self) -> None:
        if Role.UNKNOWN in self.counts_for:
            raise ValueError("worklist: counts_for names roles that are known")


class WorklistSettings(Struct, frozen=True):
    """The entries of a site. `folder`: where its file lies."""

    entries: tuple[WorklistEntry, ...] = ()
    folder: Path = Path()

    def of(self, issuer_id: str) -> WorklistEntry | None:
        """None where an EHR has no worklist."""
        return next((entry for entry in self.entries if entry.issuer in (None, issuer_id)), None)

    def state_of(self, entry: WorklistEntry) -> Path:
        return self.folder / entry.state

    def check(self, many: Mapping[str, bool]) -> None:
        """Raises ValueError with one line where an entry does not say whose it is. `many`: the EHRs by name,
        and whether each stands for several practices."""
        for_one_each("worklist", [entry.issuer for entry in self.entries], many)
