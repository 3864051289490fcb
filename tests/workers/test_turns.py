"""workers/turns.py: who broke once runs alone."""

from __future__ import annotations

import threading

from workers.turns import Turns


def waits(turns: Turns, *, alone: bool) -> tuple[threading.Thread, threading.Event]:
    """A thread that wants a turn, and what it sets when it has it."""
    has_it = threading.Event()

    def work() -> None:
        with turns.take(alone=alone):
            has_it.set()

    thread = threading.Thread(target=work)
    thread.start()
    return thread, has_it


def test_chunks_run_side_by_side() -> None:
    turns = Turns()
    with turns.take(alone=False):
        thread, has_it = waits(turns, alone=False)
        assert has_it.wait(5)
    thread.join(5)


def test_a_suspect_waits_for_the_others_and_they_for_it() -> None:
    turns = Turns()
    with turns.take(alone=False):
        suspect, suspect_runs = waits(turns, alone=True)
        assert not suspect_runs.wait(0.05)
        late, late_runs = waits(turns, alone=False)
        assert not late_runs.wait(0.05)
    assert suspect_runs.wait(5)
    assert late_runs.wait(5)
    for thread in (suspect, late):
        thread.join(5)


def test_two_suspects_run_one_after_the_other() -> None:
    turns = Turns()
    with turns.take(alone=True):
        other, runs = waits(turns, alone=True)
        assert not runs.wait(0.05)
    assert runs.wait(5)
    other.join(5)


def test_a_turn_that_breaks_is_given_back() -> None:
    turns = Turns()
    try:
        with turns.take(alone=True):
            raise RuntimeError("boom")
    except RuntimeError:
        pass
    with turns.take(alone=False):
        pass
