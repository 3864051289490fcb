"""workers/lease.py: leases are kept alive while their chunks are in hand, and no longer."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from shared.contract import Chunk, Item
from shared.ledger import Ledger
from tests.running import until
from workers.lease import Leases


@pytest.fixture
def leases(ledger: Ledger) -> Iterator[Leases]:
    """Renewed ten times a second."""
    made = Leases(ledger, 0.3)
    yield made
    made.close()


@pytest.fixture
def chunk(ledger: Ledger) -> Chunk:
    job = ledger.open_job("shop")
    ledger.accept_chunk(job, [Item(id="a", url="http://a.example/a.jpg")])
    ledger.seal_job(job)
    claimed = ledger.claim(job, 1)
    assert claimed
    return claimed


def test_a_chunk_is_in_hand_until_its_block_ends(leases: Leases, chunk: Chunk) -> None:
    with leases.hold(chunk):
        assert leases.held() == [chunk]
        assert leases.held(longer_than=60) == []
        until(lambda: leases.held(longer_than=0.2), "it was never long in hand")
    assert leases.held() == []


def test_a_chunk_given_back_can_be_had_at_once(leases: Leases, chunk: Chunk, ledger: Ledger) -> None:
    with leases.hold(chunk):
        assert ledger.claim(chunk.job, 1) is None
        leases.give_back(chunk, counts=False, reason="asked to stop")
        assert leases.held() == []
        again = ledger.claim(chunk.job, 1)
        assert again
        assert again.attempt == 1
        time.sleep(0.3)  # what is given back is not renewed: the other one's lease stands
        assert leases.state(chunk) == "lost"
        assert leases.state(again) == "held"


def test_a_chunk_that_hung_counts_as_a_run_that_broke(leases: Leases, chunk: Chunk, ledger: Ledger) -> None:
    leases.give_back(chunk, counts=True, reason="it hung")
    again = ledger.claim(chunk.job, 1)
    assert again
    assert again.attempt == 2
