"""Models of the hub: a hub on this machine gives small ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file

from shared.errors import ModelAway, StartError
from tests.embedding import noise, settings
from tests.hub import Hub, hub
from tests.models import make_clip, make_vit
from workers.embed import load_embedder, newest, origin


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with hub(monkeypatch, tmp_path / "cache") as made:
        yield made


def test_a_hub_models_card_names_its_commit(here: Hub, tmp_path: Path) -> None:
    commit = here.push("shop/clip", make_clip(tmp_path / "clip"))
    embedder = load_embedder(settings("shop/clip", device="cpu"))
    assert (embedder.card.name, embedder.card.revision) == ("shop/clip", commit)
    assert embedder.text is not None
    assert newest("shop/clip") == commit
    model = ("/shop/clip/resolve/", "/api/models/shop/clip/")
    assert all(asked.split()[1].startswith(model) for asked in here.requests)


def test_a_commit_that_is_asked_for_is_loaded_whatever_came_since(here: Hub, tmp_path: Path) -> None:
    first = here.push("shop/vit", make_vit(tmp_path / "1", seed=1))
    before = load_embedder(settings("shop/vit", device="cpu")).embed(noise(2))
    second = here.push("shop/vit", make_vit(tmp_path / "2", seed=2))
    assert newest("shop/vit") == second
    after = load_embedder(settings("shop/vit", device="cpu"))
    again = load_embedder(settings("shop/vit", device="cpu", model_revision=first))
    assert (after.card.revision, again.card.revision) == (second, first)
    assert (again.embed(noise(2)) * before).sum(axis=1).min() > 0.9999
    assert (after.embed(noise(2)) * before).sum(axis=1).max() < 0.9


def test_a_model_that_was_loaded_once_needs_no_hub(
    here: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the library's own tries
    commit = here.push("shop/clip", make_clip(tmp_path / "clip"))
    load_embedder(settings("shop/clip", device="cpu"))
    here.away = True
    again = load_embedder(settings("shop/clip", device="cpu", model_revision=commit))
    assert again.card.revision == commit
    assert again.text is not None


def test_a_hub_that_is_away_is_a_fault_that_passes(
    here: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the library's own tries
    here.push("shop/vit", make_vit(tmp_path / "vit"))
    here.away = True
    with pytest.raises(ModelAway, match="shop/vit at the moment"):
        load_embedder(settings("shop/vit", device="cpu"))
    with pytest.raises(ModelAway):
        newest("shop/vit")
    here.away = False
    assert load_embedder(settings("shop/vit", device="cpu")).card.name == "shop/vit"


@pytest.mark.parametrize(
    "file", ["processor_config.json", "tokenizer_config.json", "tokenizer.json", "model.safetensors"]
)
def test_a_hub_that_breaks_off_leaves_no_model_that_lacks_a_part(
    here: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    here.push("shop/clip", make_clip(tmp_path / "clip"))
    here.breaks_at = file
    with pytest.raises(ModelAway):
        load_embedder(settings("shop/clip", device="cpu"))


def test_a_name_that_the_hub_does_not_know_will_not_be_known_in_a_while(here: Hub) -> None:
    for ask in (lambda: load_embedder(settings("shop/none")), lambda: newest("shop/none")):
        with pytest.raises(StartError, match="shop/none"):
            ask()


def test_a_hub_that_must_not_be_asked_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(StartError):
        newest("shop/none")


def test_a_pickle_is_read_of_the_commit_that_is_known_here_and_of_no_other(
    here: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = make_vit(tmp_path / "vit") / "model.safetensors"
    torch.save(load_file(weights), tmp_path / "vit" / "pytorch_model.bin")
    weights.unlink()
    commit = here.push("shop/old", tmp_path / "vit")
    with pytest.raises(StartError, match="safetensors"):
        load_embedder(settings("shop/old", device="cpu"))
    monkeypatch.setitem(origin.PINNED, "shop/old", commit)
    for revision in (None, commit):
        made = load_embedder(settings("shop/old", device="cpu", model_revision=revision))
        assert made.card.revision == commit


def test_a_folder_and_the_built_in_model_ask_no_hub(here: Hub, tmp_path: Path) -> None:
    folder = make_clip(tmp_path / "clip")
    assert load_embedder(settings(folder, device="cpu")).text is not None
    assert newest(str(folder)) is None
    assert newest("efficientnet-lite2") is None
    assert here.requests == []
