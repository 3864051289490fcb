"""The search workers, which keep the same models at hand: what one of them has loaded, the others load beside it.

So the model of a new version stands in all of them while it is filled, and none starts cold beside others that run.
"""

from __future__ import annotations

import json
import time
import uuid

import redis

from shared.contract import ModelCard
from shared.errors import ModelAway
from workers.models import Models
from workers.shelf import Key

_NAMES = "lookalike:crew"
_ALIVE_SECONDS = 12
_LOOK_SECONDS = 0.2


class Crew:
    """One worker's place among them. It says which models it has, and is forgotten when it is silent for 12 s."""

    def __init__(self, client: redis.Redis, models: Models) -> None:
        self._redis = client
        self._models = models
        self._name = uuid.uuid4().hex
        self._tried: list[Key] = []

    def meet(self) -> None:
        """Begin to load what others have, where there is room for it, and say what became of all of it."""
        found = {key: memory for tried in self._others() for key, memory in tried.items() if memory}
        self._tried = [key for key, memory in found.items() if self._models.prepare(key, memory)]
        self._say()

    def wait_for(self, card: ModelCard, seconds: float) -> None:
        """Until no other worker has still to load a model that stands here; ModelAway where that takes longer.

        One that has no room for it, or cannot load it, is not waited for.
        """
        key, until = self._models.key_of(card), time.monotonic() + seconds
        self._say()
        while waiting := sum(key not in tried for tried in self._others()):
            if time.monotonic() > until:
                raise ModelAway(
                    f"Search workers that have still to load the model {card.name}: {waiting}. Ask again in a minute; "
                    "where it goes on, their logs say why they cannot."
                )
            time.sleep(_LOOK_SECONDS)

    def leave(self) -> None:
        self._redis.srem(_NAMES, self._name)
        self._redis.delete(_place(self._name))

    def _say(self) -> None:
        """Which models stand here, with their bytes, and with none those that do not although they were tried."""
        said = [
            [*key, memory]
            for key, memory in (dict.fromkeys(self._tried, 0) | self._models.standing()).items()
        ]
        self._redis.set(_place(self._name), json.dumps(said), ex=_ALIVE_SECONDS)
        self._redis.sadd(_NAMES, self._name)  # a name without words would be taken for one that fell silent

    def _others(self) -> list[dict[Key, int]]:
        """What each other worker has said."""
        names = [name.decode() for name in self._redis.smembers(_NAMES) if name.decode() != self._name]
        if not names:
            return []
        said = dict(zip(names, self._redis.mget(map(_place, names)), strict=True))
        if silent := [name for name, words in said.items() if words is None]:
            self._redis.srem(_NAMES, *silent)
        return [
            {(name, commit): memory for name, commit, memory in json.loads(words)}
            for words in said.values()
            if words is not None
        ]


def _place(name: str) -> str:
    return f"{_NAMES}:{name}"
