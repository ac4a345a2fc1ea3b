"""What goes over the wire: how much, compressed for whom, kept how long, no secret twice the same."""

from __future__ import annotations

import gzip
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from urllib.parse import urljoin, urlsplit

import pytest
import requests

from smartapp.web.form_tokens import is_of, masked

MOST_BYTES = 60_000
LARGE = "both-programs"
SECRET = "what a session's cookie says"
TOKEN = re.compile(r'name="form_token" value="([^"]+)"')


@pytest.fixture
def opened(shared_world, browser):
    return shared_world.open(browser, LARGE)


@pytest.fixture
def fetch(shared_world, browser, opened):
    """A function from an address to the answer as it came, still compressed; more arguments are headers."""
    kept = browser.cookies(urlsplit(shared_world.settings.base_url).netloc)
    cookies = "; ".join(f"{name}={value}" for name, value in kept.items())

    def fetched(address, encoding="gzip", **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = requests.get(
            urljoin(opened.url, address),
            headers={"Cookie": cookies, "Accept-Encoding": encoding, **named},
            stream=True,
            timeout=60,
        )
        answer.body = answer.raw.read(decode_content=False)
        return answer

    return fetched


def files_of(page):
    return re.findall(r'(?:href|src)="(/static/[^"]+)"', page)


def lines_of(answer):
    """The bytes of an answer: its first line, its headers, its body."""
    headers = sum(len(name) + len(value) + 4 for name, value in answer.headers.items())
    return headers + len("HTTP/1.1 200 OK\r\n\r\n") + len(answer.body)


# How much


def test_a_first_visit_to_the_longest_page_takes_at_most_60_kilobytes(fetch, opened):
    page = fetch(opened.url)
    text = gzip.decompress(page.body).decode()
    answers = [page, *(fetch(address) for address in files_of(text))]
    assert len(answers) >= 4, "the page, two styles, a script"
    assert all(answer.status_code == 200 for answer in answers)
    total = sum(lines_of(answer) for answer in answers)
    assert total <= MOST_BYTES, total


def test_compressed_and_not_compressed_are_the_same_page(fetch, opened):
    small, plain = fetch(opened.url), fetch(opened.url, "identity")
    assert small.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert int(small.headers["Content-Length"]) == len(small.body) < len(plain.body) / 4
    without = [TOKEN.sub("", text.decode()) for text in (gzip.decompress(small.body), plain.body)]
    assert without[0] == without[1]
    assert "Accept-Encoding" in small.headers["Vary"]
    assert "Accept-Encoding" in plain.headers["Vary"]


@pytest.mark.parametrize("encoding", ["identity", "gzip;q=0", "br", "deflate"])
def test_whoever_does_not_take_gzip_gets_the_text(fetch, opened, encoding):
    assert b"</html>" in fetch(opened.url, encoding).body


def test_what_is_short_leaves_as_it_is(fetch):
    answer = fetch("/health/ready")
    assert answer.status_code == 200
    assert "Content-Encoding" not in answer.headers


# For whom


@pytest.mark.parametrize(
    ("asked_by", "compressed"),
    [("same-origin", True), ("none", True), ("cross-site", False), ("same-site", False)],
)
def test_an_answer_that_another_site_had_asked_for_is_not_compressed(fetch, opened, asked_by, compressed):
    answer = fetch(opened.url, Sec_Fetch_Site=asked_by)
    assert (answer.headers.get("Content-Encoding") == "gzip") is compressed
    assert "Sec-Fetch-Site" in answer.headers["Vary"]


def test_two_answers_never_show_the_same_bytes_of_a_token(fetch, opened):
    shown = [TOKEN.findall(gzip.decompress(fetch(opened.url).body).decode())[0] for _ in range(3)]
    assert len(set(shown)) == 3
    halves = [half for token in shown for half in (token[:43], token[43:])]
    assert len(set(halves)) == 6
    # Nor do four characters stand at the same place in all three, which chance does once in ten trillion.
    assert not [at for at in range(0, 84, 4) if len({token[at : at + 4] for token in shown}) == 1]


def test_the_tokens_of_all_answers_are_good(shared_world, browser, opened):
    again = shared_world.read(browser, browser.get(opened.url))
    tokens = {one.value for page in (opened, again) for one in page.form("/read").controls if one.value}
    assert len(tokens) >= 2
    for page in (opened, again):
        assert browser.submit(page.form("/read")).status == 200


@pytest.mark.parametrize(
    "spoil",
    [
        lambda both: both[:-1],
        lambda both: both + both[:32],
        lambda both: both[32:] + both[32:],
        lambda both: both[:32],
        lambda both: b"",
        lambda both: both[:40] + bytes([both[40] ^ 1]) + both[41:],
        lambda both: bytes([both[0] ^ 1]) + both[1:],
    ],
)
def test_a_broken_token_is_refused(spoil):
    whole = masked(SECRET)
    assert is_of(whole, SECRET)
    assert not is_of(urlsafe_b64encode(spoil(urlsafe_b64decode(whole))).decode(), SECRET)


@pytest.mark.parametrize("sent", ["", "=", "no base64 at all!", "é" * 88, "\ud800", "A" * 1_000_000])
def test_what_is_no_token_is_refused_without_an_error(sent):
    assert not is_of(sent, SECRET)


def test_a_token_of_another_session_is_refused():
    assert not is_of(masked("another cookie"), SECRET)


# How long it is kept


def test_a_file_of_ours_is_named_by_its_digest_and_never_asked_for_again(fetch, opened):
    for address in files_of(opened.body):
        answer = fetch(address)
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["Content-Encoding"] == "gzip"
        assert "Accept-Encoding" in answer.headers["Vary"]


@pytest.mark.parametrize("address", ["/static/app.css", "/static/app.css?v=0000000000000000"])
def test_a_file_at_an_address_of_another_version_is_asked_for_again(fetch, address):
    for encoding in ("gzip", "identity"):
        first = fetch(address, encoding)
        assert first.headers["Cache-Control"] == "public, no-cache"
        again = fetch(address, encoding, If_None_Match=first.headers["ETag"])
        assert (again.status_code, again.body) == (304, b"")
    other = fetch(address, "gzip", If_None_Match=first.headers["ETag"])
    assert other.status_code == 200, "compressed bytes are no copy of plain ones"


@pytest.mark.parametrize("name", ["nothing.css", "../web/words.py", "%2e%2e/web/words.py", "vendor"])
def test_only_our_own_files_are_served(fetch, name):
    answer = fetch(f"/static/{name}")
    assert answer.status_code == 404
