"""The contact sheet: one row a search, the query at the left, its hits to the right.

All measures are in points; the PNG has two pixels a point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFont, ImageOps

DENSITY = 2
MARGIN, GUTTER = 48, 16
TILE = (184, 138)
QUERY_GAP = 56  # between the query and its first hit
HEADER, ROW, FOOTER = 156, 244, 72
SLIVER = 0.12  # a picture this near to the shape of its card fills it

INK, SOFT, FAINT, CARD, PAPER = "#1c1b19", "#6f6b64", "#e4e1da", "#f4f2ed", "#ffffff"
ACCENT = "#d9480f"

Point = tuple[float, float]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Tile:
    """A hit: the picture's bytes, its cosine similarity, its payload in a few words."""

    picture: bytes
    score: float
    caption: str
    original: bool = False


@dataclass(frozen=True)
class Row:
    """A search: the query's picture, what kind of query it was, and up to two softer lines."""

    picture: bytes
    kind: str
    notes: Sequence[str]
    hits: Sequence[Tile]


def sheet(rows: Sequence[Row], path: Path, summary: str, title: str = "Lookalike") -> Path:
    """Draw `rows` under a header of `title` and `summary`; writes a PNG."""
    columns = max((len(row.hits) for row in rows), default=0)
    page = _Page(max(_left(columns) - GUTTER + MARGIN, 760), HEADER + ROW * len(rows) + FOOTER)
    _header(page, title, summary)
    for number, row in enumerate(rows):
        _row(page, row, HEADER + ROW * number)
    _legend(page)
    page.save(path)
    return path


def _left(column: int) -> float:
    """Where a hit's column begins."""
    return MARGIN + TILE[0] + QUERY_GAP + column * (TILE[0] + GUTTER)


def _header(page: _Page, title: str, summary: str) -> None:
    page.text((MARGIN, 72), title, 30, INK, bold=True)
    page.text((MARGIN, 100), summary, 13, SOFT, page.width - 2 * MARGIN)
    page.text((MARGIN, HEADER - 12), "QUERY", 8.5, SOFT, bold=True)
    page.text((_left(0), HEADER - 12), "NEAREST IN THE COLLECTION", 8.5, SOFT, bold=True)


def _row(page: _Page, row: Row, top: float) -> None:
    page.line(MARGIN, top, page.width - MARGIN)
    top += 24
    page.picture((MARGIN, top), TILE, row.picture)
    _caption(page, (MARGIN, top), row.kind, row.notes, INK, TILE[0] + QUERY_GAP - GUTTER)
    for number, hit in enumerate(row.hits):
        at = _left(number), top
        page.picture(at, TILE, hit.picture)
        _caption(page, at, f"{hit.score:.2f}", [hit.caption], ACCENT if hit.original else INK, TILE[0])
        if hit.original:
            page.frame(at, TILE)


def _caption(page: _Page, tile: Point, strong: str, soft: Sequence[str], colour: str, room: float) -> None:
    """Under the tile: one bold line, then the soft ones."""
    left, baseline = tile[0], tile[1] + TILE[1] + 22
    page.text((left, baseline), strong, 12.5, colour, room, bold=True)
    for number, line in enumerate(soft):
        page.text((left, baseline + 17 + 15 * number), line, 10.5, SOFT, room)


def _legend(page: _Page) -> None:
    baseline = page.height - 32
    page.frame((MARGIN + 2, baseline - 9), (12, 9))
    words = "the picture that the query was made from. Numbers are cosine similarities."
    page.text((MARGIN + 24, baseline), words, 10.5, SOFT)


class _Page:
    """A white page that is drawn on in points."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self._image = Image.new("RGB", (round(width * DENSITY), round(height * DENSITY)), PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def text(
        self,
        at: Point,
        words: str,
        size: float,
        colour: str,
        room: float | None = None,
        *,
        bold: bool = False,
    ) -> None:
        """One line whose baseline starts at `at`; cut with an ellipsis where it is wider than `room`."""
        face = font(size, bold)
        line = words if room is None else shortened(words, face, room * DENSITY)
        self._draw.text(_scaled(at), line, fill=colour, font=face, anchor="ls")

    def picture(self, at: Point, size: Point, data: bytes) -> None:
        """The picture, upright and whole (less a sliver), in the middle of a card of `size`."""
        card = Image.new("RGB", _scaled(size), CARD)
        with Image.open(BytesIO(data)) as opened:
            upright = ImageOps.exif_transpose(opened).convert("RGB")
        shape = (upright.width / upright.height) / (card.width / card.height)
        fit = ImageOps.fit if 1 - SLIVER <= shape <= 1 + SLIVER else ImageOps.contain
        fitted = fit(upright, card.size, Image.Resampling.LANCZOS)
        card.paste(fitted, ((card.width - fitted.width) // 2, (card.height - fitted.height) // 2))
        self._image.paste(card, _scaled(at), _rounded(card.size, 6 * DENSITY))

    def frame(self, at: Point, size: Point) -> None:
        """A rounded line around a card of `size`."""
        (x, y), (width, height) = _scaled(at), _scaled(size)
        gap, line = DENSITY, 2 * DENSITY
        inside = _rounded((width + 2 * gap, height + 2 * gap), 7 * DENSITY)
        mask = _rounded((inside.width + 2 * line, inside.height + 2 * line), 9 * DENSITY)
        hole = ImageOps.expand(inside, line)
        self._image.paste(ACCENT, (x - gap - line, y - gap - line), ImageChops.subtract(mask, hole))

    def line(self, left: float, y: float, right: float) -> None:
        self._draw.line((*_scaled((left, y)), *_scaled((right, y))), fill=FAINT, width=DENSITY)

    def save(self, path: Path) -> None:
        dpi = 72 * DENSITY
        self._image.save(path, "PNG", dpi=(dpi, dpi))


def _scaled(pair: Point) -> tuple[int, int]:
    return round(pair[0] * DENSITY), round(pair[1] * DENSITY)


def _rounded(size: tuple[int, int], radius: int) -> Image.Image:
    mask = Image.new("L", (size[0] * 2, size[1] * 2))  # drawn larger and reduced: smooth corners
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, mask.width - 1, mask.height - 1), radius * 2, fill=255)
    return mask.resize(size, Image.Resampling.BOX)


@cache
def font(size: float, bold: bool = False) -> Font:
    """DejaVu Sans, which has every sign, where the system has it; else the one that Pillow brings along."""
    try:
        return ImageFont.truetype("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf", size * DENSITY)
    except OSError:
        return ImageFont.load_default(size * DENSITY)


def shortened(words: str, face: Font, room: float) -> str:
    """`words`, or as much of them as `room` pixels hold, ending in an ellipsis."""
    if face.getlength(words) <= room:
        return words
    while words and face.getlength(words.rstrip() + "…") > room:
        words = words[:-1]
    return words.rstrip() + "…"
