"""The queue: one Celery application made from the settings, and how the API sends a task and waits for it."""

from __future__ import annotations

import uuid
from typing import Any

import redis
from celery import Celery
from celery.exceptions import TimeoutError as CeleryTimeout
from kombu.exceptions import OperationalError
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.contract import TaskSpec
from shared.errors import QueueUnavailable
from shared.settings import Settings

# What a Redis that is away looks like through Celery; the RuntimeError is its "Retry limit exceeded".
_AWAY = (OperationalError, redis.RedisError, OSError, RuntimeError)


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
        broker_connection_timeout=2,
        broker_pool_limit=16,
        broker_transport_options={
            # The ledger's leases decide who works; redelivery by age must not compete with them.
            "visibility_timeout": 3600,
            "unacked_restore_interval": 10,
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 25,
        },
        redis_socket_connect_timeout=2,
        redis_socket_timeout=10,
        redis_backend_health_check_interval=25,
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


def connect_redis(settings: Settings, *, patience: float = 10.0) -> redis.Redis:
    """A pooled client for the ledger and the uploads; it waits `patience` seconds for an answer."""
    return redis.Redis.from_url(
        settings.redis_url,
        socket_connect_timeout=2,
        socket_timeout=patience,
        health_check_interval=25,
        # A command whose answer was lost may have been done, and the ledger's scripts must not be done twice.
        retry=Retry(NoBackoff(), 0),
    )


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
        result = self._app.AsyncResult(task_id)
        try:
            if seconds <= 0:
                return result.result if result.state == "SUCCESS" else None
            return result.get(timeout=seconds, propagate=True)
        except CeleryTimeout:
            return None
        except _AWAY as error:
            raise QueueUnavailable(f"Redis does not answer: {error}") from error
