"""Bytes to RGB pixels at the model's size. The one file that knows Pillow."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from math import ceil, floor
from typing import Literal

import numpy as np
from PIL import AvifImagePlugin, ExifTags, Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from shared.errors import FailureCode, ItemError
from workers.formats import is_cut, recognise
from workers.thumbnails import thumbnail_of

Image.init()  # registers every plugin now, before threads open pictures
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # pictures are decoded side by side; each needs but one thread

# As long as a JPEG can be. Resizing holds a strip of one side x the model's size: without this cap a picture
# of 1 x 50,000,000 would need gigabytes.
_MAX_SIDE = 65_535

Resample = Literal["nearest", "lanczos", "bilinear", "bicubic"]
_RESAMPLING: dict[Resample, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "lanczos": Image.Resampling.LANCZOS,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LYING = (5, 6, 7, 8)

Crop = tuple[float, float, float, float]  # left, top, right, bottom, in fractions of the upright picture


@dataclass(frozen=True)
class PixelShape:
    """How a model wants its pixels.

    The picture is squashed to `height` x `width`; or, where `shortest` is set, its shorter side becomes that
    long and the centre of `height` x `width` is kept.
    """

    height: int
    width: int
    shortest: int | None = None
    resample: Resample = "bilinear"

    def __post_init__(self) -> None:
        if self.shortest is not None and self.shortest < max(self.height, self.width):
            raise ValueError(
                f"A crop of {self.height} x {self.width} is larger than a side of {self.shortest}."
            )

    def __str__(self) -> str:
        size = f"{self.height}x{self.width}"
        if self.shortest is None:
            return f"squash{size}-{self.resample}"
        crop = self.height if self.height == self.width else size
        return f"short{self.shortest}-crop{crop}-{self.resample}"


@dataclass(frozen=True)
class Picture:
    """Pixels for the model, uint8 [height, width, 3] RGB, and what is known of the whole picture.

    `width` and `height` are as a person sees it (after its EXIF orientation); `format` is lower case; `thumbnail`
    is the picture as a small WebP, where one was asked for.
    """

    pixels: np.ndarray
    width: int
    height: int
    format: str
    thumbnail: bytes | None = None


def decode(
    data: bytes, shape: PixelShape, max_pixels: int, *, crop: Crop | None = None, thumbnail: int = 0
) -> Picture:
    """The first frame of a picture, upright, on white, at the model's size.

    Of a `crop` the pixels are that part's alone. `thumbnail` is the longest side of the one that is made of the
    whole picture; 0 makes none. Raises ItemError, and MemoryError where there is too little for this picture.
    """
    kind = recognise(data)
    try:
        with Image.open(BytesIO(data), formats=[kind]) as image:
            _check_size(*image.size, max_pixels)
            return _picture(image, kind, shape, crop, thumbnail)
    except (ItemError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        cap = min(max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or max_pixels))
        detail = f"The {kind} picture claims far more pixels than the cap of {cap:,}."
        raise ItemError(FailureCode.TOO_MANY_PIXELS, detail) from error
    except Exception as error:  # broken files raise nearly anything
        raise _failure(kind, data, error) from error


def fit(pixels: np.ndarray, shape: PixelShape) -> np.ndarray:
    """uint8 [H, W, 3] pixels as `decode` brings them to a model's size, uint8 [height, width, 3]."""
    return np.asarray(_fit(Image.fromarray(pixels), shape))


def _picture(image: ImageFile, kind: str, shape: PixelShape, crop: Crop | None, thumbnail: int) -> Picture:
    width, height = image.size
    image.draft("RGB", _least_size(shape, crop, thumbnail))
    image.load()
    orientation = _orientation(image)
    seen = _rgb(image)
    if orientation in _UPRIGHT:
        seen = seen.transpose(_UPRIGHT[orientation])
    if orientation in _LYING:
        width, height = height, width
    pixels = np.asarray(_fit(_part(seen, crop) if crop else seen, shape))
    return Picture(pixels, width, height, kind.lower(), thumbnail_of(seen, thumbnail) if thumbnail else None)


def _least_size(shape: PixelShape, crop: Crop | None, thumbnail: int) -> tuple[int, int]:
    """A JPEG can be decoded at a half, a quarter or an eighth, and is never decoded below this.

    It is twice what the model sees, and no less than what the thumbnail shows.
    """
    reach = 2 * (shape.shortest or max(shape.height, shape.width))
    if crop:
        left, top, right, bottom = crop
        reach = ceil(reach / min(right - left, bottom - top))
    return max(reach, thumbnail), max(reach, thumbnail)


def _part(image: Image.Image, crop: Crop) -> Image.Image:
    """What lies in the crop, of at least one pixel."""
    left, top = floor(crop[0] * image.width), floor(crop[1] * image.height)
    right, bottom = ceil(crop[2] * image.width), ceil(crop[3] * image.height)
    return image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))


def _check_size(width: int, height: int, max_pixels: int) -> None:
    detail = None
    if width * height > max_pixels:
        detail = f"The picture has {width:,} x {height:,} pixels; the cap is {max_pixels:,}."
    elif max(width, height) > _MAX_SIDE:
        detail = f"The picture has {width:,} x {height:,} pixels; no side may have more than {_MAX_SIDE:,}."
    if detail:
        raise ItemError(FailureCode.TOO_MANY_PIXELS, detail)


def _orientation(image: Image.Image) -> int:
    """EXIF's, 1 to 8. A TIFF is turned by Pillow while it loads and says 1 afterwards."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a broken EXIF block is no reason to lose the picture
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F"):
        detail = "The picture's pixels are 32-bit numbers, and nothing says which of them is white."
        raise ItemError(FailureCode.UNSUPPORTED_FORMAT, detail)
    if image.mode.startswith("I;16"):  # Pillow would clip at 255 instead of scaling
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        layer = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", layer.size, "white")
        white.paste(layer, mask=layer)
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


def _fit(image: Image.Image, shape: PixelShape) -> Image.Image:
    """As transformers' processors do it, level for level; what a crop would drop is never computed."""
    size = (shape.width, shape.height)
    if shape.shortest is None:
        return image.resize(size, _RESAMPLING[shape.resample])
    short = min(image.size)
    wide, high = (shape.shortest * side // short for side in image.size)
    left, top = (wide - shape.width) // 2, (high - shape.height) // 2
    x, y = image.width / wide, image.height / high
    right, bottom = min((left + shape.width) * x, image.width), min((top + shape.height) * y, image.height)
    return image.resize(size, _RESAMPLING[shape.resample], box=(left * x, top * y, right, bottom))


def _failure(kind: str, data: bytes, error: Exception) -> ItemError:
    reason = str(error) or type(error).__name__
    if isinstance(error, UnidentifiedImageError):  # its own words name a memory address
        reason = "its header cannot be read"
    if is_cut(kind, data, reason):
        detail = f"The {kind} picture is cut off after {len(data):,} bytes ({reason})."
        return ItemError(FailureCode.TRUNCATED, detail)
    detail = f"The {kind} picture of {len(data):,} bytes cannot be decoded ({reason})."
    return ItemError(FailureCode.DECODE_FAILED, detail)
