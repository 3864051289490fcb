from __future__ import annotations

import json
import threading

import pytest


def test_jobs_are_listed(api, run, answer, job):
    api.on("GET", "/v1/jobs", answer({"jobs": [job(), job(id="j2", state="running")], "next_cursor": None}))
    result = run("jobs")
    assert result.exit_code == 0
    assert "j2" in result.stdout
    assert "running" in result.stdout
    assert [one["id"] for one in json.loads(run("jobs", "--json").stdout)["jobs"]] == ["j1", "j2"]


def test_one_job_is_shown_with_the_codes_of_its_failures(api, run, answer, job):
    api.on("GET", "/v1/jobs/j1", answer(job(failed=2, failures={"timeout": 2}, total=None)))
    result = run("jobs", "j1")
    assert result.exit_code == 0
    assert "timeout: 2" in result.stdout
    assert json.loads(run("jobs", "j1", "--json").stdout)["failures"] == {"timeout": 2}


def test_watch_waits_for_the_end_and_tells_of_failures(api, run, answer, job):
    running = answer(job(state="running", indexed=1, pending=2))
    api.on("GET", "/v1/jobs/j1", running, running, answer(job(indexed=2, failed=1, failures={"empty": 1})))
    result = run("jobs", "j1", "--watch")
    assert result.exit_code == 1
    assert "2 indexed, 0 unchanged, 1 failed" in result.stdout


def test_watch_of_a_cancelled_job_ends_with_exit_code_1(api, run, answer, job):
    api.on("GET", "/v1/jobs/j1", answer(job(state="cancelled")))
    result = run("jobs", "j1", "--watch")
    assert result.exit_code == 1
    assert "Cancelled" in result.stdout


def test_watch_outlives_a_queue_that_is_away_for_a_while(api, run, answer, job, problem):
    away = problem(503, "queue_unavailable", "Redis does not answer.", **{"Retry-After": "0"})
    api.on("GET", "/v1/jobs/j1", answer(job(state="running")), away, away, answer(job()))
    assert run("jobs", "j1", "--watch").exit_code == 0


def test_watch_outlives_a_restart_of_the_server(start_api, run, answer, job, eventually):
    before = start_api()
    before.on("GET", "/v1/jobs/j1", answer(job(state="running")))

    def restart():
        eventually(lambda: len(before.received) > 1)
        before.close()
        after = start_api(before.port)
        after.on("GET", "/v1/jobs/j1", answer(job()))

    thread = threading.Thread(target=restart)
    thread.start()
    result = run("jobs", "j1", "--watch", env={"LOOKALIKE_URL": before.url})
    thread.join()
    assert result.exit_code == 0, result.output


def test_failures_are_listed_page_after_page(api, run, answer):
    def row(number):
        return {
            "id": f"i{number}",
            "url": "http://a.example/x",
            "code": "http_status",
            "detail": "404",
            "retryable": False,
            "attempts": 1,
        }

    first = answer({"failures": [row(1)], "next_cursor": "1"})
    second = answer({"failures": [row(2)], "next_cursor": None})
    api.on("GET", "/v1/jobs/j1/failures", first, second, first, second)
    table = run("jobs", "j1", "--failures").stdout
    assert "i1" in table
    assert "i2" in table
    lines = run("jobs", "j1", "--failures", "--json").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["i1", "i2"]
    assert "cursor=1" in api.received[1].query


def test_cancel_deletes_the_job(api, run, answer, job):
    api.on("DELETE", "/v1/jobs/j1", answer(job(state="cancelled"), 202))
    result = run("jobs", "j1", "--cancel")
    assert result.exit_code == 0
    assert "j1 is cancelled" in result.stderr


@pytest.mark.parametrize("arguments", [["--watch"], ["j1", "--watch", "--cancel"]])
def test_a_flag_without_its_job_or_two_at_once_is_misuse(api, run, arguments):
    assert run("jobs", *arguments).exit_code == 2
    assert not api.received


def test_an_unknown_job_is_said_at_once(api, run, problem):
    api.on("GET", "/v1/jobs/nope", problem(404, "job_not_found", "There is no job nope."))
    result = run("jobs", "nope", "--watch")
    assert result.exit_code == 1
    assert "There is no job nope. (job_not_found)" in result.stderr


def test_retry_follows_the_new_job_to_its_end(api, run, answer, job):
    api.on("POST", "/v1/jobs/j1/retry", answer(job(id="j2", state="queued")))
    api.on("GET", "/v1/jobs/j2", answer(job(id="j2", indexed=3)))
    result = run("jobs", "j1", "--retry")
    assert result.exit_code == 0
    assert "3 indexed" in result.stdout
    assert "job j2" in result.stderr
