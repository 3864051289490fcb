"""Bytes to RGB pixels at the model's size. The one file that knows Pillow."""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
from PIL import AvifImagePlugin, ExifTags, Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from shared.errors import FailureCode, ItemError

Image.init()  # registers every plugin now, before threads open pictures
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # pictures are decoded side by side; each needs but one thread

# What is decoded, and what is known well enough to be named in a refusal; the first match counts. So Pillow
# never guesses, and only the one plugin meant for the bytes sees them.
_DECODED = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WEBP": rb"RIFF.{4}WEBP",
    "GIF": rb"GIF8[79]a",
    "BMP": rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0",
    "TIFF": rb"II[\x2a\x2b]\0|MM\0[\x2a\x2b]",
    "AVIF": rb".{4}ftyp(.{4}){0,12}avi[fs]",
}
_REFUSED = {
    "SVG": rb"(?:\xef\xbb\xbf)?\s*<(?:svg[\s>]|(?:\?xml|!--|!DOCTYPE svg).*<svg[\s>])",
    "HEIC": rb".{4}ftyp(?:hei[cxms]|hev[cx]|mif1|msf1)",
    "JPEG 2000": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "JPEG XL": rb"\0\0\0\x0cJXL |\xff\x0a",
    "JPEG XR": rb"II\xbc",
    "Photoshop": rb"8BPS",
    "PDF": rb"%PDF-",
    "PostScript": rb"%!PS|\xc5\xd0\xd3\xc6",
    "Windows icon": rb"\0\0[\x01\x02]\0[^\0]\0",
    "Apple icon": rb"icns",
    "DirectDraw surface": rb"DDS ",
    "netpbm": rb"P[1-6Ff]\s[\s\d#]|P7\s",
    "QOI": rb"qoif",
    "PCX": rb"\n[\0\2-\5][\0\1][\1\2\4\x08]",
    "SGI": rb"\x01\xda[\0\1][\1\2]",
    "Sun raster": rb"\x59\xa6\x6a\x95",
    "X bitmap": rb"#define\s+\w+_width\s",
    "X pixmap": rb"/\* XPM \*/",
    "Windows metafile": rb"\xd7\xcd\xc6\x9a|\x01\0\0\0.{36} EMF",
    "FITS": rb"SIMPLE  =",
    "FLIC animation": rb".{4}[\x11\x12]\xaf",
    "Blizzard texture": rb"BLP[12]",
    "OpenEXR": rb"\x76\x2f\x31\x01",
    "Radiance HDR": rb"#\?RADIANCE",
    "GIMP": rb"gimp xcf",
    "camera raw": rb"FUJIFILMCCD-RAW|.{4}ftypcrx",
}
_HTML = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html|head|body|script)", re.I)
_HEAD = 1024  # bytes that are looked at to tell a format

# How a complete file ends; Pillow's own messages are vague about files that were cut.
_LAST_BYTES = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82", "GIF": b"\0;"}
_TAIL = 1024  # junk after the end is common

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

    `width` and `height` are as a person sees it (after its EXIF orientation); `format` is lower case.
    """

    pixels: np.ndarray
    width: int
    height: int
    format: str


def decode(data: bytes, shape: PixelShape, max_pixels: int) -> Picture:
    """The first frame of a picture, upright, on white, at the model's size.

    Raises ItemError, and MemoryError where there is too little for this picture.
    """
    kind = _recognise(data)
    try:
        with Image.open(BytesIO(data), formats=[kind]) as image:
            return _picture(image, kind, shape, max_pixels)
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


def _recognise(data: bytes) -> str:
    if not data:
        raise ItemError(FailureCode.EMPTY, "The file has no bytes.")
    head = data[:_HEAD]
    for kind, signature in _DECODED.items():
        if re.match(signature, head, re.DOTALL):
            return kind
    for kind, signature in _REFUSED.items():
        if re.match(signature, head, re.DOTALL):
            readable = ", ".join(_DECODED)
            detail = f"The picture is in the format {kind}, which is not read. These are: {readable}."
            raise ItemError(FailureCode.UNSUPPORTED_FORMAT, detail)
    what = "are an HTML page" if _HTML.match(head) else "begin like no known picture"
    raise ItemError(FailureCode.NOT_AN_IMAGE, f"The {len(data):,} bytes {what}.")


def _picture(image: ImageFile, kind: str, shape: PixelShape, max_pixels: int) -> Picture:
    width, height = image.size
    _check_size(width, height, max_pixels)
    # A JPEG can be decoded at a half, a quarter or an eighth; never below twice what the model sees.
    reach = 2 * (shape.shortest or max(shape.height, shape.width))
    image.draft("RGB", (reach, reach))
    image.load()
    orientation = _orientation(image)
    seen = _rgb(image)
    if orientation in _UPRIGHT:
        seen = seen.transpose(_UPRIGHT[orientation])
    if orientation in _LYING:
        width, height = height, width
    return Picture(np.asarray(_fit(seen, shape)), width, height, kind.lower())


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
    if _is_cut(kind, data, reason):
        detail = f"The {kind} picture is cut off after {len(data):,} bytes ({reason})."
        return ItemError(FailureCode.TRUNCATED, detail)
    detail = f"The {kind} picture of {len(data):,} bytes cannot be decoded ({reason})."
    return ItemError(FailureCode.DECODE_FAILED, detail)


def _is_cut(kind: str, data: bytes, reason: str) -> bool:
    if kind in _LAST_BYTES and reason != "Truncated File Read":  # that is a header that goes on past the end
        return _LAST_BYTES[kind] not in data[-_TAIL:]
    return _promised(kind, data) > len(data) or "truncated" in reason.lower()


def _promised(kind: str, data: bytes) -> int:
    """The bytes that the file's own structure says it has at least."""
    end = 0
    if kind == "BMP":
        end = int.from_bytes(data[2:6], "little")
    elif kind == "WEBP":
        end = 8 + int.from_bytes(data[4:8], "little")
    elif kind == "TIFF":  # where its directory stands
        end = int.from_bytes(data[4:8], "little" if data[:1] == b"I" else "big")
    elif kind == "AVIF":  # a row of boxes, each with its size
        while (size := int.from_bytes(data[end : end + 4], "big")) >= 8:
            end += size
    return end
