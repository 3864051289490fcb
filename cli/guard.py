"""The process that outlives a killed `lookalike up`, so that it leaves no orphans.

`up` tells it over a pipe which process groups to watch. The pipe's end means that `up` is gone, however it
went: what is still watched is ended then, and the folder of sockets removed. It also inherits the lock of the
data folder, so that a second `up` cannot begin on files that the first one's parts still hold.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

_GRACE_SECONDS = 10.0


class Guard:
    """`up`'s end of the pipe. `lock` is the descriptor of the data folder's lock."""

    def __init__(self, sockets: Path, lock: int) -> None:
        self._sockets = sockets
        self._lock = lock
        self._groups: set[int] = set()
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "cli.guard", str(self._sockets)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd=self._sockets,  # not where we stand: a folder `cli` there would be taken for this package
            start_new_session=True,
            pass_fds=(self._lock,),
        )

    def watch(self, group: int) -> None:
        """From now on `group` does not outlive `up`."""
        self._groups.add(group)
        self._tell("watch", group)

    def release(self, group: int) -> None:
        """`group` has ended; its number may soon be another's."""
        self._groups.discard(group)
        self._tell("release", group)

    def keep(self) -> None:
        """Start the guard again if somebody killed it."""
        if self._process.poll() is not None:
            self._process = self._start()
            for group in self._groups:
                self._tell("watch", group)

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, *error: object) -> None:
        """End what is still watched, remove the sockets' folder."""
        self.keep()
        self._process.communicate()

    def _tell(self, verb: str, group: int) -> None:
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # `keep` starts it again and tells it everything
            self._process.stdin.write(f"{verb} {group}\n".encode())


def main(sockets: str) -> None:
    """What the guard's own process does."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _end(_listen(sys.stdin))
    shutil.rmtree(sockets, ignore_errors=True)


def _listen(lines: Iterable[str]) -> set[int]:
    groups: set[int] = set()
    for line in lines:
        verb, group = line.split()
        (groups.add if verb == "watch" else groups.discard)(int(group))
    return groups


def _end(groups: set[int]) -> None:
    deadline = time.monotonic() + _GRACE_SECONDS
    alive = {group for group in groups if signal_group(group, signal.SIGTERM)}
    while alive and time.monotonic() < deadline:
        time.sleep(0.1)
        alive = {group for group in alive if signal_group(group, 0)}
    for group in alive:
        signal_group(group, signal.SIGKILL)


def signal_group(group: int, number: int) -> bool:
    """Send a signal (0 only asks) to a process group. False where none of it is left."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # macOS: no permission where only zombies are left
        return False
    return True


if __name__ == "__main__":
    main(sys.argv[1])
