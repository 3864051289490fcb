"""The Celery application of the workers: `celery -A workers.app worker -P threads -Q ingest`.

Everything that tasks need is built when a worker starts (`worker_init`), never at import.
"""

from __future__ import annotations

import faulthandler
import logging
import os
from typing import Any

from celery import signals
from celery.concurrency.thread import TaskPool as ThreadPool

from shared.broker import Broker, make_celery
from shared.errors import StartError
from shared.settings import Settings
from shared.telemetry import log_to_stderr
from workers import errands, memory, watchdog
from workers.drain import Drain, leave
from workers.errands import Runner
from workers.imports import Imports
from workers.memory import MemoryGuard
from workers.parts import Parts, Rounds, build_parts
from workers.periodic import Periodic
from workers.request import Request
from workers.syncs import Syncs
from workers.watchdog import Watchdog

log = logging.getLogger("lookalike.worker")

settings = Settings()
app = make_celery(settings)
app.conf.imports = ("workers.tasks",)
app.Task.Request = Request

_running: dict[str, Any] = {}


def parts() -> Parts:
    """This worker's tools."""
    return _running["parts"]


def end(reason: str) -> None:
    """This worker ends once its tasks have, for its supervisor to start it again."""
    _running["drain"].ask(reason)


@signals.setup_logging.connect
def _set_up_logging(**_: object) -> None:
    log_to_stderr(settings.log_level)


@signals.worker_init.connect
def _start(sender: Any, **_: object) -> None:
    if sender.app is not app:  # signals are of the process, and it may run another application's worker too
        return
    _set_up_logging()  # Celery does so later, and what is built here has things to say
    queues = sorted(app.amqp.queues.consume_from)
    try:
        faulthandler.enable()  # where a native library kills this process, the log says at what
        _refuse_forks(sender)
        _running["parts"] = build_parts(settings)
        # With its pid, or the presence of one that was killed would speak for the one that is starting.
        _running["rounds"] = Rounds(app, parts(), f"{sender.hostname}/{os.getpid()}", queues)
        _running["drain"] = Drain(parts().leases, settings.drain_seconds)
        _running["sides"] = [*_guards(queues, sender.concurrency), *_errands(queues)]
    except Exception as error:
        # Celery swallows what signal handlers raise, and would serve without any tools.
        if not isinstance(error, StartError):
            log.exception("start failed")
        leave(f"This worker cannot start: {error}")
    if "search" not in queues:
        # Bulk work yields the processor to searches on the same machine.
        os.nice(5)
    log.info("serves %s with %s", ", ".join(queues), parts().models.default.card.fingerprint)


@signals.worker_ready.connect
def _ready(**_: object) -> None:
    if "rounds" in _running:
        _running["rounds"].start()
        for side in _running["sides"]:
            side.start()


@signals.worker_shutting_down.connect
def _drain(**_: object) -> None:
    if "drain" in _running:
        _running["drain"].on_signal()


@signals.worker_shutdown.connect
def _stop(sender: Any, **_: object) -> None:
    """The last that Celery does, also with a worker that never came to be ready."""
    if "rounds" in _running:
        try:
            for side in _running["sides"]:
                side.stop()
            _running["rounds"].stop()
            parts().close()
        except Exception:
            log.exception("stop failed")
        finally:
            leave(sender.exitcode)


def _guards(queues: list[str], slots: int) -> list[Periodic]:
    """What ends this worker where it does not work as it should."""
    end = _running["drain"].ask
    dog = Watchdog(parts().redis, queues, slots, parts().leases, settings, end)
    return [
        Periodic("watchdog", watchdog.LOOK_SECONDS, dog.look),
        Periodic("memory guard", memory.LOOK_SECONDS, MemoryGuard(settings, end).look),
    ]


def _errands(queues: list[str]) -> list[Periodic]:
    """What an ingest worker does for whole jobs. Each line has its thread: an import of hours delays no other line."""
    if "ingest" not in queues:
        return []
    lines = (Imports(parts(), Broker(app)), Syncs(parts()))
    runners = [(work.line, Runner(work, parts().ledger.errands, parts().leases)) for work in lines]
    return [Periodic(line, errands.LOOK_SECONDS, runner.run) for line, runner in runners]


def _refuse_forks(worker: Any) -> None:
    """Threads and CUDA do not survive a fork, and the model must stand in memory once."""
    if not issubclass(worker.pool_cls, ThreadPool):
        raise StartError("start it with `-P threads`; the model cannot be shared with forked processes.")
