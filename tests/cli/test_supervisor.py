from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import redis

SCRIPT = Path(__file__).with_name("tiny_up.py")
ROOT = SCRIPT.parents[2]


class Up:
    """A running `tiny_up.py`."""

    def __init__(self, folder: Path, *kinds: str) -> None:
        self.folder = folder
        self.output = folder / "output"
        environment = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(SCRIPT), str(folder), *kinds],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**environment, "PYTHONPATH": str(ROOT)},
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self.output.read_text()

    @property
    def notes(self) -> list[str]:
        path = self.folder / "notes"
        return path.read_text().splitlines() if path.exists() else []

    def pid(self, name: str) -> int:
        text = (self.folder / f"{name}.alive").read_text()
        return int(text) if text else 0

    def sockets(self) -> Path:
        return Path((self.folder / "sockets").read_text())

    def ended(self) -> int:
        return self.process.wait(timeout=30)


@pytest.fixture
def up(tmp_path):
    started: list[Up] = []

    def start(*kinds: str) -> Up:
        started.append(Up(tmp_path, *kinds))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.send_signal(signal.SIGINT)
            one.process.send_signal(signal.SIGINT)
            one.process.wait(timeout=60)


@pytest.fixture
def ready(up, eventually):
    def ready(*kinds: str) -> Up:
        one = up(*kinds)
        eventually(lambda: "all are ready" in one.said)
        return one

    return ready


@pytest.fixture
def alive(tmp_path):
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        import tiny_up
    finally:
        sys.path.pop(0)
    return partial(tiny_up.alive, tmp_path)


def test_parts_start_in_order_each_with_a_line(ready):
    up = ready("steady:a", "steady:b")
    assert up.notes == ["started a", "started b"]
    lines = [line.split()[:3] for line in up.said.splitlines()]
    assert lines == [["a", "ready", "in"], ["b", "ready", "in"], ["all", "are", "ready"]]


def test_ctrl_c_reaches_up_alone_which_stops_the_last_part_first(ready, alive):
    up = ready("steady:a", "steady:b", "steady:c")
    os.killpg(up.process.pid, signal.SIGINT)
    assert up.ended() == 0
    assert up.notes[3:] == ["stopped c", "stopped b", "stopped a"]
    assert not up.sockets().exists()


def test_sigterm_stops_everything_cleanly(ready, alive):
    up = ready("steady:a")
    up.process.terminate()
    assert up.ended() == 0
    assert up.notes == ["started a", "stopped a"]


def test_a_signal_before_all_are_ready_stops_what_was_started(up, eventually):
    up = up("steady:a", "late:b")
    eventually(lambda: (up.folder / "logs" / "b.log").exists())
    up.process.terminate()
    assert up.ended() == 0
    assert up.notes == ["started a", "stopped a"]
    assert "all are ready" not in up.said


def test_a_second_ctrl_c_kills_at_once(ready, alive, eventually):
    up = ready("stubborn:a")
    up.process.send_signal(signal.SIGINT)
    eventually(lambda: "Stopping" in up.said)
    assert alive("a")
    up.process.send_signal(signal.SIGINT)
    assert up.ended() == 1
    assert not alive("a")


def test_a_killed_part_is_started_again(ready, alive, eventually):
    up = ready("steady:a", "steady:b")
    first = up.pid("a")
    os.kill(first, signal.SIGKILL)
    eventually(lambda: up.notes.count("started a") == 2 and alive("a"))
    assert up.pid("a") != first
    assert "ended with exit code -9; starting it again" in up.said
    assert up.process.poll() is None
    assert up.notes.count("started b") == 1


def test_a_part_that_keeps_dying_ends_everything_with_its_log(up, alive):
    up = up("steady:a", "dying:b")
    assert up.ended() == 1
    assert "The b ended 3 times before it was ready, the last time with exit code 3." in up.said
    assert "| no room on the disk" in up.said
    assert not alive("a")


def test_a_part_may_be_killed_again_and_again(ready, alive, eventually):
    up = ready("steady:a", "steady:b")
    for count in range(1, 21):
        os.kill(up.pid("b"), signal.SIGKILL)
        eventually(lambda count=count: up.said.count("b              ready in") == count + 1)
    assert up.process.poll() is None
    assert up.notes.count("started a") == 1


def test_everything_may_be_killed_at_once_again_and_again(ready, eventually):
    up = ready("steady:a", "steady:b")
    for count in range(1, 6):
        for pid in (up.pid("a"), up.pid("b"), guard_of(up)):
            os.kill(pid, signal.SIGKILL)
        eventually(lambda count=count: up.said.count("ready in") == 2 * (count + 1) and guard_of(up))
    up.process.terminate()
    assert up.ended() == 0


def test_a_part_that_cannot_start_again_is_tried_with_growing_pauses(ready, alive, eventually):
    up = ready("steady:a", "mortal:b")
    os.kill(up.pid("b"), signal.SIGKILL)
    eventually(lambda: "b              ended with exit code 3; starting it again in 2 s" in up.said)
    assert "b              ended with exit code 3; starting it again in 1 s" in up.said
    assert up.process.poll() is None
    assert alive("a")


def test_a_part_that_is_not_ready_in_time_ends_everything_with_its_log(up, alive):
    up = up("steady:a", "late:b")
    assert up.ended() == 1
    assert "The b is not ready after 2 s: nobody holds its lock." in up.said
    assert "| still reading the map" in up.said
    assert not alive("a")


def test_what_a_part_leaves_in_its_group_ends_with_it(ready, alive):
    up = ready("parent:a")
    assert alive("a")
    up.process.terminate()
    assert up.ended() == 0
    assert not alive("a")


def test_a_killed_up_leaves_nothing_behind(ready, alive, eventually):
    up = ready("steady:a", "steady:b")
    sockets = up.sockets()
    up.process.kill()
    up.ended()
    eventually(lambda: not alive("a") and not alive("b"))
    eventually(lambda: not sockets.exists())


def test_a_killed_guard_is_replaced_by_one_that_knows_the_parts(ready, alive, eventually):
    up = ready("steady:a")
    first = guard_of(up)
    os.kill(first, signal.SIGKILL)
    eventually(lambda: guard_of(up) not in (0, first))
    up.process.kill()
    up.ended()
    eventually(lambda: not alive("a"))


def guard_of(up: Up) -> int:
    """The pid of the guard that lives, 0 for none."""
    listing = subprocess.run(["ps", "-axo", "pid=,ppid=,stat=,command="], capture_output=True, text=True)
    for line in listing.stdout.splitlines():
        pid, parent, state, command = line.split(None, 3)
        if int(parent) == up.process.pid and "cli.guard" in command and not state.startswith("Z"):
            return int(pid)
    return 0


def test_a_second_up_waits_for_the_parts_of_a_killed_one(ready, alive):
    first = ready("slow:a")
    first.process.kill()
    first.ended()
    assert alive("a")
    second = ready("steady:b")
    assert second.notes == ["started a", "stopped a", "started b"]


def test_the_real_broker_keeps_its_data_over_a_kill(ready, eventually):
    up = ready("broker")
    client = redis.Redis.from_url(f"unix://{up.sockets() / 'broker.sock'}")
    client.set("word", "kept")
    os.kill(client.info("server")["process_id"], signal.SIGKILL)
    eventually(lambda: up.said.count("ready in") == 2)
    assert client.get("word") == b"kept"
    assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
    client.close()
    up.process.terminate()
    assert up.ended() == 0
