from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.models import ensure_vit, make_vit
from shared.settings import Settings
from workers.embed import load_embedder


def test_the_worker_loads_it_and_its_pictures_lie_apart(tmp_path: Path) -> None:
    make_vit(tmp_path, hidden=48, layers=2, heads=3, side=64)
    embedder = load_embedder(Settings(model=str(tmp_path), device="cpu", runtime="torch"))
    noise = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    first, second = embedder.embed(np.stack([noise[0], np.full_like(noise[1], 40)]))
    assert first.shape == (48,)
    assert first @ second < 0.99


def test_it_is_the_same_at_each_making(tmp_path: Path) -> None:
    weights = []
    for name in ("once", "again"):
        make_vit(tmp_path / name, hidden=48, layers=1, heads=3, side=32)
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_one_that_was_made_is_not_made_again(tmp_path: Path) -> None:
    (tmp_path / "vit-s16").mkdir()
    assert ensure_vit(tmp_path) == tmp_path / "vit-s16"
    assert not list((tmp_path / "vit-s16").iterdir())


def test_a_making_that_was_stopped_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmarks.models.make_vit", stopped)
    with pytest.raises(KeyboardInterrupt):
        ensure_vit(tmp_path)
    assert not list(tmp_path.iterdir())
