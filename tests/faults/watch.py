"""Looks at jobs all the time, through the API and in Redis, whatever dies meanwhile."""

from __future__ import annotations

import threading
from typing import Any

import redis
import requests

from tests.faults.record import Record

_PAUSE_SECONDS = 0.05


class Watch(threading.Thread):
    """`contradictions` are the moments at which a job's numbers did not add up; `moments` counts all."""

    def __init__(self, url: str, record: Record) -> None:
        super().__init__(name="watch", daemon=True)
        self.contradictions: list[str] = []
        self.moments = 0
        self._url = url
        self._record = record
        self._jobs: set[str] = set()
        self._stopped = threading.Event()

    def follow(self, job: str) -> None:
        self._jobs = self._jobs | {job}

    def forget(self, job: str) -> None:
        self._jobs = self._jobs - {job}

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def run(self) -> None:
        while not self._stopped.wait(_PAUSE_SECONDS):
            for job in self._jobs:
                self._look(job)

    def _look(self, job: str) -> None:
        for ask in (self._in_redis, self._through_the_api):
            try:
                found = ask(job)
            except (redis.RedisError, requests.RequestException):
                continue  # whom we ask is dead at this moment
            self.moments += 1
            if found:
                self.contradictions.append(found)

    def _in_redis(self, job: str) -> str | None:
        return self._record.contradiction(job)

    def _through_the_api(self, job: str) -> str | None:
        answer = requests.get(f"{self._url}/v1/jobs/{job}", timeout=10)
        if answer.status_code == 503:
            return None
        if not answer.ok:
            return f"{job}: the API answers {answer.status_code} {answer.text}"
        return _wrong_sum(answer.json())


def _wrong_sum(job: dict[str, Any]) -> str | None:
    total = job["indexed"] + job["unchanged"] + job["failed"] + job["pending"]
    return None if job["total"] in (None, total) else f"the numbers do not add up: {job}"
