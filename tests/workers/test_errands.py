"""workers/errands.py: an errand ends in the hand that holds it, and in no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from shared.contract import Source
from shared.errands import Errand, Errands, Line
from shared.errors import FilesUnavailable, RequestCode, RequestError
from shared.ledger import Ledger
from shared.settings import Settings
from workers.errands import Held, Runner
from workers.lease import Leases

NEVER = RequestError(RequestCode.INVALID_REQUEST, "It is no longer kept.")


class Work:
    """Does what the test says, and knows why it gave up."""

    line: Line = "imports"
    tries = 3

    def __init__(self, errands: Errands, do: Callable[[], None]) -> None:
        self.reasons: list[str] = []
        self._errands = errands
        self._do = do

    def do(self, errand: Errand, hand: Held) -> None:
        self._do()
        self._errands.let_go(errand)

    def give_up(self, errand: Errand, reason: str) -> None:
        self.reasons.append(reason)
        self._errands.let_go(errand)

    def lost(self, errand: Errand) -> None:
        pass


@pytest.fixture
def leases(ledger: Ledger, settings: Settings) -> Iterator[Leases]:
    leases = Leases(ledger, settings.lease_seconds)
    yield leases
    leases.close()


def begun(ledger: Ledger) -> str:
    job = ledger.open_job("shop", source=Source(dataset="marmal88/skin_cancer"))
    ledger.begin_import(job)
    return job


def fails(error: Exception) -> None:
    raise error


def test_what_can_never_be_done_is_given_up(ledger: Ledger, leases: Leases) -> None:
    begun(ledger)
    work = Work(ledger.errands, lambda: fails(NEVER))
    Runner(work, ledger.errands, leases).run()
    assert work.reasons == ["It is no longer kept."]


def test_a_hand_that_lost_its_lease_gives_nothing_up(
    ledger: Ledger, leases: Leases, redis_client: redis.Redis
) -> None:
    job = begun(ledger)

    def another_takes_it() -> None:
        redis_client.zadd("lookalike:imports", {job: 0})
        assert ledger.errands.take("imports")
        raise NEVER

    work = Work(ledger.errands, another_takes_it)
    Runner(work, ledger.errands, leases).run()
    assert work.reasons == []
    assert redis_client.zscore("lookalike:imports", job)


def test_what_every_worker_dies_of_is_given_up_with_the_last_word(
    ledger: Ledger, leases: Leases, redis_client: redis.Redis
) -> None:
    job = begun(ledger)
    redis_client.hset(f"lookalike:job:{job}", mapping={"tries:imports": 3, "last_error": "Killed."})
    work = Work(ledger.errands, lambda: None)
    Runner(work, ledger.errands, leases).run()
    assert work.reasons == ["Every worker that tried died. Killed."]


def test_a_service_that_is_away_costs_no_try(
    ledger: Ledger, leases: Leases, redis_client: redis.Redis
) -> None:
    job = begun(ledger)
    work = Work(ledger.errands, lambda: fails(FilesUnavailable("The files are away.")))
    for _ in range(5):
        redis_client.zadd("lookalike:imports", {job: 0})
        Runner(work, ledger.errands, leases).run()
    assert work.reasons == []
    assert ledger.snapshot(job).last_error == "The files are away."
