from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from benchmarks.image_server import serving


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    pictures = [tmp_path / "one.jpg", tmp_path / "a second.jpg"]
    for number, picture in enumerate(pictures):
        picture.write_bytes(bytes([number]) * 100_000)
    return pictures


def test_each_of_many_urls_is_new_and_brings_its_file(files: list[Path]) -> None:
    with serving(files) as server:
        urls = server.urls(5, "mark")
        assert len({*urls, *server.urls(5)}) == 10
        for number, url in enumerate(urls):
            with urllib.request.urlopen(url) as answer:
                assert answer.read() == files[number % 2].read_bytes()


def test_one_connection_serves_many_pictures(files: list[Path]) -> None:
    with serving(files) as server:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc)
        connection.connect()
        socket = connection.sock
        for url in server.urls(20):
            connection.request("GET", url.removeprefix(server.url))
            assert len(connection.getresponse().read()) == 100_000
        assert connection.sock is socket
        connection.close()


def test_an_answer_is_held_back_for_the_delay_and_costs_no_work(files: list[Path]) -> None:
    with serving(files, delay=0.2) as server:
        begun = time.monotonic()
        urllib.request.urlopen(server.urls(1)[0]).read()
        assert time.monotonic() - begun >= 0.2


def test_what_it_does_not_have_is_not_found(files: list[Path]) -> None:
    with serving(files) as server, pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{server.url}/another.jpg")


def test_it_ends_with_its_block(files: list[Path]) -> None:
    with serving(files) as server:
        assert server.cpu_seconds() > 0
    assert not server.process.is_running()
