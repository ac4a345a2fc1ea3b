"""A site's own amounts: said with their year and source, never made up, and never part of a decision."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import msgspec
import pytest

from smartapp.configuration.fees import Fee, FeeTable
from smartapp.configuration.site_file import SiteFileError, read_site_file
from tests.smartapp.conftest import Browser, World
from tests.support.sandbox import DAY


def fee(**changes: object) -> Fee:
    row = {"code": "98977", "amount": "43.20", "year": 2026, "source": "our own table"} | changes
    return msgspec.convert(row, Fee)


def test_the_year_of_the_service_date_decides() -> None:
    table = FeeTable([fee(), fee(year=2025, amount="40.00")])
    assert table.fee("98977", date(2025, 12, 31)) == fee(year=2025, amount="40.00")
    assert table.fee("98977", date(2026, 1, 1)) == fee()
    assert table.fee("98977", date(2027, 1, 1)) is None


def test_without_a_table_there_is_no_amount() -> None:
    assert FeeTable().fee("98977", date(2026, 1, 1)) is None


def test_a_row_that_stands_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="98977 stands twice for 2026"):
        FeeTable([fee(), fee(amount="44.00")])


@pytest.mark.parametrize(
    "changes", [{"amount": "43.2"}, {"amount": "-1.00"}, {"amount": 43.2}, {"source": " "}, {"currency": "$"}]
)
def test_a_row_without_amount_currency_or_source_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        fee(**changes)


def test_a_sites_file_names_its_table(tmp_path: Path) -> None:
    (tmp_path / "fees.yaml").write_text("- {code: '98977', amount: '43.20', year: 2026, source: ours}\n")
    site = tmp_path / "site.yaml"
    site.write_text("fee_table: fees.yaml\n")
    assert read_site_file(site).fees == (fee(source="ours"),)
    (tmp_path / "fees.yaml").write_text("- {code: '98977', amount: 43.20, year: 2026, source: ours}\n")
    with pytest.raises(SiteFileError, match=r"fees\.yaml"):
        read_site_file(site)
    site.write_text("fees: []\n")
    with pytest.raises(SiteFileError, match="fee_table"):
        read_site_file(site)


def test_the_card_tells_the_sites_amount_with_its_year_and_source(
    tmp_path: Path, make_world: Callable[..., World], browser: Browser
) -> None:
    row = f"- {{code: '98977', amount: '43.20', year: {DAY.year}, source: our own table}}\n"
    (tmp_path / "fees.yaml").write_text(row)
    told = make_world(site_more="fee_table: fees.yaml\n").open(browser, "ready-musculoskeletal").text
    assert "Expected amount 43.20 USD" in told
    assert "(our own table)" in told


def test_without_a_table_no_amount_appears(shared_world: World, browser: Browser) -> None:
    assert "Expected amount" not in shared_world.open(browser, "ready-musculoskeletal").text
