"""The Celery application of the workers: `celery -A workers.app worker -P threads -Q ingest`.

Everything that tasks need is built when a worker starts (`worker_init`), never at import.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from celery import signals
from celery.concurrency.thread import TaskPool as ThreadPool

from shared.broker import make_celery
from shared.errors import StartError
from shared.settings import Settings
from shared.telemetry import log_to_stderr
from workers.parts import Parts, Rounds, build_parts

log = logging.getLogger("lookalike.worker")

settings = Settings()
app = make_celery(settings)
app.conf.imports = ("workers.tasks",)

_running: dict[str, Any] = {}


def parts() -> Parts:
    """This worker's tools."""
    return _running["parts"]


@signals.setup_logging.connect
def _set_up_logging(**_: object) -> None:
    log_to_stderr(settings.log_level)


@signals.worker_init.connect
def _start(sender: Any, **_: object) -> None:
    if sender.app is not app:  # signals are of the process, and it may run another application's worker too
        return
    queues = sorted(app.amqp.queues.consume_from)
    try:
        _refuse_forks(sender)
        _running["parts"] = build_parts(settings)
        _running["rounds"] = Rounds(app, parts(), sender.hostname, queues)
    except Exception as error:
        # Celery swallows what signal handlers raise, and would serve without any tools.
        if not isinstance(error, StartError):
            log.exception("start failed")
        sys.exit(f"This worker cannot start: {error}")
    if "search" not in queues:
        # Bulk work yields the processor to searches on the same machine.
        os.nice(5)
    log.info("serves %s with %s", ", ".join(queues), parts().embedder.card.fingerprint)


@signals.worker_ready.connect
def _ready(**_: object) -> None:
    if "rounds" in _running:
        _running["rounds"].start()


@signals.worker_shutdown.connect
def _stop(**_: object) -> None:
    if "rounds" in _running:
        _running.pop("rounds").stop()
        _running.pop("parts").close()


def _refuse_forks(worker: Any) -> None:
    """Threads and CUDA do not survive a fork, and the model must stand in memory once."""
    if not issubclass(worker.pool_cls, ThreadPool):
        raise StartError("start it with `-P threads`; the model cannot be shared with forked processes.")
