"""SMART scopes, v1 and v2: what we ask for, what we were given, and the difference.

    (patient|user|system)/(Type|*).(read|write|*)                 v1
    (patient|user|system)/(Type|*).[c][r][u][d][s][?name=value]   v2, letters in this order

v1 is turned into v2: read is rs, write is cud, * is cruds. What a session can do follows from the scopes that
were granted, never from those that were asked for; a scope that does not parse grants nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from launch.ports import LaunchKind


class Level(Enum):
    """On whose behalf, and so for whose data."""

    PATIENT = "patient"
    USER = "user"
    SYSTEM = "system"


class Interaction(Enum):
    """One letter of a v2 scope."""

    CREATE = "c"
    READ = "r"
    UPDATE = "u"
    DELETE = "d"
    SEARCH = "s"


_V1 = {"read": "rs", "write": "cud", "*": "cruds"}
_RESOURCE_SCOPE = re.compile(
    r"(?P<level>patient|user|system)/(?P<type>[A-Z][A-Za-z]*|\*)"
    r"\.(?P<what>read|write|\*|(?=[cruds])c?r?u?d?s?)"
    r"(?:\?(?P<query>[^\s?&=]+=[^\s?&]+(?:&[^\s?&=]+=[^\s?&]+)*))?"
)


@dataclass(frozen=True, slots=True)
class ResourceScope:
    """Interactions with one resource type (or `*`), perhaps only where a search would match (`query`)."""

    level: Level
    type: str
    interactions: frozenset[Interaction]
    query: str | None = None

    def covers(self, level: Level, type_: str, interaction: Interaction) -> bool:
        """Whether this scope speaks of that interaction."""
        return self.level is level and self.type in {type_, "*"} and interaction in self.interactions


@lru_cache(maxsize=1024)
def parse_scope(text: str) -> ResourceScope | None:
    """One resource scope; None for any other text (`openid`, `launch`, nonsense)."""
    found = _RESOURCE_SCOPE.fullmatch(text)
    if not found:
        return None
    what, query = found["what"], found["query"]
    if what in _V1 and query:
        return None  # v1 knows no restriction: a mix is nobody's grammar, so it grants nothing
    letters = _V1.get(what, what)
    return ResourceScope(Level(found["level"]), found["type"], frozenset(map(Interaction, letters)), query)


@dataclass(frozen=True, slots=True)
class Scopes:
    """A scope string, understood."""

    text: str
    resources: tuple[ResourceScope, ...]
    others: frozenset[str]
    """Everything that is no resource scope: `openid`, `launch`, `offline_access`, and the unintelligible."""

    @classmethod
    def parse(cls, text: str) -> Scopes:
        """Parse a space-separated scope string. Never raises."""
        words = tuple(dict.fromkeys(text.split()))
        parsed = {word: parse_scope(word) for word in words}
        return cls(
            " ".join(words),
            tuple(scope for scope in parsed.values() if scope),
            frozenset(word for word, scope in parsed.items() if scope is None),
        )

    def allows(self, level: Level, type_: str, interaction: Interaction) -> bool:
        """Whether that interaction was granted, at least in part (see `restrictions`)."""
        return any(scope.covers(level, type_, interaction) for scope in self.resources)

    def restrictions(self, level: Level, type_: str, interaction: Interaction) -> tuple[str, ...]:
        """The queries a grant is restricted to, any of which suffices; () where it is not restricted."""
        covering = [scope for scope in self.resources if scope.covers(level, type_, interaction)]
        if any(scope.query is None for scope in covering):
            return ()
        return tuple(scope.query for scope in covering if scope.query)

    def can(self, type_: str, interaction: Interaction) -> bool:
        """`allows` at the patient's or at the user's level: what a launched session asks."""
        return self.allows(Level.PATIENT, type_, interaction) or self.allows(Level.USER, type_, interaction)

    def has(self, word: str) -> bool:
        """Whether a scope that is no resource scope (`openid`, `offline_access`) is there."""
        return word in self.others


class Feature(Enum):
    """What the app offers, by the permission it needs."""

    READINGS = "readings"
    DEVICES = "devices"
    CONTACTS = "contacts"
    PRIOR_CHARGES = "prior-charges"
    WRITE_CHARGES = "write-charges"
    PATIENT_BANNER = "patient-banner"
    IDENTITY = "identity"
    DEVICE_ASSIGNMENT = "device-assignment"
    COMMUNICATIONS = "communications"
    ORDERS = "orders"
    COVERAGE = "coverage"
    CONSENT = "consent"
    ENROLMENT = "enrolment"
    DIAGNOSES = "diagnoses"
    SURGERY = "surgery"
    ACCOUNTS = "accounts"
    STAFF_ROLES = "staff-roles"
    PROVENANCE = "provenance"
    PATIENTS = "patients"
    """The patients whom the user may see, without a chart being open."""


# Each feature's scopes in v2 and at the level asked for first. Letters are the least that works.
FEATURE_SCOPES: dict[Feature, tuple[str, ...]] = {
    Feature.IDENTITY: ("openid", "fhirUser"),
    Feature.PATIENT_BANNER: ("patient/Patient.r",),
    Feature.READINGS: ("patient/Observation.rs",),
    Feature.DEVICES: ("patient/Device.rs",),
    Feature.CONTACTS: ("patient/Encounter.rs",),
    Feature.PRIOR_CHARGES: ("patient/ChargeItem.rs",),
    Feature.WRITE_CHARGES: ("patient/ChargeItem.cu",),
    Feature.DEVICE_ASSIGNMENT: ("patient/DeviceUseStatement.rs",),
    Feature.COMMUNICATIONS: ("patient/Communication.rs",),
    Feature.ORDERS: ("patient/ServiceRequest.rs",),
    Feature.COVERAGE: ("patient/Coverage.rs",),
    Feature.CONSENT: ("patient/Consent.rs",),
    Feature.ENROLMENT: ("patient/EpisodeOfCare.rs",),
    Feature.DIAGNOSES: ("patient/Condition.rs",),
    Feature.SURGERY: ("patient/Procedure.rs",),
    Feature.ACCOUNTS: ("patient/Account.rs",),
    Feature.STAFF_ROLES: ("user/Practitioner.rs", "user/PractitionerRole.rs"),
    Feature.PROVENANCE: ("patient/Provenance.c",),
    Feature.PATIENTS: ("user/Patient.rs",),
}
CORE_FEATURES = (
    Feature.IDENTITY,
    Feature.PATIENT_BANNER,
    Feature.READINGS,
    Feature.DEVICES,
    Feature.CONTACTS,
    Feature.PRIOR_CHARGES,
    Feature.WRITE_CHARGES,
)
WITHOUT_PATIENT = (Feature.IDENTITY, Feature.PATIENTS, Feature.STAFF_ROLES)
"""What is asked for where no chart is opened: who the patients are whom the user may see, and the staff."""


def request_scope(
    features: Iterable[Feature],
    *,
    kind: LaunchKind,
    v2: bool,
    extra: Iterable[str] = (),
    without_patient: bool = False,
) -> str:
    """The scope string to ask for: the launch, the features' least scopes merged, and a site's extra ones.

    `without_patient`: no chart is asked for, so nothing is at a patient's level either.

    Merged means `patient/ChargeItem.crus`, not two scopes of one type. `online_access` asks for a session as
    long as the EHR's. Wildcards are never asked for by us.
    """
    if kind is LaunchKind.EHR:
        context: tuple[str, ...] = ("launch",)
    else:
        context = () if without_patient else ("launch/patient",)
    if without_patient:
        extra = [word for word in extra if not word.startswith(("patient/", "launch/"))]
    wanted = [scope for feature in dict.fromkeys(features) for scope in FEATURE_SCOPES[feature]]
    plain = [scope for scope in wanted if parse_scope(scope) is None]
    merged: dict[tuple[Level, str], set[Interaction]] = {}
    for scope in filter(None, map(parse_scope, wanted)):
        merged.setdefault((scope.level, scope.type), set()).update(scope.interactions)
    resources = [
        f"{level.value}/{type_}.{what}"
        for (level, type_), letters in merged.items()
        for what in (_v2(letters) if v2 else _v1(letters))
    ]
    return " ".join(dict.fromkeys((*context, *plain, "online_access", *resources, *extra)))


def _v2(letters: Iterable[Interaction]) -> tuple[str, ...]:
    asked = set(letters)
    return ("".join(letter.value for letter in Interaction if letter in asked),)


def _v1(letters: Iterable[Interaction]) -> tuple[str, ...]:
    asked = {letter.value for letter in letters}
    return tuple(word for word in ("read", "write") if asked & set(_V1[word]))


@dataclass(frozen=True, slots=True)
class ScopeDifference:
    """Asked for, granted, lost: for the page that tells IT what to change."""

    granted: tuple[str, ...]
    lost: tuple[str, ...]
    """Scopes asked for of which at least one interaction was not granted."""
    unasked: tuple[str, ...]
    """Scopes granted that nobody asked for."""
    lost_features: tuple[Feature, ...]


def difference(requested: str, granted: str, features: Iterable[Feature]) -> ScopeDifference:
    """Compare by meaning: `X.rs` is granted by `X.r X.s`, `X.read`, `*.rs` and by the user's level too."""
    given = Scopes.parse(granted)
    asked = Scopes.parse(requested)
    return ScopeDifference(
        granted=tuple(word for word in asked.text.split() if _is_granted(word, given)),
        lost=tuple(word for word in asked.text.split() if not _is_granted(word, given)),
        unasked=tuple(word for word in given.text.split() if not _is_granted(word, asked)),
        lost_features=tuple(feature for feature in features if not has_feature(feature, given)),
    )


def has_feature(feature: Feature, granted: Scopes) -> bool:
    """Whether all that a feature needs was granted; creating is enough to write charges."""
    if feature is Feature.WRITE_CHARGES:
        return granted.can("ChargeItem", Interaction.CREATE)
    if feature is Feature.IDENTITY:
        return granted.has("openid")
    return all(_is_granted(scope, granted) for scope in FEATURE_SCOPES[feature])


def _is_granted(word: str, given: Scopes) -> bool:
    scope = parse_scope(word)
    if scope is None:
        return given.has(word)
    if scope.level is Level.SYSTEM:
        return all(given.allows(Level.SYSTEM, scope.type, letter) for letter in scope.interactions)
    return all(given.can(scope.type, letter) for letter in scope.interactions)
