"""`smartapp demo --check`: from the EHR's launch page to a charge in the EHR, as a browser would.

Forms and links are found in the pages; cookies are kept by name and host. No page is scripted, so this is
also the way of somebody without JavaScript.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from urllib.parse import urljoin, urlsplit

import requests

from fhir_mappings.vocabulary import Outcome, Unverified
from smartapp.commands.demo import Demo, DemoError

PATIENT = "ready-musculoskeletal"
READING_SECONDS = 60
MOST_REDIRECTS = 10


@dataclass
class Control:
    """An input, checkbox, select, text area or button of a form."""

    kind: str
    name: str
    value: str = ""
    options: list[str] = field(default_factory=list)


@dataclass
class Form:
    method: str
    action: str
    controls: list[Control] = field(default_factory=list)


class Page(HTMLParser):
    """A page as a browser without scripts sees it: its forms, links, text and elements with an id."""

    def __init__(self, url: str, status: int, text: str, headers: Mapping[str, str]) -> None:
        super().__init__()
        self.url = url
        self.status = status
        self.body = text
        self.headers = headers
        self.forms: list[Form] = []
        self.links: list[tuple[str, str]] = []
        self.by_id: dict[str, str] = {}
        self.refresh = False
        self._words: list[str] = []
        self._form: Form | None = None
        self._select: Control | None = None
        self._link: tuple[str, list[str]] | None = None
        self._id: tuple[str, str, list[str]] | None = None
        self.feed(text)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._words).split())

    def form(self, action_ends_with: str) -> Form:
        """The form that posts to such an address."""
        for form in self.forms:
            if urlsplit(form.action).path.endswith(action_ends_with):
                return form
        raise DemoError(f"the page {urlsplit(self.url).path} has no form for {action_ends_with}")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if values.get("id"):
            self._id = (values["id"], tag, [])
        if tag == "meta" and values.get("http-equiv", "").lower() == "refresh":
            self.refresh = True
        elif tag == "form":
            self._form = Form(
                values.get("method", "get").lower(), urljoin(self.url, values.get("action", ""))
            )
            self.forms.append(self._form)
        elif tag == "a" and "href" in values:
            self._link = (urljoin(self.url, values["href"]), [])
        elif tag == "option" and self._select is not None:
            self._select.options.append(values.get("value", ""))
            if "selected" in values:
                self._select.value = values.get("value", "")
        elif self._form is not None and tag in {"input", "button", "select", "textarea"}:
            kind = values.get("type", "text") if tag == "input" else tag
            control = Control(kind, values.get("name", ""), values.get("value", ""))
            self._form.controls.append(control)
            if tag == "select":
                self._select = control

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "select":
            self._select = None
        elif tag == "a" and self._link is not None:
            self.links.append((self._link[0], " ".join(self._link[1])))
            self._link = None
        if self._id is not None and tag == self._id[1]:
            self.by_id[self._id[0]] = " ".join("".join(self._id[2]).split())
            self._id = None

    def handle_data(self, data: str) -> None:
        self._words.append(data)
        if self._link is not None:
            self._link[1].append(data.strip())
        if self._id is not None:
            self._id[2].append(data)


class Browser:
    """Keeps cookies by host and follows redirects. Loopback counts as secure, as it does in browsers.

    `patience`: seconds that an answer may take.
    """

    def __init__(self, patience: float = 30.0) -> None:
        self._patience = patience
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers.update({"User-Agent": "demo-check", "Accept": "text/html"})
        self._cookies: dict[str, dict[str, str]] = {}

    def close(self) -> None:
        self._session.close()

    def cookies(self, netloc: str) -> dict[str, str]:
        """The cookies kept for a host and port."""
        return self._cookies.setdefault(netloc, {})

    def get(self, url: str) -> Page:
        return self._go("GET", url, None)

    def submit(self, form: Form, **filled: str | list[str]) -> Page:
        """Send a form: hidden fields as they are, the rest as filled in. Unknown names are a mistake."""
        pairs: list[tuple[str, str]] = []
        for control in form.controls:
            if control.kind == "hidden":
                pairs.append((control.name, control.value))
        for name, value in filled.items():
            if name not in {control.name for control in form.controls}:
                raise DemoError(f"the form has no field {name}")
            pairs += [(name, item) for item in ([value] if isinstance(value, str) else value)]
        return self._go(form.method.upper(), form.action, pairs)

    def _go(self, method: str, url: str, pairs: list[tuple[str, str]] | None) -> Page:
        for _ in range(MOST_REDIRECTS):
            parts = urlsplit(url)
            jar = self.cookies(parts.netloc)
            headers = {}
            if jar:
                headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in jar.items())
            if method == "POST":
                headers["Origin"] = "null"  # what browsers say under "Referrer-Policy: no-referrer"
            self._session.cookies.clear()
            response = self._session.request(
                method, url, data=pairs, headers=headers, allow_redirects=False, timeout=self._patience
            )
            self._keep(jar, response)
            if response.status_code not in {301, 302, 303, 307, 308}:
                return Page(url, response.status_code, response.text, response.headers)
            url = urljoin(url, response.headers["Location"])
            if response.status_code not in {307, 308}:
                method, pairs = "GET", None
        raise DemoError("too many redirects")

    def _keep(self, jar: dict[str, str], response: requests.Response) -> None:
        for line in response.raw.headers.getlist("Set-Cookie"):
            # The parser does not know "Partitioned"; it changes nothing here.
            cookie: SimpleCookie = SimpleCookie()
            cookie.load("; ".join(part for part in line.split("; ") if part != "Partitioned"))
            for name, morsel in cookie.items():
                if morsel["max-age"] == "0":
                    jar.pop(name, None)
                else:
                    jar[name] = morsel.value


def check(demo: Demo) -> None:
    """Launch, read, accept, find the charge in the EHR. Raises DemoError at the first step that fails.

    On a day whose rules nobody has confirmed the way ends where it must: nothing of it can be accepted.
    """
    with closing(Browser()) as browser:
        _check(demo, browser)


def _check(demo: Demo, browser: Browser) -> None:
    number = 0

    def step(text: str) -> None:
        nonlocal number
        number += 1
        print(f"{number:2}. {text}", flush=True)

    page = browser.get(f"{demo.ehr_url}/")
    launch = next(
        (
            form
            for form in page.forms
            if any(control.name == "patient" and control.value == PATIENT for control in form.controls)
            and any(control.value == "tab" for control in form.controls)
        ),
        None,
    )
    if launch is None:
        raise DemoError(f"the EHR's launch page has no button for {PATIENT}")
    step(f"EHR launch page at {demo.ehr_url}/, patient {PATIENT}")

    page = browser.submit(launch, mode="tab")
    if page.status != 200 or urlsplit(page.url).netloc != urlsplit(demo.app_url).netloc:
        raise DemoError(
            f"the launch ended at {urlsplit(page.url).path} with {page.status}: {page.text[:300]}"
        )
    step("launched: authorized with PKCE, session opened")

    page = _wait_until_read(browser, page)
    step(f"chart read: {page.by_id.get('summary', '')}")

    link = next((target for target, text in page.links if text.startswith("Review and accept")), None)
    if link is None and (waiting := _waiting_for_rules(browser, page)):
        before = demo.charges(PATIENT)
        for key in waiting:
            if browser.get(f"{page.url}charges/{key}").status < 400:
                raise DemoError(f"{key} could be accepted without rules")
        if demo.charges(PATIENT) != before:
            raise DemoError("the EHR holds another charge")
        step(f"nothing can be accepted: no rules are confirmed for {', '.join(waiting)}")
        return
    if link is None:
        raise DemoError("no card can be accepted")
    key = urlsplit(link).path.rsplit("/", 1)[1]
    before = demo.charges(PATIENT)
    page = browser.get(link)
    step(f"opened the suggestion {key}")

    change = [target for target, text in page.links if text == "Change something"]
    if change:
        page = browser.get(change[0])
    form = page.form(f"/charges/{key}/check")
    chosen: dict[str, str | list[str]] = {
        control.name: control.value or next(value for value in control.options if value)
        for control in form.controls
        if control.kind == "select"
    }
    page = browser.submit(form)
    if page.status != 422:
        raise DemoError("an empty form was not refused")
    step("nothing is written while a statement or a choice is open: 422")

    form = page.form(f"/charges/{key}/check")
    statements = [control.value for control in form.controls if control.name == "attest"]
    page = browser.submit(form, **({"attest": statements} if statements else {}), **chosen)
    if page.status != 200:
        raise DemoError(f"the preview was refused: {page.text[:300]}")
    step(f"preview of exactly what will be written; {len(statements)} statements confirmed")

    final = page.form(f"/charges/{key}")
    page = browser.submit(final)
    written = page.by_id.get("charge-item", "")
    if not written.startswith("ChargeItem/"):
        raise DemoError(f"the charge was not written: {page.text[:300]}")
    step(f"accepted: {written}")

    again = browser.submit(final)
    if again.by_id.get("charge-item") != written:
        raise DemoError("pressing again did not lead to the same charge")
    step("pressed again: the same charge")

    after = demo.charges(PATIENT)
    new = [item for item in after if item["id"] not in {old["id"] for old in before}]
    if [f"ChargeItem/{item['id']}" for item in new] != [written]:
        raise DemoError(f"the EHR holds {len(new)} new charges")
    code, quantity = new[0]["code"]["coding"][0]["code"], new[0]["quantity"]["value"]
    step(f"the EHR holds it once: {code}, status {new[0]['status']}, quantity {quantity}")

    page = _wait_until_read(browser, browser.get(urljoin(link, "../")))
    if written not in page.text:
        raise DemoError("the patient page does not show the charge")
    step("the patient page shows it")
    print(written)


def _waiting_for_rules(browser: Browser, page: Page) -> list[str]:
    """What is suggested, if for all of it the rules of its date are not confirmed (D37); else nothing."""
    told = json.loads(browser.get(f"{page.url}decisions.json").body)["decisions"]
    earned = [one for one in told if one["outcome"] == Outcome.SUGGEST]
    if not all(Unverified.RULES_OF_THE_YEAR in one["unverified"] for one in earned):
        return []
    return [f"{one['code']}-{one['period']['start']}" for one in earned]


def _wait_until_read(browser: Browser, page: Page) -> Page:
    """Refresh as the page asks to, until the cards are there."""
    until = time.monotonic() + READING_SECONDS
    while "Reading the chart" in page.text:
        if not page.refresh:
            raise DemoError("the page that waits would not refresh itself")
        if time.monotonic() > until:
            raise DemoError("the chart was not read in time")
        time.sleep(0.3)
        page = browser.get(page.url)
    if "summary" not in page.by_id:
        raise DemoError(f"the chart was not read: {page.text[:300]}")
    return page
