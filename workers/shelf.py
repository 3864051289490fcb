"""Models that were loaded because somebody asked for them; where they take too much, those used least lately go."""

from __future__ import annotations

import copy
import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from shared.errors import LookalikeError, ModelAway, RequestCode, RequestError, ServiceError

log = logging.getLogger("lookalike.models")

_MIB = 2**20
# How long who asks waits for a model that is being loaded; then it is to come again, and the load goes on. Two wait
# so long, and all others no longer than a load from a disk takes: a worker has few slots, and they are wanted by
# collections whose models stand.
PATIENCE_SECONDS = 60.0
_MOST_PATIENT = 2
OTHERS_PATIENCE_SECONDS = 10.0
# What could not be loaded is not tried again before: a try may cost seconds, and a job asks at each of its chunks.
_AGAIN_SECONDS = 60.0
_AGAIN_WHEN_AWAY_SECONDS = 10.0

Key = tuple[str, str | None]  # a model's name, and its commit where it is the hub's


class Loaded(Protocol):
    """What stands on a shelf. `memory` is in bytes."""

    @property
    def memory(self) -> int: ...

    def close(self) -> None: ...


Thing = TypeVar("Thing", bound=Loaded)


class _Place(Generic[Thing]):
    """One model's: empty while it is loaded, then with the model or with the reason why there is none.

    Until then it claims the `expected` bytes.
    """

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.ready = threading.Event()
        self.model: Thing | None = None
        self.failure: LookalikeError | None = None
        self.again_at = math.inf
        self.users = 0

    @property
    def memory(self) -> int:
        if self.model:
            return self.model.memory
        return 0 if self.ready.is_set() else self.expected

    @property
    def is_away(self) -> bool:
        """It could not be loaded for a fault that passes."""
        return isinstance(self.failure, ServiceError)


class Shelf(Generic[Thing]):
    """Loads each model when it is first asked for, one at a time, in a thread of its own. Safe from any thread.

    Models of more than `most_bytes` together do not stay, but for those in use: what is used at the same moment stands
    together, whatever it takes.
    """

    def __init__(self, load: Callable[[Key], Thing], most_bytes: int) -> None:
        self._load = load
        self._most_bytes = most_bytes
        self._places: OrderedDict[Key, _Place[Thing]] = OrderedDict()  # the one used least lately first
        self._sizes: dict[Key, int] = {}
        self._lock = threading.Lock()
        self._one_at_a_time = threading.Lock()  # transformers' loader is not made for threads
        self._closed = False

    @contextmanager
    def take(self, key: Key, patience: float = PATIENCE_SECONDS) -> Iterator[Thing]:
        """The model of a key, in use until the block ends.

        RequestError(MODEL_UNAVAILABLE) where it cannot be loaded; ModelAway or another ServiceError where it may be
        in a while.
        """
        place, number = self._enter(key)
        if number > _MOST_PATIENT:
            patience = min(patience, OTHERS_PATIENCE_SECONDS)
        try:
            if not place.ready.wait(patience):
                raise ModelAway(f"The model {key[0]} is being loaded. Ask again in a minute.")
            if place.failure:
                raise copy.copy(place.failure)  # an exception remembers all who raised it
            assert place.model is not None
            yield place.model
        finally:
            self._leave(place)

    def prepare(self, key: Key, memory: int) -> bool:
        """Load a model of so many bytes before anybody asks for it, where there is room beside those that stand.

        False while it is still to come; True once it stands, or will not for want of room or for a fault of its own.
        """
        with self._lock:
            place = self._places.get(key)
            if place and not place.is_away:
                return place.ready.is_set()
            memory = max(memory, self._sizes.get(key, 0))
            if self._closed or memory + self._taken() > self._most_bytes:
                return True
            if self._is_due(key):
                self._begin(key, memory)
                self._places.move_to_end(key, last=False)  # nobody used it yet: no other makes room for it
            return False

    def standing(self) -> dict[Key, int]:
        """The models that nobody has to wait for, with their bytes."""
        with self._lock:
            return {key: place.memory for key, place in self._places.items() if place.model}

    def close(self) -> None:
        """Let all go. What is being loaded follows once it is there."""
        with self._lock:
            self._closed = True
            models = [place.model for place in self._places.values() if place.model]
            self._places.clear()
        for model in models:
            model.close()

    def _enter(self, key: Key) -> tuple[_Place[Thing], int]:
        """The place, and how many are at it now."""
        with self._lock:
            if self._closed:
                raise RuntimeError("The worker is stopping.")
            if self._is_due(key):
                self._begin(key, self._sizes.get(key, 0))
            self._places.move_to_end(key)
            place = self._places[key]
            place.users += 1
            return place, place.users

    def _is_due(self, key: Key) -> bool:
        """Whether there is nothing to wait for, or a fault that is worth another try."""
        place = self._places.get(key)
        return place is None or time.monotonic() >= place.again_at

    def _begin(self, key: Key, memory: int) -> None:
        """Load a model, once there is room for it: so many bytes, as far as they are known."""
        place: _Place[Thing] = _Place(memory)
        threading.Thread(target=self._fill, args=(key, place), name="model-loader", daemon=True).start()
        # Not before: the start may fail, and nobody must wait for what no thread loads.
        self._places[key] = place

    def _leave(self, place: _Place[Thing]) -> None:
        with self._lock:
            place.users -= 1
        self._make_room()

    def _fill(self, key: Key, place: _Place[Thing]) -> None:
        with self._one_at_a_time:
            try:
                self._make_room()
                self._put(key, place, self._load(key))
            except BaseException as error:  # also a panic of Rust's, which is no Exception
                place.failure = _failure(key, error)
                pause = _AGAIN_WHEN_AWAY_SECONDS if place.is_away else _AGAIN_SECONDS
                place.again_at = time.monotonic() + pause
                log.warning("model %s is not loaded: %s", key[0], place.failure.detail)
        place.ready.set()
        self._make_room()

    def _put(self, key: Key, place: _Place[Thing], model: Thing) -> None:
        self._sizes[key] = model.memory
        with self._lock:
            is_late, fits = self._closed, model.memory <= self._most_bytes
            if fits and not is_late:
                place.model = model
                return
        model.close()
        if is_late:
            raise ServiceError("The worker is stopping.")
        raise RequestError(
            RequestCode.MODEL_UNAVAILABLE,
            f"The model {key[0]} takes {self._sizes[key] / _MIB:,.0f} MiB, and all further models of a worker may "
            f"take {self._most_bytes / _MIB:,.0f}. Raise LOOKALIKE_MODELS_MEMORY_MIB, or take a smaller model.",
        )

    def _taken(self) -> int:
        return sum(place.memory for place in self._places.values())

    def _make_room(self) -> None:
        """Let go of what nobody uses until the rest fits."""
        for model in self._taken_down():
            model.close()

    def _taken_down(self) -> list[Thing]:
        models = []
        with self._lock:
            taken = self._taken()
            for key, place in list(self._places.items()):
                if taken <= self._most_bytes:
                    break
                if place.users:
                    continue
                taken -= place.memory  # of one that is being loaded too: it goes once it is there
                if place.model:
                    log.info("model %s is let go: all of them take too much", key[0])
                    models.append(place.model)
                    del self._places[key]
        return models


def _failure(key: Key, error: BaseException) -> LookalikeError:
    if isinstance(error, RequestError | ServiceError):
        return error
    if isinstance(error, LookalikeError):
        return RequestError(RequestCode.MODEL_UNAVAILABLE, error.detail)
    log.exception("model %s", key[0])
    return RequestError(RequestCode.MODEL_UNAVAILABLE, f"The model {key[0]} cannot be loaded: {error}")
