"""A patient's records, boiled down to what is read of them, in a form that can be kept and read again.

Pure, and nothing here decides: an `Item` is one record as it came in, without the elements that nobody reads;
adding a patient's items to a `Chart` gives the very record that the files give. What broken records say is
kept as it stands.

A record belongs to a *folder*: the name under which its subject is known where it stands (`Patient/7`, or a
pointer that only other records resolve). `Keys` tell which records of other folders it hangs together with.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date
from functools import lru_cache
from itertools import islice

import msgspec
from msgspec import Raw, Struct

from fhir_mappings import resources as fhir
from fhir_mappings.chart import Chart
from fhir_mappings.identity import REPLACED_BY, References, is_made_up, pointer
from fhir_mappings.pressed import expand, press
from fhir_mappings.resources import NOT_JSON, READ_TYPES, Reference, Resource, contained_in, loosely

FORMAT = 2
"""Of what is kept; another one can't be read."""
_MOST = 2


class Item(Struct, frozen=True, array_like=True, gc=False):
    """One record, or one deletion. `text` is JSON that a chart can add."""

    text: bytes = b""
    full_url: str | None = None
    origin: str = ""
    """What it is named by where it can't name itself; the next three as `Intake.add` has them."""
    hint: str = ""
    start: date | None = None
    end: date | None = None
    deleted: str = ""
    """`Type/id` of what is gone since `at`, once at `full_url`; there is no `text` then."""
    at: str | None = None


class Keys(Struct, frozen=True, array_like=True, gc=False):
    """By what others can call a record, and what it calls itself; each as `key_of` has it.

    `kin`: of a Patient, by what its folder, and those that are the same person's, are known to each other
    (`kin_key`): all that lies in them belongs together.
    """

    borne: tuple[int, ...] = ()
    asked: tuple[int, ...] = ()
    kin: tuple[int, ...] = ()


NO_KEYS = Keys()
_ANY_KIND = tuple(sorted(READ_TYPES | {"Organization", "CareTeam", "HealthcareService", "RelatedPerson"}))
"""A logical reference that doesn't say its type is looked up under whatever it may be."""
_STAFF = ("Practitioner/", "identifier Practitioner\0")


def key_of(text: str) -> int:
    """A name as a number of 64 bits, the same everywhere."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big")


@lru_cache(maxsize=1 << 10)
def folder_of(owner: str) -> str:
    """The folder of a subject reference (`identity.owner_of`)."""
    return owner if owner.startswith("identifier ") else References().short(owner)


def boiled(resource: Resource | fhir.Observation, text: bytes | Raw) -> bytes:
    """The resource's JSON with nothing in it but what is read. One without an id is named after its text, and
    keeps that."""
    return msgspec.json.encode(resource) if resource.id else bytes(text).strip()


# -- what hangs together ----------------------------------------------------------------------------------


def keys_of(resource: Resource | fhir.Observation, name: str, full_url: str | None) -> Keys:
    """What a resource can be called, and what it calls."""
    borne = {name, *_aliases(name, full_url)} if full_url else {name}
    if isinstance(resource, fhir.Observation):
        return Keys(
            tuple(map(key_of, borne)),
            _asked_by_reading(
                resource.encounter,
                resource.context,
                resource.device,
                resource.performer,
                tuple(resource.hasMember) if resource.hasMember else (),
            )
            if not resource.contained
            else tuple({*map(key_of, _asked(_references(resource)))}),
        )
    kind = type(resource).__name__
    for identifier in resource.identifier or ():
        borne.add(pointer(Reference(type=kind, identifier=identifier), kind) or name)
    asked = set(_asked(_references(resource)))
    if isinstance(resource, fhir.PractitionerRole):
        borne |= {_roles_of(one) for one in asked if one.startswith(_STAFF)}
    if isinstance(resource, fhir.Practitioner):
        asked |= {_roles_of(one) for one in borne}
    kin = {*borne, *_same_person(resource)} if isinstance(resource, fhir.Patient) else ()
    return Keys(tuple(map(key_of, borne)), tuple(map(key_of, asked)), tuple(map(kin_key, kin)))


def kin_key(name: str) -> int:
    """By which the folders of one person find each other."""
    return key_of(f"kin {name}")


def keys_of_item(item: Item) -> Keys:
    """The keys of a record that was kept; none of one that can't be read."""
    if item.deleted:
        return Keys((key_of(item.deleted),))
    try:
        resource = fhir.decode_resource(item.text)
    except NOT_JSON:
        return NO_KEYS
    # One without an id is named after its text, which nobody else can call it by.
    return keys_of(resource, f"{type(resource).__name__}/{resource.id or '~'}", item.full_url)


def _aliases(name: str, full_url: str) -> tuple[str, ...]:
    if full_url == name:
        return ()
    place = References().short(full_url)
    return (full_url, place) if is_made_up(name) else (full_url,)


def _roles_of(name: str) -> str:
    return f"roles of {name}"


@lru_cache(maxsize=1 << 12)
def _asked_by_reading(*parts: Reference | tuple[Reference, ...] | None) -> tuple[int, ...]:
    """Thousands of readings say the same of where they come from."""
    found: list[Reference] = []
    for part in parts:
        if isinstance(part, Reference):
            found.append(part)
        elif part:
            found += part
    return tuple({*map(key_of, _asked(found))})


def _asked(references: Iterable[Reference]) -> Iterator[str]:
    for reference in references:
        literal = bool(reference.reference)
        for kind in ("",) if literal else (reference.type,) if reference.type else _ANY_KIND:
            pointed = pointer(reference, kind)
            if not pointed or pointed.startswith("#"):
                continue
            name = folder_of(pointed)
            if name.startswith("Patient/"):
                # Whose a record is, is told by its folder; what else a patient is called changes nothing.
                continue
            yield name
            if name.startswith(_STAFF):
                yield _roles_of(name)


def _references(part: object) -> Iterator[Reference]:
    """Every reference in what is read of a resource, those of what it contains included."""
    if isinstance(part, Reference):
        yield part
    elif isinstance(part, Struct):
        for name in part.__struct_fields__:
            value = getattr(part, name)
            if name == "contained":
                for inner in contained_in(value).values():
                    yield from _references(inner)
            elif name not in ("meta", "identifier") and value is not None:
                yield from _references(value)
    elif isinstance(part, list | tuple):
        for one in part:
            yield from _references(one)


def _same_person(patient: fhir.Patient) -> Iterator[str]:
    """The folders of the records that a Patient says are, or were, the same person's."""
    links = loosely(patient.link)
    for link in links if isinstance(links, list) else ():
        if isinstance(link, dict) and link.get("type") in (*REPLACED_BY, "replaces"):
            try:
                pointed = pointer(msgspec.convert(link.get("other"), Reference), "Patient")
            except msgspec.ValidationError:
                continue
            if pointed:
                yield folder_of(pointed)


# -- kept, and read again ---------------------------------------------------------------------------------


class Packed(Struct, frozen=True, array_like=True, gc=False):
    """Folders' items: how many each has, and all of them (`pressed`)."""

    counts: list[int]
    items: bytes


_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(Packed).decode
_encode_item, _decode_item = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(Item).decode


def added(kept: Iterable[Item], new: Iterable[Item]) -> list[Item]:
    """Those of the new items that tell something beside those that are kept. Of what came twice and more, two
    are kept: that it came twice is told."""
    times = Counter(kept)
    found = []
    for item in new:
        if times[item] < _MOST:
            times[item] += 1
            found.append(item)
    return found


def pack(folders: Iterable[Iterable[Item]]) -> bytes:
    """The items of several folders as bytes: few, since they are alike. Equal items give equal bytes."""
    counts: list[int] = []
    texts: list[bytes] = []
    for items in folders:
        before = len(texts)
        texts += map(_encode_item, sorted(items, key=_order))
        counts.append(len(texts) - before)
    return _encode(Packed(counts, press(texts)))


def unpack(packed: bytes) -> list[tuple[Item, ...]]:
    """The items of several folders; `ValueError` where these are none."""
    try:
        told = _decode(packed)
        items = map(_decode_item, expand(told.items))
        return [tuple(islice(items, count)) for count in told.counts]
    except msgspec.DecodeError:
        raise ValueError("not the items of folders") from None


def add_items(chart: Chart, items: Iterable[Item]) -> None:
    """Add what was kept to a chart."""
    for item in items:
        if item.deleted:
            chart.add_deletion(item.deleted, item.at, item.full_url or "")
        elif item.hint or item.start is not None or item.end is not None:
            chart.add_found(item.text, item.full_url, item.origin, item.hint, (item.start, item.end))
        else:
            chart.add(item.text, item.full_url, item.origin)


def _order(item: Item) -> tuple[bytes, bytes, bytes, str, str, str, str, str]:
    """By what is said before and after the id: so readings of a kind stand in the order of their moments."""
    before, _, after = item.text.partition(b'"id":"')
    rest = after.partition(b'"')[2]
    return before, rest, item.text, item.full_url or "", item.origin, item.deleted, item.at or "", item.hint
