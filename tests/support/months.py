"""Charges of many patients in a store, as a month of a clinic has them: nothing of it is real."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import date, datetime, timedelta

import msgspec

from smartapp.commands.demo_check import Browser, Page
from smartapp.configuration.handover import Method
from smartapp.store import Store
from smartapp.store.charges import Charge, Handed, Leaving
from smartapp.store.claims import HANDED, ChargeState
from tests.support.filled_store import a_charge, content_of
from tests.support.sandbox import LONG

LEASE = timedelta(seconds=20)


def keep_charge(
    store: Store,
    key: str,
    now: datetime,
    *,
    issuer_id: str = "sandbox",
    patient: str = "syn-1",
    code: str = "98979",
    day: date = date(2026, 3, 31),
    state: ChargeState = ChargeState.CONFIRMED,
    payer: str = "medicare",
    performer: str = "Practitioner/syn-9",
    name: str = "Synthetic Nine",
    method: Method = Method.CHARGE_ITEM,
    units: int = 1,
) -> Charge:
    """Keep one charge in a state."""
    evidence = msgspec.json.encode(
        {"payer": payer, "decision": {"service_date": day, "period": {"end": day}}}
    )
    content = content_of(
        f"{code}-{day:%Y-%m-01}",
        date(2999, 3, 31),
        resource={"quantity": {"value": units}},
        evidence=evidence,
        confirmed_by=performer,
        confirmed_by_name=name,
        leaving=None if method is Method.CHARGE_ITEM else Leaving(method, "application/json", b"{}"),
    )
    charge = replace(
        a_charge(1, now),
        identifier=f"urn:smart-remote-monitoring:charge|{key}",
        issuer_id=issuer_id,
        patient=patient,
        code=code,
        content=content,
    )
    assert store.charges.claim(charge, "h", now, LEASE)
    if state is ChargeState.CONFIRMED:
        assert store.charges.confirm(charge, f"c-{key}", now, b"{}")
    elif state in HANDED:
        handed = replace(
            charge, content=msgspec.structs.replace(content, handed=Handed(f"Task/{key}", now, "", ""))
        )
        assert store.charges.hand_over(handed, state, "charge-handed-over", now, b"{}")
    else:
        assert store.charges.mark(charge, "h", state, now)
    return charge


def made_file(browser: Browser, page: Page) -> Page:
    """Have a page's rows made a file; the page once nothing is being made any more."""
    page = browser.submit(page.form("/file"))
    until = time.monotonic() + LONG
    while "Asking the EHR" in page.text and time.monotonic() < until:
        time.sleep(0.05)
        page = browser.get(page.url)
    return page


def taken_file(browser: Browser, page: Page) -> Page:
    """The file of a page's rows."""
    (link,) = [target for target, text in made_file(browser, page).links if text == "Take the file"]
    return browser.get(link)
