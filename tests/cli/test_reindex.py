"""cli/reindex.py against an API that answers in advance: what is asked, in which order, and what a person reads."""

from __future__ import annotations

import json

import pytest

PATH = "/v1/collections/shop/versions"


def version(number, model, live=False, images=3):
    return {"name": "shop", "version": number, "live": live, "model": model, "images": images, "dimension": 4}


OLD, NEW = version(1, "old", live=True), version(2, "new", images=0)
COMPARISON = {
    "version": 2,
    "live": 1,
    "images": {"version": 3, "live": 3},
    "sampled": 3,
    "overlap": 0.75,
    "same_first": 1.0,
    "least_alike": [],
}


@pytest.fixture
def shop(api, answer, job):
    """A collection of three images under `old`, whose new version is filled in one round."""
    api.on("GET", PATH, answer({"versions": [OLD]}))
    api.on("POST", PATH, answer(NEW, 201))
    api.on("GET", "/v1/jobs", answer({"jobs": [], "next_cursor": None}))
    api.on("POST", f"{PATH}/2/copies", answer(job(id="j1"), 202), answer(job(id="j2"), 202))
    api.on("GET", "/v1/jobs/j1", answer(job(id="j1", collection="shop@2")))
    nothing = job(id="j2", collection="shop@2", total=0, indexed=0)
    api.on("GET", "/v1/jobs/j2", answer(nothing))
    api.on("GET", f"{PATH}/2/comparison", answer(COMPARISON))
    api.on("POST", f"{PATH}/2/live", answer(NEW | {"live": True}))
    return api


def asked(api):
    return [f"{one.method} {one.path}" for one in api.received if one.method == "POST"]


def reindex(run, *options):
    return run("reindex", "shop", "--model", "new", *options)


def test_a_version_is_made_filled_compared_put_live_and_caught_up_with(shop, run):
    result = reindex(run)
    assert result.exit_code == 0, result.output
    copies = f"POST {PATH}/2/copies"
    assert asked(shop) == [f"POST {PATH}", copies, copies, f"POST {PATH}/2/live", copies]
    assert json.loads(shop.sent("POST", PATH)[0].body) == {"model": "new"}
    assert json.loads(shop.sent("POST", f"{PATH}/2/copies")[-1].body) == {"from": 1}
    assert "both agree on 75%" in result.stdout
    for words in ("shop is at version 2, under new", "--live 1", "--drop 1"):
        assert words in result.stderr


def test_a_version_that_stands_is_gone_on_with_after_its_copy_at_work_has_ended(shop, run, answer, job):
    shop.on("GET", PATH, answer({"versions": [OLD, NEW]}))
    jobs = [
        job(id="j0", collection="shop@2", state="running"),
        job(id="jx", collection="shop@20", state="running"),
    ]
    shop.on("GET", "/v1/jobs", answer({"jobs": jobs, "next_cursor": None}), answer({"jobs": []}))
    shop.on("GET", "/v1/jobs/j0", answer(job(id="j0", collection="shop@2")))
    assert reindex(run).exit_code == 0
    assert f"POST {PATH}" not in asked(shop)
    paths = [one.path for one in shop.received]
    assert paths.index("/v1/jobs/j0") < paths.index(f"{PATH}/2/copies")
    assert "/v1/jobs/jx" not in paths


def test_what_is_live_already_is_only_caught_up_with_from_all_others(shop, run, answer):
    versions = [version(1, "old"), version(2, "new", live=True), version(3, "newer")]
    shop.on("GET", PATH, answer({"versions": versions}))
    result = reindex(run)
    assert result.exit_code == 0
    assert "under new already" in result.stderr
    assert asked(shop) == [f"POST {PATH}/2/copies"] * 2
    origins = [json.loads(one.body) for one in shop.sent("POST", f"{PATH}/2/copies")]
    assert origins == [{"from": 3}, {"from": 1}]


def test_images_that_the_last_copy_could_not_bring_are_told_and_make_the_exit_code_1(shop, run, answer, job):
    failed = job(id="j3", total=2, indexed=1, failed=1, failures={"http_status": 1})
    copies = [answer(job(id=id), 202) for id in ("j1", "j2", "j3")]
    shop.on("POST", f"{PATH}/2/copies", *copies)
    shop.on("GET", "/v1/jobs/j3", answer(failed))
    result = reindex(run)
    assert result.exit_code == 1
    assert "shop is at version 2, under new" in result.stderr
    assert "1 image could not be copied" in result.stderr
    assert "lookalike jobs j3 --failures" in result.stderr
    assert "--live 1" in result.stderr


def test_a_new_version_under_the_same_name_of_a_model_is_made_when_it_is_asked_for(shop, run, answer):
    live = version(1, "new", live=True)
    shop.on("GET", PATH, answer({"versions": [live]}))
    result = reindex(run, "--new")
    assert result.exit_code == 0, result.output
    assert f"POST {PATH}" in asked(shop)
    assert f"POST {PATH}/2/live" in asked(shop)
    assert "--new" in reindex(run).stderr


def test_a_new_version_that_was_made_while_nobody_answered_is_not_made_twice(
    shop, run, answer, problem, monkeypatch
):
    monkeypatch.setattr("cli.versions._PAUSE_SECONDS", 0)
    live, made = version(1, "new", live=True), version(2, "new")
    shop.on(
        "GET", PATH, *(answer({"versions": list(each)}) for each in ([live], [live], [live], [live, made]))
    )
    shop.on("POST", PATH, problem(503, "workers_unavailable", "No worker answered."))
    assert reindex(run, "--new").exit_code == 0
    assert asked(shop).count(f"POST {PATH}") == 1
    assert f"POST {PATH}/2/live" in asked(shop)


def test_workers_that_restart_at_any_step_are_waited_for(shop, run, answer, problem, job, monkeypatch):
    monkeypatch.setattr("cli.versions._PAUSE_SECONDS", 0)
    away = problem(503, "workers_unavailable", "No worker answered.", **{"Retry-After": "0"})
    shop.on("GET", PATH, away, answer({"versions": [OLD]}))
    shop.on("GET", f"{PATH}/2/comparison", away, answer(COMPARISON))
    copies = [away, answer(job(id="j1"), 202), answer(job(id="j2"), 202)]
    shop.on("POST", f"{PATH}/2/copies", *copies)
    result = reindex(run)
    assert result.exit_code == 0, result.output
    assert "shop is at version 2" in result.stderr


def test_a_collection_of_one_version_under_the_model_has_nothing_to_do(shop, run, answer):
    shop.on("GET", PATH, answer({"versions": [version(1, "new", live=True)]}))
    assert reindex(run).exit_code == 0
    assert asked(shop) == []


def test_images_that_cannot_be_copied_keep_the_old_version_live(shop, run, answer, job):
    failed = job(id="j2", collection="shop@2", total=2, indexed=0, failed=2, failures={"http_status": 2})
    shop.on("GET", "/v1/jobs/j2", answer(failed))
    result = reindex(run)
    assert result.exit_code == 1
    assert "2 images could not be copied" in result.stderr
    assert f"POST {PATH}/2/live" not in asked(shop)
    assert "lookalike jobs j2 --failures" in result.stderr


def test_they_are_done_without_where_that_is_allowed(shop, run, answer, job):
    shop.on("GET", "/v1/jobs/j2", answer(job(id="j2", total=2, indexed=0, failed=2, failures={"empty": 2})))
    assert reindex(run, "--allow-missing").exit_code == 0
    assert f"POST {PATH}/2/live" in asked(shop)


def test_without_a_swap_it_ends_with_the_comparison(shop, run):
    result = reindex(run, "--no-swap", "--json", "--sample", "7")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == COMPARISON
    assert shop.sent("GET", f"{PATH}/2/comparison")[0].query == "sample=7"
    assert f"POST {PATH}/2/live" not in asked(shop)


def test_json_is_all_that_stands_on_stdout_whatever_was_copied_and_failed(shop, run, answer, job):
    failed = job(id="j2", total=2, indexed=0, failed=2, failures={"http_status": 2})
    shop.on("GET", "/v1/jobs/j2", answer(failed))
    result = reindex(run, "--allow-missing", "--json")
    assert json.loads(result.stdout) == COMPARISON
    for words in ("3 indexed", "http_status", "lookalike jobs j2 --failures", "shop is at version 2"):
        assert words in result.stderr


def test_a_copy_that_was_cancelled_says_so_and_how_to_go_on(shop, run, answer, job):
    shop.on(
        "GET",
        "/v1/jobs/j1",
        answer(job(id="j1", state="cancelled", last_error="It was cancelled by a request.")),
    )
    result = reindex(run)
    assert result.exit_code == 1
    assert "Run this again" in result.stderr


def test_while_rounds_shrink_another_follows(shop, run, answer, job):
    rounds = [job(id=f"r{number}", total=total, indexed=total) for number, total in enumerate((9, 4, 2, 3))]
    last = job(id="j2", total=0, indexed=0)
    shop.on("POST", f"{PATH}/2/copies", *(answer(one, 202) for one in (*rounds, last)))
    for one in rounds:
        shop.on("GET", f"/v1/jobs/{one['id']}", answer(one))
    assert reindex(run).exit_code == 0
    posted = asked(shop)
    assert posted.index(f"POST {PATH}/2/live") == 5  # the making, and four rounds
    assert len(posted) == 7


def test_a_model_that_is_being_loaded_is_waited_for(shop, run, answer, problem, monkeypatch):
    monkeypatch.setattr("cli.versions._PAUSE_SECONDS", 0)
    loading = problem(503, "workers_unavailable", "The model new is being loaded.")
    shop.on("POST", PATH, loading, loading, answer(NEW, 201))
    shop.on("POST", f"{PATH}/2/live", loading, answer(NEW | {"live": True}))
    result = reindex(run)
    assert result.exit_code == 0, result.output
    assert result.stderr.count("is being loaded") == 3
    assert "shop is at version 2" in result.stderr


def test_an_unknown_model_is_said_in_the_words_of_the_api(shop, run, problem):
    shop.on("POST", PATH, problem(422, "model_unavailable", "The workers may load `old`."))
    result = reindex(run)
    assert result.exit_code == 1
    assert "The workers may load `old`." in result.stderr
