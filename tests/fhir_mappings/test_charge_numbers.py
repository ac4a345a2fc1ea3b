"""Numbers of CPT and HCPCS, as charges and EHRs write them (D29)."""

from __future__ import annotations

import time

import pytest

from fhir_mappings.charge_numbers import is_service, numbers_in, numbers_in_code
from fhir_mappings.rules.tables import shipped_codes


@pytest.mark.parametrize(
    "text",
    [
        "99454",
        " 99454 ",
        "99454-GP",
        "99454:GP",
        "99454,25",
        "99454 GP",
        "99454GP",
        "99454x1",
        "99454X2",
        "1x99454",
        "2 X 99454",
        "99454-25-59",
        "99454^GP",
        "99454/GP",
        "99454.",
        "(99454)",
        "[99454]",
        "CPT-99454",
        "CPT:99454",
        "CPT/99454",
        "CPT 99454",
        "CPT4 99454",
        "CPT-4 99454",
        "CPT-4:99454",
        "CPT99454",
        "CPT(R) 99454",
        "CPT(R)-99454",
        "CPT\u00ae 99454",
        "HCPCS:99454",
        "RPM_99454",
        "#99454",
        "99454|RPM device",
        "99454-REMOTE MONITORING DEVICE",
        "RPM device supply (99454), January",
        "see... 99454",
        "code=99454;units=1",
        "99213/99454",
        "99454-G0511",
    ],
)
def test_a_number_is_found_with_what_belongs_to_it(text: str) -> None:
    assert numbers_in(text, shipped_codes()) == ["99454"]


@pytest.mark.parametrize(
    "text",
    [
        "9945426",
        "1099454",
        "994540",
        "099454",
        "A99454",
        "99454a",
        "99454abc",
        "99454x",
        "99454x100",
        "1.99454",
        "99454.5",
        "99454.00",
        ".99454",
        "0.99454",
        "$99454",
        "\u20ac99454",
        "12345.99454",
        "555-99454",
        "206-555-99454",
        "1-800-99454",
        "+1 99454 12345",
        "+91 99454 12345",
        "(994) 545-7123",
        "994-54-1234",
        "99454-1234",
        "99454-1",
        "2026-99454",
        "ORD-2026-99454",
        "2026-01-05",
        "20260105",
        "2026-01-05T09:94:54",
        "99,454",
        "994 54",
        "99-454",
        "urn:oid:2.16.840.99454",
        "urn:clinic:99454",
        "https://ehr.example/fhir/ChargeItem/99454",
        "https://ehr.example/99454",
        "Patient/99454",
        "12ab34cd-99454",
        "a1b2c3-99454",
        "99455",
        "",
        "\u0669\u0669\u0664\u0665\u0664",
    ],
)
def test_a_number_within_something_else_is_none_of_ours(text: str) -> None:
    assert numbers_in(text, shipped_codes()) == []


@pytest.mark.parametrize(
    "text", ["99453/99454", "99453-99454", "99453,99454", "99453 and 99454", "99453+99454"]
)
def test_several_numbers_are_all_found(text: str) -> None:
    assert numbers_in(text, shipped_codes()) == ["99453", "99454"]


@pytest.mark.parametrize(
    "code",
    [
        "99454",
        "99454-GP",
        "99454.0",
        "99454-1",
        "99454:1",
        "99454_001",
        "0510-99454",
        "0510.99454",
        "RPM99454",
        "HC99454",
        "99454A",
        "RPM-99454-30D",
    ],
)
def test_in_the_code_of_a_charge_a_number_is_one_whatever_it_is_joined_to(code: str) -> None:
    assert numbers_in_code(code, shipped_codes()) == ["99454"]


@pytest.mark.parametrize(
    "code",
    [
        "9945426",
        "099454",
        "199454-1",
        "0x99454",
        "12ab34cd-a99454bc",
        "https://ehr.example/fhir/ChargeItem/99454",
        "ChargeItem/99454",
        "urn:oid:2.16.840.99454",
        "99213",
        "",
    ],
)
def test_and_within_other_digits_or_an_address_it_is_none(code: str) -> None:
    assert numbers_in_code(code, shipped_codes()) == []


def test_every_code_that_is_known_here_is_found() -> None:
    known = sorted(shipped_codes().rules)
    assert numbers_in(" ".join(known), shipped_codes()) == known


def test_a_long_text_takes_no_longer_than_it_is_long() -> None:
    began = time.process_time()
    assert len(numbers_in("98977 " * 20_000, shipped_codes())) == 20_000
    assert numbers_in("98977-" * 20_000 + "1", shipped_codes()) == []
    assert numbers_in("$" * 200_000, shipped_codes()) == []
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "code", ["99213", "99213-25", "99213 25", "99213:25:95", "CPT-99213", "g0463", "0702T"]
)
def test_a_number_of_a_service_is_known_by_its_look_with_its_modifiers(code: str) -> None:
    assert is_service(code)


@pytest.mark.parametrize("code", [None, "", "185349003", "RPM-CALL", "9921", "992134", "10.5"])
def test_anything_else_is_none(code: str | None) -> None:
    assert not is_service(code)
