"""`Idempotency-Key`: a request that is sent again finds its job, and makes no second one.

A key's record is a hash in Redis. While the body is read it says who reads (`owner`), `until` when that is believed,
and the `job` that began; then the body's `fingerprint` too. Who dies in the middle is believed no longer, and the next
request with the key begins anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from flask import request

from api.access import caller
from api.parts import parts
from api.problems import Later
from shared.contract import Message
from shared.errors import RequestCode, RequestError
from shared.settings import Settings

Told = TypeVar("Told", bound=Message)

_PRINTABLE = re.compile(r"[\x20-\x7e]{1,255}")

_NOW = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
"""
# ARGV: owner, ms of a turn, ttl. Returns {job, fingerprint} of a request that was read to its end; {job or false} where
# the turn begins, of the one before it that broke off; nothing while another has it.
_TAKE = (
    _NOW
    + """
local job, fingerprint, till = unpack(redis.call('HMGET', KEYS[1], 'job', 'fingerprint', 'until'))
if fingerprint then return {job, fingerprint} end
if till and tonumber(till) > now then return nil end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'until', now + ARGV[2])
redis.call('HDEL', KEYS[1], 'job')
redis.call('EXPIRE', KEYS[1], ARGV[3])
return {job}
"""
)
# ARGV: owner, ms of a turn from now on, ttl, then field, value, … Returns 1, or 0 where another has the turn.
_WRITE = (
    _NOW
    + """
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'until', now + ARGV[2], unpack(ARGV, 4))
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""
)
# ARGV: owner. Nothing is written, so that a full Redis does it too.
_FREE = """
if redis.call('HGET', KEYS[1], 'owner') == ARGV[1] then redis.call('HDEL', KEYS[1], 'until', 'fingerprint') end
"""
_TAKEN_OVER = (
    "Its request broke off, and the same one came again under its `Idempotency-Key`: that began a new job."
)


def turn_seconds(settings: Settings) -> float:
    """How long a request may stand still and keep its turn: longer than its client may be silent."""
    return max(30.0, 1.5 * settings.read_seconds)


class Turn:
    """This request's turn under its `Idempotency-Key`; of no effect without one.

    Later(REQUEST_IN_PROGRESS) while another request has the turn. `earlier` is the job of one that was read to its end.
    """

    def __init__(self) -> None:
        self.earlier: str | None = None
        self._record = _record()
        self._owner = secrets.token_hex(8)
        self._ms = int(1000 * turn_seconds(parts().settings))
        self._renew_at = time.monotonic() + self._ms / 3000
        self._hash = hashlib.sha256(_arguments())
        self._fingerprint: bytes | None = None
        if self._record:
            self._take(self._record)

    def read(self, items: Iterable[Told]) -> Iterator[Told]:
        """What the body says, item by item, as it passes and goes into its fingerprint. That keeps the turn."""
        if not self._record:
            yield from items
            return
        for item in items:
            # Each is one line, so that no two lists of items read the same.
            self._hash.update(item.model_dump_json(exclude_defaults=True).encode() + b"\n")
            self.keep()
            yield item

    def keep(self) -> None:
        """The request goes on, so its turn does."""
        if self.earlier is None and time.monotonic() >= self._renew_at:
            self._write()

    def began(self, job: str) -> None:
        """Whoever takes the turn over shall know of the job that stands half."""
        self._write("job", job)

    def done(self) -> None:
        """The body is read to its end: from now on the same request finds the job."""
        self._write("fingerprint", self._hash.hexdigest())

    def give_up(self) -> None:
        """The request has failed: the next one with the key begins anew."""
        if self._record:
            parts().redis.eval(_FREE, 1, self._record, self._owner)

    def require_same(self) -> None:
        """RequestError(IDEMPOTENCY_CONFLICT) where what was read is not what came with the key before."""
        if self._fingerprint != self._hash.hexdigest().encode():
            raise RequestError(
                RequestCode.IDEMPOTENCY_CONFLICT,
                f"This `Idempotency-Key` came before with another request, which made job `{self.earlier}`. "
                "Send a new key with a new request.",
            )

    def _take(self, record: str) -> None:
        args = (self._owner, self._ms, parts().settings.job_ttl)
        match parts().redis.eval(_TAKE, 1, record, *args):
            case None:
                raise Later(
                    RequestCode.REQUEST_IN_PROGRESS,
                    "A request with this `Idempotency-Key` is still being read. Should it have broken off, "
                    f"the key is free within {self._ms // 1000} s.",
                )
            case [bytes(job), bytes(fingerprint)]:
                self.earlier, self._fingerprint = job.decode(), fingerprint
            case [bytes(job)]:
                with contextlib.suppress(RequestError):  # it has expired
                    parts().ledger.cancel(job.decode(), _TAKEN_OVER)

    def _write(self, *fields: str) -> None:
        if not self._record:
            return
        self._renew_at = time.monotonic() + self._ms / 3000
        args = (self._owner, self._ms, parts().settings.job_ttl, *fields)
        if not parts().redis.eval(_WRITE, 1, self._record, *args):
            raise Later(
                RequestCode.REQUEST_IN_PROGRESS,
                "This request stood still for so long that another took over its `Idempotency-Key`.",
            )


def _record() -> str | None:
    """Where the key's record stands; each API key has its own. None where the request has no `Idempotency-Key`."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not _PRINTABLE.fullmatch(key):
        raise RequestError(
            RequestCode.INVALID_REQUEST, "`Idempotency-Key` must be 1 to 255 printable ASCII characters."
        )
    return f"lookalike:request:{hashlib.sha256(f'{caller()} {key}'.encode()).hexdigest()}"


def _arguments() -> bytes:
    """The path and the query: a key is for one address."""
    return json.dumps([request.path, sorted(request.args.items(multi=True))]).encode() + b"\n"
