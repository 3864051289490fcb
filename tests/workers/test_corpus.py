"""Pillow's own test pictures, good and broken, and thousands of damaged copies: nothing dies, every code is right."""

from __future__ import annotations

import os
import random
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
from PIL import Image, ImageOps

from demo.registry import DownloadError
from shared.contract import Chunk, Item
from shared.errors import FailureCode, ItemError
from shared.settings import Settings
from tests.image_server import ImageServer
from tests.pillow_corpus import FILES, pillow_corpus
from workers.decode import Picture, PixelShape
from workers.decoders import Decoders
from workers.ingest import ingest
from workers.parts import Parts
from workers.rows import Rows

READ = {"JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"}
# Pillow tells these by guessing, or they are no pictures that a shop or a clinic would have.
NAMELESS = {
    *("BUFR", "DCX", "DIB", "FTEX", "GBR", "GRIB", "HDF5", "IM", "IMT", "MCIDAS"),
    *("MSP", "PCD", "PIXAR", "SPIDER", "TGA"),
}
# What plain Pillow cannot tell us, or tells us less well.
KNOWN = {
    "bmp/README.txt": FailureCode.NOT_AN_IMAGE,
    "test-ole-file.doc": FailureCode.NOT_AN_IMAGE,
    "hopper.tar": FailureCode.NOT_AN_IMAGE,
    "ossfuzz-4836216264589312.pcx": FailureCode.NOT_AN_IMAGE,  # its header is none of PCX's
    "psd-large-bytecounts.psd": FailureCode.UNSUPPORTED_FORMAT,
    "pngtest_bad.png.bin": FailureCode.NOT_AN_IMAGE,
    "avif/hopper.heif": FailureCode.UNSUPPORTED_FORMAT,
    "duplicate_xref_entry.pdf": FailureCode.UNSUPPORTED_FORMAT,
    "not_enough_data.jp2": FailureCode.UNSUPPORTED_FORMAT,
    "truncated_jpeg.jpg": FailureCode.TRUNCATED,
    "truncated_image.png": FailureCode.TRUNCATED,
    "truncated_end_chunk.png": FailureCode.TRUNCATED,
    "broken.png": FailureCode.TRUNCATED,
    "bmp/b/shortfile.bmp": FailureCode.TRUNCATED,
    "bmp/b/badbitcount.bmp": FailureCode.DECODE_FAILED,
    "bmp/q/pal8os2v2-16.bmp": FailureCode.DECODE_FAILED,
    "bmp/q/rgb24jpeg.bmp": FailureCode.DECODE_FAILED,
    "libtiff_segfault.tif": FailureCode.DECODE_FAILED,
    "unknown_compression_method.png": FailureCode.DECODE_FAILED,
    "bmp/b/reallybig.bmp": FailureCode.TOO_MANY_PIXELS,
    "decompression_bomb.gif": FailureCode.TOO_MANY_PIXELS,
}
SHAPE = PixelShape(224, 224)
BROKEN = {FailureCode.TRUNCATED, FailureCode.DECODE_FAILED, FailureCode.TOO_MANY_PIXELS}
OTHER = {FailureCode.NOT_AN_IMAGE, FailureCode.UNSUPPORTED_FORMAT}

Outcome = tuple[FailureCode, str] | Picture


@pytest.fixture(scope="module")
def corpus() -> Path:
    try:
        return pillow_corpus()
    except DownloadError as reason:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    with closing(Decoders(Settings(decode_processes=2), SHAPE, Rows(16, SHAPE))) as pictures:
        yield pictures


@pytest.fixture(scope="module")
def files(corpus: Path) -> dict[str, bytes]:
    """Every file of the corpus by its name there."""
    paths = sorted(path for path in corpus.rglob("*") if path.is_file())
    return {path.relative_to(corpus).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def outcomes(files: dict[str, bytes], decoders: Decoders) -> dict[str, Outcome]:
    """What became of every file."""
    return dict(zip(files, decode_all(decoders, list(files.values())), strict=True))


def decode_all(decoders: Decoders, files: list[bytes]) -> list[Outcome]:
    def decode(data: bytes) -> Outcome:
        try:
            decoded = decoders.decode(data)
        except ItemError as error:
            return error.code, error.detail
        picture = Picture(decoded.pixels.copy(), decoded.width, decoded.height, decoded.format)
        decoded.let_go()
        return picture

    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(decode, files))


def code(outcome: Outcome) -> str:
    return "indexed" if isinstance(outcome, Picture) else outcome[0]


def expected(path: Path) -> set[str]:
    """How a file may end, by what plain Pillow with all its formats makes of it."""
    try:
        with Image.open(path) as image:
            if image.format not in READ:
                return {
                    FailureCode.NOT_AN_IMAGE if image.format in NAMELESS else FailureCode.UNSUPPORTED_FORMAT
                }
            image.load()
            if image.mode in ("I", "F"):
                return {FailureCode.UNSUPPORTED_FORMAT}
            return {"indexed"}
    except Image.DecompressionBombError:
        return {FailureCode.TOO_MANY_PIXELS, FailureCode.UNSUPPORTED_FORMAT}
    except Image.UnidentifiedImageError:
        return OTHER | BROKEN
    except Exception as error:
        return (
            {FailureCode.TRUNCATED, FailureCode.TOO_MANY_PIXELS}
            if "runcated" in str(error)
            else OTHER | BROKEN
        )


@pytest.fixture
def quiet() -> Iterator[None]:
    with warnings.catch_warnings(action="ignore"):
        yield


@pytest.mark.usefixtures("quiet")
def test_every_file_ends_as_plain_pillow_says(corpus: Path, outcomes: dict[str, Outcome]) -> None:
    assert len(outcomes) == FILES
    wrong = {
        name: outcome
        for name, outcome in outcomes.items()
        if name not in KNOWN and code(outcome) not in expected(corpus / name)
    }
    assert wrong == {}


def test_known_files_have_the_one_right_code(outcomes: dict[str, Outcome]) -> None:
    assert {name: code(outcomes[name]) for name in KNOWN} == KNOWN


def test_every_failure_has_a_sentence(outcomes: dict[str, Outcome]) -> None:
    sentences = [outcome[1] for outcome in outcomes.values() if not isinstance(outcome, Picture)]
    assert all(sentence.endswith((".", "…")) for sentence in sentences)


@pytest.mark.usefixtures("quiet")
def test_sizes_and_formats_are_those_that_a_person_sees(corpus: Path, outcomes: dict[str, Outcome]) -> None:
    for name, outcome in outcomes.items():
        if isinstance(outcome, Picture):
            with Image.open(corpus / name) as image:
                form = "JPEG" if image.format == "MPO" else image.format
                upright = ImageOps.exif_transpose(image)
            assert (outcome.width, outcome.height, outcome.format.upper()) == (*upright.size, form), name


def test_no_file_costs_a_process_or_a_gibibyte(files: dict[str, bytes], decoders: Decoders) -> None:
    decode_all(decoders, [files["hopper.jpg"]] * 50)  # so that both processes run
    before = processes()
    codes = [code(outcome) for outcome in decode_all(decoders, list(files.values()))]
    assert FailureCode.DECODE_CRASHED not in codes  # so each took less than `decode_seconds`, 5 s
    assert processes() == before
    if sys.platform == "linux":
        assert max(peak_mib(process) for process in before) < 1024


def processes() -> set[psutil.Process]:
    return {child for child in psutil.Process().children() if "workers.decoder" in child.cmdline()}


def peak_mib(process: psutil.Process) -> int:
    """The most memory that it ever had resident."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


def small_pictures(files: dict[str, bytes], outcomes: dict[str, Outcome]) -> dict[str, list[bytes]]:
    """Up to 14 pictures of each format, none of them large, spread over the corpus."""
    found: dict[str, list[bytes]] = {}
    for name, outcome in outcomes.items():
        if isinstance(outcome, Picture) and len(files[name]) < 60_000:
            found.setdefault(outcome.format, []).append(files[name])
    return {form: pictures[:: -(-len(pictures) // 14)] for form, pictures in found.items()}


def flipped(data: bytes, chance: random.Random) -> bytes:
    """Some bytes are others, most of them where the headers are."""
    damaged = bytearray(data)
    reach = chance.choice((64, 1024, len(data)))
    for _ in range(chance.randint(1, 20)):
        damaged[chance.randrange(min(reach, len(data)))] = chance.randrange(256)
    return bytes(damaged)


def without_a_piece(data: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(1, len(data))
    return data[:start] + data[start + chance.randint(1, 400) :]


def spliced(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """The head of one picture on the body of another."""
    at = chance.randrange(min(len(data), 2048))
    return data[:at] + other[at:]


def test_thousands_of_damaged_copies_end_too_and_cost_no_process_in_silence(
    files: dict[str, bytes], outcomes: dict[str, Outcome], decoders: Decoders
) -> None:
    chance = random.Random(3)
    pictures = small_pictures(files, outcomes)
    assert set(pictures) == {form.lower() for form in READ - {"MPO"}}
    everything = [data for of_a_format in pictures.values() for data in of_a_format]
    damaged = [
        copy
        for data in everything
        for _ in range(30)
        for copy in (
            flipped(data, chance),
            without_a_piece(data, chance),
            spliced(data, chance.choice(everything), chance),
        )
    ]
    assert len(damaged) > 5000
    before = processes()
    codes = Counter(code(outcome) for outcome in decode_all(decoders, damaged))
    assert set(codes) <= {"indexed", FailureCode.DECODE_CRASHED} | BROKEN | OTHER
    assert codes[FailureCode.DECODE_FAILED] > 500  # it was no easy test
    assert len(before - processes()) <= codes[FailureCode.DECODE_CRASHED]
    assert code(decode_all(decoders, [files["hopper.jpg"]])[0]) == "indexed"


@pytest.mark.parametrize("form", ["jpeg", "png", "webp", "bmp", "avif", "gif"])
def test_copies_that_were_cut_are_called_truncated(
    files: dict[str, bytes], outcomes: dict[str, Outcome], decoders: Decoders, form: str
) -> None:
    """What is cut behind the first picture of several may still be read."""
    pictures = small_pictures(files, outcomes)[form]
    cut = [data[: len(data) * part // 10] for data in pictures for part in range(2, 10)]
    codes = Counter(code(outcome) for outcome in decode_all(decoders, cut))
    assert set(codes) <= {FailureCode.TRUNCATED, "indexed"}
    assert codes[FailureCode.TRUNCATED] > len(cut) / 3


def test_the_whole_corpus_through_ingest(corpus: Path, outcomes: dict[str, Outcome], parts: Parts) -> None:
    with ImageServer(corpus) as server:
        items = [Item(id=name, url=server.url(quote(name))) for name in outcomes]
        ended = {}
        for number, start in enumerate(range(0, len(items), 64)):
            chunk = Chunk("job", number, "corpus", "token", 1, items[start : start + 64])
            report = ingest(chunk, parts, lease=lambda: "held")
            assert report is not None
            ended |= {outcome.item.id: outcome.code or outcome.status for outcome in report.outcomes}
    assert ended == {name: code(outcome) for name, outcome in outcomes.items()}
    assert parts.index.count("corpus") == list(ended.values()).count("indexed")
