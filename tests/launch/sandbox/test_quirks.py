"""Each quirk, switched on."""

from __future__ import annotations

import time

import pytest
import requests
from joserfc import jws

from launch.sandbox import Quirks


@pytest.fixture
def quirky(make_ehr):
    def make(**switches):
        return make_ehr(quirks=Quirks(**switches))

    return make


def test_observations_without_category_or_code_are_refused(quirky):
    ehr = quirky(require_category_for_observation_search=True)
    token = ehr.launched()["access_token"]
    refused = ehr.fhir("GET", "Observation?patient=ready-musculoskeletal", token)
    assert refused.status_code == 400
    assert refused.json()["issue"][0]["code"] == "required"
    assert ehr.fhir("GET", "Observation?category=activity", token).json()["total"] > 0


def test_an_id_token_without_key_id(quirky):
    token = quirky(id_token_without_kid=True).launched()["id_token"]
    assert "kid" not in jws.extract_compact(token.encode()).headers()


def test_without_conditional_create_every_create_creates(quirky, new_charge):
    ehr = quirky(no_conditional_create=True)
    token = ehr.launched()["access_token"]
    headers = {"If-None-Exist": "identifier=same"}
    for _ in range(2):
        answer = ehr.fhir("POST", "ChargeItem", token, json=new_charge(key="same"), headers=headers)
        assert answer.status_code == 201
    assert _charge_item(ehr)["conditionalCreate"] is False


def _charge_item(ehr):
    resources = requests.get(f"{ehr.base}/metadata", timeout=60).json()["rest"][0]["resource"]
    return next(resource for resource in resources if resource["type"] == "ChargeItem")


def test_without_charge_item_search_or_create_both_are_refused_and_not_declared(quirky, new_charge):
    ehr = quirky(no_charge_item_search=True, no_charge_item_create=True)
    token = ehr.launched()["access_token"]
    assert ehr.fhir("GET", "ChargeItem?patient=ready-musculoskeletal", token).status_code == 404
    assert ehr.fhir("POST", "ChargeItem", token, json=new_charge()).status_code == 405
    assert {entry["code"] for entry in _charge_item(ehr)["interaction"]} == {"read", "update"}
    assert "searchParam" not in _charge_item(ehr)


def test_an_update_may_create(quirky, new_charge):
    ehr = quirky(update_create=True)
    answer = ehr.fhir(
        "PUT", "ChargeItem/my-own", ehr.launched()["access_token"], json=new_charge(id="my-own")
    )
    assert answer.status_code == 201
    assert _charge_item(ehr)["updateCreate"] is True


def test_a_lost_answer_leaves_the_charge_behind(quirky, new_charge):
    ehr = quirky(fail_after_commit=1)
    token = ehr.launched()["access_token"]
    headers = {"If-None-Exist": "identifier=lost"}
    lost = ehr.fhir("POST", "ChargeItem", token, json=new_charge(key="lost"), headers=headers)
    assert lost.status_code == 504
    assert "html" in lost.headers["Content-Type"]
    again = ehr.fhir("POST", "ChargeItem", token, json=new_charge(key="lost"), headers=headers)
    assert again.status_code == 200


def test_above_the_rate_limit_the_client_is_told_how_long_to_wait(quirky):
    ehr = quirky(rate_limit=3)
    answers = [requests.get(f"{ehr.base}/metadata", timeout=60) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 61
    assert answers[-1].json()["issue"][0]["code"] == "throttled"


def test_a_slow_server_takes_its_time(quirky):
    ehr = quirky(slow_ms=150)
    started = time.perf_counter()
    requests.get(f"{ehr.base}/metadata", timeout=60)
    assert time.perf_counter() - started >= 0.15


def test_quirks_change_while_the_sandbox_runs(make_ehr):
    ehr = make_ehr()
    assert _charge_item(ehr)["conditionalCreate"] is True
    ehr.sandbox.quirks.no_conditional_create = True
    assert _charge_item(ehr)["conditionalCreate"] is False


def test_quirks_are_named_on_the_command_line():
    quirks = Quirks.named(["slow_ms=20", "no_conditional_create"])
    assert quirks.slow_ms == 20
    assert quirks.no_conditional_create is True


@pytest.mark.parametrize("word", ["nonsense", "slow_ms", "slow_ms=fast", "_lock", "rate_limit=-1"])
def test_a_quirk_that_is_none_is_refused(word):
    with pytest.raises(ValueError, match="quirk"):
        Quirks.named([word])


def test_a_page_above_a_size_is_refused_and_one_of_it_is_not(quirky):
    ehr = quirky(refused_above=50)
    token = ehr.launched()["access_token"]
    found = [ehr.fhir("GET", f"Observation?_count={count}", token).status_code for count in (50, 51)]
    assert found == [200, 400]
