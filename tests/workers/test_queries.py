"""workers/queries.py with the real model and engine: what a search asks by."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.contract import Chunk, Item, Query
from shared.errors import ItemError, RequestError
from tests.image_server import ImageServer, jpeg, picture
from tests.models import make_clip
from workers.ingest import ingest
from workers.models import Models, load_model
from workers.parts import Parts
from workers.queries import Asked, asked
from workers.stopwatch import Stopwatch

CROP = [0.1, 0.0, 0.7, 0.5]


@pytest.fixture
def shop(parts: Parts, images: ImageServer) -> ImageServer:
    """Four pictures, p0 to p3."""
    fill(parts, images)
    return images


@pytest.fixture
def bilingual(parts: Parts, tmp_path: Path) -> Iterator[Parts]:
    """The same worker under a model of two towers."""
    settings = parts.settings.model_copy(
        update={
            "model": str(make_clip(tmp_path / "clip")),
            "device": "cpu",
            "runtime": "torch",
            "batch_size": 4,
            "embed_threads": 1,
            "decode_processes": 1,
        }
    )
    models = Models(settings, load_model(settings))
    yield replace(parts, models=models)
    models.close()


def fill(parts: Parts, images: ImageServer) -> None:
    items = [Item(id=f"p{n}", url=images.url(f"/jpeg/{n}.jpg")) for n in range(4)]
    ingest(Chunk("job_a", 1, "shop", "t", 1, items), parts, lease=lambda: "held")


def ask(parts: Parts, took: Stopwatch | None = None, **query: Any) -> Asked:
    collection = parts.index.find("shop")
    assert collection is not None
    return asked(Query(collection="shop", **query), collection, parts, took or Stopwatch(0))


def vector(parts: Parts, id: str) -> np.ndarray:
    found = parts.index.retrieve("shop", [id], vectors=True)[id].vector
    assert found is not None
    return unit(found)


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def cut(number: int) -> bytes:
    """What CROP leaves of a picture, as a file that loses nothing."""
    whole = picture(number)
    left, top, right, bottom = (
        round(fraction * side) for fraction, side in zip(CROP, whole.size * 2, strict=True)
    )
    buffer = io.BytesIO()
    whole.crop((left, top, right, bottom)).save(buffer, "PNG")
    return buffer.getvalue()


def parked(parts: Parts, *pictures: bytes) -> list[str]:
    return [parts.uploads.park_for_search(data) for data in pictures]


@pytest.mark.parametrize("scale", [1.0, 1e30, 1e-30, -1e150])
def test_a_vector_counts_by_where_it_points(parts: Parts, shop: ImageServer, scale: float) -> None:
    wanted = vector(parts, "p1")
    found = ask(parts, vector=[scale * float(number) for number in wanted]).vector
    assert found == pytest.approx(math.copysign(1, scale) * wanted, abs=1e-6)


@pytest.mark.parametrize("number", [0.0, 1e300, 1e-300, math.inf, math.nan])
def test_a_vector_that_points_nowhere_is_refused_in_words(
    parts: Parts, shop: ImageServer, number: float
) -> None:
    with pytest.raises(RequestError, match="finite numbers for collection `shop`") as refused:
        ask(parts, vector=[number] * len(vector(parts, "p1")))
    assert refused.value.code == "invalid_request"


def test_several_pictures_count_as_their_mean(parts: Parts, shop: ImageServer) -> None:
    found = ask(parts, uploads=parked(parts, jpeg(0), jpeg(1), jpeg(2))).vector
    mean = unit(np.mean([vector(parts, f"p{n}") for n in range(3)], axis=0))
    assert found == pytest.approx(mean, abs=1e-3)


def test_a_picture_that_is_none_spoils_all(parts: Parts, shop: ImageServer) -> None:
    with pytest.raises(ItemError):
        ask(parts, uploads=parked(parts, jpeg(0), b"no picture"))


def test_what_is_liked_and_not_is_averaged_as_qdrant_does(parts: Parts, shop: ImageServer) -> None:
    p0, p1, p2, p3 = (vector(parts, f"p{n}") for n in range(4))
    found = ask(parts, like=["p0", "p1"])
    assert found.vector == pytest.approx(unit((p0 + p1) / 2), abs=1e-5)
    assert sorted(found.ids) == ["p0", "p1"]
    found = ask(parts, like=["p0", "p1"], unlike=["p2", "p3"])
    assert found.vector == pytest.approx(unit((p0 + p1) - (p2 + p3) / 2), abs=1e-5)
    assert sorted(found.ids) == ["p0", "p1", "p2", "p3"]


def test_a_url_that_is_liked_is_fetched_unless_it_is_an_id(parts: Parts, shop: ImageServer) -> None:
    url = shop.url("/jpeg/1.jpg")
    fetched = ask(parts, like=["p0", url])
    assert fetched.vector == pytest.approx(unit(vector(parts, "p0") + vector(parts, "p1")), abs=1e-3)
    assert list(fetched.ids) == ["p0"]
    ingest(
        Chunk("job_b", 1, "shop", "t", 1, [Item(id=url, url=shop.url("/jpeg/3.jpg"))]),
        parts,
        lease=lambda: "held",
    )
    standing = ask(parts, like=["p0", url])
    assert standing.vector == pytest.approx(unit(vector(parts, "p0") + vector(parts, "p3")), abs=1e-3)
    assert sorted(standing.ids) == sorted(["p0", url])


def test_one_that_is_liked_twice_weighs_twice(parts: Parts, shop: ImageServer) -> None:
    p0, p1 = vector(parts, "p0"), vector(parts, "p1")
    assert ask(parts, like=["p0", "p0", "p1"]).vector == pytest.approx(unit(2 * p0 + p1), abs=1e-5)


def test_what_is_liked_must_stand_or_be_a_url(parts: Parts, shop: ImageServer) -> None:
    with pytest.raises(RequestError, match="`nobody`"):
        ask(parts, like=["p0"], unlike=["nobody"])


def test_what_cancels_itself_out_is_refused_in_words(parts: Parts, shop: ImageServer) -> None:
    opposite = (-vector(parts, "p0")).tolist()
    points = parts.index.retrieve("shop", ["p0", "p1"], vectors=True)
    parts.index.upsert("shop", [replace(points["p1"], vector=np.array(opposite, dtype=np.float32))])
    with pytest.raises(RequestError, match="cancels itself out"):
        ask(parts, like=["p0", "p1"])


def test_a_crop_asks_by_that_part_of_an_upload_a_url_or_an_image(parts: Parts, shop: ImageServer) -> None:
    part = ask(parts, uploads=parked(parts, cut(2))).vector
    whole = ask(parts, uploads=parked(parts, jpeg(2))).vector
    crops = [
        ask(parts, uploads=parked(parts, jpeg(2)), crop=CROP),
        ask(parts, url=shop.url("/jpeg/2.jpg"), crop=CROP),
        ask(parts, id="p2", crop=CROP),
    ]
    for crop in crops:
        assert crop.vector @ part > 0.99
        assert crop.vector @ part > whole @ part
    assert [list(crop.ids) for crop in crops] == [[], [], ["p2"]]


def test_an_upload_is_cropped_from_its_thumbnail_where_one_is_kept(parts: Parts, images: ImageServer) -> None:
    upload = Item(id="mine", upload=parts.uploads.park_for_ingest(jpeg(2)))
    ingest(Chunk("job_a", 1, "shop", "t", 1, [upload]), parts, lease=lambda: "held")
    with pytest.raises(ItemError, match="no picture of it is kept"):
        ask(parts, id="mine", crop=CROP)
    assert parts.thumbnails is not None
    parts.thumbnails.write("shop", upload.upload or "", jpeg(2))
    assert ask(parts, id="mine", crop=CROP).vector @ ask(parts, uploads=parked(parts, cut(2))).vector > 0.99


def test_text_asks_alone_or_beside_a_picture(bilingual: Parts, images: ImageServer) -> None:
    fill(bilingual, images)
    words = ask(bilingual, text="a red radio").vector
    assert np.linalg.norm(words) == pytest.approx(1, abs=1e-5)
    p0, p1 = vector(bilingual, "p0"), vector(bilingual, "p1")
    assert ask(bilingual, text="a red radio", id="p0").vector == pytest.approx(unit(words + p0), abs=1e-4)
    both = parked(bilingual, jpeg(0), jpeg(1))
    expected = unit(words + unit(p0 + p1))
    assert ask(bilingual, text="a red radio", uploads=both).vector == pytest.approx(expected, abs=1e-3)


def test_a_model_without_a_text_side_says_so(parts: Parts, shop: ImageServer) -> None:
    with pytest.raises(RequestError) as refused:
        ask(parts, text="a red radio")
    assert refused.value.code == "text_unsupported"


def test_every_stage_is_timed(parts: Parts, shop: ImageServer) -> None:
    took = Stopwatch(queue=1.5)
    ask(parts, took, url=shop.url("/jpeg/2.jpg"))
    milliseconds = took.milliseconds
    assert milliseconds["queue"] == 1.5
    assert milliseconds["fetch"] > 0
    assert milliseconds["embed"] > 0
    assert milliseconds["search"] == 0
