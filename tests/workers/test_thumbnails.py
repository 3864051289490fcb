"""workers/thumbnails.py, through `decode`, which calls it in the processes that decode."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from shared.errors import ItemError
from tests.image_server import jpeg, picture
from tests.workers.test_decode import CAP, SQUARE, corners, encoded, texture
from workers.decode import PixelShape, decode
from workers.thumbnails import MAX_THUMBNAIL_BYTES

SIDE = 256


def thumbnail(data: bytes, side: int = SIDE, shape: PixelShape = SQUARE) -> Image.Image:
    made = decode(data, shape, CAP, thumbnail=side).thumbnail
    assert made is not None
    image = Image.open(io.BytesIO(made))
    image.load()
    return image


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_none_is_made_unless_it_is_asked_for() -> None:
    assert decode(jpeg(1), SQUARE, CAP).thumbnail is None


@pytest.mark.parametrize(
    ("size", "small"),
    [((600, 450), (256, 192)), ((450, 600), (192, 256)), ((3000, 2000), (256, 171)), ((256, 256), (256, 256)),
     ((9000, 3), (256, 1)), ((3, 9000), (1, 256))],
)  # fmt: skip
def test_its_longer_side_is_as_long_as_wanted(size: tuple[int, int], small: tuple[int, int]) -> None:
    made = thumbnail(encoded(texture(*size), format="JPEG"))
    assert (made.format, made.mode, made.size) == ("WEBP", "RGB", small)


@pytest.mark.parametrize("size", [(1, 1), (40, 30), (255, 200)])
def test_a_smaller_picture_is_not_enlarged(size: tuple[int, int]) -> None:
    assert thumbnail(encoded(texture(*size), format="PNG")).size == size


def test_it_looks_like_the_picture() -> None:
    for size in ((600, 450), (3000, 2000)):
        whole = picture(3, size)
        made = thumbnail(encoded(whole, format="JPEG", quality=95))
        expected = np.asarray(whole.resize(made.size, Image.Resampling.LANCZOS)).astype(int)
        assert np.abs(np.asarray(made) - expected).mean() < 6


def test_it_is_as_sharp_for_a_model_of_few_pixels() -> None:
    made = thumbnail(encoded(texture(3000, 2000), format="JPEG"), shape=PixelShape(32, 32))
    assert made.size == (256, 171)
    assert np.asarray(made).std() > 30  # the waves of the texture, not their mean


def test_a_models_pixels_are_the_same_with_and_without_one() -> None:
    for data in (jpeg(1), jpeg(2, (3000, 2000))):
        with_one = decode(data, SQUARE, CAP, thumbnail=SIDE).pixels
        np.testing.assert_array_equal(with_one, decode(data, SQUARE, CAP).pixels)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_it_is_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    made = thumbnail(encoded(corners(800, 600), format="JPEG", exif=exif))
    assert made.size == ((256, 192) if orientation == 3 else (192, 256))
    red = {3: (-9, -9), 6: (9, -9), 8: (-9, 9)}[orientation]  # row and column of what was at the top left
    assert np.asarray(made)[red].tolist() == pytest.approx([255, 0, 0], abs=30)


def test_what_is_transparent_is_white_in_it() -> None:
    made = thumbnail(encoded(Image.new("RGBA", (300, 300), (255, 0, 0, 0)), format="PNG"))
    assert made.mode == "RGB"
    assert (np.asarray(made) >= 250).all()


def test_nothing_of_what_the_file_told_is_in_it() -> None:
    exif = Image.Exif()
    exif[0x010F] = "A camera"
    exif.get_ifd(0x8825)[1] = "N"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    told = {"exif": exif, "icc_profile": profile, "xmp": b"<x:xmpmeta/>"}
    for options in ({"format": "JPEG", "comment": b"a comment"}, {"format": "WEBP"}, {"format": "PNG"}):
        made = thumbnail(encoded(texture(300, 200), **options, **told))
        assert made.info.keys() <= {"loop", "background", "timestamp", "duration"}
        assert dict(made.getexif()) == {}


def test_the_largest_that_the_settings_allow_is_below_its_bound() -> None:
    made = decode(encoded(noise(600, 600), format="PNG"), SQUARE, CAP, thumbnail=512).thumbnail
    assert made is not None
    assert len(made) < MAX_THUMBNAIL_BYTES


def test_a_picture_that_cannot_be_decoded_has_none() -> None:
    with pytest.raises(ItemError):
        decode(jpeg(1)[:5000], SQUARE, CAP, thumbnail=SIDE)
