"""An errand in this worker's hand: a whole job's work beside its chunks, under a lease that is renewed meanwhile."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, NoReturn, Protocol

import redis

from shared.errands import Errand, Errands, Kept, Line
from shared.errors import LookalikeError, ServiceError
from workers.lease import Leases
from workers.periodic import Periodic

log = logging.getLogger("lookalike.errands")

LOOK_SECONDS = 1.0
_PAUSE_SECONDS = 5.0  # before the second try; it triples with each further one
_LONGEST_PAUSE_TRY = 4
# Past this a source that says nothing hangs. To pass over millions of rows that were read before takes minutes.
_LONGEST_SILENCE_SECONDS = 1800.0


class Stopped(Exception):
    """The errand is in this hand no longer, its job is cancelled, or this worker is to end."""

    def __init__(self, why: Literal["lost", "cancelled", "ends"]) -> None:
        super().__init__(why)
        self.why = why


class Held:
    """Its holder calls `check` or `look` often, and whatever it waits for longer is `interruptible`."""

    def __init__(self, errand: Errand, errands: Errands, leases: Leases) -> None:
        self._errand = errand
        self._errands = errands
        self._leases = leases
        self._stopped: Stopped | None = None
        self._interrupt: Callable[[], None] | None = None
        self._heard = time.monotonic()

    def look(self) -> Kept:
        """The lease, renewed now, and what its job has under way. Raises Stopped."""
        kept = self._errands.keep(self._errand)
        if kept.state != "held":
            self._stopped = Stopped(kept.state)
        self.check()
        return kept

    def check(self) -> None:
        """Raise Stopped where the errand is to be worked on no longer."""
        self._heard = time.monotonic()
        if self._leases.refused:
            raise Stopped("ends")
        if self._stopped:
            raise self._stopped

    def rejected(self) -> NoReturn:
        """The ledger took nothing from this hand. Raises Stopped, which says why."""
        self.look()
        raise Stopped("lost")

    @contextmanager
    def interruptible(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """While the block waits, `interrupt` is called where it waits in vain; then `check` says why."""
        self._interrupt = interrupt
        try:
            yield
        finally:
            self._interrupt = None

    def renew(self) -> None:
        """What a thread of its own does every second."""
        kept = self._errands.keep(self._errand)
        if kept.state != "held":
            self._stopped = Stopped(kept.state)
        silent = time.monotonic() - self._heard > _LONGEST_SILENCE_SECONDS
        interrupt = self._interrupt
        if interrupt and (self._stopped or self._leases.refused or silent):
            interrupt()


@contextmanager
def held(errand: Errand, errands: Errands, leases: Leases) -> Iterator[Held]:
    """The errand in hand until the block ends."""
    hand = Held(errand, errands, leases)
    renewing = Periodic("errand lease", LOOK_SECONDS, hand.renew)
    renewing.start()
    try:
        yield hand
    finally:
        renewing.stop()


class Work(Protocol):
    """What is done on the errands of one line."""

    line: Line
    tries: int

    def do(self, errand: Errand, hand: Held) -> None:
        """All of it. LookalikeError that is not retryable: it can never be done, in words for a person."""
        ...

    def give_up(self, errand: Errand, reason: str) -> None:
        """End an errand that cannot be done, or was tried `tries` times in vain."""
        ...

    def lost(self, errand: Errand) -> None:
        """Another has it, or has ended it: leave nothing of this try behind."""
        ...


class Runner:
    """Takes the errands of a line, one at a time; `run` is called every second."""

    def __init__(self, work: Work, errands: Errands, leases: Leases) -> None:
        self._work = work
        self._errands = errands
        self._leases = leases

    def run(self) -> None:
        """Until none waits."""
        while not self._leases.refused and (errand := self._errands.take(self._work.line)):
            with held(errand, self._errands, self._leases) as hand:
                self._try(errand, hand)

    def _try(self, errand: Errand, hand: Held) -> None:
        try:
            self._do(errand, hand)
        except Stopped as stopped:
            if stopped.why == "lost":
                self._work.lost(errand)
            else:  # who takes it next clears up after a job that was cancelled
                self._errands.put_back(errand, after=0, counts=False)
        except (ServiceError, redis.RedisError) as error:
            self._again(errand, error, counts=False)
        except Exception as error:
            self._again(errand, error, counts=True)

    def _do(self, errand: Errand, hand: Held) -> None:
        if errand.is_open and errand.attempt > self._work.tries:
            died = "Every worker that tried died"
            self._give_up(errand, f"{died}. {errand.last_error}" if errand.last_error else f"{died}.")
            return
        try:
            self._work.do(errand, hand)
        except LookalikeError as error:
            if error.retryable:
                raise
            hand.look()  # who has it now may do what this hand cannot: its feeds are cleared up, say
            self._give_up(errand, error.detail)

    def _again(self, errand: Errand, error: Exception, *, counts: bool) -> None:
        reason = str(error) or type(error).__name__
        unforeseen = not isinstance(error, LookalikeError | redis.RedisError | ChildProcessError)
        log.warning("an errand broke: %s", reason, exc_info=unforeseen, extra={"job": errand.job})
        after = _PAUSE_SECONDS * 3 ** max(0, min(errand.attempt, _LONGEST_PAUSE_TRY) - 1)
        tries = self._errands.put_back(errand, after=after, counts=counts, reason=reason)
        if tries >= self._work.tries:
            self._give_up(errand, f"It was tried {tries} times, the last time: {reason}")

    def _give_up(self, errand: Errand, reason: str) -> None:
        log.warning("an errand cannot be done: %s", reason, extra={"job": errand.job})
        self._work.give_up(errand, reason)
