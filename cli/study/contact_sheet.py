"""A contact sheet: one row a set of images, each with a line of words below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

_TILE, _GAP, _MARGIN, _HEAD, _CAPTION = 150, 14, 28, 64, 46  # pixels
_INK, _SOFT, _CARD, _PAPER = "#1c1b19", "#6f6b64", "#f1efe9", "#ffffff"
_FONT = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")  # it has nearly every sign


@dataclass(frozen=True)
class Cell:
    """An image: two lines of words, and its picture where there is one."""

    name: str
    note: str
    picture: bytes | None


def draw(rows: Sequence[Sequence[Cell]], title: str, path: Path) -> None:
    """Write the PNG."""
    columns = max([4, *map(len, rows)])
    height = _TILE + _CAPTION + _GAP
    size = (2 * _MARGIN + columns * (_TILE + _GAP) - _GAP, _HEAD + len(rows) * height + _MARGIN)
    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, _MARGIN), _cut(title, 17, size[0] - 2 * _MARGIN), _INK, _font(17))
    for number, row in enumerate(rows):
        for column, cell in enumerate(row):
            left, top = _MARGIN + column * (_TILE + _GAP), _HEAD + number * height
            sheet.paste(_card(cell), (left, top))
            pen.text((left, top + _TILE + 5), _cut(cell.name, 11, _TILE), _INK, _font(11))
            pen.text((left, top + _TILE + 21), cell.note, _SOFT, _font(11))
    sheet.save(path)


def _card(cell: Cell) -> Image.Image:
    """The picture whole in the middle of a square, or words in its place."""
    card = Image.new("RGB", (_TILE, _TILE), _CARD)
    picture = _opened(cell.picture) if cell.picture else None
    if picture is None:
        words = "no thumbnail"
        ImageDraw.Draw(card).text((_TILE // 2, _TILE // 2), words, _SOFT, _font(11), anchor="mm")
        return card
    picture.thumbnail((_TILE, _TILE))
    card.paste(picture, ((_TILE - picture.width) // 2, (_TILE - picture.height) // 2))
    return card


def _opened(data: bytes) -> Image.Image | None:
    try:
        with Image.open(BytesIO(data), formats=["WEBP"]) as image:
            return image.convert("RGB")
    except Exception:  # a broken file raises nearly anything
        return None


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(_FONT, size)


def _cut(words: str, size: int, room: int) -> str:
    """As much of one line as `room` pixels hold."""
    line = "".join(letter if letter.isprintable() else "\ufffd" for letter in words)
    font = _font(size)
    while line and font.getlength(line) > room:
        line = line.rstrip("…")[:-1] + "…" if len(line) > 1 else ""
    return line
