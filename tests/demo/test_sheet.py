from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, ImageColor

from demo.sheet import (
    ACCENT,
    CARD,
    DENSITY,
    FOOTER,
    GUTTER,
    HEADER,
    MARGIN,
    PAPER,
    QUERY_GAP,
    ROW,
    TILE,
    Row,
    Tile,
    font,
    sheet,
    shortened,
)

LONG = "an endless description of a radio " * 9


def colour(name: str) -> tuple[int, ...]:
    return ImageColor.getrgb(name)


def picture(name: str, size: tuple[int, int] = (400, 300), orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = BytesIO()
    Image.new("RGB", size, name).save(data, "PNG", exif=exif)
    return data.getvalue()


def drawn(tmp_path: Path, *rows: Row, summary: str = "3 images") -> Image.Image:
    with Image.open(sheet(rows, tmp_path / "sheet.png", summary)) as image:
        return image.convert("RGB")


def pixel(image: Image.Image, x: float, y: float) -> tuple[int, ...]:
    return image.getpixel((round(x * DENSITY), round(y * DENSITY)))  # type: ignore[return-value]


def left(column: int) -> float:
    return MARGIN + TILE[0] + QUERY_GAP + column * (TILE[0] + GUTTER)


HITS = [Tile(picture("red"), 1.0, "first", original=True), *[Tile(picture("lime"), 0.5, "next")] * 4]
ROW_OF_FIVE = Row(picture("blue"), "An upload", ("unaltered", "8 ms"), HITS)
TOP = HEADER + 24  # of the first row's pictures
MIDDLE = TOP + TILE[1] / 2


def test_the_sheet_grows_with_rows_and_columns(tmp_path: Path) -> None:
    image = drawn(tmp_path, ROW_OF_FIVE, ROW_OF_FIVE)
    assert image.width == (left(5) - GUTTER + MARGIN) * DENSITY
    assert image.height == (HEADER + 2 * ROW + FOOTER) * DENSITY


def test_the_query_and_every_hit_are_drawn_in_their_columns(tmp_path: Path) -> None:
    image = drawn(tmp_path, ROW_OF_FIVE)
    assert pixel(image, MARGIN + TILE[0] / 2, MIDDLE) == colour("blue")
    hits = [pixel(image, left(column) + TILE[0] / 2, MIDDLE) for column in range(5)]
    assert hits == [colour("red"), *[colour("lime")] * 4]


def test_only_the_original_is_framed(tmp_path: Path) -> None:
    image = drawn(tmp_path, ROW_OF_FIVE)
    above = [pixel(image, left(column) + TILE[0] / 2, TOP - 2.5) for column in range(5)]
    assert above == [colour(ACCENT), *[colour(PAPER)] * 4]


def test_a_row_without_hits_and_a_sheet_without_rows_are_drawn(tmp_path: Path) -> None:
    assert drawn(tmp_path).height == (HEADER + FOOTER) * DENSITY
    image = drawn(tmp_path, Row(picture("blue"), "By id", (), []))
    assert pixel(image, MARGIN + TILE[0] / 2, MIDDLE) == colour("blue")


def test_a_tall_picture_is_whole_on_its_card(tmp_path: Path) -> None:
    image = drawn(tmp_path, Row(picture("blue", (100, 400)), "By id", (), HITS))
    assert pixel(image, MARGIN + 10, MIDDLE) == colour(CARD)
    assert pixel(image, MARGIN + TILE[0] / 2, TOP + 1) == colour("blue")


def test_a_sideways_photograph_stands_upright(tmp_path: Path) -> None:
    image = drawn(tmp_path, Row(picture("blue", (400, 100), orientation=6), "By id", (), HITS))
    assert pixel(image, MARGIN + 10, MIDDLE) == colour(CARD)
    assert pixel(image, MARGIN + TILE[0] / 2, TOP + 2) == colour("blue")


def test_no_text_leaves_its_column_or_the_page(tmp_path: Path) -> None:
    row = Row(picture("blue"), LONG, (LONG, LONG), [Tile(picture("red"), 0.5, LONG)] * 4)
    image = drawn(tmp_path, row, summary=LONG * 3)
    captions = HEADER + 24 + TILE[1] + 4, HEADER + ROW - 4
    for column in range(4):
        assert_empty(image, (left(column) - GUTTER + 2, captions[0], left(column) - 1, captions[1]))
    assert_empty(image, (left(4) - GUTTER + 1, 0, left(4) - GUTTER + MARGIN, HEADER - 1))


def assert_empty(image: Image.Image, box: tuple[float, ...]) -> None:
    area = image.crop(tuple(round(side * DENSITY) for side in box))  # type: ignore[arg-type]
    assert area.getcolors() == [(area.width * area.height, colour(PAPER))]


@pytest.mark.parametrize("room", [0, 40, 200, 10_000])
def test_words_are_shortened_to_the_room_that_they_have(room: float) -> None:
    face = font(12)
    words = shortened(LONG, face, room)
    assert words == "…" or face.getlength(words) <= room
    assert (words == LONG) == (face.getlength(LONG) <= room)
