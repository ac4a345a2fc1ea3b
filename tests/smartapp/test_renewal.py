"""A token is renewed once, however many processes and threads find that it is no good any more."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

RENEW = Path(__file__).with_name("renew_token.py")
PROCESSES = 3


def test_of_many_processes_and_threads_one_renews_the_token_and_all_get_the_new_one(world, browser):
    page = world.open(browser, "nothing")
    session_id = urlsplit(page.url).path.split("/")[2]
    before = world.store.launches.get_tokens(session_id)
    world.ehr.sandbox.quirks.slow_ms = 500  # so long that every other one must wait for the first
    arguments = [sys.executable, str(RENEW), world.settings_as_text(), session_id, before.access_token]
    running = [
        subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    try:
        for process in running:
            assert process.stdout.readline() == "ready\n"
        for process in running:
            process.stdin.write("\n")
            process.stdin.flush()
        given = [json.loads(process.stdout.readline()) for process in running]
    finally:
        for process in running:
            process.kill()
            process.communicate()
    after = world.store.launches.get_tokens(session_id)
    assert {token for tokens in given for token in tokens} == {after.access_token}
    assert after.access_token != before.access_token
    assert after.version == before.version + 1, "the EHR was asked once"
