"""`smartapp evaluate --suggest-site`: what was left out because nobody said what it is, as lines for a site.

Every line is commented out: what a coding or a device means is for somebody who knows it, and a line that was
taken over unread would count what it should not.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum

from fhir_mappings.record import NOT_SAID, About, Excluded
from fhir_mappings.vocabulary import ExcludedReason


class _Section(StrEnum):
    OBSERVATIONS = "observations"
    DEVICES = "devices"
    ENCOUNTERS = "encounters"


_DECLARED_UNDER: Mapping[ExcludedReason, tuple[_Section, str, str]] = {
    ExcludedReason.CODE_NOT_CONFIGURED: (
        _Section.OBSERVATIONS,
        "not declared",
        "line: physiologic",
    ),
    ExcludedReason.NO_DEVICE: (
        _Section.OBSERVATIONS,
        "without a device",
        "line: physiologic, source: device",
    ),
    ExcludedReason.DEVICE_UNKNOWN: (_Section.DEVICES, "a device that nobody declared", "line: physiologic"),
    ExcludedReason.ACTIVITY_NOT_CONFIGURED: (
        _Section.ENCOUNTERS,
        "an activity that nobody declared",
        "activity: phone-call, program: rpm",
    ),
}
_CONFIRM: Mapping[_Section, str] = {
    _Section.OBSERVATIONS: "which line it monitors, and whether a device or the patient writes it",
    _Section.DEVICES: "that it is a monitor or an app, and of which line",
    _Section.ENCOUNTERS: "what is done in it, and for which program",
}


def suggested_lines(excluded: Iterable[Excluded]) -> Iterator[str]:
    """YAML for `terminology`: the commonest first, each with how many records it is about."""
    counts: Counter[tuple[ExcludedReason, About]] = Counter(
        (entry.reason, entry.about)
        for entry in excluded
        if entry.reason in _DECLARED_UNDER and entry.about != NOT_SAID
    )
    if not counts:
        yield "# Nothing was left out for want of a declaration."
        return
    yield "# What was left out because nobody said what it is. Each line is to be confirmed by who knows"
    yield "# it, and it counts once the # before it is taken away and what stands behind it is right."
    yield "terminology:"
    for section in _Section:
        of_section = [
            (number, reason, about)
            for (reason, about), number in counts.items()
            if _DECLARED_UNDER[reason][0] is section
        ]
        if not of_section:
            continue
        yield f"  {section}:"
        for number, reason, about in sorted(of_section, key=lambda one: (-one[0], one[1:])):
            _, why, meaning = _DECLARED_UNDER[reason]
            yield f"    # {number} x {about.in_words}: {why}"
            yield f"    # - {{{_known_by(about)}, {meaning}}}   # to be confirmed: {_CONFIRM[section]}"


def _known_by(about: About) -> str:
    """The keys by which a site's file finds it again."""
    if about.code:
        return f"system: {json.dumps(about.system)}, code: {json.dumps(about.code)}"
    words = {"manufacturer": about.manufacturer, "model": about.model, "type_text": about.type_text}
    found = [f"{key}: {json.dumps(text)}" for key, text in words.items() if text]
    return ", ".join(found) or f"type_text: {json.dumps(about.display)}"
