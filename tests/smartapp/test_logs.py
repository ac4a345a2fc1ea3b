"""A log that machines read: one object a line, the request's number, and nothing that was read of a chart."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest

from smartapp import create_app
from smartapp.logs import JsonLines
from smartapp.web.tracing import request_id_if_any


class Lines(logging.Handler):
    """Keeps what `smartapp serve` would write."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(JsonLines(request_id_if_any))
        self.written: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.written.append(self.format(record))

    @property
    def objects(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.written]


@pytest.fixture
def lines():
    handler, root = Lines(), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler
    root.removeHandler(handler)
    root.setLevel(before)


@pytest.fixture
def client(shared_world):
    return create_app(shared_world.settings).test_client()


def of_request(lines: Lines) -> dict[str, object]:
    (line,) = (one for one in lines.objects if one["logger"] == "smartapp.requests")
    return line


def test_a_request_is_one_line_with_its_number_and_without_its_address(client, lines):
    answer = client.get("/s/someones-session/")
    line = of_request(lines)
    assert (line["endpoint"], line["method"], line["status"]) == ("patient.page", "GET", 401)
    assert line["request"] == answer.headers["X-Request-ID"]
    assert "someones-session" not in "".join(lines.written)


def test_the_error_page_shows_the_number_that_the_log_has(client, lines):
    answer = client.get("/no/such/page")
    number = of_request(lines)["request"]
    assert f"quote <code>{number}</code>" in answer.text
    assert {one["request"] for one in lines.objects} == {number}


def test_a_fault_of_ours_is_its_type_and_place_and_never_its_text(shared_world, lines):
    app = create_app(shared_world.settings)

    def fail() -> str:
        raise ValueError("Mrs. Example, born 1950")

    app.add_url_rule("/fail", view_func=fail)
    answer = app.test_client().get("/fail")
    (line,) = (one for one in lines.objects if one["level"] == "error")
    assert "ValueError at tests.smartapp.test_logs" in str(line["message"])
    assert line["request"] == answer.headers["X-Request-ID"]
    assert "Example" not in "".join(lines.written) + answer.text


def test_the_trace_of_an_exception_is_not_written(lines):
    try:
        raise ValueError("Mrs. Example\nborn 1950")
    except ValueError:
        logging.getLogger("waitress").exception("Exception while serving")
    (line,) = lines.objects
    assert (line["exception"], line["place"].split(":")[0]) == ("ValueError", __name__)
    assert "Example" not in lines.written[0]


@pytest.mark.parametrize(
    "given",
    ["", "short", "a" * 65, "has a space", "<script>alert(1)</script>", "line\tbreak", "../../etc/passwd"],
)
def test_a_number_that_does_not_look_like_one_is_passed_over(shared_world, given):
    client = create_app(replace(shared_world.settings, trusted_proxies=1)).test_client()
    answer = client.get("/health/live", headers={"X-Request-ID": given})
    assert answer.headers["X-Request-ID"] != given
    assert len(answer.headers["X-Request-ID"]) == 8


def test_the_number_of_a_trusted_proxy_is_taken_over_and_of_anybody_else_it_is_not(shared_world, client):
    sent = {"X-Request-ID": "3f0c9a52-77aa-4b1e-9d0e-0f6c2f1f3a11"}
    behind = create_app(replace(shared_world.settings, trusted_proxies=1)).test_client()
    assert behind.get("/health/live", headers=sent).headers["X-Request-ID"] == sent["X-Request-ID"]
    assert client.get("/health/live", headers=sent).headers["X-Request-ID"] != sent["X-Request-ID"]


def test_no_control_character_reaches_the_terminal(lines):
    logging.getLogger("smartapp").info("a name: %s", "\x1b[31mred\u202e\x07\nnext")
    (line,) = lines.written
    assert line.isascii()
    assert line.isprintable()
