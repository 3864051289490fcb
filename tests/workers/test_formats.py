"""workers/formats.py: what bytes are, told by how they begin. How a cut file is told: test_decode.py."""

from __future__ import annotations

import pytest

from shared.errors import FailureCode, ItemError
from tests.workers.test_decode import FORMATS, corners, encoded, texture
from workers.formats import recognise


def refusal(data: bytes) -> ItemError:
    with pytest.raises(ItemError) as caught:
        recognise(data)
    return caught.value


@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS.keys())
def test_every_listed_format_is_told_by_its_name(options: dict) -> None:
    assert recognise(encoded(texture(30, 20), **options)) == options["format"]


def test_no_bytes_are_called_empty() -> None:
    assert refusal(b"").code == FailureCode.EMPTY


@pytest.mark.parametrize(
    "data",
    [b"<!DOCTYPE html><html><img></html>", b"hello, world", b"BMW makes cars", b"\0", bytes(range(256))],
)
def test_what_is_no_picture_is_called_so(data: bytes) -> None:
    assert refusal(data).code == FailureCode.NOT_AN_IMAGE


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg width="1"/>', "SVG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"8BPS\0\1", "Photoshop"),
        (b"%PDF-1.7", "PDF"),
        (b"\0\0\1\0\1\0\x10\x10", "Windows icon"),
        (encoded(corners(), format="ICO"), "Windows icon"),
        (encoded(corners(), format="JPEG2000"), "JPEG 2000"),
        (encoded(corners(), format="PPM"), "netpbm"),
    ],
)
def test_a_picture_of_another_format_is_refused_by_its_name(data: bytes, name: str) -> None:
    error = refusal(data)
    assert error.code == FailureCode.UNSUPPORTED_FORMAT
    assert name in error.detail
