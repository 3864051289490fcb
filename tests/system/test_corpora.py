"""The features that a shop and a clinic ask for, on real photographs: radios by radio, lesions by patient."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest

from demo import lesions, radios
from demo.registry import DownloadError
from tests.image_server import ImageServer
from tests.system.conftest import IMAGES_HOST
from tests.system.stack import Stack

CACHE = Path(__file__).parents[2] / ".cache"


def _had(ensure: Any) -> Any:
    try:
        return ensure(CACHE)
    except DownloadError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def photos() -> list[radios.Photo]:
    return list(_had(radios.ensure).photos())


@pytest.fixture(scope="module")
def shop(
    stack: Stack, photos: list[radios.Photo], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """A stack with the radios, each under its radio as a product of several views."""
    feed = tmp_path_factory.mktemp("feed") / "radios.csv"
    with ImageServer(photos[0].file.parent, host=IMAGES_HOST) as images:
        views: dict[str, list[str]] = {}
        for photo in photos:
            views.setdefault(photo.radio, []).append(images.url("/" + quote(photo.id)))
        with feed.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("sku", "photos", "brand", "price"))
            for number, (radio, urls) in enumerate(views.items()):
                rows.writerow((radio, "|".join(urls), radio.split()[0], f"${10 + number}.50"))
        answer = stack.call(
            "POST",
            "/v1/collections/radios/jobs?url_column=photos&id_column=sku&separator=|&prices=price",
            data=feed.read_bytes(),
            headers={"Content-Type": "text/csv"},
        )
        job = stack.ended(answer.json()["id"])
        assert (job["indexed"], job["failed"]) == (len(photos), 0), job
        yield stack


@pytest.fixture(scope="module")
def clinic(stack: Stack) -> Stack:
    """A stack with the lesions, as a Parquet file that was uploaded."""
    file = _had(lesions.ensure)
    source = {"image_column": "image", "id_column": "image_id"}
    answer = stack.call(
        "POST",
        "/v1/collections/isic/imports",
        files={
            "file": (file.name, file.read_bytes()),
            "source": (None, json.dumps(source), "application/json"),
        },
    )
    job = stack.ended(answer.json()["id"])
    assert (job["indexed"] + job["unchanged"], job["failed"]) == (1184, 0), job
    return stack


def asked(stack: Stack, collection: str, **query: Any) -> dict[str, Any]:
    headers = {"Prefer": "wait=20"}
    answer = stack.ok("POST", f"/v1/collections/{collection}/searches", json=query, headers=headers)
    assert answer["state"] == "done", answer
    return dict(answer)


def test_each_radio_is_one_row_with_its_best_view_and_a_count(
    shop: Stack, photos: list[radios.Photo]
) -> None:
    radio = photos[0].radio
    groups = asked(shop, "radios", id=f"{radio}#1", group_by="group", limit=10)["groups"]
    views = {each.radio: 0 for each in photos}
    for each in photos:
        views[each.radio] += 1
    assert len({group["id"] for group in groups}) == 10
    assert [group["count"] for group in groups if group["id"] != radio] == [
        views[group["id"]] for group in groups if group["id"] != radio
    ]
    scores = [group["hits"][0]["score"] for group in groups]
    assert scores == sorted(scores, reverse=True)


def test_the_pages_of_grouped_radios_join_without_gap_or_double(
    shop: Stack, photos: list[radios.Photo]
) -> None:
    query = {"id": f"{photos[0].radio}#1", "group_by": "group"}
    pages = [
        group["id"]
        for offset in range(0, 60, 7)
        for group in asked(shop, "radios", **query, limit=7, offset=offset)["groups"]
    ]
    radios_seen = {photo.radio for photo in photos}
    assert len(pages) == len(set(pages))
    assert set(pages) == radios_seen


def test_prices_and_brands_narrow_a_search(shop: Stack, photos: list[radios.Photo]) -> None:
    cheap = {"must": [{"key": "price", "range": {"lt": 20}}]}
    hits = asked(shop, "radios", id=f"{photos[0].radio}#1", filter=cheap, limit=50)["hits"]
    assert hits
    assert all(hit["payload"]["price"] < 20 for hit in hits)


def test_likes_draw_results_near_and_dislikes_push_away(shop: Stack, photos: list[radios.Photo]) -> None:
    names = list(dict.fromkeys(photo.radio for photo in photos))
    liked, disliked = f"{names[0]}#1", f"{names[1]}#1"
    near = asked(shop, "radios", like=[liked], limit=1000)["hits"]
    away = asked(shop, "radios", like=[liked], unlike=[disliked], limit=1000)["hits"]
    ranks = [
        [number for number, hit in enumerate(hits) if hit["payload"]["group"] == names[1]]
        for hits in (near, away)
    ]
    assert len(ranks[0]) == len(ranks[1]) + 1, "what is disliked is no hit"
    assert sum(ranks[1]) / len(ranks[1]) > sum(ranks[0]) / len(ranks[0])


def test_lesions_are_filtered_by_age_sex_and_site(clinic: Stack) -> None:
    rows = pq.read_table(CACHE / lesions.FILE, columns=["image_id", "sex", "age", "site"]).to_pylist()
    wanted = {
        row["image_id"]
        for row in rows
        if row["sex"] == "female" and 40 <= row["age"] <= 60 and row["site"] in ("torso", "head/neck")
    }
    condition = {
        "must": [
            {"key": "age", "range": {"gte": 40, "lte": 60}},
            {"key": "sex", "match": {"value": "female"}},
            {"key": "site", "match": {"any": ["torso", "head/neck"]}},
        ]
    }
    found = asked(clinic, "isic", id=rows[0]["image_id"], filter=condition, limit=1000, exact=True)["hits"]
    assert {hit["id"] for hit in found} == wanted - {rows[0]["image_id"]}
    unknown = asked(
        clinic, "isic", id=rows[0]["image_id"], filter={"must": [{"is_empty": {"key": "site"}}]}, limit=1000
    )
    assert len(unknown["hits"]) == sum(row["site"] is None and row is not rows[0] for row in rows)


def test_a_patient_never_finds_himself(clinic: Stack) -> None:
    image = clinic.ok("GET", "/v1/collections/isic/images?limit=1")["images"][0]
    patient = image["payload"]["patient_id"]
    hits = asked(clinic, "isic", id=image["id"], exclude={"patient_id": patient}, limit=100)["hits"]
    assert len(hits) == 100
    assert patient not in {hit["payload"]["patient_id"] for hit in hits}


def test_the_sites_are_counted_for_a_filters_choices(clinic: Stack) -> None:
    rows = pq.read_table(CACHE / lesions.FILE, columns=["site"]).to_pylist()
    values = clinic.ok("GET", "/v1/collections/isic/facets/site")["values"]
    assert {each["value"]: each["count"] for each in values} == {
        site: sum(row["site"] == site for row in rows) for site in {row["site"] for row in rows} - {None}
    }
