"""The queue: one Celery application made from the settings, and how the API sends a task and waits for it."""

from __future__ import annotations

import time
import uuid
from typing import Any

import redis
from celery import Celery
from kombu.exceptions import OperationalError
from redis.backoff import NoBackoff
from redis.connection import ConnectionInterface
from redis.retry import Retry

from shared.contract import TaskSpec
from shared.errors import QueueUnavailable
from shared.settings import Settings

# What a Redis that is away looks like through Celery; the RuntimeError is its "Retry limit exceeded".
_AWAY = (OperationalError, redis.RedisError, OSError, RuntimeError)

_MOST_CONNECTIONS = 512  # of one pool; an API's 256 waits take two each, one to listen and one to look
_REST_SECONDS = 1.0  # that a Redis which took no connection is left alone
_SLICE_SECONDS = 1.0  # of a wait: how soon it looks whether Redis is there at all


def make_celery(settings: Settings) -> Celery:
    """Celery as both halves use it: JSON only, acknowledged late, one message at a time for each slot."""
    app = Celery("lookalike", broker=settings.celery_url, backend=settings.celery_url)
    app.conf.update(
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        task_default_queue="ingest",
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        result_expires=settings.search_ttl,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=2,
        broker_pool_limit=16,
        broker_transport_options={
            # The ledger's leases decide who works; redelivery by age must not compete with them.
            "visibility_timeout": settings.redelivery_seconds,
            "unacked_restore_interval": min(10.0, settings.redelivery_seconds),
            "unacked_restore_throttle": 1,  # kombu's own is every tenth time
            # A connection may die without a word (a firewall's time-out, a host without power). The worker's is
            # dropped when Redis is silent for 1 + 5 s where it must answer within 1, and is looked at every 5 s.
            "socket_timeout": 2,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "health_check_interval": 5,
        },
        redis_socket_connect_timeout=2,
        redis_socket_timeout=2,
        redis_backend_health_check_interval=5,
        redis_max_connections=_MOST_CONNECTIONS,
        # A request that cannot reach the broker says so within 5 s (API.md) instead of trying for 19.
        task_publish_retry_policy={
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0.1,
            "interval_max": 0.2,
        },
        result_backend_transport_options={
            "retry_policy": {"max_retries": 1, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.2}
        },
    )
    return app


class _Pool(redis.ConnectionPool):
    """Connections that die without a word die together: one that failed takes the idle ones with it.

    Otherwise each of them would cost one more command its whole patience. And where Redis takes no connection at
    all, a crowd would spend its patience in turns: so for `_REST_SECONDS` it is refused at once, with the same words.
    """

    _rests_until = 0.0
    _refusal = ""

    def get_connection(self, *_: Any, **__: Any) -> Any:  # its arguments have no meaning any more
        if time.monotonic() < self._rests_until:
            raise redis.ConnectionError(self._refusal)
        try:
            return super().get_connection()
        except (redis.ConnectionError, redis.TimeoutError) as error:
            self._refusal, self._rests_until = str(error), time.monotonic() + _REST_SECONDS
            raise

    def release(self, connection: ConnectionInterface) -> None:
        failed = not connection.is_connected
        super().release(connection)
        if failed:
            self.disconnect(inuse_connections=False)


def connect_redis(settings: Settings, *, patience: float = 5.0) -> redis.Redis:
    """A pooled client for the ledger and the uploads; it waits `patience` seconds for an answer."""
    pool = _Pool.from_url(
        settings.redis_url,
        socket_connect_timeout=2,
        socket_timeout=patience,
        health_check_interval=25,
        max_connections=_MOST_CONNECTIONS,
        # A command whose answer was lost may have been done, and the ledger's scripts must not be done twice.
        retry=Retry(NoBackoff(), 0),
    )
    return redis.Redis.from_pool(pool)


class Broker:
    """How the API reaches the workers."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def send(
        self, spec: TaskSpec, *args: Any, task_id: str | None = None, expires: float | None = None
    ) -> str:
        """Put a task on its queue; returns its id. QueueUnavailable when Redis is away.

        A task that no worker took within `expires` seconds is never run: nobody waits for it any more.
        """
        task_id = task_id or uuid.uuid4().hex
        try:
            self._app.send_task(
                spec.name,
                args=args,
                task_id=task_id,
                queue=spec.queue,
                ignore_result=not spec.answers,
                expires=expires,
            )
        except _AWAY as error:
            raise QueueUnavailable(f"Redis does not take messages: {error}") from error
        return task_id

    def wait(self, task_id: str, seconds: float) -> Any | None:
        """The task's answer, or None when it is not there within `seconds` (0: look once)."""
        try:
            return self._await(task_id, seconds) if seconds > 0 else self._answer(task_id)
        except _AWAY as error:
            raise QueueUnavailable(f"Redis does not answer: {error}") from error

    def _await(self, task_id: str, seconds: float) -> Any | None:
        """On a subscription of its own: one that is kept goes deaf with its connection, and Celery's stays so."""
        deadline = time.monotonic() + seconds
        backend = self._app.backend
        with backend.client.pubsub(ignore_subscribe_messages=True) as announced:
            announced.subscribe(backend.get_key_for_task(task_id))
            while (left := deadline - time.monotonic()) > 0:
                # At first, that the subscription stands.
                announced.get_message(timeout=min(left, _SLICE_SECONDS))
                answer = self._answer(task_id)
                if answer is not None:
                    return answer
        return None

    def _answer(self, task_id: str) -> Any | None:
        found = self._app.backend.get_task_meta(task_id)
        if found["status"] == "FAILURE":
            raise found["result"]
        return found["result"] if found["status"] == "SUCCESS" else None
