"""The way to the server: TLS, clocks, speed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from launch.http import Response
from launch.signed import SKEW
from smartapp.commands.doctor.examination import Examination
from smartapp.commands.doctor.ids import CheckId

RENEW_WITHIN = timedelta(days=30)
NOTICEABLE_SKEW = timedelta(seconds=60)
SLOW_SECONDS = 2.0


def check_connection(exam: Examination) -> None:
    """What the first answer tells about the connection."""
    answer = exam.first
    if answer is None:
        return
    exam.checks.ok(CheckId.CONNECTION, f"{answer.host} answers")
    _tls(exam, answer)
    _clock(exam, answer)


def check_pace(exam: Examination) -> None:
    """How quick the answers were; said at the end, when all have been heard."""
    if exam.first is None:
        return
    slowest = f"the slowest answer took {exam.slowest:.1f} s"
    if exam.slowest > SLOW_SECONDS:
        exam.checks.warning(
            CheckId.SPEED,
            f"{slowest}: a large chart will take minutes to read; ask the EHR's team whether that is usual, "
            "and look at the network in between",
        )
    else:
        exam.checks.ok(CheckId.SPEED, slowest)
    if exam.pace is not None:
        exam.checks.warning(
            CheckId.RATE_LIMIT,
            f"after {exam.pace} answers the server asked for fewer requests (429): charts are read slowly or "
            "not to their end; ask the EHR's team how many a minute it allows, set requests_per_minute and "
            "max_parallel to that, and run again in a minute for what was not tried",
        )
    elif exam.held_up:
        exam.checks.warning(
            CheckId.RATE_LIMIT,
            f"requests_per_minute is {exam.issuer.requests_per_minute}, which these checks use up: some were "
            "not made; raise it if the EHR allows more, or run again in a minute",
        )


def _tls(exam: Examination, answer: Response) -> None:
    if answer.tls is None:
        exam.checks.warning(CheckId.TLS_VERSION, "plain http: for a sandbox on this machine only")
        return
    exam.checks.ok(CheckId.TLS_VERSION, answer.tls.version)
    until = answer.tls.valid_until
    left = until - exam.now()
    says = f"valid until {until:%Y-%m-%d}, {left.days} days"
    if left < RENEW_WITHIN:
        exam.checks.warning(
            CheckId.TLS_CERTIFICATE, f"{says}: then nothing works; ask the EHR's team when it is renewed"
        )
    else:
        exam.checks.ok(CheckId.TLS_CERTIFICATE, says)


def _clock(exam: Examination, answer: Response) -> None:
    """The server's Date against ours: it is cut to seconds, and the answer was under way."""
    try:
        said = parsedate_to_datetime(answer.headers.get("date", ""))
    except (ValueError, OverflowError):
        exam.checks.warning(CheckId.CLOCK, "the server does not say what time it is: clocks are not compared")
        return
    theirs = said.replace(tzinfo=UTC) if said.tzinfo is None else said
    ours: datetime = exam.heard_at or exam.now()
    skew = abs(theirs - ours)
    says = f"the clocks differ by {int(skew.total_seconds())} s"
    if skew > SKEW:
        exam.checks.failure(
            CheckId.CLOCK,
            f"{says}, more than the {int(SKEW.total_seconds())} s that are allowed: sign-ins and assertions "
            "are refused; set this machine's clock (NTP), or tell the EHR's team",
        )
    elif skew > NOTICEABLE_SKEW:
        exam.checks.warning(CheckId.CLOCK, f"{says}: at {int(SKEW.total_seconds())} s sign-ins are refused")
    else:
        exam.checks.ok(CheckId.CLOCK, says)
