"""The same against a Qdrant server that dies, and a broker that delivers again what is still worked on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.faults.rounds import rounds
from tests.faults.site import CHUNK, Site, running
from tests.faults.trial import Trial
from tests.image_server import ImageServer
from tests.qdrant_server import QdrantServer, qdrant_for_tests

Begin = Callable[[str], Trial]

_REDELIVERY_SECONDS = 2
_RECEIVED = re.compile(r"Task ingest_chunk\[(\w+)\] received")


@pytest.fixture(scope="module")
def qdrant() -> Iterator[QdrantServer]:
    with qdrant_for_tests() as server:
        yield server


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory,
    images: ImageServer,
    settings: dict[str, str],
    qdrant: QdrantServer,
) -> Iterator[Site]:
    ours = {"QDRANT_URL": qdrant.url, "LOOKALIKE_REDELIVERY_SECONDS": str(_REDELIVERY_SECONDS)}
    with running(tmp_path_factory.mktemp("servers"), images, settings | ours) as site:
        yield site


@rounds(short=1, long=10)
def test_qdrant_is_killed(trial: Begin, qdrant: QdrantServer, count: int) -> None:
    index = trial("Qdrant server: SIGKILL")
    for _ in index.under_load(count):
        qdrant.kill()
        index.pause(2)
        qdrant.start()


@rounds(short=1, long=10)
def test_a_message_whose_visibility_ran_out_is_delivered_again(trial: Begin, count: int) -> None:
    broker = trial("visibility timeout shorter than a chunk takes")
    record = broker.site.record
    for _ in broker.repeat(count):
        before = _received(broker.site)
        job = broker.submit(4 * CHUNK, seconds=2 * _REDELIVERY_SECONDS)
        broker.settle(job)
        again = [task for task, times in (_received(broker.site) - before).items() if times > 1]
        assert again, "no message was delivered twice"
        broker.until(lambda: not record.unacknowledged(), job)


def _received(site: Site) -> Counter[str]:
    """How often the worker was given each message."""
    return Counter(_RECEIVED.findall(site.stack.log("ingest-worker")))
