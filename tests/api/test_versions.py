"""api/versions.py: what workers are asked, and which jobs copy."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from shared.contract import (
    ADD_VERSION,
    COMPARE_VERSIONS,
    DELETE_COLLECTION,
    DROP_VERSION,
    GET_COLLECTION,
    GO_LIVE,
    LIST_VERSIONS,
    ROUTE_COPY,
)
from shared.ledger import Ledger
from tests.api.conftest import Workers, assert_problem

PATH = "/v1/collections/shop/versions"
SECOND = {"name": "shop", "version": 2, "live": False, "model": "m2", "images": 0}


def test_versions_are_listed(client: FlaskClient, workers: Workers) -> None:
    workers.answer(LIST_VERSIONS, {"ok": {"versions": [SECOND]}})
    assert client.get(PATH).json == {"versions": [SECOND]}
    assert workers.calls == [("list_versions", "shop")]


def test_a_version_is_made_under_a_model_and_can_be_read_by_its_key(
    client: FlaskClient, workers: Workers
) -> None:
    workers.answer(ADD_VERSION, {"ok": SECOND})
    made = client.post(PATH, json={"model": "m2"})
    assert (made.status_code, made.json) == (201, SECOND)
    assert workers.calls == [("add_version", "shop", "m2")]
    workers.answer(GET_COLLECTION, {"ok": SECOND})
    assert client.get(made.headers["Location"]).json == SECOND
    assert workers.calls[-1] == ("get_collection", "shop@2")


@pytest.mark.parametrize(
    ("body", "word"), [({}, "`model`"), ({"model": ""}, "`model`"), ({"modell": "m"}, "`modell`")]
)
def test_a_version_without_a_model_is_refused(client: FlaskClient, body: Any, word: str) -> None:
    assert_problem(client.post(PATH, json=body), 422, "invalid_request", word)


@pytest.mark.parametrize(("body", "origin"), [(None, None), ({"from": 1}, 1)])
def test_a_copy_is_a_job_of_the_version_that_it_fills(
    client: FlaskClient, workers: Workers, ledger: Ledger, body: Any, origin: int | None
) -> None:
    workers.answer(ROUTE_COPY, {"ok": ["shop@1", "shop@2"]})
    answer = client.post(f"{PATH}/2/copies", json=body) if body else client.post(f"{PATH}/2/copies")
    assert answer.status_code == 202
    assert workers.calls == [("route_copy", "shop", 2, origin)]
    assert (answer.json["collection"], answer.json["state"]) == ("shop@2", "accepting")
    errand = ledger.errands.take("imports")
    assert errand is not None
    assert errand.source is not None
    assert (errand.job, errand.collection) == (answer.json["id"], "shop@2")
    assert errand.source.collection == "shop@1"


@pytest.mark.parametrize("origin", [0, -1, True, "1", 1.5, 10**9])
def test_a_copy_from_something_that_is_no_version_is_refused(client: FlaskClient, origin: Any) -> None:
    refused = client.post(f"{PATH}/2/copies", json={"from": origin})
    assert_problem(refused, 422, "invalid_request", "`from`")


def test_a_comparison_is_handed_on(client: FlaskClient, workers: Workers) -> None:
    workers.answer(COMPARE_VERSIONS, {"ok": {"overlap": 0.5}})
    assert client.get(f"{PATH}/2/comparison").json == {"overlap": 0.5}
    client.get(f"{PATH}/2/comparison?sample=7")
    assert workers.calls == [("compare_versions", "shop", 2, 100), ("compare_versions", "shop", 2, 7)]


@pytest.mark.parametrize("sample", ["0", "501", "-1", "x", "9" * 30])
def test_a_sample_out_of_bounds_is_refused(client: FlaskClient, sample: str) -> None:
    assert_problem(client.get(f"{PATH}/2/comparison?sample={sample}"), 422, "invalid_request", "`sample`")


def test_a_version_goes_live_and_is_dropped(client: FlaskClient, workers: Workers, ledger: Ledger) -> None:
    workers.answer(GO_LIVE, {"ok": SECOND | {"live": True}})
    assert client.post(f"{PATH}/2/live").json["live"] is True
    ledger.open_job("shop")  # which is none of its business
    workers.answer(DROP_VERSION, {"ok": None})
    assert client.delete(f"{PATH}/2").status_code == 204
    assert workers.calls == [("go_live", "shop", 2), ("drop_version", "shop", 2)]


def test_while_a_job_copies_into_it_a_version_neither_goes_live_nor_is_it_dropped(
    client: FlaskClient, workers: Workers, ledger: Ledger
) -> None:
    job = ledger.open_job("shop@2")
    for refused in (
        client.post(f"{PATH}/2/live"),
        client.delete(f"{PATH}/2"),
        client.delete(f"{PATH}/1"),
    ):
        assert_problem(refused, 409, "request_in_progress", job)
        assert refused.headers["Retry-After"]
    workers.answer(GO_LIVE, {"ok": SECOND})
    assert client.post(f"{PATH}/1/live").status_code == 200


def test_deleting_a_collection_cancels_what_copies_into_its_versions(
    client: FlaskClient, workers: Workers, ledger: Ledger
) -> None:
    copy, other = ledger.open_job("shop@2"), ledger.open_job("shop-2")
    workers.answer(DELETE_COLLECTION, {"ok": None})
    assert client.delete("/v1/collections/shop").status_code == 204
    assert (ledger.snapshot(copy).state, ledger.snapshot(other).state) == ("cancelled", "accepting")


@pytest.mark.parametrize("path", ["shop@2/jobs", "shop@2/images", "shop@2/imports"])
def test_nobody_submits_to_one_version(client: FlaskClient, path: str) -> None:
    refused = client.post(f"/v1/collections/{path}", json={"items": []})
    assert_problem(refused, 422, "invalid_name", "shop@2")


@pytest.mark.parametrize("name", ["shop@0", "shop@x", "shop@", "shop@1@2", "@1", "shop@1234567890"])
def test_what_is_neither_a_name_nor_a_version_is_refused(client: FlaskClient, name: str) -> None:
    for path in (f"/v1/collections/{name}", f"/v1/collections/{name}/images"):
        assert_problem(client.get(path), 422, "invalid_name")
    assert_problem(client.get(f"/v1/collections/{name}/versions"), 422, "invalid_name")


@pytest.mark.parametrize("version", ["0", "x", "1234567890"])
def test_a_version_is_a_number(client: FlaskClient, version: str) -> None:
    assert client.post(f"{PATH}/{version}/live").status_code == 404
