"""Several real models in one worker."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from shared.contract import ModelCard
from shared.errors import RequestCode, RequestError
from shared.settings import Settings
from tests.embedding import embed, exact
from tests.hub import hub
from tests.image_server import jpeg
from tests.models import make_clip, make_siglip, make_vit
from workers.models import Models, load_model
from workers.plan import planned


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_clip(tmp_path_factory.mktemp("clip")))


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_siglip(tmp_path_factory.mktemp("siglip")))


@contextmanager
def models_of(model: Path | str, *others: str, **more: object) -> Iterator[Models]:
    given = {"device": "cpu", "runtime": "torch", "embed_threads": 1, "decode_processes": 1, **more}
    settings = Settings(model=str(model), models=others, **given)  # type: ignore[arg-type]
    models = Models(settings, load_model(planned(settings, "cpu")))
    try:
        yield models
    finally:
        models.close()


def refusal(models: Models, asked: ModelCard | str) -> RequestError:
    ask = models.card_of if isinstance(asked, str) else partial(vector, models, picture=b"")
    with pytest.raises(RequestError) as refused:
        ask(asked)  # type: ignore[operator]
    assert refused.value.code == RequestCode.MODEL_UNAVAILABLE
    return refused.value


def vector(models: Models, card: ModelCard, picture: bytes) -> np.ndarray:
    with models.of(card) as model:
        assert model.card == card
        return model.line_up(picture)[1].result()


def test_a_collections_model_is_loaded_when_it_is_asked_for(small_model: Path, clip: str) -> None:
    with models_of(small_model, clip) as models:
        card = models.card_of(clip)
        assert (card.name, card.dimension, models.default.card.dimension) == (clip, 32, 48)
        assert vector(models, card, jpeg(1)) @ embed(exact(clip), jpeg(1))[0] > 0.999
        assert models.card_of(None) == models.card_of(str(small_model)) == models.default.card


def test_texts_go_to_models_that_take_them(small_model: Path, clip: str) -> None:
    with models_of(small_model, clip) as models:
        with models.of(models.card_of(clip)) as model:
            assert model.has_text
            assert model.embed_text(["a red radio", "a lamp"]).shape == (2, 32)
        assert not models.default.has_text
        with pytest.raises(RequestError, match="takes no text") as refused:
            models.default.embed_text(["a lamp"])
        assert refused.value.code == RequestCode.TEXT_UNSUPPORTED


def test_a_model_that_may_not_be_loaded_is_refused_with_those_that_may(
    small_model: Path, clip: str, siglip: str
) -> None:
    with models_of(small_model, clip) as models:
        card = models.default.card.model_copy(update={"name": siglip})
        for asked in (siglip, card):
            assert all(name in refusal(models, asked).detail for name in (siglip, str(small_model), clip))


def test_a_model_that_cannot_be_loaded_says_why(small_model: Path, tmp_path: Path) -> None:
    broken = make_vit(tmp_path)
    (broken / "model.safetensors").unlink()
    with models_of(small_model, str(broken)) as models:
        assert "model.safetensors" in refusal(models, str(broken)).detail
        assert "model.safetensors" in refusal(
            models, models.default.card.model_copy(update={"name": str(broken)})
        ).detail  # fmt: skip


def test_a_folder_that_holds_other_weights_than_a_collection_began_with_is_refused(
    small_model: Path, clip: str
) -> None:
    with models_of(small_model, clip) as models:
        for card in (models.default.card, models.card_of(clip)):
            detail = refusal(models, card.model_copy(update={"revision": "0ther"})).detail
            assert f"@{card.revision}/" in detail
            assert "@0ther/" in detail


def test_a_collection_of_an_older_commit_keeps_it(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub(monkeypatch, tmp_path / "cache") as here:
        here.push("shop/vit", make_vit(tmp_path / "1", seed=1))
        with models_of("shop/vit") as models:
            old = models.default.card
            before = vector(models, old, jpeg(3))
        here.push("shop/vit", make_vit(tmp_path / "2", seed=2))
        with models_of("shop/vit") as models:
            assert models.card_of("shop/vit") == models.default.card != old
            assert vector(models, old, jpeg(3)) @ before > 0.999
        with models_of(small_model, "shop/vit") as models:
            assert vector(models, old, jpeg(3)) @ before > 0.999
            assert models.card_of("shop/vit").revision != old.revision


def test_two_models_are_used_by_threads_where_there_is_room_for_one(
    small_model: Path, clip: str, siglip: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "lookalike.models")
    with models_of(small_model, clip, siglip, models_memory_mib=1) as models:
        cards = [models.card_of(name) for name in (clip, siglip)]
        pictures = [jpeg(n) for n in range(5)]
        wanted = {card.name: embed(exact(card.name), *pictures) for card in cards}

        def use(card: ModelCard) -> float:
            """The least agreement."""
            vectors = [vector(models, card, picture) for picture in pictures]
            return float((np.stack(vectors) * wanted[card.name]).sum(axis=1).min())

        with ThreadPoolExecutor(4) as threads:
            assert min(threads.map(use, cards * 2)) > 0.999
        with models.of(cards[0]) as one:
            assert 0.5 * 2**20 < one.memory < 2**20
        assert caplog.text.count("is let go") >= 2
        assert models.default.batcher._closed is False
