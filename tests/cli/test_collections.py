from __future__ import annotations

import json

import pytest

SHOES = {
    "name": "shoes",
    "model": "m",
    "dimension": 384,
    "distance": "cosine",
    "images": 1234,
    "indexes": {"dx": "keyword"},
}


@pytest.fixture
def shoes(api, answer):
    api.on("GET", "/v1/collections", answer({"collections": [SHOES]}))
    api.on("GET", "/v1/collections/shoes", answer(SHOES))
    api.on("DELETE", "/v1/collections/shoes", answer(status=204))
    return api


@pytest.mark.parametrize("arguments", [[], ["shoes"]])
def test_collections_are_shown(shoes, run, arguments):
    result = run("collections", *arguments)
    assert result.exit_code == 0
    for word in ("shoes", "1,234", "384", "dx:keyword"):
        assert word in result.stdout


def test_json_is_the_answer_of_the_api(shoes, run):
    assert json.loads(run("collections", "--json").stdout) == {"collections": [SHOES]}
    assert json.loads(run("collections", "shoes", "--json").stdout) == SHOES


@pytest.mark.parametrize(("typed", "deleted"), [("y\n", True), ("n\n", False)])
def test_delete_asks_first(shoes, run, typed, deleted):
    result = run("collections", "shoes", "--delete", input=typed)
    assert "1,234 images" in result.stderr
    assert bool(shoes.sent("DELETE", "/v1/collections/shoes")) is deleted
    assert result.exit_code == (0 if deleted else 1)


def test_delete_does_not_ask_with_yes(shoes, run):
    assert run("collections", "shoes", "--delete", "--yes").exit_code == 0
    assert shoes.sent("DELETE", "/v1/collections/shoes")


def test_delete_without_a_name_is_misuse(shoes, run):
    assert run("collections", "--delete", "--yes").exit_code == 2
    assert not shoes.received


VERSIONS = [
    {"version": 1, "live": False, "images": 9, "model": "old", "dimension": 4},
    {"version": 2, "live": True, "images": 8, "model": "new", "dimension": 6},
]


def test_versions_are_listed(shoes, run, answer):
    shoes.on("GET", "/v1/collections/shoes/versions", answer({"versions": VERSIONS}))
    shown = run("collections", "shoes", "--versions").stdout
    old, new = shown.splitlines()[1:]
    assert ("old" in old, "live" in old) == (True, False)
    assert ("new" in new, "live" in new) == (True, True)
    assert json.loads(run("collections", "shoes", "--versions", "--json").stdout) == {"versions": VERSIONS}


def test_a_version_is_put_live(shoes, run, answer):
    shoes.on("POST", "/v1/collections/shoes/versions/1/live", answer(VERSIONS[0]))
    result = run("collections", "shoes", "--live", "1")
    assert result.exit_code == 0
    assert "shoes is at version 1, under old" in result.stderr


@pytest.mark.parametrize(("typed", "dropped"), [("y\n", True), ("n\n", False)])
def test_dropping_a_version_asks_first(shoes, run, answer, typed, dropped):
    shoes.on("DELETE", "/v1/collections/shoes/versions/1", answer(status=204))
    result = run("collections", "shoes", "--drop", "1", input=typed)
    assert bool(shoes.sent("DELETE", "/v1/collections/shoes/versions/1")) is dropped
    assert result.exit_code == (0 if dropped else 1)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--live", "1"],
        ["--versions"],
        ["--drop", "1"],
        ["shoes", "--live", "1", "--drop", "1"],
        ["shoes", "--live", "0"],
    ],
)
def test_a_version_of_nothing_or_two_wishes_at_once_are_misuse(shoes, run, arguments):
    assert run("collections", *arguments).exit_code == 2
    assert not shoes.received
