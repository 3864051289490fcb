"""api/collections.py: what workers are asked, and how their answers are handed on."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from shared.contract import (
    DELETE_COLLECTION,
    GET_COLLECTION,
    GET_FACETS,
    LIST_COLLECTIONS,
    PUT_COLLECTION,
    Item,
)
from shared.ledger import Ledger
from tests.api.conftest import Workers, assert_problem

SHOP = {
    "name": "shop", "model": "m", "revision": "r", "preprocessing": "p", "dimension": 4, "distance": "cosine",
    "images": 3, "indexes": {"dx": "keyword"},
}  # fmt: skip


def test_collections_are_listed(client: FlaskClient, workers: Workers) -> None:
    workers.answer(LIST_COLLECTIONS, {"ok": [SHOP]})
    assert client.get("/v1/collections").json == {"collections": [SHOP]}


def test_one_is_described(client: FlaskClient, workers: Workers) -> None:
    workers.answer(GET_COLLECTION, {"ok": SHOP})
    assert client.get("/v1/collections/shop").json == SHOP
    assert workers.calls == [("get_collection", "shop")]


def test_one_that_does_not_stand_is_not_found(client: FlaskClient, workers: Workers) -> None:
    workers.answer(GET_COLLECTION, {"error": {"code": "collection_not_found", "detail": "There is no `x`."}})
    assert_problem(client.get("/v1/collections/x"), 404, "collection_not_found", "There is no `x`.")


@pytest.mark.parametrize(("created", "status"), [(True, 201), (False, 200)])
def test_put_says_whether_it_made_one(
    client: FlaskClient, workers: Workers, created: bool, status: int
) -> None:
    workers.answer(PUT_COLLECTION, {"ok": {"created": created, "collection": SHOP}})
    response = client.put("/v1/collections/shop", json={"model": "m", "indexes": {"dx": "keyword"}})
    assert (response.status_code, response.json) == (status, SHOP)
    assert response.headers["Location"] == "/v1/collections/shop"
    assert workers.calls == [("put_collection", "shop", "m", {"dx": "keyword"})]


def test_put_needs_no_body(client: FlaskClient, workers: Workers) -> None:
    workers.answer(PUT_COLLECTION, {"ok": {"created": True, "collection": SHOP}})
    assert client.put("/v1/collections/shop").status_code == 201
    assert client.put("/v1/collections/shop", json={"model": None, "indexes": None}).status_code == 201
    assert workers.calls == [("put_collection", "shop", None, {})] * 2


@pytest.mark.parametrize(
    ("code", "status"), [("model_conflict", 409), ("model_unavailable", 422), ("index_unavailable", 503)]
)
def test_what_a_worker_refuses_is_handed_on(
    client: FlaskClient, workers: Workers, code: str, status: int
) -> None:
    workers.answer(PUT_COLLECTION, {"error": {"code": code, "detail": "Why."}})
    assert_problem(client.put("/v1/collections/shop", json={}), status, code, "Why.")


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"modell": "m"}, "`modell`"),
        ({"model": 5}, "`model`"),
        ({"model": ""}, "`model`"),
        ({"indexes": []}, "`indexes`"),
        ({"indexes": {"": "keyword"}}, "`indexes`"),
        ({"indexes": {"dx": "string"}}, "`indexes.dx`"),
        ({"indexes": {"dx": ["keyword"]}}, "`indexes.dx`"),
        ({"indexes": {f"f{n}": "keyword" for n in range(300)}}, "`indexes`"),
    ],
)
def test_a_wrong_field_is_named(client: FlaskClient, body: Any, word: str) -> None:
    assert_problem(client.put("/v1/collections/shop", json=body), 422, "invalid_request", word)


def test_a_body_that_is_no_object_is_refused(client: FlaskClient) -> None:
    assert_problem(client.put("/v1/collections/shop", json=[]), 422, "invalid_body", "object")
    assert_problem(client.put("/v1/collections/shop", data="x"), 415, "unsupported_media_type")
    too_long = client.put("/v1/collections/shop", json={"model": "x" * 5 * 2**20})
    assert_problem(too_long, 413, "body_too_large")
    broken = client.put("/v1/collections/shop", data="{", content_type="application/json")
    assert_problem(broken, 400, "invalid_body", "not JSON")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_bad_name_is_refused(client: FlaskClient, method: str) -> None:
    assert_problem(client.open("/v1/collections/-x", method=method), 422, "invalid_name", "`-x`")


def test_deleting_cancels_the_unfinished_jobs_first(
    client: FlaskClient, workers: Workers, ledger: Ledger
) -> None:
    ours, other = ledger.open_job("shop"), ledger.open_job("other")
    ledger.accept_chunk(ours, [Item(id="x", url="http://a.example/x")])
    workers.answer(DELETE_COLLECTION, {"ok": None})
    response = client.delete("/v1/collections/shop")
    assert (response.status_code, response.data) == (204, b"")
    assert (ledger.snapshot(ours).state, ledger.snapshot(other).state) == ("cancelled", "accepting")
    assert ledger.snapshot(ours).last_error == "Collection `shop` was deleted."


def test_facets_are_counted(client: FlaskClient, workers: Workers) -> None:
    workers.answer(GET_FACETS, {"ok": {"values": [{"value": "mel", "count": 3}]}})
    query = {"limit": "5", "filter": '{"must":[]}'}
    response = client.get("/v1/collections/shop/facets/a.b%2Fc", query_string=query)
    assert response.json == {"values": [{"value": "mel", "count": 3}]}
    client.get("/v1/collections/shop/facets/dx")
    client.get("/v1/collections/shop/facets/Brand%20Name")
    fields = ('"a.b/c"', "dx", '"Brand Name"')
    assert [call[2] for call in workers.calls] == list(fields), "as Qdrant spells a field's path"
    assert workers.calls[0] == ("get_facets", "shop", fields[0], {"must": []}, 5)
    assert workers.calls[1][3:] == (None, 20)


@pytest.mark.parametrize(
    ("query", "code"),
    [("filter={", "invalid_filter"), ('filter={"x":1}', "invalid_filter"), ("limit=0", "invalid_request")],
)
def test_wrong_facet_arguments_are_refused(client: FlaskClient, query: str, code: str) -> None:
    assert_problem(client.get(f"/v1/collections/shop/facets/dx?{query}"), 422, code)
    assert_problem(client.get("/v1/collections/shop/facets/" + "x" * 257), 422, "invalid_request")
