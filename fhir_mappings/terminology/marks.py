"""What a reading says of itself beside its value: typed in by hand (D24), taken in a facility (D23).

Both are told in one of three places, which differ by vendor: `method`, `category`, or an extension, which may
stand inside another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Raw

from fhir_mappings.resources import NOT_JSON, Coding, decode_untyped
from fhir_mappings.terminology.entries import MarkEntry
from fhir_mappings.terminology.systems import Key, canonical, key_of


class Marks:
    """One kind of mark, in all the places where it may stand."""

    def __init__(self, entries: Iterable[MarkEntry]) -> None:
        entries = tuple(entries)
        self._methods = {entry.method.key for entry in entries if entry.method is not None}
        self._categories = {entry.category.key for entry in entries if entry.category is not None}
        self._values = {
            (entry.extension, _plain(entry.value)) for entry in entries if entry.value is not None
        }
        self._codings = {(entry.extension, entry.coding.key) for entry in entries if entry.coding is not None}
        self._addresses = tuple({entry.extension.encode() for entry in entries if entry.extension})

    def in_method(self, codings: Iterable[Coding]) -> bool:
        return any(key_of(coding) in self._methods for coding in codings)

    def in_category(self, category: Raw) -> bool:
        """Does one of these categories say so? `category`: the element as it stands in the text."""
        return bool(self._categories) and not self._categories.isdisjoint(_codings(_read(category)))

    def in_extensions(self, extensions: Raw) -> bool:
        """Does one of these extensions say so? Most are of other things: their text is looked through before
        it is read (an escaped address is read in any case)."""
        text = bytes(extensions)
        if not any(address in text for address in self._addresses) and b"\\" not in text:
            return False
        return any(self._says(extension) for extension in _extensions(_read(extensions)))

    def _says(self, extension: dict[str, Any]) -> bool:
        address = extension.get("url")
        for name, value in extension.items():
            if not name.startswith("value"):
                continue
            if isinstance(value, dict):
                keys = list(_codings(value))
                if any((address, key) in self._codings for key in keys):
                    return True
                # A site may give the code of a Coding, or its words, as the plain value that it is.
                if any((address, _plain(said)) in self._values for said in _said(value)):
                    return True
            elif (address, _plain(value)) in self._values:
                return True
        return False


def _read(text: Raw) -> Any:
    try:
        return decode_untyped(text)
    except NOT_JSON:
        return None


def _extensions(value: Any) -> Iterator[dict[str, Any]]:
    """Extensions, and those inside of them."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, list):
            waiting += found
        elif isinstance(found, dict):
            yield found
            waiting.append(found.get("extension"))


def _codings(value: Any) -> Iterator[Key]:
    """Of a Coding, a CodeableConcept, or a list of these: what each coding is looked up by."""
    for one in value if isinstance(value, list) else [value]:
        if not isinstance(one, dict):
            continue
        inner = one.get("coding")
        if isinstance(inner, list):
            yield from _codings(inner)
        elif isinstance(code := one.get("code"), str):
            system = one.get("system")
            yield canonical(system if isinstance(system, str) else None), code.strip()


def _said(value: dict[str, Any]) -> Iterator[Any]:
    """Of a Coding or a CodeableConcept, each code, and each text that stands for one."""
    inner = value.get("coding")
    for one in (value, *(inner if isinstance(inner, list) else ())):
        if isinstance(one, dict):
            yield from (one.get(name) for name in ("code", "display", "text"))


def _plain(value: Any) -> str | None:
    """A value as senders write it one way or the other: true is 1, 1.0 and "true"."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int | float):
        return format(value, "g")
    if isinstance(value, str):
        plain = value.strip().lower()
        return {"true": "1", "false": "0", "1.0": "1", "0.0": "0"}.get(plain, plain)
    return None
