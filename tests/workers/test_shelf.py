from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from shared.errors import ModelAway, RequestError, ServiceError, StartError
from tests.running import until
from workers import shelf as shelf_module
from workers.shelf import Key, Shelf

A, B, C = ("a", None), ("b", None), ("c", "1f")


@dataclass(eq=False)
class Thing:
    """Something of a size that can be closed, once."""

    key: Key
    memory: int = 10
    closed: threading.Event = field(default_factory=threading.Event)

    def close(self) -> None:
        assert not self.closed.is_set()
        self.closed.set()


class Store:
    """Where things are loaded from: what it was asked for, and what is in its way."""

    def __init__(self) -> None:
        self.asked: list[Key] = []
        self.faults: dict[Key, BaseException] = {}
        self.gates: dict[Key, threading.Event] = {}
        self.sizes: dict[Key, int] = {}
        self.at_once = 0

    def load(self, key: Key) -> Thing:
        self.asked.append(key)
        self.at_once += 1
        assert self.at_once == 1
        try:
            if key in self.gates:
                assert self.gates[key].wait(30)
            if key in self.faults:
                raise self.faults[key]
            return Thing(key, self.sizes.get(key, 10))
        finally:
            self.at_once -= 1


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def shelf(store: Store) -> Iterator[Shelf[Thing]]:
    """Room for two."""
    made = Shelf(store.load, 20)
    yield made
    for gate in store.gates.values():
        gate.set()
    made.close()


def take(shelf: Shelf[Thing], key: Key) -> Thing:
    with shelf.take(key) as thing:
        return thing


def test_a_model_is_loaded_once_and_stays(shelf: Shelf[Thing], store: Store) -> None:
    with ThreadPoolExecutor(2) as threads:
        things = set(threads.map(lambda _: take(shelf, A), range(2)))
    assert len(things | {take(shelf, A)}) == 1
    assert store.asked == [A]


def test_the_one_used_least_lately_goes(shelf: Shelf[Thing]) -> None:
    a, b = take(shelf, A), take(shelf, B)
    assert take(shelf, A) is a
    take(shelf, C)
    assert b.closed.wait(10)
    assert take(shelf, A) is a
    assert take(shelf, B) is not b
    assert not a.closed.is_set()


def test_nothing_goes_while_it_is_in_use(shelf: Shelf[Thing]) -> None:
    with ExitStack() as uses:
        things = [uses.enter_context(shelf.take(key)) for key in (A, B, C, A)]
        assert not any(thing.closed.is_set() for thing in things)
    assert sum(thing.closed.is_set() for thing in things[:3]) == 1  # there is room for two


def test_a_model_that_went_is_not_held_by_anything(shelf: Shelf[Thing]) -> None:
    gone = weakref.ref(take(shelf, A))
    take(shelf, B)
    take(shelf, C)
    gc.collect()
    assert gone() is None


def test_room_is_made_before_a_model_of_known_size_comes_again(shelf: Shelf[Thing], store: Store) -> None:
    take(shelf, A)
    b, c = take(shelf, B), take(shelf, C)
    store.gates[A] = threading.Event()
    again = threading.Thread(target=take, args=(shelf, A))
    again.start()
    assert b.closed.wait(10)
    assert not c.closed.is_set()
    store.gates[A].set()
    again.join()


def test_one_that_is_being_loaded_is_in_nobodys_way(shelf: Shelf[Thing], store: Store) -> None:
    a = take(shelf, A)
    store.gates[B] = threading.Event()
    waiting = threading.Thread(target=take, args=(shelf, B))
    waiting.start()
    until(lambda: B in store.asked, "B was never asked for")
    assert take(shelf, A) is a
    store.gates[B].set()
    waiting.join()


def test_models_are_loaded_one_after_the_other(shelf: Shelf[Thing], store: Store) -> None:
    store.gates[A] = threading.Event()
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(take, shelf, A)
        until(lambda: A in store.asked, "A was never asked for")
        second = threads.submit(take, shelf, B)
        until(lambda: B in shelf._places, "nobody asked for B")
        with pytest.raises(TimeoutError):
            second.result(0.2)
        store.gates[A].set()
        assert (first.result().key, second.result().key) == (A, B)


def test_who_asks_for_long_comes_again_and_the_load_goes_on(shelf: Shelf[Thing], store: Store) -> None:
    store.gates[A] = threading.Event()
    with pytest.raises(ModelAway, match="is being loaded"), shelf.take(A, patience=0.01):
        pass
    store.gates[A].set()
    assert take(shelf, A).key == A
    assert store.asked == [A]


def test_only_two_wait_for_one_model_for_long(
    shelf: Shelf[Thing], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf_module, "OTHERS_PATIENCE_SECONDS", 0.01)
    store.gates[A] = threading.Event()
    with ThreadPoolExecutor(2) as threads:
        patient = [threads.submit(take, shelf, A) for _ in range(2)]
        until(lambda: A in shelf._places and shelf._places[A].users == 2, "two never waited")
        with pytest.raises(ModelAway):
            take(shelf, A)
        store.gates[A].set()
        assert patient[0].result() is patient[1].result()
    assert take(shelf, A) is patient[0].result()


def test_what_cannot_be_loaded_says_why_and_is_not_tried_at_each_asking(
    shelf: Shelf[Thing], store: Store
) -> None:
    store.faults[A] = StartError("It has no weights.")
    for _ in range(5):
        with pytest.raises(RequestError, match="no weights") as refused, shelf.take(A):
            pass
        assert refused.value.code == "model_unavailable"
    assert store.asked == [A]
    del store.faults[A]
    shelf._places[A].again_at = 0.0  # its pause is over
    assert take(shelf, A).key == A


def test_a_hub_that_is_away_is_a_fault_that_passes(shelf: Shelf[Thing], store: Store) -> None:
    store.faults[A] = ModelAway("The hub does not answer.")
    for _ in range(3):
        with pytest.raises(ModelAway, match="does not answer"), shelf.take(A):
            pass
    assert store.asked == [A]
    del store.faults[A]
    shelf._places[A].again_at = 0.0  # its pause is over
    assert take(shelf, A).key == A


def test_any_other_fault_of_a_load_is_the_models(shelf: Shelf[Thing], store: Store) -> None:
    store.faults[A] = ZeroDivisionError("by zero")
    with pytest.raises(RequestError, match="cannot be loaded: by zero"), shelf.take(A):
        pass
    assert take(shelf, B).key == B


def test_a_load_that_dies_as_only_a_native_library_does_is_the_models_fault_too(
    shelf: Shelf[Thing], store: Store
) -> None:
    class Panic(BaseException):
        """As Rust's reach Python."""

    store.faults[A] = Panic("at the disco")
    with pytest.raises(RequestError, match="cannot be loaded: at the disco"), shelf.take(A, patience=10):
        pass
    assert take(shelf, B).key == B


def test_a_load_that_no_thread_began_is_begun_by_the_next_who_asks(
    shelf: Shelf[Thing], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as busy:
        busy.setattr(threading.Thread, "start", no_more)
        with pytest.raises(RuntimeError, match="new thread"):
            take(shelf, A)
    assert take(shelf, A).key == A


def test_a_model_larger_than_the_bound_is_refused(shelf: Shelf[Thing], store: Store) -> None:
    store.sizes[A] = 21
    with pytest.raises(RequestError, match="LOOKALIKE_MODELS_MEMORY_MIB"), shelf.take(A):
        pass


def prepare(shelf: Shelf[Thing], key: Key) -> None:
    until(lambda: shelf.prepare(key, 10), f"{key} was never prepared")


def test_a_prepared_model_stands_before_anybody_asks_for_it(shelf: Shelf[Thing], store: Store) -> None:
    store.gates[A] = threading.Event()
    assert not shelf.prepare(A, 10)
    assert not shelf.prepare(A, 10)
    assert shelf.standing() == {}
    store.gates[A].set()
    prepare(shelf, A)
    assert shelf.standing() == {A: 10}
    assert take(shelf, A).key == A
    assert store.asked == [A]


def test_who_asks_for_a_model_that_is_being_prepared_waits_for_it(shelf: Shelf[Thing], store: Store) -> None:
    store.gates[A] = threading.Event()
    shelf.prepare(A, 10)
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(take, shelf, A)
        until(lambda: shelf._places[A].users, "nobody waited")
        store.gates[A].set()
        assert asked.result().key == A
    assert store.asked == [A]


def test_no_other_goes_for_one_that_is_prepared(shelf: Shelf[Thing], store: Store) -> None:
    a, b = take(shelf, A), take(shelf, B)
    assert shelf.prepare(C, 10)
    assert store.asked == [A, B]
    store.sizes[C] = 15
    take(shelf, C)  # A and B made room for it
    assert (a.closed.is_set(), b.closed.is_set()) == (True, True)
    prepare(shelf, A)
    assert shelf.standing() == {C: 15}


def test_a_prepared_model_that_is_larger_than_was_said_goes_itself(shelf: Shelf[Thing], store: Store) -> None:
    a = take(shelf, A)
    store.sizes[B] = 15
    prepare(shelf, B)
    until(lambda: B not in shelf.standing(), "B stayed")
    assert not a.closed.is_set()


def test_a_prepared_model_goes_before_those_that_were_used(shelf: Shelf[Thing]) -> None:
    a = take(shelf, A)
    prepare(shelf, B)
    take(shelf, C)
    until(lambda: set(shelf.standing()) == {A, C}, "B stayed")
    assert not a.closed.is_set()


def test_one_that_cannot_be_prepared_is_tried_once(shelf: Shelf[Thing], store: Store) -> None:
    store.faults[A] = StartError("It has no weights.")
    prepare(shelf, A)
    prepare(shelf, A)
    assert (store.asked, shelf.standing()) == ([A], {})


def test_what_could_not_be_prepared_for_a_fault_that_passes_is_tried_again(
    shelf: Shelf[Thing], store: Store
) -> None:
    store.faults[A] = ModelAway("The hub does not answer.")
    shelf.prepare(A, 10)
    until(shelf._places[A].ready.is_set, "it was never tried")
    assert not shelf.prepare(A, 10)  # it is still to come
    assert store.asked == [A]
    del store.faults[A]
    shelf._places[A].again_at = 0.0  # its pause is over
    prepare(shelf, A)
    assert shelf.standing() == {A: 10}


def test_it_is_not_waited_for_where_its_room_was_taken_meanwhile(shelf: Shelf[Thing], store: Store) -> None:
    store.faults[A] = ModelAway("The hub does not answer.")
    shelf.prepare(A, 10)
    until(shelf._places[A].ready.is_set, "it was never tried")
    take(shelf, B)
    take(shelf, C)
    assert shelf.prepare(A, 10)
    assert store.asked == [A, B, C]


def test_what_is_being_loaded_has_its_room_already(shelf: Shelf[Thing], store: Store) -> None:
    store.gates[A] = threading.Event()
    assert not shelf.prepare(A, 10)
    assert not shelf.prepare(B, 10)
    assert shelf.prepare(C, 10)  # there is no room for a third
    store.gates[A].set()
    prepare(shelf, A)
    prepare(shelf, B)
    assert store.asked == [A, B]


def test_what_made_room_for_one_that_is_being_loaded_is_not_prepared_again(
    shelf: Shelf[Thing], store: Store
) -> None:
    for key in (C, A, B):
        take(shelf, key)
    store.gates[C] = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(take, shelf, C)
        until(lambda: A not in shelf.standing(), "no room was made")
        assert shelf.prepare(A, 10)
        store.gates[C].set()
        assert asked.result().key == C
    assert store.asked == [C, A, B, C]
    assert set(shelf.standing()) == {B, C}


def test_one_that_is_being_prepared_goes_before_those_that_were_used(
    shelf: Shelf[Thing], store: Store
) -> None:
    c, a = take(shelf, C), take(shelf, A)
    take(shelf, ("d", None))
    assert c.closed.wait(10)
    shelf._places.pop(("d", None))
    store.gates[B] = threading.Event()
    shelf.prepare(B, 10)
    until(lambda: B in store.asked, "B was never asked for")
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(take, shelf, C)
        until(lambda: C in shelf._places, "nobody asked for C")
        assert take(shelf, A) is a  # and looks for room, as whoever leaves does
        store.gates[B].set()
        asked.result()
    until(lambda: set(shelf.standing()) == {A, C}, "B stayed")
    assert not a.closed.is_set()


def test_an_error_of_who_uses_a_model_is_his_own(shelf: Shelf[Thing]) -> None:
    with pytest.raises(ZeroDivisionError), shelf.take(A):
        raise ZeroDivisionError
    assert take(shelf, A).key == A


def test_threads_in_turmoil_never_meet_a_model_that_was_let_go(shelf: Shelf[Thing], store: Store) -> None:
    def use(number: int) -> int:
        """How often in 60 tries it came to use one."""
        used = 0
        for step in range(60):
            key = ("abcd"[(number + step * step) % 4], None)
            try:
                with shelf.take(key) as thing:
                    assert thing.key == key
                    time.sleep(0.0005)
                    assert not thing.closed.is_set()
                    used += 1
            except ModelAway:  # two wait for it already
                pass
        return used

    with ThreadPoolExecutor(6) as threads:
        assert min(threads.map(use, range(6))) > 0
    assert sum(place.memory for place in shelf._places.values()) <= 20
    assert len(store.asked) > 4


def test_all_go_with_the_worker(store: Store) -> None:
    shelf = Shelf(store.load, 20)
    a, b = take(shelf, A), take(shelf, B)
    store.gates[C] = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        late = threads.submit(take, shelf, C)
        until(lambda: C in store.asked, "C was never asked for")
        shelf.close()
        assert a.closed.is_set()
        assert b.closed.is_set()
        store.gates[C].set()
        with pytest.raises(ServiceError, match="stopping"):
            late.result()
    with pytest.raises(RuntimeError, match="stopping"):
        take(shelf, A)
