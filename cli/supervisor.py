"""Keeps the parts running: starts them in order, starts again what dies, stops them in reverse order."""

from __future__ import annotations

import math
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType

import click

from cli.errors import GaveUp
from cli.folder import DataFolder, tail
from cli.guard import Guard, signal_group
from cli.parts import Part

_POLL_SECONDS = 0.1
_DRAIN_SECONDS = 40.0  # above what a worker allows itself, LOOKALIKE_DRAIN_SECONDS and some for giving back
_MOST_FAILED_STARTS = 3
_LONGEST_PAUSE_SECONDS = 10.0


class Child:
    """A part and its process, which may be another one after a death."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.process: subprocess.Popen[bytes] | None = None
        self.log = Path()
        self.log_start = 0
        self.wanted = math.inf
        self.due = math.inf
        self.ready = False
        self.failed_starts = 0

    @property
    def seconds(self) -> float:
        """Since it was first started, or was last lost when it had been ready."""
        return time.monotonic() - self.wanted

    def want(self) -> None:
        """It shall run, from now on."""
        self.wanted = self.due = time.monotonic()

    def spawn(self, log: Path, environment: Mapping[str, str], folder: Path) -> int:
        """Start the process in a group of its own, so that a terminal's Ctrl-C does not reach it; its pid."""
        self.log, self.log_start = log, log.stat().st_size
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                self.part.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=folder,
                start_new_session=True,
            )
        return self.process.pid

    def serves(self) -> None:
        """It became ready, so its next death counts as the first."""
        self.ready, self.failed_starts = True, 0

    def died(self) -> float:
        """It is gone. Seconds until it is due again: more for each start that failed before it was ready."""
        if self.ready:
            self.wanted = time.monotonic()
        self.process, self.ready = None, False
        self.failed_starts += 1
        pause = (
            min(2.0 ** (self.failed_starts - 2), _LONGEST_PAUSE_SECONDS) if self.failed_starts > 1 else 0.0
        )
        self.due = time.monotonic() + pause
        return pause

    def words(self) -> str:
        """What its process wrote last, and where the rest is."""
        return f"The end of {self.log}:\n{tail(self.log, self.log_start)}"


class Supervisor:
    """`parts` in the order of their start. Their processes get `environment` and stand in `folder`."""

    def __init__(
        self, parts: Sequence[Part], environment: Mapping[str, str], folder: DataFolder, guard: Guard
    ) -> None:
        self._children = [Child(part) for part in parts]
        self._environment = environment
        self._folder = folder
        self._guard = guard
        self._signals = 0
        self._started = False

    def run(self, when_ready: Callable[[], None]) -> bool:
        """Start all, call `when_ready`, keep them until a signal; whatever happens, stop what was started.

        False when a second signal cut the stop short. Raises GaveUp for a part that does not become ready, or that
        dies again and again before it is. Once all were ready nothing ends but by a signal: a part that dies is
        started again, however often, for whatever it needs may come back.
        """
        self._heed_signals()
        try:
            self._start()
            if not self._signals:
                self._started = True
                when_ready()
            self._tend(until=lambda: False)
        finally:
            clean = self._stop()
        return clean

    def _heed_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1

    def _start(self) -> None:
        for child in self._children:
            if self._signals:
                return
            child.want()
            if child.part.leads:
                self._tend(until=lambda child=child: child.ready)  # type: ignore[misc]
        self._tend(until=lambda: all(child.ready for child in self._children))

    def _spawn(self, child: Child) -> None:
        log = self._folder.log(child.part.name)
        self._guard.watch(child.spawn(log, self._environment, self._folder.path))

    def _tend(self, until: Callable[[], bool]) -> None:
        while not self._signals and not until():
            self._guard.keep()
            for child in self._children:
                self._look_after(child)
            time.sleep(_POLL_SECONDS)

    def _look_after(self, child: Child) -> None:
        if child.process is None:
            if time.monotonic() >= child.due:
                self._spawn(child)
        elif child.process.poll() is not None:
            self._note_death(child, self._bury(child))
        elif not child.ready:
            self._ask(child, child.process.pid)

    def _note_death(self, child: Child, code: int) -> None:
        pause = child.died()
        if child.failed_starts == _MOST_FAILED_STARTS and not self._started:
            raise GaveUp(
                f"The {child.part.name} ended {_MOST_FAILED_STARTS} times before it was ready, "
                f"the last time with exit code {code}. {child.words()}"
            )
        when = f" in {pause:.0f} s" if pause else ""
        click.echo(f"  {child.part.name:<14} ended with exit code {code}; starting it again{when}")

    def _ask(self, child: Child, pid: int) -> None:
        missing = child.part.missing(pid)
        if missing is None:
            child.serves()
            click.echo(f"  {child.part.name:<14} ready in {child.seconds:.1f} s")
        elif child.seconds > child.part.patience and not self._started:
            late = [other for other in self._children if other.process and not other.ready]
            raise GaveUp(
                f"The {child.part.name} is not ready after {child.part.patience:.0f} s: {missing}. "
                + "\n".join(other.words() for other in late)
            )

    def _stop(self) -> bool:
        asked = self._signals
        click.echo("Stopping (Ctrl-C kills at once) …")
        for child in reversed(self._children):
            if child.process is not None:
                self._drain(child, asked)
        return self._signals == asked

    def _drain(self, child: Child, asked: int) -> None:
        assert child.process
        child.process.terminate()
        deadline = time.monotonic() + _DRAIN_SECONDS
        while child.process.poll() is None and self._signals == asked:
            if time.monotonic() > deadline:
                click.echo(f"  {child.part.name:<14} did not stop in {_DRAIN_SECONDS:.0f} s and is killed")
                break
            time.sleep(_POLL_SECONDS)
        self._bury(child)

    def _bury(self, child: Child) -> int:
        assert child.process
        signal_group(child.process.pid, signal.SIGKILL)  # and what it may have left behind in its group
        code = child.process.wait()
        self._guard.release(child.process.pid)
        return code
