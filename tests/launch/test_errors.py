"""What an error says: a reason for programs, a sentence for people, and nothing that was received."""

from __future__ import annotations

import pytest

from launch.errors import (
    ConfigurationError,
    HttpError,
    HttpProblem,
    LaunchError,
    LaunchReason,
    SmartError,
    clean_error_code,
)


def test_every_error_has_a_reason_and_a_sentence():
    errors = (
        ConfigurationError("issuers.a", "is wrong"),
        *(HttpError(problem) for problem in HttpProblem),
        *(LaunchError(reason) for reason in LaunchReason),
    )
    for error in errors:
        assert isinstance(error, SmartError)
        assert error.reason.value
        assert error.sentence


def test_an_http_error_says_problem_status_host_and_request():
    error = HttpError(HttpProblem.HTTP_STATUS, host="ehr.example", status=500, request_id="r1")
    assert str(error) == "http-status, status 500, ehr.example, request r1"
    assert str(HttpError(HttpProblem.BUSY)) == "busy"
    assert error.maybe_acted is False


def test_a_launch_error_says_reason_code_and_detail():
    error = LaunchError(LaunchReason.TOKEN_REFUSED, ehr_code="invalid_grant", detail="http-status")
    assert str(error) == "token-refused, invalid_grant, http-status"
    assert str(LaunchError(LaunchReason.CODE_MISSING)) == "code-missing"


@pytest.mark.threat("5.8")
@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("invalid_grant", "invalid_grant"),
        ("a.b-c_D9", "a.b-c_D9"),
        ("<b>x</b>", "?b?x??b?"),
        ("a\r\nSet-Cookie: x", "a??Set-Cookie??x"),
        ("x" * 65, "x" * 64),
        ("é\ud800", "??"),
        ("", None),
        (None, None),
        (7, None),
        (["invalid_grant"], None),
    ],
)
def test_what_an_ehr_calls_an_error_is_cut_to_harmless_characters(said, kept):
    assert clean_error_code(said) == kept
