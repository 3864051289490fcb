"""workers/crew.py: two search workers with a shelf each, on one Redis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import redis

from shared.contract import ModelCard
from shared.errors import ModelAway
from shared.settings import Settings
from tests.models import make_vit
from tests.running import until
from workers import app as worker
from workers import crew as crew_module
from workers import tasks
from workers.crew import Crew
from workers.models import Models
from workers.parts import Parts


@pytest.fixture(scope="session")
def new_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_vit(tmp_path_factory.mktemp("new-vit"), seed=1, hidden=60))


@contextmanager
def joined(parts: Parts, *models: str, **more: object) -> Iterator[tuple[Crew, Models]]:
    """A search worker beside that of `parts`, with the same model of its own."""
    settings = Settings(
        models=models, device="cpu", runtime="torch", embed_threads=1, decode_processes=1, **more
    )  # type: ignore[arg-type]
    its = Models(settings, parts.models.default)
    try:
        yield Crew(parts.redis, its), its
    finally:
        its._others.close()


@pytest.fixture
def one(parts: Parts, new_model: str) -> Iterator[tuple[Crew, Models]]:
    with joined(parts, new_model) as made:
        yield made


@pytest.fixture
def other(parts: Parts, new_model: str) -> Iterator[tuple[Crew, Models]]:
    with joined(parts, new_model) as made:
        yield made


@pytest.fixture
def card(one: tuple[Crew, Models], new_model: str) -> ModelCard:
    """Of the new model, which the first of the two has loaded."""
    return one[1].card_of(new_model)


def test_what_one_has_loaded_the_others_load(
    one: tuple[Crew, Models], other: tuple[Crew, Models], card: ModelCard
) -> None:
    one[0].meet()
    assert one[1].key_of(card) not in other[1].standing()
    other[0].meet()
    until(lambda: other[1].standing() == one[1].standing(), "it was never loaded")


def test_a_model_is_waited_for_until_all_have_it(
    one: tuple[Crew, Models], other: tuple[Crew, Models], card: ModelCard
) -> None:
    other[0].meet()
    with pytest.raises(ModelAway, match=r": 1\. Ask"):
        one[0].wait_for(card, 0)
    until(lambda: not other[0].meet() and one[1].key_of(card) in other[1].standing(), "it was never loaded")
    other[0].meet()
    one[0].wait_for(card, 0)


def test_one_that_may_not_have_a_model_or_has_no_room_is_not_waited_for(
    parts: Parts, one: tuple[Crew, Models], new_model: str, card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    with joined(parts) as without, joined(parts, new_model) as full:
        monkeypatch.setattr(full[1]._others, "_most_bytes", 1)
        for crew, _ in (without, full):
            crew.meet()
        with pytest.raises(ModelAway, match=r": 2\. Ask"):
            one[0].wait_for(card, 0)
        for crew, models in (without, full):
            crew.meet()
            assert set(models.standing()) == {models.key_of(models.default.card)}
        one[0].wait_for(card, 0)


def test_one_that_waits_for_the_others_still_says_what_it_has_no_room_for(
    parts: Parts, one: tuple[Crew, Models], new_model: str, card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    one[0].meet()
    with joined(parts, new_model) as full:
        monkeypatch.setattr(full[1]._others, "_most_bytes", 1)
        full[0].meet()
        full[0].wait_for(full[1].default.card, 0)
        one[0].wait_for(card, 0)


def test_one_that_left_or_fell_silent_is_not_waited_for(
    parts: Parts, redis_client: redis.Redis, one: tuple[Crew, Models], card: ModelCard
) -> None:
    with joined(parts) as leaving, joined(parts) as dying:
        leaving[0].meet()
        dying[0].meet()
        leaving[0].leave()
        with pytest.raises(ModelAway, match=r": 1\. Ask"):
            one[0].wait_for(card, 0)
        redis_client.delete(crew_module._place(dying[0]._name))  # as after 12 s
        one[0].wait_for(card, 0)
        assert redis_client.smembers(crew_module._NAMES) == {one[0]._name.encode()}


def test_a_version_goes_live_once_its_model_stands_in_every_search_worker(
    parts: Parts,
    one: tuple[Crew, Models],
    other: tuple[Crew, Models],
    new_model: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "_CREW_SECONDS", 0.0)
    parts.index.create("shop", parts.models.default.card)
    monkeypatch.setitem(worker._running, "parts", replace(parts, crew=one[0], models=one[1]))
    other[0].meet()
    assert tasks.add_version("shop", new_model)["ok"]["version"] == 2
    refused = tasks.go_live("shop", 2)["error"]
    assert (refused["code"], new_model in refused["detail"]) == ("workers_unavailable", True)
    assert parts.index.find("shop").version == 1  # type: ignore[union-attr]

    until(lambda: not other[0].meet() and "ok" in tasks.go_live("shop", 2), "it never went live")
    live = parts.index.find("shop")
    assert live
    assert live.version == 2
    assert other[1].key_of(live.card) in other[1].standing()
