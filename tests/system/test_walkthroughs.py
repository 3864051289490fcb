"""docs/shop.md and docs/clinic.md, as they stand: every `sh` block runs, in order, and does what the page says."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import datasets

from tests.hub import Hub
from tests.image_server import ImageServer, jpeg
from tests.lesions import FEATURES, lesion
from tests.products import write_feed
from tests.system.stack import Stack

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Reader:
    """Somebody who types a page's commands in a folder, one block after another."""

    def __init__(self, page: str, stack: Stack, folder: Path) -> None:
        self.blocks = _BLOCK.findall((DOCS / page).read_text())
        self.folder = folder
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._environment = {**os.environ, "PATH": path, "LOOKALIKE_URL": stack.url}

    def type(self, of: str) -> str:
        """Run the next block, which must have `of` in it; what it printed."""
        block = self.blocks.pop(0)
        assert of in block, block
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ran.returncode == 0, f"{block}\n{ran.stdout}\n{ran.stderr}"
        return ran.stdout


def product(number: int, images: ImageServer, price: str = "$24.99") -> dict[str, str]:
    """One to eight views each; every fifth ends with the shop's placeholder."""
    urls = [images.url(f"/jpeg/{100 * number + view}.jpg") for view in range(1 + number % 8)]
    urls += [images.url("/jpeg/7.jpg")] if number % 5 == 0 else []
    return {
        "Uniq Id": f"sku-{number:03}",
        "Product Name": f'Toy, "{number}"',
        "Brand Name": "Acme" if number % 2 else "Other",
        "Category": "Games" if number % 3 else "Puzzles",
        "Selling Price": price,
        "Image": "|".join(urls),
        "Is Amazon Seller": "Y",
    }


def test_the_shops_page_does_what_it_says(stack: Stack, images: ImageServer, tmp_path: Path) -> None:
    products = [product(number, images) for number in range(1, 31)]
    views = sum(len(each["Image"].split("|")) for each in products)
    write_feed(tmp_path / "products.csv", products)
    changed = [{**each, "Selling Price": "$19.99"} for each in products[:28]]
    write_feed(tmp_path / "products-today.csv", changed)
    (tmp_path / "photo.jpg").write_bytes(jpeg(301))
    reader = Reader("shop.md", stack, tmp_path)

    reader.type("--fraction 0.1")
    trial = stack.ok("GET", "/v1/collections/trial/images?limit=1000")["images"]
    assert len({image["payload"]["group"] for image in trial}) == 3
    assert f"{views} indexed" in reader.type("--collection shop")
    image = stack.ok("GET", "/v1/collections/shop/images/sku-003%232")
    assert image["payload"]["group"] == "sku-003"
    assert image["payload"]["Selling Price"] == 24.99
    assert "Ingredients" not in image["payload"]

    assert reader.type("--no-placeholders").splitlines()[1].split()[:2] == ["sku-003", "4"]
    assert "Acme" not in reader.type("--exclude")
    assert reader.type("--crop").count("sku-") > 10
    facets, batch = reader.type("facets/Brand%20Name").strip().rsplit("\n", 1)
    assert {each["value"] for each in json.loads(facets)["values"]} == {"Acme", "Other"}
    assert [len(each["hits"]) for each in json.loads(batch)["results"]][1] == 3

    told = reader.type("--sync")
    assert "0 indexed" in told
    assert "0 failed" in told
    gone = {f"sku-{number:03}" for number in (29, 30)}
    left = stack.ok("GET", "/v1/collections/shop/images?limit=1000")["images"]
    assert {image["payload"]["Selling Price"] for image in left} == {19.99}
    assert not gone & {image["payload"]["group"] for image in left}

    reader.type("lookalike report")
    rows = list(csv.DictReader((tmp_path / "report.csv").open()))
    assert any("placeholder" in row.values() or row.get("placeholder") for row in rows), rows[:3]
    assert (tmp_path / "duplicates" / "duplicates.csv").exists()
    assert not reader.blocks or "evaluate" in reader.blocks[0]


def test_the_clinics_page_does_what_it_says(stack: Stack, hub: Hub, tmp_path: Path) -> None:
    rows = [lesion(number) for number in range(40)]
    for row in rows[:2]:
        row["lesion_id"] = "HAM_0000118"
    rows[0]["image_id"] = "ISIC_0027419"
    datasets.Dataset.from_list(rows, features=FEATURES).to_parquet(tmp_path / "train.parquet")
    hub.put(
        "marmal88/skin_cancer",
        {"data/train-00000-of-00001.parquet": (tmp_path / "train.parquet").read_bytes()},
    )
    (tmp_path / "lesion.jpg").write_bytes(rows[7]["image"]["bytes"])
    reader = Reader("clinic.md", stack, tmp_path)

    assert "40 indexed" in reader.type("--dataset marmal88/skin_cancer")
    known = stack.ok("GET", "/v1/collections/lesions/images/ISIC_0027419")["payload"]
    assert (known["lesion_id"], known["sex"], known["localization"]) == ("HAM_0000118", "male", "back")
    assert "age" not in known

    assert "ISIC_0000007" in reader.type("--filter")
    facets = [json.loads(line)["values"] for line in reader.type("facets").strip().splitlines()]
    assert facets == [[{"value": "back", "count": 40}], [{"value": "melanocytic_Nevi", "count": 20}]]
    assert "HAM_0000118" not in reader.type("--exclude lesion_id=HAM_0000118")
    reader.type("lookalike evaluate")
    assert {path.name for path in (tmp_path / "evaluation").iterdir()} == {
        "evaluation.json",
        "evaluation.md",
        "evaluation.png",
    }
    assert "40 indexed" in reader.type("lookalike import")
    pair = [
        stack.ok(
            "POST",
            f"/v1/collections/{name}/searches",
            json={"id": "ISIC_0027419"},
            headers={"Prefer": "wait=10"},
        )
        for name in ("lesions", "lesions-copy")
    ]
    there, back = ([(hit["id"], hit["score"]) for hit in answer["hits"]] for answer in pair)
    assert there == back
    assert reader.blocks == []
