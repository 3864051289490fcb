"""The process that decodes one picture after another, where a picture can do no harm.

    python -m workers.decoder '{"socket": 5, "slot": 6, "rows": 7, …}'

Its parent is `workers/decoders.py`. The two share memory: the parent puts a picture's bytes into the slot and sends
a `REQUEST` over a socket; the pixels come into the row that it names, the thumbnail takes the bytes' place in the
slot, and an `ANSWER` comes over the socket. The process ends with the socket, so it outlives no parent. Its limits
hold back accidents and bombs: they are no prison for somebody who runs code of his own here.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import resource
import signal
import socket
import struct
import sys
import warnings
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from shared.errors import FailureCode, ItemError
from workers.decode import Crop, PixelShape, decode

READY = b"!"
WHOLE: Crop = (0.0, 0.0, 1.0, 1.0)
REQUEST = struct.Struct(
    "<II4dI"
)  # bytes of the picture · the row for its pixels · its crop · side of a thumbnail
# decoded? · format or failure code · width · height · bytes of its thumbnail · failure in words
ANSWER = struct.Struct("<?24sIII460s")


@dataclass(frozen=True)
class Orders:
    """What a decoding process is told once. `socket`, `slot` and `rows` are descriptors that it inherits."""

    socket: int
    slot: int
    rows: int
    shape: PixelShape
    max_pixels: int
    seconds: float
    memory_mib: int

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Orders:
        fields = json.loads(text)
        return cls(**fields | {"shape": PixelShape(**fields["shape"])})


def main(orders: Orders) -> None:
    """Decode until the parent closes its end."""
    slot, rows = mmap.mmap(orders.slot, 0), mmap.mmap(orders.rows, 0)
    _be_quiet()
    _limit_process(orders.memory_mib)
    with socket.socket(fileno=orders.socket) as parent, suppress(ConnectionError):
        parent.sendall(READY)
        while request := parent.recv(REQUEST.size):
            _limit_picture(orders.seconds)
            parent.sendall(_answer(request, slot, rows, orders))


def _answer(request: bytes, slot: mmap.mmap, rows: mmap.mmap, orders: Orders) -> bytes:
    size, row, *crop, side = REQUEST.unpack(request)
    data = slot[:size]
    part = None if tuple(crop) == WHOLE else tuple(crop)
    try:
        picture = decode(data, orders.shape, orders.max_pixels, crop=part, thumbnail=side)
    except ItemError as error:
        return _failure(error.code, error.detail)
    except MemoryError:
        detail = f"The picture of {len(data):,} bytes needs more than {orders.memory_mib:,} MiB of memory to decode."
        return _failure(FailureCode.DECODE_CRASHED, detail)
    size = picture.pixels.nbytes
    rows[row * size : (row + 1) * size] = picture.pixels.tobytes()
    thumbnail = picture.thumbnail or b""
    slot[: len(thumbnail)] = thumbnail
    return ANSWER.pack(True, picture.format.encode(), picture.width, picture.height, len(thumbnail), b"")


def _failure(code: FailureCode, detail: str) -> bytes:
    return ANSWER.pack(False, code.encode(), 0, 0, 0, detail.encode())


def _be_quiet() -> None:
    """The parent decides when this process ends, and an image library's warnings are nobody's news."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stderr.fileno())


def _limit_process(memory_mib: int) -> None:
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    if sys.platform == "linux":  # macOS knows no such limit
        # Where memory runs out all the same, this process is to die and not the worker.
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + memory_mib * 2**20)


def _limit_picture(seconds: float) -> None:
    """The parent keeps the time; this limit ends a picture whose parent is gone."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime + seconds))


def _limit(kind: int, value: int) -> None:
    _, most = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if most == resource.RLIM_INFINITY else min(value, most), most))


if __name__ == "__main__":
    main(Orders.from_json(sys.argv[1]))
