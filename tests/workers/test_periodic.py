from __future__ import annotations

import threading

from tests.running import until
from workers.periodic import Periodic


def test_it_is_done_at_once_and_again_until_it_is_stopped() -> None:
    calls: list[str] = []
    periodic = Periodic("counting", 0.01, lambda: calls.append(threading.current_thread().name))
    periodic.start()
    until(lambda: len(calls) > 2, "it was done once")
    periodic.stop()
    assert not periodic.is_alive()
    assert set(calls) == {"counting"}


def test_what_fails_is_tried_again() -> None:
    again = threading.Event()

    def fail_once() -> None:
        if not tried.is_set():
            tried.set()
            raise ConnectionError("away")
        again.set()

    tried = threading.Event()
    periodic = Periodic("trying", 0.01, fail_once)
    periodic.start()
    assert again.wait(30)
    periodic.stop()


def test_one_that_never_began_can_be_stopped() -> None:
    periodic = Periodic("waiting", 60.0, lambda: None)
    periodic.stop()
    assert not periodic.is_alive()
