"""How much memory this worker may take, how much it takes, and its end where that is too much."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from shared.errors import StartError
from shared.settings import Settings

LOOK_SECONDS = 2.0
_MIB = 2**20
_SHARE_OF_CONTAINER = 0.8
_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


class MemoryGuard:
    """`look` is called every LOOK_SECONDS. `end` ends the worker with a reason.

    StartError where the worker is too large before it did anything: it would end again and again.
    """

    def __init__(self, settings: Settings, end: Callable[[str], None]) -> None:
        self._limit = settings.worker_memory_mib * _MIB or _share_of_container()
        self._end = end
        taken = taken_bytes()
        if self._limit and taken > self._limit:
            raise StartError(
                f"it takes {taken // _MIB} MiB before any work, and may take {self._limit // _MIB}. Raise "
                "LOOKALIKE_WORKER_MEMORY_MIB, or the container's limit where that is not set."
            )

    def look(self) -> None:
        """Once."""
        if self._limit and (taken := taken_bytes()) > self._limit:
            self._end(
                f"it takes {taken // _MIB} MiB of memory and may take {self._limit // _MIB} "
                "(LOOKALIKE_WORKER_MEMORY_MIB, or four fifths of the container's limit)"
            )


def taken_bytes(pid: int | None = None) -> int:
    """Memory of a process, this one by default, and its children. On Linux, what they share counts once."""
    parent = psutil.Process(pid)
    return sum(_bytes_of(process) for process in [parent, *parent.children(recursive=True)])


def _bytes_of(process: psutil.Process) -> int:
    with suppress(psutil.NoSuchProcess):  # it ended meanwhile
        try:
            whole = process.memory_full_info()
        except psutil.AccessDenied:  # the system hides its shares
            return int(process.memory_info().rss)
        return int(getattr(whole, "pss", whole.rss))
    return 0


def _share_of_container() -> int | None:
    """Four fifths of the least memory limit around this process, None where there is none."""
    limits = [limit for limit in _limits() if limit < psutil.virtual_memory().total]
    return int(min(limits) * _SHARE_OF_CONTAINER) if limits else None


def _limits() -> Iterator[int]:
    """Memory limits of this process's control groups, of version 2 (`memory.max`) and 1."""
    for group, version in control_groups("memory"):
        with suppress(OSError, ValueError):  # no such file, or `max`
            yield int((group / ("memory.max" if version == 2 else "memory.limit_in_bytes")).read_text())


def control_groups(controller: str) -> Iterator[tuple[Path, int]]:
    """The folders of the control groups around this process, each with its version, 1 or 2."""
    for folder, version in _memberships(controller):
        for group in (folder, *folder.parents):
            if not group.is_relative_to(_CGROUPS):
                break
            yield group, version


def _memberships(controller: str) -> Iterator[tuple[Path, int]]:
    with suppress(OSError):
        for line in _MEMBERSHIP.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                yield _CGROUPS / path.lstrip("/"), 2
            elif controller in controllers.split(","):
                yield _CGROUPS / controller / path.lstrip("/"), 1
