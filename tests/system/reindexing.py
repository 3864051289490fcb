"""A collection changes its model under constant searching and submitting, and after every kill.

`Reindexing` is what holds on either engine; each has it in a file of its own, because files run side by side.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.image_server import ImageServer, jpeg
from tests.system.stack import Stack

IMAGES = 120
_WAIT_SECONDS = 180


class Reindex:
    """`lookalike reindex COLLECTION --model …` as a process of its own."""

    def __init__(self, stack: Stack, collection: str, model: Path, folder: Path) -> None:
        self._log = folder / "reindex.log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LOOKALIKE_")}
        command = [sys.executable, "-m", "cli.main", "reindex", collection, "--model", str(model)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment | {"LOOKALIKE_URL": stack.url}, stdout=log, stderr=log
            )

    @property
    def said(self) -> str:
        return self._log.read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def ended_well(self) -> None:
        assert self.process.wait(_WAIT_SECONDS) == 0, self.said


class Shop:
    """A collection, its two models, and what must stand in it in the end: id → price."""

    def __init__(
        self, name: str, stack: Stack, models: tuple[Path, Path], images: ImageServer, folder: Path
    ) -> None:
        self.name = name
        self.stack = stack
        self.old, self.new = models
        self.expected: dict[str, int] = {}
        self._images = images
        self._folder = folder

    def submit(self, numbers: range, price: int) -> None:
        """Acknowledged when it returns."""
        items = [
            {"url": self._images.url(f"/jpeg/{number}.jpg"), "id": f"p{number}", "payload": {"price": price}}
            for number in numbers
        ]
        job = self.stack.ended(self.stack.submit(self.name, items))
        assert job["failed"] == 0, self.stack.failures(job["id"])
        self.expected |= {f"p{number}": price for number in numbers}

    def upload(self, seed: int, price: int) -> None:
        """A picture without a URL."""
        data, payload = jpeg(seed), json.dumps({"price": price})
        files = {"image": ("a.jpg", data), "payload": (None, payload, "application/json")}
        job = self.ok("POST", "/images", files=files)["id"]
        assert self.stack.ended(job)["indexed"] == 1
        self.expected[f"sha256:{hashlib.sha256(data).hexdigest()}"] = price

    def delete(self, number: int) -> None:
        self.ok("DELETE", f"/images/p{number}")
        del self.expected[f"p{number}"]

    def search(self, picture: bytes | None = None, **query: Any) -> dict[str, Any]:
        """A search's result."""
        result = self.stack.search(self.name, picture, **query)
        assert result["state"] == "done", result
        return result

    def reindex(self, model: Path) -> Reindex:
        return Reindex(self.stack, self.name, model, self._folder)

    def versions(self) -> dict[int, dict[str, Any]]:
        return {version["version"]: version for version in self.ok("GET", "/versions")["versions"]}

    def live(self) -> int:
        return next(number for number, version in self.versions().items() if version["live"])

    def stands_whole(self, version: int, model: Path) -> None:
        """Under the plain name: this version, of this model, with every image and its latest price."""
        assert self.live() == version
        standing = self.stack.images(self.name)
        assert {id: payload["price"] for id, payload in standing.items()} == self.expected
        assert {payload["_image"]["model"].partition("@")[0] for payload in standing.values()} == {str(model)}
        for id in list(self.expected)[:5]:
            self.search(id=id)

    def ok(self, method: str, below: str = "", **options: Any) -> Any:
        """The body of an answer below the collection that must be a success."""
        return self.stack.ok(method, f"/v1/collections/{self.name}{below}", **options)


@contextmanager
def all_the_while(*works: Callable[[int], None]) -> Iterator[list[int]]:
    """Each work in a thread of its own, over and over, with the number of its turn; how many turns each had.

    What one of them raises is raised here at the end.
    """
    stop, turns, errors = threading.Event(), [0] * len(works), []

    def repeat(place: int) -> None:
        try:
            while not stop.is_set():
                works[place](turns[place])
                turns[place] += 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=repeat, args=(place,)) for place in range(len(works))]
    for thread in threads:
        thread.start()
    try:
        yield turns
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


class Reindexing:
    """On the fixture `stack`, whichever a file's is."""

    @pytest.fixture
    def shop(
        self, stack: Stack, models: tuple[Path, Path], images: ImageServer, collection: str, tmp_path: Path
    ) -> Shop:
        """With its first images."""
        shop = Shop(collection, stack, models, images, tmp_path)
        shop.ok("PUT", json={"model": str(shop.old)})
        shop.submit(range(IMAGES), price=1)
        return shop

    def test_no_search_fails_and_nothing_is_lost_while_a_collection_changes_its_model(
        self, shop: Shop
    ) -> None:
        def search(turn: int) -> None:
            way = turn % 3
            if way == 0:
                result = shop.search(id=f"p{turn % 50}", limit=5)
            elif way == 1:
                result = shop.search(jpeg(turn % 50), limit=5)
            else:
                cheap = {"must": [{"key": "price", "range": {"gte": 1}}]}
                result = shop.search(id=f"p{turn % 50}", filter=cheap, limit=5)
            assert len(result["hits"]) == 5, result

        def feed(turn: int) -> None:
            """New images, new prices of old ones, and now and then one that goes."""
            shop.submit(range(1000 + 4 * turn, 1004 + 4 * turn), price=turn)
            shop.submit(range(50 + 2 * turn % 40, 52 + 2 * turn % 40), price=100 + turn)
            if turn % 2 and turn < 40:
                shop.delete(100 + turn // 2)

        with all_the_while(search, feed) as turns:
            run = shop.reindex(shop.new)
            run.ended_well()
            after = list(turns)
            assert min(after) > 0, "nobody searched or submitted meanwhile"
            shop.stack.until(lambda: turns[0] > after[0] + 5 and turns[1] > after[1] + 1, "it stood still")
        assert "both agree on" in run.said
        shop.stands_whole(2, shop.new)
        assert shop.versions()[1]["model"] == str(shop.old)

    def test_a_reindexing_that_is_killed_in_its_middle_with_a_worker_goes_on_when_it_is_run_again(
        self, shop: Shop
    ) -> None:
        run = shop.reindex(shop.new)
        shop.stack.until(
            lambda: 2 in shop.versions() and shop.versions()[2]["images"] > 0, "nothing was copied"
        )
        run.kill()
        for pid in shop.stack.processes("-Q ingest"):
            os.kill(pid, signal.SIGKILL)
        shop.submit(range(200, 204), price=2)
        shop.submit(range(0, 4), price=3)
        again = shop.reindex(shop.new)
        again.ended_well()
        shop.stands_whole(2, shop.new)
        assert list(shop.versions()) == [1, 2]

    def test_one_that_is_killed_right_after_its_swap_is_caught_up_with_when_it_is_run_again(
        self, shop: Shop
    ) -> None:
        run = shop.reindex(shop.new)
        shop.stack.until(lambda: shop.live() == 2, "it never went live")
        run.kill()
        again = shop.reindex(shop.new)
        again.ended_well()
        assert "at version 2" in again.said
        shop.stands_whole(2, shop.new)

    def test_the_way_back_brings_along_what_came_since(self, shop: Shop) -> None:
        shop.upload(500, price=5)
        shop.reindex(shop.new).ended_well()
        shop.stands_whole(2, shop.new)
        shop.upload(501, price=6)
        shop.submit(range(200, 204), price=2)
        shop.submit(range(0, 4), price=3)
        shop.delete(50)
        shop.reindex(shop.old).ended_well()
        shop.stands_whole(1, shop.old)
        shop.ok("DELETE", "/versions/2")
        assert list(shop.versions()) == [1]
        shop.ok("DELETE")
        assert shop.stack.call("GET", f"/v1/collections/{shop.name}").status_code == 404
