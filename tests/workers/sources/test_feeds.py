"""workers/sources/feeds.py: feeds that are text."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.products import COLUMNS, write_feed
from tests.workers.sources.conftest import read_here, written

SHOP = {
    "url_column": "Image",
    "id_column": "Uniq Id",
    "separator": "|",
    "prices": ["Selling Price"],
}


def product(number: int) -> dict[str, str]:
    """A row of that feed: most columns are empty there too."""
    urls = [f"https://images.example/{number}/{view}.jpg" for view in range(1 + number % 8)]
    return {
        "Uniq Id": f"{number:032x}",
        "Product Name": f'Toy, "{number}"',
        "Category": "Toys & Games | Games\n| Puzzles",
        "Upc Ean Code": f"00{number}",
        "Selling Price": random.Random(number).choice(
            ["$24.99", "$1,299.00", "$9.99 - $19.99", "Total price:"]
        ),
        "Model Number": str(number),
        "About Product": "Make sure this fits. " * 20,
        "Shipping Weight": "3.5 pounds",
        "Image": "|".join(urls),
        "Product Url": f"https://shop.example/{number}",
        "Is Amazon Seller": "Y",
    }


@pytest.fixture
def products(tmp_path: Path) -> Path:
    return write_feed(tmp_path / "products.csv", map(product, range(100)))


def test_the_shops_feed_is_read_as_it_is(products: Path) -> None:
    read = read_here(products, **SHOP)
    assert (read.error, read.rows) == (None, 100)
    assert len(COLUMNS) == 28
    assert [item.url for item in read.items] == [
        url for number in range(100) for url in product(number)["Image"].split("|")
    ]
    views = read.items[1 : 1 + 2]  # of the second product
    assert [item.id for item in views] == [f"{1:032x}#1", f"{1:032x}#2"]
    assert views[0].payload == views[1].payload
    assert views[0].payload == {
        "Product Name": 'Toy, "1"',
        "Category": "Toys & Games | Games\n| Puzzles",
        "Upc Ean Code": "001",
        "Selling Price": views[0].payload["Selling Price"],
        "Model Number": 1,
        "About Product": "Make sure this fits. " * 20,
        "Shipping Weight": "3.5 pounds",
        "Product Url": "https://shop.example/1",
        "Is Amazon Seller": "Y",
        "group": f"{1:032x}",
    }
    assert {item.payload["Selling Price"] for item in read.items} == {24.99, 1299.0, 9.99, "Total price:"}


def test_reading_on_after_any_row_gives_the_rest_and_nothing_twice(products: Path) -> None:
    whole = read_here(products, **SHOP)
    for skip in (1, 37, 99, 100):
        rest = read_here(products, given={"skip": skip}, **SHOP)
        first = [item for item in whole.items if int(item.payload["group"], 16) < skip]
        assert first + rest.items == whole.items
        assert rest.rows == 100


def test_every_frame_says_how_many_rows_are_taken(products: Path) -> None:
    taken = 0
    for frame in read_here(products, given={"frame_items": 10}, **SHOP).frames:
        rows = {item.payload["group"] for item in frame.head.items}
        taken += len(rows)
        assert frame.head.row == taken
        assert len(frame.head.items) < 10 + 8


def test_a_fraction_is_evenly_spread_and_the_same_each_time(products: Path) -> None:
    def taken(**source: Any) -> list[int]:
        return sorted(
            {int(item.payload["group"], 16) for item in read_here(products, **SHOP, **source).items}
        )

    assert taken(fraction=0.1) == list(range(0, 100, 10)) == taken(fraction=0.1)
    assert taken(fraction=0.1, limit=3) == [0, 10, 20]
    assert taken(limit=7) == list(range(7))
    assert len(taken(fraction=0.37)) == 37
    assert taken(fraction=1.0) == list(range(100))


def test_a_limit_counts_the_rows_that_were_taken_before(products: Path) -> None:
    rest = read_here(products, given={"skip": 15}, **SHOP, fraction=0.1, limit=3)
    assert {item.payload["group"] for item in rest.items} == {f"{20:032x}"}


def test_progress_is_said_though_a_fraction_takes_nothing(tmp_path: Path) -> None:
    feed = written(tmp_path / "a.csv", ["url", *["http://a.example/1"] * 25_000])
    read = read_here(feed, fraction=0.00001)
    assert [(frame.head.row, len(frame.head.items)) for frame in read.frames[1:]] == [
        (10_000, 1),
        (20_000, 0),
        (25_000, 0),
    ]


def test_a_missing_value_is_left_out_unless_it_is_filled(tmp_path: Path) -> None:
    feed = written(tmp_path / "a.csv", ["url,age,sex", "http://a.example/1,,male", "http://a.example/2,50,"])
    assert [item.payload for item in read_here(feed).items] == [{"sex": "male"}, {"age": 50}]
    filled = read_here(feed, fill={"age": 0, "site": "unknown"}).items
    assert [item.payload for item in filled] == [
        {"age": 0, "site": "unknown", "sex": "male"},
        {"age": 50, "site": "unknown"},
    ]


def test_a_row_that_does_not_fit_the_header_fails_alone(tmp_path: Path) -> None:
    feed = written(
        tmp_path / "a.csv",
        ["id,url,a", "1,http://a.example/1,x", "2,http://a.example/2,x,,y", "3,http://a.example/3"],
    )
    read = read_here(feed)
    assert [item.id for item in read.items] == ["1", "row:1", "3"]
    assert read.refusals() == {"row:1": ("payload_invalid", "Row 3: it has 5 cells, and the header has 3.")}


def test_a_column_that_begins_with_an_underscore_fails_its_rows_alone(tmp_path: Path) -> None:
    feed = written(tmp_path / "a.csv", ["id,url,_x", "1,http://a.example/1,5", "2,http://a.example/2,"])
    read = read_here(feed)
    assert list(read.refusals()) == ["1"]
    assert read.items[1].refused is None


def test_tabs_part_a_tsv_and_a_spreadsheets_mark_is_passed_over(tmp_path: Path) -> None:
    feed = written(tmp_path / "a.tsv", b'\xef\xbb\xbf"url"\ta\r\nhttp://a.example/1\tx,y\r\n')
    assert [(item.url, item.payload) for item in read_here(feed).items] == [
        ("http://a.example/1", {"a": "x,y"})
    ]


def test_several_files_are_one_source(tmp_path: Path) -> None:
    first = written(tmp_path / "1.csv", ["url", "http://a.example/1", "http://a.example/2"])
    second = written(tmp_path / "2.csv", ["a,url", "x,http://a.example/3"])
    assert [item.url for item in read_here(first, second, given={"skip": 1}).items] == [
        "http://a.example/2",
        "http://a.example/3",
    ]


@pytest.mark.parametrize(
    ("lines", "column"),
    [
        (["<html>", "<body>Closed, until, six.</body>"], "Image"),
        (["sku,Image,lot,Price,tags"], "Uniq Id"),
        (["Uniq Id,picture,lot,Price", "2,http://a.example/2,7,$5"], "Image"),
        (["Uniq Id,Image,Price", "2,http://a.example/2,$5"], "lot"),
        (["Uniq Id,Image,lot", "2,http://a.example/2,7"], "Price"),
    ],
)
def test_a_later_file_has_every_column_that_means_something(
    tmp_path: Path, lines: list[str], column: str
) -> None:
    first = ["Uniq Id,Image,lot,Price,colour", "1,http://a.example/1,7,$5,red"]
    files = [written(tmp_path / "1.csv", first), written(tmp_path / "2.csv", lines)]
    named = {"id_column": "Uniq Id", "url_column": "Image", "group_column": "lot", "prices": ["Price"]}
    read = read_here(*files, **named)
    assert [item.id for item in read.items] == ["1"]
    assert f"`2.csv` has no column `{column}`; there are `{lines[0].split(',')[0]}`" in (read.error or "")


def test_so_it_is_with_columns_that_nobody_named_and_with_no_others(tmp_path: Path) -> None:
    first = written(tmp_path / "1.csv", ["id,url,colour", "1,http://a.example/1,red"])
    other = written(tmp_path / "2.csv", ["size,url,id", "XL,http://a.example/2,2"])
    assert [(item.id, item.payload) for item in read_here(first, other).items] == [
        ("1", {"colour": "red"}),
        ("2", {"size": "XL"}),
    ]
    nameless = written(tmp_path / "3.csv", ["url,colour", "http://a.example/3,red"])
    for given in ({}, {"skip": 2}):
        assert "`3.csv` has no column `id`" in (read_here(first, other, nameless, given=given).error or "")
    assert read_here(nameless, other).error is None


def test_json_keeps_its_types(tmp_path: Path) -> None:
    rows = [
        {
            "id": 7,
            "url": "http://a.example/1",
            "n": 1.5,
            "tags": ["x", None],
            "of": {"a": None, "b": True},
            "z": None,
        },
        {"url": ["http://a.example/2", "http://a.example/3"], "id": "p"},
    ]
    expected = [
        ("7", "http://a.example/1", {"n": 1.5, "tags": ["x", None], "of": {"b": True}}),
        ("p#1", "http://a.example/2", {"group": "p"}),
        ("p#2", "http://a.example/3", {"group": "p"}),
    ]
    as_list = written(tmp_path / "a.json", json.dumps(rows, indent=1).encode())
    as_lines = written(tmp_path / "b.ndjson", [*map(json.dumps, rows), ""])
    for feed in (as_list, as_lines):
        assert [(item.id, item.url, item.payload) for item in read_here(feed).items] == expected


def test_a_line_that_is_no_object_fails_alone(tmp_path: Path) -> None:
    lines = [
        '{"url": "http://a.example/1"}',
        "nope",
        '{"url": "http://a.example/2", "n": Infinity}',
        '{"url": "http://a.example/3", "n": NaN}',
        '{"url": "\\ud800"}',
        "[]",
        '{"url": "http://a.example/4", "n": 123456789012345678901234567890}',
        '{"url": "http://a.example/5", "n": ' + "[" * 20 + "]" * 20 + "}",
        '{"url": "http://a.example/6", "n": ' + "[" * 900 + "]" * 900 + "}",
    ]
    read = read_here(written(tmp_path / "a.jsonl", lines))
    assert (read.error, read.rows) == (None, len(lines))
    assert list(read.refusals()) == [
        *("row:1", "http://a.example/2", "row:4", "row:5", "http://a.example/4", "http://a.example/5"),
        "row:8",
    ]
    assert {code for code, _ in read.refusals().values()} == {"payload_invalid"}


def test_an_element_that_is_nested_without_end_fails_alone(tmp_path: Path) -> None:
    elements = ['{"url": "http://a.example/1"}', '{"n": ' + "[" * 20_000 + "]" * 20_000 + "}"]
    read = read_here(written(tmp_path / "a.json", f"[{','.join(elements * 2)}]".encode()))
    assert (read.error, read.rows) == (None, 4)
    assert list(read.refusals()) == ["row:1", "row:3"]


def test_an_item_that_is_too_large_fails_alone(tmp_path: Path) -> None:
    lines = ['{"url": "http://a.example/1", "a": "' + "x" * 2000 + '"}', '{"url": "http://a.example/2"}']
    feed = written(tmp_path / "a.json", b"[" + ",".join(lines).encode() + b"]")
    assert list(read_here(feed, given={"max_item_bytes": 1000}).refusals()) == ["http://a.example/1"]


def test_a_row_of_a_thousand_and_one_images_fails_alone(tmp_path: Path) -> None:
    urls = [f"http://a.example/{number}" for number in range(1001)]
    lines = [json.dumps({"id": "a", "url": urls}), json.dumps({"id": "b", "url": urls[1:]})]
    read = read_here(written(tmp_path / "a.jsonl", lines))
    assert len(read.items) == 1001
    assert "1,001 images" in read.refusals()["a"][1]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.csv", b"", "no rows"),
        ("a.csv", b"url,a\n", "no rows"),
        ("a.csv", b"link,a\nhttp://a,1\n", "no column `url`; there are `link`, `a`"),
        ("a.csv", b"url,a,a\n", "`a.csv`: The header names `a` twice"),
        ("a.csv", b'url\n"http://a', "Row 2 is not CSV"),
        ("a.csv", b"url\nhttp://\xff\n", "`a.csv`: Row 2 is not UTF-8"),
        ("a.csv", b"url\n" + b"x" * 2**21, "Row 2: it is too long"),
        ("a.csv", bytes(range(128, 256)) * 20, "`a.csv`: Row 1 is not UTF-8"),
        ("a.json", b'[{"url": "http://a"}, {"url', "`a.json` is not JSON to its end"),
        ("a.json", b'{\n"url": 1}', "neither a list of objects nor one object a line"),
        ("a.json", bytes(range(256)) * 20, "neither a list of objects nor one object a line"),
        ("a.json", b'{"url": "http://a"}\n' + b"x" * 2**21, "line 2 is longer"),
        ("a.xls", b"", "The name `a.xls` tells no format; give `format`: csv, "),
    ],
)
def test_what_cannot_be_read_is_said_in_words(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    assert words in (read_here(written(tmp_path / name, data)).error or "")


def test_what_came_before_a_fault_is_kept(tmp_path: Path) -> None:
    read = read_here(written(tmp_path / "a.csv", b"url\nhttp://a.example/1\nhttp://\xff\n"))
    assert ([item.url for item in read.items], read.rows) == (["http://a.example/1"], 1)


@pytest.mark.parametrize("column", ["image_column", "url_column", "id_column", "group_column"])
def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path: Path, column: str) -> None:
    error = read_here(written(tmp_path / "a.csv", ["url,a", "http://a.example/1,1"]), **{column: "b"}).error
    assert error == f"There is no column `b`; there are `url`, `a`. Name the column with `{column}`."


def test_a_column_of_urls_may_be_called_the_images(tmp_path: Path) -> None:
    feed = written(tmp_path / "a.csv", ["id,pic", "1,http://a.example/1", "2,", "3,/etc/passwd"])
    read = read_here(feed, image_column="pic")
    assert [(item.url, item.payload) for item in read.items if not item.refused] == [
        ("http://a.example/1", {})
    ]
    assert {id: code for id, (code, _) in read.refusals().items()} == {"2": "empty", "3": "bad_url"}
