from __future__ import annotations

import socket
import threading

import pytest


@pytest.fixture
def dead_url():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize(
    "command", [["jobs"], ["jobs", "j1", "--watch"], ["ingest", "http://a.example/1.jpg"], ["search", "x"]]
)
def test_no_server_is_said_in_one_line_with_what_to_do(run, dead_url, command):
    result = run(*command, env={"LOOKALIKE_URL": dead_url})
    assert result.exit_code == 1
    assert (
        f"No Lookalike at {dead_url}; start one with `lookalike up`, or set LOOKALIKE_URL." in result.stderr
    )
    assert len(result.stderr.splitlines()) == 1


def test_a_problem_is_one_line_with_its_code(api, run, problem):
    api.on("GET", "/v1/jobs", problem(401, "unauthorized", "A key is needed."))
    result = run("jobs")
    assert result.exit_code == 1
    assert result.stderr == "Error: A key is needed. (unauthorized)\n"


def test_an_answer_that_is_not_lookalikes_is_called_so(api, run, answer):
    api.on("GET", "/v1/jobs", answer(b"<html>Bad gateway</html>", 502))
    result = run("jobs")
    assert result.exit_code == 1
    assert "LOOKALIKE_URL" in result.stderr
    assert "502" in result.stderr


def test_a_connection_that_breaks_is_said(run):
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].close(), daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        result = run("jobs", env={"LOOKALIKE_URL": url})
    assert result.exit_code == 1
    assert f"The connection to {url} broke" in result.stderr


@pytest.mark.parametrize("url", ["localhost:8080", "127.0.0.1", "ftp://127.0.0.1"])
def test_a_url_that_is_none_is_called_so(run, url):
    result = run("jobs", env={"LOOKALIKE_URL": url})
    assert result.exit_code == 1
    assert "LOOKALIKE_URL is no URL" in result.stderr


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(api, run, answer, monkeypatch, dead_url):
    monkeypatch.setenv("HTTP_PROXY", dead_url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    api.on("GET", "/v1/jobs", answer({"jobs": []}))
    assert run("jobs").exit_code == 0


def test_a_variable_that_cannot_be_used_is_misuse(run):
    result = run("jobs", env={"LOOKALIKE_PORT": "eighty"})
    assert result.exit_code == 2
    assert "port" in result.stderr.lower()
