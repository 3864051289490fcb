from __future__ import annotations

import os
import socket

import pytest

from cli.folder import DataFolder


@pytest.fixture
def up(run, tmp_path):
    """`lookalike up` where it is refused: nothing of it is started, or the test fails by its folder."""

    def up(*arguments: str, **env: str):
        environment = {"REDIS_URL": "", "LOOKALIKE_API_KEYS": "", **env}
        return run("up", "--data", str(tmp_path / "data"), *arguments, env=environment)

    yield up
    assert not list((tmp_path / "data").glob("logs/*"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org"])
def test_another_address_than_loopback_without_keys_is_refused(up, host):
    result = up("--host", host)
    assert result.exit_code == 2
    assert host in result.stderr
    assert "LOOKALIKE_API_KEYS" in result.stderr


def test_a_port_in_use_is_refused(up):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = up("--port", port)
    assert result.exit_code == 2
    assert port in result.stderr
    assert "--port" in result.stderr


def test_a_second_up_on_the_same_folder_is_refused_and_told_of_the_first(up, tmp_path):
    first = DataFolder(tmp_path / "data")
    first.sign("http://127.0.0.1:8123")
    result = up("--port", "0")
    os.close(first.lock)
    assert result.exit_code == 2
    assert f"process {os.getpid()} at http://127.0.0.1:8123" in result.stderr


def test_a_broker_that_is_given_and_does_not_answer_is_refused(up, tmp_path):
    result = up("--port", "0", REDIS_URL=f"unix://{tmp_path}/no.sock?db=0")
    assert result.exit_code == 2
    assert "REDIS_URL" in result.stderr


def test_a_folder_that_cannot_be_is_refused(run, tmp_path):
    (tmp_path / "file").write_text("x")
    result = run("up", "--data", str(tmp_path / "file"))
    assert result.exit_code == 2
    assert "--data" in result.stderr
