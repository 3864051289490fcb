"""Who must wait: the rate of one caller, and the backlog of all. Either refusal is a 429 that says for how long."""

from __future__ import annotations

import math
import re
import time

from limits import RateLimitItem, parse
from limits.storage import Storage
from limits.strategies import SlidingWindowCounterRateLimiter

from api.parts import parts
from api.problems import Later
from shared.errors import RequestCode, StartError

_RATE = re.compile(r"[1-9][0-9]{0,8}/(second|minute|hour|day)")
_BACKLOG_SECONDS = 30  # it drains by the work of minutes
_MIB = 2**20


def parse_rate(spelt: str) -> RateLimitItem:
    """`6000/minute`; StartError where it is misspelt. The library's own parser would take more, and mean less."""
    if not _RATE.fullmatch(spelt):
        raise StartError(
            f"LOOKALIKE_RATE_LIMIT is `{spelt}`: write `<count>/<second, minute, hour or day>`, such as "
            "`6000/minute`, or leave it empty for no limit."
        )
    return parse(spelt)


class Rate:
    """So many a window that slides, for each name. Counted in `storage`, so as widely as that is shared."""

    def __init__(self, storage: Storage, rate: RateLimitItem, what: str) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(storage)
        self._rate = rate
        self._what = what

    def count(self, name: str) -> None:
        """One more of `name`; Later(RATE_LIMITED) where that is one too many, which is not counted."""
        if not self._limiter.hit(self._rate, name):
            raise self._refusal(name)

    def check(self, name: str) -> None:
        """Later(RATE_LIMITED) where one more of `name` would be too many."""
        if not self._limiter.test(self._rate, name):
            raise self._refusal(name)

    def _refusal(self, name: str) -> Later:
        free_at = self._limiter.get_window_stats(self._rate, name).reset_time
        seconds = max(1, math.floor(free_at - time.time()) + 1)
        window = self._rate.GRANULARITY.name
        detail = f"{self._what}: {self._rate.amount:,} a {window} are allowed. Try again in {seconds} s."
        return Later(RequestCode.RATE_LIMITED, detail, again_after=seconds)


def check_backlog() -> None:
    """Later(BACKLOG_FULL) while too much waits for workers, or Redis holds too much."""
    most, pending = parts().settings.max_pending, parts().ledger.pending_items()
    if pending > most:
        raise _full(
            f"{pending:,} items are pending, and above {most:,} (LOOKALIKE_MAX_PENDING) no more are taken until "
            "workers have done some."
        )
    check_memory()


def check_memory() -> None:
    """Later(BACKLOG_FULL) while Redis holds too much."""
    memory = parts().redis.info("memory")
    most = parts().settings.max_broker_memory_mib * _MIB or memory["maxmemory"] * 4 // 5
    if most and memory["used_memory"] > most:
        raise _full(
            f"Redis holds {memory['used_memory'] / _MIB:,.1f} MiB, and above {most / _MIB:,.1f} MiB "
            "(LOOKALIKE_MAX_BROKER_MEMORY_MIB, or four fifths of its maxmemory) nothing more is taken until "
            "workers have done some."
        )


def _full(why: str) -> Later:
    return Later(RequestCode.BACKLOG_FULL, why, again_after=_BACKLOG_SECONDS)
