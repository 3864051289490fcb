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
    {"name": "shoes", "version": 1, "live": False, "images": 9, "model": "old", "dimension": 4},
    {"name": "shoes", "version": 2, "live": True, "images": 8, "model": "new", "dimension": 6},
]


def test_versions_are_listed(shoes, run, answer):
    shoes.on("GET", "/v1/collections/shoes/versions", answer({"versions": VERSIONS}))
    shown = run("collections", "shoes", "--versions").stdout
    old, new = shown.splitlines()[1:]
    assert ("old" in old, "live" in old) == (True, False)
    assert ("new" in new, "live" in new) == (True, True)
    assert json.loads(run("collections", "shoes", "--versions", "--json").stdout) == {"versions": VERSIONS}


@pytest.fixture
def swapped(shoes, answer, job):
    """`shoes` is at version 2, and one copy into version 1 brings three images."""
    path = "/v1/collections/shoes/versions"
    shoes.on("GET", path, answer({"versions": VERSIONS}))
    shoes.on("POST", f"{path}/1/live", answer(VERSIONS[0]))
    shoes.on("GET", "/v1/jobs", answer({"jobs": [], "next_cursor": None}))
    shoes.on("POST", f"{path}/1/copies", answer(job(collection="shoes@1"), 202))
    shoes.on("GET", "/v1/jobs/j1", answer(job(collection="shoes@1")))
    return shoes


def swaps(api):
    return [one.path.rpartition("/")[2] for one in api.received if one.method == "POST"]


def test_a_version_is_filled_put_live_and_gets_what_came_to_the_one_before(swapped, run):
    result = run("collections", "shoes", "--live", "1")
    assert result.exit_code == 0, result.output
    assert "shoes is at version 1, under old" in result.stderr
    assert ("3 indexed" in result.stderr, result.stdout) == (True, "")
    assert swaps(swapped) == ["copies", "copies", "live", "copies"]  # a second round: the first brought much
    copies = swapped.sent("POST", "/v1/collections/shoes/versions/1/copies")
    assert [json.loads(copy.body) for copy in copies] == [{}, {}, {"from": 2}]
    assert "lookalike collections shoes --live 2" in result.stderr


@pytest.mark.parametrize(
    ("options", "typed", "posted"),
    [
        ((), "n\n", ["copies", "copies"]),
        ((), "y\n", ["copies", "copies", "live", "copies"]),
        (("--yes",), "", ["copies", "copies", "live", "copies"]),
    ],
)
def test_a_version_that_lacks_images_is_put_live_only_if_that_is_wanted(
    swapped, run, answer, job, options, typed, posted
):
    swapped.on("GET", "/v1/jobs/j1", answer(job(indexed=1, failed=2, failures={"http_status": 2})))
    result = run("collections", "shoes", "--live", "1", *options, input=typed)
    assert result.exit_code == 1
    assert ("2 images could not be copied" in result.stderr, swaps(swapped)) == (True, posted)


def test_a_version_that_is_not_there_is_not_put_live(swapped, run):
    result = run("collections", "shoes", "--live", "7")
    assert result.exit_code == 1
    assert "no version 7" in result.stderr
    assert swaps(swapped) == []


def test_a_version_that_is_live_already_gets_what_the_others_have_newer(swapped, run, answer, job):
    path = "/v1/collections/shoes/versions/2"
    swapped.on("POST", f"{path}/copies", answer(job(collection="shoes@2"), 202))
    assert run("collections", "shoes", "--live", "2").exit_code == 0
    assert [one.path for one in swapped.received if one.method == "POST"] == [f"{path}/copies"]


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
