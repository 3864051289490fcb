from __future__ import annotations

import io
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from shared.errors import FailureCode, ItemError, ServiceError
from shared.settings import Settings
from tests.image_server import jpeg, png
from workers.decode import Crop, Picture, PixelShape, decode
from workers.decoder import ANSWER, READY, REQUEST
from workers.decoders import Decoders
from workers.rows import Rows

SQUARE = PixelShape(224, 224)
CAP = Settings().max_pixels
LARGEST = (7000, 7142)  # just below the cap of pixels
MB = 2**20

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="limits that only Linux keeps")


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as threads:
        yield threads


def png_of_zeros(width: int, height: int, rows: int) -> bytes:
    """A transparent PNG of that size whose body has so many rows."""
    packer = zlib.compressobj(1)
    body = b"".join(packer.compress(bytes(1 + 4 * width)) for _ in range(rows)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    )


@pytest.fixture(scope="module")
def large() -> bytes:
    """As large as a picture may be: some hundred MiB and about a second of work."""
    return png_of_zeros(*LARGEST, rows=LARGEST[1])


def decoders(processes: int = 2, rows: int = 1000, **settings: object) -> closing[Decoders]:
    made = Settings(decode_processes=processes, **settings)  # type: ignore[arg-type]
    return closing(Decoders(made, SQUARE, Rows(rows, SQUARE)))


def encoded(picture: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if decodes(child)]


def decodes(process: psutil.Process) -> bool:
    try:
        return "workers.decoder" in process.cmdline()
    except psutil.NoSuchProcess:  # or a zombie
        return False


def until(found: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (value := found()):
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.005)
    return value


def child_at_work() -> psutil.Process:
    """The process that is in the middle of the large picture."""
    busy = until(lambda: [child for child in children() if child.memory_info().rss > 100 * MB])
    return busy[0]


def crash(future: Future[Picture]) -> str:
    """The sentence of a decode that crashed."""
    with pytest.raises(ItemError) as caught:
        future.result()
    assert caught.value.code == FailureCode.DECODE_CRASHED
    assert not caught.value.retryable
    return caught.value.detail


def are_right(pictures: list[Picture], files: list[bytes]) -> bool:
    pairs = zip(pictures, files, strict=True)
    return all(np.array_equal(picture.pixels, decode(data, SQUARE, CAP).pixels) for picture, data in pairs)


def test_pictures_are_those_that_decode_gives_from_any_thread(pool: ThreadPoolExecutor) -> None:
    turned = Image.Exif()
    turned[274] = 6
    files = [jpeg(1), png(2), encoded(Image.open(io.BytesIO(jpeg(3))), "WEBP", exif=turned)] * 16
    with decoders() as pictures:
        for picture, data in zip(pool.map(pictures.decode, files), files, strict=True):
            alone = decode(data, SQUARE, CAP)
            np.testing.assert_array_equal(picture.pixels, alone.pixels)
            assert picture.pixels.dtype == np.uint8
            assert (picture.width, picture.height, picture.format) == (
                alone.width,
                alone.height,
                alone.format,
            )
        assert len(children()) == 2  # each was used again


def test_crops_and_thumbnails_are_those_that_decode_gives_picture_by_picture(
    pool: ThreadPoolExecutor,
) -> None:
    crops: list[Crop | None] = [None, (0.0, 0.0, 0.5, 0.5), (0.25, 0.5, 1.0, 0.75)]
    wanted = [(seed, crop, wants) for seed in range(4) for crop in crops for wants in (True, False)]
    with decoders(thumbnail_pixels=128) as pictures:
        made = pool.map(lambda each: pictures.decode(jpeg(each[0]), crop=each[1], thumbnail=each[2]), wanted)
        for (seed, crop, wants), picture in zip(wanted, made, strict=True):
            alone = decode(jpeg(seed), SQUARE, CAP, crop=crop, thumbnail=128 if wants else 0)
            np.testing.assert_array_equal(picture.pixels, alone.pixels)
            assert picture.thumbnail == alone.thumbnail
            assert (picture.thumbnail is not None) == wants


def test_a_thumbnail_larger_than_the_largest_file_is_brought_back() -> None:
    small = png_of_zeros(600, 600, 600)
    with decoders(fetch_max_bytes=len(small), thumbnail_pixels=512) as pictures:
        assert (
            pictures.decode(small, thumbnail=True).thumbnail
            == decode(small, SQUARE, CAP, thumbnail=512).thumbnail
        )


@pytest.mark.parametrize("data", [b"", b"<html>", b"8BPS\0\1", jpeg(1)[:5000], png_of_zeros(9000, 8000, 0)])
def test_a_refusal_is_the_one_that_decode_gives(data: bytes) -> None:
    with pytest.raises(ItemError) as expected:
        decode(data, SQUARE, CAP)
    with decoders() as pictures, pytest.raises(ItemError) as caught:
        pictures.decode(data)
    assert caught.value.code is expected.value.code
    assert (caught.value.detail, caught.value.retryable) == (expected.value.detail, expected.value.retryable)


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("PNG", {"compress_level": 1}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("WEBP", {"quality": 10, "method": 0}),
        ("AVIF", {"quality": 10, "speed": 10}),
        ("JPEG", {"progressive": True}),
        ("GIF", {"transparency": 0}),
    ],
)
def test_the_largest_picture_passes_in_every_format(form: str, options: dict[str, object]) -> None:
    lying = Image.Exif()
    lying[274] = 6  # turning it takes a copy more
    mode = {"JPEG": "RGB", "GIF": "P"}.get(form, "RGBA")
    data = encoded(Image.new(mode, LARGEST), form, exif=lying, **options)
    with decoders(decode_seconds=60) as pictures:
        picture = pictures.decode(data)
    assert sorted((picture.width, picture.height)) == sorted(LARGEST)


def test_a_killed_process_costs_its_picture_and_no_other(pool: ThreadPoolExecutor, large: bytes) -> None:
    files = [jpeg(seed) for seed in range(100)]
    with decoders(decode_seconds=60) as pictures:
        doomed = pool.submit(pictures.decode, large)
        victim = child_at_work()
        others = pool.map(pictures.decode, files)
        victim.kill()
        assert "died with signal 9 (SIGKILL)" in crash(doomed)
        assert f"{len(large):,} bytes" in crash(doomed)
        assert are_right(list(others), files)
        assert are_right(list(pool.map(pictures.decode, files)), files)
        assert victim.pid not in [child.pid for child in children()]


def test_a_crash_in_machine_code_is_told_by_its_signal(pool: ThreadPoolExecutor, large: bytes) -> None:
    with decoders(decode_seconds=60) as pictures:
        doomed = pool.submit(pictures.decode, large)
        child_at_work().send_signal(signal.SIGSEGV)
        assert "died with signal 11 (SIGSEGV)" in crash(doomed)


def test_a_process_that_stands_still_is_cut_off(pool: ThreadPoolExecutor, large: bytes) -> None:
    files = [jpeg(seed) for seed in range(30)]
    with decoders(decode_seconds=3) as pictures:
        doomed = pool.submit(pictures.decode, large)
        child_at_work().suspend()
        others = pool.map(pictures.decode, files)
        assert "longer than 3 s" in crash(doomed)
        assert are_right(list(others), files)
        assert are_right(list(pool.map(pictures.decode, files)), files)


def test_a_picture_that_takes_too_long_is_cut_off(pool: ThreadPoolExecutor, large: bytes) -> None:
    with decoders(1, decode_seconds=0.2) as pictures:
        assert "longer than 0.2 s" in crash(pool.submit(pictures.decode, large))
        assert children() == []


@on_linux
def test_a_picture_that_takes_too_much_memory_is_cut_off(pool: ThreadPoolExecutor, large: bytes) -> None:
    files = [jpeg(seed) for seed in range(30)]
    with decoders(decode_memory_mib=128) as pictures:
        doomed = [pool.submit(pictures.decode, large) for _ in range(4)]
        others = pool.map(pictures.decode, files)
        assert all("more than 128 MiB" in crash(future) for future in doomed)
        assert are_right(list(others), files)


@on_linux
def test_a_bomb_under_a_raised_cap_of_pixels_meets_the_cap_of_memory(pool: ThreadPoolExecutor) -> None:
    bomb = png_of_zeros(13_000, 13_000, rows=1)
    with decoders(1, max_pixels=10**9, decode_memory_mib=512) as pictures:
        assert "more than 512 MiB" in crash(pool.submit(pictures.decode, bomb))


def test_a_process_that_dies_between_two_pictures_blames_none() -> None:
    with decoders(1) as pictures:
        for _ in range(3):
            pictures.decode(jpeg(1))
            children()[0].kill()
            until(lambda: children() == [])
        assert are_right([pictures.decode(jpeg(1))], [jpeg(1)])


@pytest.mark.parametrize("answer", [b"hm", bytes(ANSWER.size), b"?" * ANSWER.size])
def test_an_answer_without_sense_is_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: ThreadPoolExecutor, answer: bytes
) -> None:
    stranger = script(
        tmp_path,
        "import json, socket, sys",
        "parent = socket.socket(fileno=json.loads(sys.argv[3])['socket'])",
        f"parent.send({READY!r}), parent.recv({REQUEST.size}), parent.send({answer!r}), parent.recv(1)",
    )
    with decoders(1) as pictures:
        with monkeypatch.context() as changed:
            changed.setattr(sys, "executable", stranger)
            assert "without sense" in crash(pool.submit(pictures.decode, jpeg(1)))
        assert are_right([pictures.decode(jpeg(1))], [jpeg(1)])


def test_processes_that_cannot_start_are_a_fault_of_ours_and_not_of_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with decoders(1) as pictures:
        for broken in (script(tmp_path, "raise SystemExit('no libjpeg here')"), "/nowhere/python"):
            with monkeypatch.context() as changed:
                changed.setattr(sys, "executable", broken)
                with pytest.raises(ServiceError, match=r"3 tries.*(no libjpeg here|/nowhere/python)"):
                    pictures.decode(jpeg(1))
        assert are_right([pictures.decode(jpeg(1))], [jpeg(1)])


def script(folder: Path, *lines: str) -> str:
    file = folder / "python"
    file.write_text("\n".join((f"#!{sys.executable}", *lines)))
    file.chmod(0o700)
    return str(file)


def test_a_file_larger_than_any_that_is_fetched_is_refused() -> None:
    with decoders(1, fetch_max_bytes=200_000) as pictures:
        with pytest.raises(ItemError) as caught:
            pictures.decode(bytes(200_001))
        assert caught.value.code == FailureCode.TOO_LARGE
        assert "200,000" in caught.value.detail


def test_a_process_can_be_started_before_the_first_picture() -> None:
    with decoders(2) as pictures:
        assert children() == []
        pictures.warm()
        [warm] = children()
        pictures.decode(jpeg(1))
        assert children() == [warm]


def test_a_row_is_free_again_once_its_picture_is_let_go_or_has_failed() -> None:
    with decoders(1, rows=1) as pictures:
        for seed in range(3):
            picture = pictures.decode(jpeg(seed))
            np.testing.assert_array_equal(picture.pixels, decode(jpeg(seed), SQUARE, CAP).pixels)
            picture.let_go()
            with pytest.raises(ItemError):
                pictures.decode(jpeg(seed)[:300])


def test_urgent_pictures_go_first(pool: ThreadPoolExecutor, large: bytes) -> None:
    ended: list[str] = []

    def decode_and_note(name: str, urgent: bool) -> None:
        pictures.decode(jpeg(1), urgent=urgent)
        ended.append(name)

    with decoders(1, decode_seconds=60) as pictures:
        first = pool.submit(pictures.decode, large)
        child_at_work()
        bulk = [pool.submit(decode_and_note, "bulk", False) for _ in range(5)]
        until(lambda: len(pictures._bulk) == 5)
        urgent = pool.submit(decode_and_note, "urgent", True)
        for future in (first, urgent, *bulk):
            future.result()
    assert ended == ["urgent"] + ["bulk"] * 5


def test_closing_waits_for_the_picture_at_hand_and_ends_all_processes(
    pool: ThreadPoolExecutor, large: bytes
) -> None:
    with decoders(1, decode_seconds=60) as pictures:
        at_hand = pool.submit(pictures.decode, large)
        child_at_work()
        in_line = pool.submit(pictures.decode, jpeg(1))
        until(lambda: len(pictures._bulk) == 1)
    assert at_hand.result().width == LARGEST[0]
    assert children() == []
    for refused in (in_line, pool.submit(pictures.decode, jpeg(1))):
        with pytest.raises(RuntimeError, match="stopping"):
            refused.result()


PARENT = """
import sys, threading
from shared.settings import Settings
from workers.decode import PixelShape
from workers.decoder import ANSWER, READY, REQUEST
from workers.decoders import Decoders
from workers.rows import Rows

shape = PixelShape(224, 224)
pictures = Decoders(Settings(decode_processes=2, decode_seconds=2), shape, Rows(4, shape))
for name in sys.argv[1:]:
    threading.Thread(target=pictures.decode, args=(open(name, "rb").read(),)).start()
threading.Event().wait()
"""


def test_processes_do_not_outlive_a_killed_parent(tmp_path: Path, large: bytes) -> None:
    """One is idle at that moment and one is busy."""
    (tmp_path / "small").write_bytes(jpeg(1))
    (tmp_path / "large").write_bytes(large)
    files = [str(tmp_path / name) for name in ("small", "large")]
    with subprocess.Popen([sys.executable, "-c", PARENT, *files]) as parent:
        left = until(lambda: two_of_which_one_is_busy(parent.pid))
        parent.kill()
    gone, alive = psutil.wait_procs(left, timeout=30)
    assert (len(gone), alive) == (2, [])


def two_of_which_one_is_busy(parent: int) -> list[psutil.Process]:
    found = psutil.Process(parent).children()
    busy = [child for child in found if child.memory_info().rss > 100 * MB]
    return found if len(found) == 2 and busy else []


def test_only_the_parent_ends_a_process() -> None:
    with decoders(1) as pictures:
        pictures.decode(jpeg(1))
        (child,) = children()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            child.send_signal(number)
        pictures.decode(jpeg(2))
        assert children() == [child]
        assert os.getpgid(child.pid) != os.getpgid(0)


def test_a_process_has_no_secrets_and_no_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKALIKE_API_KEYS", "secret=admin")
    with decoders(1) as pictures, socket.create_server(("127.0.0.1", 0)) as ours:
        ours.set_inheritable(True)
        pictures.decode(jpeg(1))
        (child,) = children()
        assert "secret" not in json.dumps(child.environ())
        assert child.net_connections("inet") == []


@on_linux
def test_a_process_is_limited_in_files_core_dumps_memory_and_time() -> None:
    with decoders(1, decode_memory_mib=300, decode_seconds=4) as pictures:
        pictures.decode(jpeg(1))
        (child,) = children()
        soft = {
            name: child.rlimit(getattr(resource, f"RLIMIT_{name}"))[0]
            for name in ("FSIZE", "CORE", "AS", "CPU")
        }
        assert (soft["FSIZE"], soft["CORE"]) == (0, 0)
        assert 300 * MB < soft["AS"] < 800 * MB
        assert 4 <= soft["CPU"] <= 10


def test_a_process_imports_nothing_heavy() -> None:
    code = "import json, sys, workers.decoder; print(json.dumps(list(sys.modules)))"
    modules = json.loads(subprocess.check_output([sys.executable, "-c", code]))
    assert "PIL" in modules
    assert not {"torch", "celery", "redis", "pydantic", "urllib3", "qdrant_client"} & set(modules)


def test_a_default_time_out_of_the_workers_sockets_is_not_the_processs(
    settings: Settings,
) -> None:
    """Celery sets one while it stops, and pictures in hand are still decoded then."""
    socket.setdefaulttimeout(5)
    try:
        decoders = Decoders(settings.model_copy(update={"decode_processes": 1}), SQUARE, Rows(4, SQUARE))
        assert [decoders.decode(jpeg(1)).format for _ in range(3)] == ["jpeg"] * 3
    finally:
        socket.setdefaulttimeout(None)
        decoders.close()
