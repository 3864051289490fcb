"""A contact sheet: one row a set of images, with a line of words above it and two below each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from cli.study.values import shortened

_TILE, _GAP, _MARGIN, _HEAD, _ROW_HEAD, _CAPTION = 150, 14, 28, 64, 24, 40  # pixels
_ROW = _ROW_HEAD + _TILE + _CAPTION + _GAP
_INK, _SOFT, _CARD, _PAPER = "#1c1b19", "#6f6b64", "#f1efe9", "#ffffff"
_FONT = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")  # it has nearly every sign


@dataclass(frozen=True)
class Cell:
    """An image: two lines of words, and its picture where there is one."""

    name: str
    note: str
    picture: bytes | None


@dataclass(frozen=True)
class Row:
    """A set of images under its words."""

    title: str
    cells: Sequence[Cell]


def draw(rows: Sequence[Row], title: str, path: Path) -> None:
    """Write the PNG."""
    columns = max([4, *(len(row.cells) for row in rows)])
    size = (2 * _MARGIN + columns * (_TILE + _GAP) - _GAP, _HEAD + len(rows) * _ROW + _MARGIN)
    sheet = Image.new("RGB", size, _PAPER)
    ImageDraw.Draw(sheet).text((_MARGIN, _MARGIN), _cut(title, 17, size[0] - 2 * _MARGIN), _INK, _font(17))
    for number, row in enumerate(rows):
        _draw_row(sheet, row, _HEAD + number * _ROW)
    sheet.save(path)


def _draw_row(sheet: Image.Image, row: Row, top: int) -> None:
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, top), row.title, _SOFT, _font(12))
    top += _ROW_HEAD
    for column, cell in enumerate(row.cells):
        left = _MARGIN + column * (_TILE + _GAP)
        sheet.paste(_card(cell), (left, top))
        pen.text((left, top + _TILE + 5), _cut(cell.name, 11, _TILE), _INK, _font(11))
        pen.text((left, top + _TILE + 21), cell.note, _SOFT, _font(11))


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
    """As much of one line as `room` pixels hold: its beginning and its end, where ids differ."""
    whole = line = "".join(letter if letter.isprintable() else "\ufffd" for letter in words)
    font = _font(size)
    kept = len(whole)
    while kept and font.getlength(line) > room:
        kept -= 1
        line = shortened(whole, kept)
    return line
