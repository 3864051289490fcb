"""Two towers and a model of pictures in one deployment, each under a collection of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.image_server import ImageServer, jpeg
from tests.models import make_clip, make_siglip, make_vit
from tests.system.conftest import IMAGES_HOST
from tests.system.stack import Stack


@dataclass(frozen=True)
class Deployment:
    """A stack with its models' names; room for one beside its own."""

    stack: Stack
    vit: str
    clip: str
    siglip: str


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("models")
    names = [str(make(folder / make.__name__)) for make in (make_vit, make_clip, make_siglip)]
    stack = Stack(
        folder / "data",
        LOOKALIKE_MODEL=names[0],
        LOOKALIKE_MODELS=f"{names[1]}, {names[2]}, {folder / 'none'}",
        LOOKALIKE_MODELS_MEMORY_MIB="1",
        LOOKALIKE_DEVICE="cpu",
        LOOKALIKE_EMBED_THREADS="1",
        LOOKALIKE_DECODE_PROCESSES="1",
        LOOKALIKE_FETCH_ALLOW=f"{IMAGES_HOST}/32",
    )
    stack.start()
    yield Deployment(stack, *names)
    assert stack.stop() == 0


@pytest.fixture(scope="module")
def shops(deployment: Deployment, images: ImageServer) -> dict[str, str]:
    """Collection → model: the same twenty pictures under each, submitted at the same moment."""
    stack = deployment.stack
    shops = {"plain": deployment.vit, "clip": deployment.clip, "siglip": deployment.siglip}
    for name, model in shops.items():
        assert stack.call("PUT", f"/v1/collections/{name}", json={"model": model}).status_code == 201
    items = [{"url": images.url(f"/jpeg/{n}.jpg"), "id": f"p{n}"} for n in range(20)]
    for job in [stack.submit(name, items) for name in shops]:
        assert stack.ended(job)["indexed"] == 20
    return shops


def ids(result: dict[str, Any]) -> list[str]:
    assert result["state"] == "done", result
    return [hit["id"] for hit in result["hits"]]


def test_each_collection_has_its_model(deployment: Deployment, shops: dict[str, str]) -> None:
    for name, model in shops.items():
        told = deployment.stack.ok("GET", f"/v1/collections/{name}")
        assert (told["model"], told["images"]) == (model, 20)
        assert {row["_image"]["model"].split("@")[0] for row in deployment.stack.images(name).values()} == {
            model
        }


def test_pictures_are_found_in_each_in_turn(deployment: Deployment, shops: dict[str, str]) -> None:
    for n in range(4):
        for name in shops:
            assert ids(deployment.stack.search(name, jpeg(n), limit=3))[0] == f"p{n}"


def test_words_are_taken_where_the_model_takes_them(deployment: Deployment, shops: dict[str, str]) -> None:
    for name in ("clip", "siglip"):
        found = ids(deployment.stack.search(name, text="a red radio"))
        assert len(found) == 10
        assert found == ids(deployment.stack.search(name, text="A RED radio"))
        assert found != ids(deployment.stack.search(name, text="worn boot"))
    refused = deployment.stack.call(
        "POST", "/v1/collections/plain/searches", json={"text": "a lamp"}, headers={"Prefer": "wait=20"}
    )
    told = refused.json()
    assert (told.get("problem") or told)["code"] == "text_unsupported"


def test_a_model_that_cannot_be_had_makes_no_collection(deployment: Deployment, tmp_path: Path) -> None:
    for model in (str(tmp_path), f"{Path(deployment.vit).parent / 'none'}"):
        refused = deployment.stack.call("PUT", "/v1/collections/new", json={"model": model})
        assert (refused.status_code, refused.json()["code"]) == (422, "model_unavailable")
        assert model in refused.json()["detail"]
    assert deployment.stack.call("GET", "/v1/collections/new").status_code == 404
    assert (
        deployment.stack.call("PUT", "/v1/collections/clip", json={"model": deployment.vit}).status_code
        == 409
    )
