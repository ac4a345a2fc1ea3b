"""A token is renewed once, however many processes and threads find that it is no good any more."""

from __future__ import annotations

from urllib.parse import urlsplit

from tests.smartapp.renew_token import renew
from tests.smartapp.serve_app import begin

PROCESSES = 3


def test_of_many_processes_and_threads_one_renews_the_token_and_all_get_the_new_one(world, browser):
    page = world.open(browser, "nothing")
    session_id = urlsplit(page.url).path.split("/")[2]
    before = world.store.launches.get_tokens(session_id)
    world.ehr.sandbox.quirks.slow_ms = 500  # so long that every other one must wait for the first
    arguments = world.settings_as_text(), session_id, before.access_token
    running = [begin(renew, *arguments) for _ in range(PROCESSES)]
    try:
        for _, told in running:
            assert told.recv() == "ready"
        for _, told in running:
            told.send("now")
        given = [told.recv() for _, told in running]
    finally:
        for process, told in running:
            process.kill()
            process.join()
            told.close()
    after = world.store.launches.get_tokens(session_id)
    assert {token for tokens in given for token in tokens} == {after.access_token}
    assert after.access_token != before.access_token
    assert after.version == before.version + 1, "the EHR was asked once"
