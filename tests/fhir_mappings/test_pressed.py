"""Texts that are alike come back to the byte, and cost little more than what differs in them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_mappings.boiled import Item, added, pack, unpack
from fhir_mappings.pressed import expand, press

READINGS = [
    b'{"resourceType":"Observation","id":"%s","status":"final","valueQuantity":{"value":%d}}'
    % (random.Random(number).randbytes(16).hex().encode(), 100 + number)
    for number in range(90)
]
WORDS = st.sampled_from([b"", b"a", b"b", b"12", b"1,", b'{"id":"x-1"}', b'{"id":"y-2"}', b"\xff\x00", b"\0"])


@given(st.lists(st.one_of(st.binary(max_size=40), WORDS)))
def test_texts_come_back_as_they_were_and_in_their_order(texts):
    assert list(expand(press(texts))) == texts


@given(st.lists(st.lists(st.builds(Item, WORDS, deleted=st.sampled_from(["", "Observation/1"])))))
def test_each_folder_gets_back_its_own_items(folders):
    found = unpack(pack(folders))
    assert [sorted(map(repr, items)) for items in found] == [sorted(map(repr, items)) for items in folders]


def test_of_what_is_alike_hardly_more_is_kept_than_what_is_random():
    assert 90 * 16 < len(press(READINGS)) < 90 * 16 + 200


@pytest.mark.parametrize("broken", [b"", b"nothing of the kind", press(READINGS)[:-9], press(READINGS)[9:]])
def test_what_was_not_pressed_is_refused(broken):
    with pytest.raises(ValueError, match="not texts that were pressed"):
        expand(broken)
    with pytest.raises(ValueError, match="not "):
        unpack(broken)


def test_what_came_twice_is_kept_twice_and_never_three_times():
    one, other = Item(b"1"), Item(b"2")
    assert added([], [one, one, one, other]) == [one, one, other]
    assert added([one], [one, other, one]) == [one, other]
    assert added([one, one, other], [one]) == []
