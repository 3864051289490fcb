"""How many threads and processes a worker runs, planned together from the cores at hand."""

from __future__ import annotations

import logging
import math
import os
import sys
from contextlib import suppress

from shared.settings import Settings
from workers.memory import control_groups

log = logging.getLogger("lookalike.plan")

_CPU_BATCH = 4  # beyond it an image costs a CPU no less, and a search waits longer for its turn
_CUDA_BATCH = 256  # below 128 CUDA is bound by launches
_METAL_BATCH = 16  # its memory is the machine's own
_CUDA_FORWARDS = 2  # one is copied in while the other is computed; no two threads may use Metal at once
_FETCHES_A_CORE = 8
_MOST_FETCHES = 512
_LEAST_FETCHES = 16  # two cores keep up with three at 50 ms each; slow hosts have tails


def planned(settings: Settings, device: str) -> Settings:
    """The settings, with a number in place of each 0 that leaves it to the worker."""
    count = cores()
    forwards = {"cpu": count, "cuda": _CUDA_FORWARDS}.get(device, 1)
    batch = settings.batch_size or {"cpu": _CPU_BATCH, "cuda": _CUDA_BATCH}.get(device, _METAL_BATCH)
    plan = settings.model_copy(
        update={
            # Forwards of one thread each: two of them beat one of two threads.
            "embed_threads": settings.embed_threads or forwards,
            "batch_size": min(batch, _CPU_BATCH) if device == "cpu" else batch,
            "decode_processes": settings.decode_processes or count,
            "fetch_threads": settings.fetch_threads
            or min(max(_LEAST_FETCHES, _FETCHES_A_CORE * count), _MOST_FETCHES),
        }
    )
    log.info(
        "plan for %d cores and %s: %d forwards of up to %d pictures at once, %d decoding processes, %d fetches",
        *(count, device),
        *(plan.embed_threads, plan.batch_size, plan.decode_processes, plan.fetch_threads),
    )
    return plan


def cores() -> int:
    """CPU cores that this process may use, also where a container has a share of them only."""
    count = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, math.floor(min([count, *_quotas()])))


def _quotas() -> list[float]:
    """Cores that the control groups around this process grant, of version 2 (`cpu.max`) and 1."""
    quotas = []
    for group, version in control_groups("cpu"):
        with suppress(OSError, ValueError):  # no such file, or no limit
            if version == 2:
                quota, period = (group / "cpu.max").read_text().split()
            else:
                quota, period = ((group / f"cpu.cfs_{word}_us").read_text() for word in ("quota", "period"))
            if int(quota) > 0:
                quotas.append(int(quota) / int(period))
    return quotas
