from __future__ import annotations

import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageOps

from shared.errors import FailureCode, ItemError
from workers.decode import Crop, PixelShape, decode, fit

CAP = 50_000_000
SQUARE = PixelShape(224, 224)
FORMATS = {
    "jpeg": {"format": "JPEG"},
    "progressive jpeg": {"format": "JPEG", "progressive": True},
    "png": {"format": "PNG"},
    "webp": {"format": "WEBP"},
    "gif": {"format": "GIF"},
    "bmp": {"format": "BMP"},
    "tiff": {"format": "TIFF"},
    "compressed tiff": {"format": "TIFF", "compression": "tiff_lzw"},
    "avif": {"format": "AVIF"},
}


def texture(width: int, height: int, seed: int = 0) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(x / 17 + y / 31), np.cos(x / 9), np.sin(y / 13)], axis=-1)
    grain = np.random.default_rng(seed).normal(0, 8, waves.shape)
    return Image.fromarray((128 + 90 * waves + grain).clip(0, 255).astype(np.uint8))


def corners(width: int = 64, height: int = 48) -> Image.Image:
    """Red, green, blue and white quarters, so that every turn of it looks different."""
    picture = Image.new("RGB", (width, height), "white")
    picture.paste("red", (0, 0, width // 2, height // 2))
    picture.paste("lime", (width // 2, 0, width, height // 2))
    picture.paste("blue", (0, height // 2, width // 2, height))
    return picture


def encoded(picture: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, **options)  # type: ignore[arg-type]
    return file.getvalue()


def solid(pixels: np.ndarray) -> list[int]:
    """The colour of the middle."""
    return pixels[pixels.shape[0] // 2, pixels.shape[1] // 2].tolist()


def refusal(data: bytes, cap: int = CAP) -> ItemError:
    with pytest.raises(ItemError) as caught:
        decode(data, SQUARE, cap)
    return caught.value


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(width: int, height: int, body: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def compressed_rows(width: int, height: int) -> bytes:
    """The zlib stream of a black 1-bit picture, written a strip at a time."""
    packer = zlib.compressobj(9)
    strip = b"\0" * (1 + (width + 7) // 8) * 100
    parts = [packer.compress(strip) for _ in range(height // 100)]
    return b"".join(parts) + packer.flush()


@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS.keys())
def test_every_listed_format_gives_pixels_of_the_models_size_and_its_own_name(options: dict) -> None:
    picture = decode(encoded(texture(300, 200), **options), SQUARE, CAP)
    assert picture.pixels.shape == (224, 224, 3)
    assert picture.pixels.dtype == np.uint8
    assert (picture.width, picture.height, picture.format) == (300, 200, options["format"].lower())
    reference = fit(np.asarray(texture(300, 200)), SQUARE).astype(int)
    assert np.abs(picture.pixels - reference).mean() < 12  # lossy, and 256 colours in a GIF


@pytest.mark.parametrize("size", [(600, 450), (895, 1300), (50, 40), (224, 224)])
def test_below_the_draft_size_pixels_are_those_of_a_full_decode(size: tuple[int, int]) -> None:
    data = encoded(texture(*size), format="JPEG")
    full = np.asarray(Image.open(io.BytesIO(data)).resize((224, 224), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(decode(data, SQUARE, CAP).pixels, full)


@pytest.mark.parametrize("size", [(900, 900), (1280, 960), (3000, 2000)])
def test_above_the_draft_size_a_fraction_is_decoded_and_stays_near_a_full_decode(
    size: tuple[int, int],
) -> None:
    data = encoded(texture(*size), format="JPEG")
    full = np.asarray(Image.open(io.BytesIO(data)).resize((224, 224), Image.Resampling.BILINEAR)).astype(int)
    difference = np.abs(decode(data, SQUARE, CAP).pixels - full)
    assert 0 < difference.max() <= 10  # 0 would be a full decode
    assert difference.mean() < 1.5


@pytest.mark.parametrize("size", [(640, 480), (480, 641), (292, 292), (300, 1999), (31, 17)])
def test_a_centre_crop_equals_resizing_all_and_cropping(size: tuple[int, int]) -> None:
    shape = PixelShape(260, 260, shortest=292)
    picture, short = texture(*size), min(size)
    wide, high = (292 * side // short for side in size)
    whole = picture.resize((wide, high), Image.Resampling.BILINEAR)
    left, top = (wide - 260) // 2, (high - 260) // 2
    expected = np.asarray(whole.crop((left, top, left + 260, top + 260))).astype(int)
    assert np.abs(decode(encoded(picture, format="PNG"), shape, CAP).pixels - expected).max() <= 1


QUARTERS = {
    (0.0, 0.0, 0.5, 0.5): [255, 0, 0],
    (0.5, 0.0, 1.0, 0.5): [0, 255, 0],
    (0.0, 0.5, 0.5, 1.0): [0, 0, 255],
    (0.5, 0.5, 1.0, 1.0): [255, 255, 255],
}


@pytest.mark.parametrize(("crop", "colour"), QUARTERS.items())
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_crop_is_a_part_of_the_picture_as_a_person_sees_it(
    orientation: int, crop: Crop, colour: list[int]
) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    lying = {5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, orientation)  # what turns the quarters back
    turned = ImageOps.exif_transpose(_tagged(corners(1200, 900), lying))
    data = encoded(turned, format="JPEG", quality=95, exif=exif)
    picture = decode(data, SQUARE, CAP, crop=crop)
    assert (picture.width, picture.height) == (1200, 900)
    assert np.abs(picture.pixels[8:-8, 8:-8].astype(int) - colour).max() <= 8


def _tagged(picture: Image.Image, orientation: int) -> Image.Image:
    exif = Image.Exif()
    exif[274] = orientation
    tagged = Image.open(io.BytesIO(encoded(picture, format="PNG", exif=exif)))
    tagged.load()
    return tagged


def test_the_whole_picture_as_a_crop_is_the_whole_picture() -> None:
    data = encoded(texture(600, 450), format="JPEG")
    np.testing.assert_array_equal(
        decode(data, SQUARE, CAP, crop=(0.0, 0.0, 1.0, 1.0)).pixels, decode(data, SQUARE, CAP).pixels
    )


def test_a_crop_has_the_pixels_of_cropping_first() -> None:
    picture, part = texture(600, 450), (0.25, 0.2, 0.75, 0.6)
    expected = fit(np.asarray(picture.crop((150, 90, 450, 270))), SQUARE)
    np.testing.assert_array_equal(
        decode(encoded(picture, format="PNG"), SQUARE, CAP, crop=part).pixels, expected
    )


@pytest.mark.parametrize("crop", [(0.0, 0.0, 0.25, 0.25), (0.4, 0.0, 0.65, 1.0), (0.0, 0.1, 1.0, 0.2)])
def test_a_crop_of_a_large_jpeg_is_as_sharp_as_one_of_a_full_decode(crop: Crop) -> None:
    data = encoded(texture(3600, 2400), format="JPEG", quality=95)
    full = Image.open(io.BytesIO(data))
    left, top, right, bottom = (round(at * side) for at, side in zip(crop, full.size * 2, strict=True))
    expected = fit(np.asarray(full.crop((left, top, right, bottom))), SQUARE).astype(int)
    assert np.abs(decode(data, SQUARE, CAP, crop=crop).pixels - expected).mean() < 1.5


@pytest.mark.parametrize("crop", [(0.0, 0.0, 1e-9, 1e-9), (1 - 1e-9, 1 - 1e-9, 1.0, 1.0)])
def test_the_smallest_crop_is_a_pixel(crop: Crop) -> None:
    pixels = decode(encoded(corners(), format="PNG"), SQUARE, CAP, crop=crop).pixels
    assert (pixels == pixels[0, 0]).all()


def test_a_ribbon_is_cropped_without_being_resized_whole() -> None:
    ribbon = Image.new("RGB", (60_000, 1), "red")
    pixels = decode(encoded(ribbon, format="PNG"), PixelShape(260, 260, shortest=292), CAP).pixels
    assert solid(pixels) == [255, 0, 0]


def test_a_crop_larger_than_the_shorter_side_is_refused() -> None:
    with pytest.raises(ValueError, match="larger"):
        PixelShape(260, 260, shortest=224)


def test_a_shape_has_a_short_stable_name() -> None:
    assert str(PixelShape(224, 224)) == "squash224x224-bilinear"
    assert str(PixelShape(260, 260, shortest=292)) == "short292-crop260-bilinear"
    assert str(PixelShape(200, 100, shortest=256, resample="bicubic")) == "short256-crop200x100-bicubic"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "options", [{"format": "PNG"}, {"format": "TIFF"}, {"format": "WEBP", "lossless": True}]
)
def test_a_picture_is_turned_as_its_exif_says(orientation: int, options: dict) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    data = encoded(corners(), exif=exif, **options)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded(corners(), format="PNG", exif=exif))))
    picture = decode(data, SQUARE, CAP)
    assert (picture.width, picture.height) == upright.size
    np.testing.assert_array_equal(picture.pixels, fit(np.asarray(upright), SQUARE))


def test_a_large_turned_jpeg_gives_the_size_that_a_person_sees() -> None:
    exif = Image.Exif()
    exif[274] = 6
    picture = decode(encoded(corners(2000, 1000), format="JPEG", exif=exif), SQUARE, CAP)
    assert (picture.width, picture.height) == (1000, 2000)
    assert picture.pixels[20, 200].tolist() == pytest.approx([255, 0, 0], abs=8)  # red was at the top left


def test_a_broken_exif_block_does_not_cost_the_picture() -> None:
    data = encoded(corners(), format="JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff broken")
    with warnings.catch_warnings(action="ignore"):
        assert decode(data, SQUARE, CAP).width == 64


def transparent(mode: str) -> Image.Image:
    picture = Image.new("RGBA", (40, 40), (255, 0, 0, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 20, 40))
    if mode == "P":
        flat = Image.new("P", (40, 40), 1)
        flat.putpalette([0, 0, 0, 255, 0, 0])
        flat.paste(0, (0, 0, 20, 40))
        flat.info["transparency"] = 0
        return flat
    return picture.convert(mode)


@pytest.mark.parametrize(
    ("picture", "options", "right"),
    [
        (transparent("RGBA"), {"format": "PNG"}, [255, 0, 0]),
        (transparent("LA"), {"format": "PNG"}, [76, 76, 76]),
        (transparent("P"), {"format": "PNG", "transparency": 0}, [255, 0, 0]),
        (transparent("P"), {"format": "GIF", "transparency": 0}, [255, 0, 0]),
        (transparent("RGBA"), {"format": "WEBP", "lossless": True}, [255, 0, 0]),
        (transparent("P").convert("RGB"), {"format": "PNG", "transparency": (0, 0, 0)}, [255, 0, 0]),
    ],
    ids=["RGBA", "LA", "palette", "gif", "webp", "a transparent colour"],
)
def test_what_is_transparent_becomes_white(picture: Image.Image, options: dict, right: list[int]) -> None:
    pixels = decode(encoded(picture, **options), SQUARE, CAP).pixels
    assert pixels[112, 20].tolist() == [255, 255, 255]
    assert pixels[112, 200].tolist() == right


def test_half_transparent_is_half_white() -> None:
    data = encoded(Image.new("RGBA", (30, 30), (255, 0, 0, 128)), format="PNG")
    assert solid(decode(data, SQUARE, CAP).pixels) == pytest.approx([255, 127, 127], abs=1)


def test_sixteen_bit_greys_are_scaled_and_not_clipped() -> None:
    greys = Image.fromarray(np.full((30, 30), 0x8000, dtype=np.uint16))
    assert solid(decode(encoded(greys, format="PNG"), SQUARE, CAP).pixels) == [128, 128, 128]
    assert solid(decode(encoded(greys, format="TIFF"), SQUARE, CAP).pixels) == [128, 128, 128]


def test_cmyk_becomes_its_colours() -> None:
    data = encoded(Image.new("CMYK", (30, 30), (0, 255, 255, 0)), format="JPEG")
    assert solid(decode(data, SQUARE, CAP).pixels) == pytest.approx([255, 0, 0], abs=3)


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_bits_greys_and_palettes_become_their_colours(mode: str) -> None:
    white = Image.new("RGB", (30, 30), "white").convert(mode)
    assert solid(decode(encoded(white, format="PNG"), SQUARE, CAP).pixels) == [255, 255, 255]


@pytest.mark.parametrize(
    "options", [{"format": "GIF"}, {"format": "WEBP"}, {"format": "PNG"}, {"format": "AVIF"}]
)
def test_of_an_animation_the_first_frame_counts(options: dict) -> None:
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "lime", "blue")]
    data = encoded(frames[0], save_all=True, append_images=frames[1:], **options)
    assert solid(decode(data, SQUARE, CAP).pixels) == pytest.approx([255, 0, 0], abs=3)


def test_the_several_pictures_that_a_phone_puts_in_one_jpeg_are_a_jpeg() -> None:
    data = encoded(corners(1200, 900), format="MPO", save_all=True, append_images=[corners()])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    picture = decode(data, SQUARE, CAP)
    assert (picture.format, picture.width, picture.height) == ("jpeg", 1200, 900)


def test_pixels_without_a_known_white_are_refused() -> None:
    floats = Image.fromarray(np.ones((10, 10), dtype=np.float32))
    assert refusal(encoded(floats, format="TIFF")).code == FailureCode.UNSUPPORTED_FORMAT


@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS.keys())
@pytest.mark.parametrize("part", [0.05, 0.5, 0.95])
def test_a_cut_off_file_is_called_truncated_and_worth_a_retry(options: dict, part: float) -> None:
    data = encoded(texture(300, 200), **options)
    error = refusal(data[: int(part * len(data))])
    assert error.code == FailureCode.TRUNCATED
    assert error.retryable


@pytest.mark.parametrize("options", [FORMATS["png"], FORMATS["gif"]], ids=["png", "gif"])
def test_a_whole_file_with_garbage_inside_is_called_undecodable(options: dict) -> None:
    data = bytearray(encoded(texture(300, 200), **options))
    middle = len(data) // 2
    data[middle : middle + 400] = np.random.default_rng(0).bytes(400)
    error = refusal(bytes(data))
    assert error.code == FailureCode.DECODE_FAILED
    assert not error.retryable
    assert f"{len(data):,} bytes" in error.detail


def test_more_pixels_than_the_cap_are_refused_with_both_numbers() -> None:
    error = refusal(encoded(texture(300, 200), format="JPEG"), cap=59_999)
    assert error.code == FailureCode.TOO_MANY_PIXELS
    assert "300 x 200" in error.detail
    assert "59,999" in error.detail
    assert decode(encoded(texture(300, 200), format="JPEG"), SQUARE, 60_000).width == 300


@pytest.mark.parametrize("side", [10_000, 30_000])
def test_a_bomb_is_refused_from_its_header(side: int) -> None:
    bomb = png_of(side, side, compressed_rows(side, side))
    assert len(bomb) < 200_000
    with warnings.catch_warnings(action="ignore"):
        assert refusal(bomb).code == FailureCode.TOO_MANY_PIXELS
        # Not even a body is needed, so nothing of it was decoded.
        assert refusal(png_of(side, side, b"")).code == FailureCode.TOO_MANY_PIXELS


def test_a_picture_as_narrow_as_a_thread_is_refused() -> None:
    error = refusal(png_of(8, 1_000_000, b""))
    assert error.code == FailureCode.TOO_MANY_PIXELS
    assert "side" in error.detail


def test_random_damage_never_raises_anything_but_an_item_error() -> None:
    rng = np.random.default_rng(0)
    sources = [encoded(texture(90, 70), **options) for options in FORMATS.values()]
    outcomes = set()
    with warnings.catch_warnings(action="ignore"):
        for round_ in range(600):
            data = bytearray(sources[round_ % len(sources)])
            for place in rng.integers(0, min(len(data), 600), rng.integers(1, 20)):
                data[place] = rng.integers(0, 256)
            try:
                outcomes.add(decode(bytes(data), SQUARE, CAP).format)
            except ItemError as error:
                outcomes.add(error.code)
    assert FailureCode.DECODE_FAILED in outcomes


def test_sixteen_threads_decode_what_one_does() -> None:
    files = [encoded(texture(300 + 40 * n, 200, seed=n), **o) for n, o in enumerate(FORMATS.values())] * 8
    alone = [decode(data, SQUARE, CAP).pixels for data in files]
    with ThreadPoolExecutor(16) as threads:
        together = list(threads.map(lambda data: decode(data, SQUARE, CAP).pixels, files))
    np.testing.assert_array_equal(together, alone)
