"""The benches' JPEGs: the demo's real photographs as they are, at 600 × 450 and at 3000 × 2000.

The large ones are resampled from photographs of about 1024 px, so they hold less detail, and fewer bytes, than a
camera's own, whose decoding costs somewhat more.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from demo.radios import Radios

LARGE_COUNT = 40  # 3000 × 2000 takes a second to make, and a megabyte to serve


@dataclass(frozen=True)
class Corpora:
    """JPEG files by size, in a fixed order."""

    small: tuple[Path, ...]
    large: tuple[Path, ...]
    originals: tuple[Path, ...]


def ensure_corpora(radios: Radios, cache: Path) -> Corpora:
    """The three corpora; those that must be made are kept in `cache`."""
    originals = tuple(p.file for p in radios.photos() if p.file.suffix.lower() == ".jpg")
    return Corpora(
        small=_resampled(originals, (600, 450), 85, cache / "jpeg-600x450"),
        large=_resampled(originals[:LARGE_COUNT], (3000, 2000), 85, cache / "jpeg-3000x2000"),
        originals=originals,
    )


def _resampled(
    originals: Sequence[Path], size: tuple[int, int], quality: int, folder: Path
) -> tuple[Path, ...]:
    """The files of `folder`, made the first time: whole or not at all."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=folder.parent, prefix="jpeg-"))
        try:
            for original in originals:
                _resample(original, size, quality, part / f"{original.stem}.jpg")
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return tuple(sorted(folder.glob("*.jpg")))


def _resample(original: Path, size: tuple[int, int], quality: int, target: Path) -> None:
    with Image.open(original) as opened:
        upright = ImageOps.exif_transpose(opened).convert("RGB")
    ImageOps.fit(upright, size, Image.Resampling.LANCZOS).save(target, "JPEG", quality=quality)
