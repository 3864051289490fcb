from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from demo.image_server import serving


@pytest.fixture
def base(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a b.jpg").write_bytes(b"picture")
    with serving(tmp_path / "images", port=0) as base:
        yield base


def test_pictures_come_over_one_connection_that_is_kept(base: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(base).netloc)
    for _ in range(3):
        connection.request("GET", "/a%20b.jpg")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"picture")
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert not answer.will_close
    connection.close()


def test_nothing_outside_the_folder_is_served(base: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(base).netloc)
    connection.request("GET", "/../secret")
    assert connection.getresponse().status == 404
    connection.close()


def test_a_port_that_is_taken_gives_way_to_a_free_one(base: str, tmp_path: Path) -> None:
    with serving(tmp_path / "images", port=urlsplit(base).port or 0) as second:
        assert second != base
        assert requests.get(f"{second}/a b.jpg", timeout=5).content == b"picture"


def test_the_port_is_free_again_afterwards(tmp_path: Path) -> None:
    with serving(tmp_path, port=0) as first:
        pass
    with serving(tmp_path, port=urlsplit(first).port or 0) as second:
        assert second == first
