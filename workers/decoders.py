"""Pictures are decoded in processes of their own: what kills one costs one picture.

`Decoders` is `decode` (workers/decode.py) for many threads at once. Each of its processes (workers/decoder.py)
works for one thread at a time and is used again; one that dies, hangs or takes too much memory is replaced, and
its picture alone is `decode_crashed`. Bytes and pixels (workers/rows.py) lie in shared memory, so nothing large is
ever sent.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from shared.errors import FailureCode, ItemError, ServiceError
from shared.settings import Settings
from workers.decode import Crop, Picture, PixelShape
from workers.decoder import ANSWER, READY, REQUEST, WHOLE, Orders
from workers.rows import Rows, memory_file
from workers.thumbnails import MAX_THUMBNAIL_BYTES

_STARTS = 3  # in a row that may fail
_START_SECONDS = 30.0
_END_SECONDS = 2.0

# Where our packages are: a process that starts there imports the same code as this one.
_ROOT = Path(__file__).resolve().parents[1]
# All that a process gets of our environment: how an interpreter finds its parts, and no secrets.
_INHERITED = ("LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH")
# Threads that would have nothing to do, and take address space.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

_STOPPING = "The worker is stopping."


@dataclass(frozen=True, kw_only=True)
class Decoded(Picture):
    """A picture whose pixels stand in a shared row until `let_go` is called."""

    let_go: Callable[[], None]


class Decoders:
    """The worker's `decode_processes` processes, which decode pictures at `shape` into `rows`."""

    def __init__(self, settings: Settings, shape: PixelShape, rows: Rows) -> None:
        self._count = settings.decode_processes
        self._rows = rows
        self._free = [Decoder(settings, shape, rows) for _ in range(self._count)]
        self._urgent: deque[Future[Decoder]] = deque()
        self._bulk: deque[Future[Decoder]] = deque()
        self._lock = threading.Lock()
        self._closed = False

    def decode(
        self,
        data: bytes | bytearray,
        *,
        urgent: bool = False,
        crop: Crop | None = None,
        thumbnail: bool = False,
    ) -> Decoded:
        """As `workers.decode.decode`, from any thread. Waits for a row and a process; urgent ones go first.

        A thumbnail is as large as the settings say. Raises ItemError, of which `decode_crashed` is a picture that
        its process did not survive, and ServiceError where no process starts.
        """
        row = self._rows.take(urgent=urgent)
        try:
            picture = self._decode_into(row, data, urgent, crop or WHOLE, thumbnail)
        except BaseException:
            self._rows.give_back(row)
            raise
        return Decoded(**vars(picture), let_go=partial(self._rows.give_back, row))

    def _decode_into(
        self, row: int, data: bytes | bytearray, urgent: bool, crop: Crop, thumbnail: bool
    ) -> Picture:
        decoder = self._take(urgent)
        try:
            return decoder.decode(data, row, crop, thumbnail)
        finally:
            self._give_back(decoder)

    def warm(self) -> None:
        """Start the process that the first picture needs. ServiceError where none starts."""
        decoder = self._take(urgent=True)
        try:
            decoder.warm()
        finally:
            self._give_back(decoder)

    def close(self) -> None:
        """End the processes, each after the picture that it is at."""
        for _ in range(self._count):
            self._take(urgent=True).close()
        with self._lock:
            self._closed = True
            for turn in (*self._urgent, *self._bulk):
                turn.set_exception(RuntimeError(_STOPPING))

    def _take(self, urgent: bool) -> Decoder:
        with self._lock:
            if self._closed:
                raise RuntimeError(_STOPPING)
            if self._free:
                return self._free.pop()
            turn: Future[Decoder] = Future()
            (self._urgent if urgent else self._bulk).append(turn)
        return turn.result()

    def _give_back(self, decoder: Decoder) -> None:
        with self._lock:
            if line := self._urgent or self._bulk:
                line.popleft().set_result(decoder)
            else:
                self._free.append(decoder)


class Decoder:
    """One process, after its death the next, and the memory shared with it. For one thread at a time.

    A process is started when a picture needs it: the pool reuses those that it used last, so a worker that is
    asked for little keeps few.
    """

    def __init__(self, settings: Settings, shape: PixelShape, rows: Rows) -> None:
        self._settings = settings
        self._shape = shape
        self._rows = rows
        self._slot_file = memory_file(max(settings.fetch_max_bytes, MAX_THUMBNAIL_BYTES))
        self._slot = mmap.mmap(self._slot_file.fileno(), 0)
        self._process: Process | None = None

    def decode(self, data: bytes | bytearray, row: int, crop: Crop, thumbnail: bool) -> Picture:
        """The picture, its pixels in the row; raises as `Decoders.decode` does."""
        most = self._settings.fetch_max_bytes
        if len(data) > most:
            detail = f"The file has {len(data):,} bytes; the cap is {most:,}."
            raise ItemError(FailureCode.TOO_LARGE, detail)
        process = self._ready_process()
        self._slot[: len(data)] = data
        side = self._settings.thumbnail_pixels if thumbnail else 0
        request = REQUEST.pack(len(data), row, *crop, side)
        try:
            return self._picture(process.ask(request, self._settings.decode_seconds), row)
        except ItemError as error:
            if error.code is FailureCode.DECODE_CRASHED:  # what ran out of memory is not trusted any more
                process.end()
            raise
        except (OSError, ValueError) as error:
            cause = self._cause(error, process)
            detail = f"The picture of {len(data):,} bytes could not be decoded: {cause}."
            raise ItemError(FailureCode.DECODE_CRASHED, detail) from error
        except BaseException:  # a signal's; the answer to come would be taken for the next picture's
            process.end()
            raise

    def warm(self) -> None:
        """Start its process."""
        self._ready_process()

    def close(self) -> None:
        """End the process and give the memory back."""
        if self._process:
            self._process.end(_END_SECONDS)
        self._slot.close()
        self._slot_file.close()

    def _ready_process(self) -> Process:
        """One that is ready. Where the last one died after its last picture, the next picture is innocent of it."""
        if self._process:
            if self._process.is_alive():
                return self._process
            self._process.end()
        for _ in range(_STARTS):
            try:
                process = Process(self._settings, self._shape, self._slot_file, self._rows.file)
                self._process = process.until_ready()
                return self._process
            except OSError as error:
                why = error
        raise ServiceError(f"No process that decodes pictures starts ({_STARTS} tries). {why}") from why

    def _picture(self, answer: bytes, row: int) -> Picture:
        """What an answer says: a picture, or an ItemError raised. Raises ValueError for nonsense."""
        if len(answer) != ANSWER.size:
            raise ValueError(f"{len(answer)} bytes")
        decoded, word, width, height, size, detail = ANSWER.unpack(answer)
        if not decoded:
            raise ItemError(FailureCode(_text(word)), _text(detail))
        if not 0 < width * height <= self._settings.max_pixels:
            raise ValueError(f"{width:,} x {height:,} pixels")
        if size > MAX_THUMBNAIL_BYTES:
            raise ValueError(f"a thumbnail of {size:,} bytes")
        return Picture(self._rows.pixels(row), width, height, _text(word), self._slot[:size] or None)

    def _cause(self, error: Exception, process: Process) -> str:
        """End a process that failed on a picture; in words, how it failed."""
        out_of_time = f"it took longer than {self._settings.decode_seconds:g} s"
        if isinstance(error, TimeoutError):
            process.end()
            return out_of_time
        if not isinstance(error, ConnectionError):
            process.end()
            return f"its process gave an answer without sense ({error})"
        status = process.end(_END_SECONDS)
        return out_of_time if status == -signal.SIGXCPU else f"its process {_death(status)}"


class Process:
    """The life of one decoding process, seen from its parent."""

    def __init__(
        self, settings: Settings, shape: PixelShape, slot_file: BinaryIO, rows_file: BinaryIO
    ) -> None:
        self._socket, theirs = socket.socketpair()
        # Celery sets a default time-out while it stops, and the child would inherit it as a non-blocking socket.
        theirs.setblocking(True)
        self._stderr = memory_file(0)  # it says why a process cannot start, and nothing later
        orders = Orders(
            socket=theirs.fileno(),
            slot=slot_file.fileno(),
            rows=rows_file.fileno(),
            shape=shape,
            max_pixels=settings.max_pixels,
            seconds=settings.decode_seconds,
            memory_mib=settings.decode_memory_mib,
        )
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "workers.decoder", orders.to_json()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                env={name: os.environ[name] for name in _INHERITED if name in os.environ} | _ONE_THREAD,
                cwd=_ROOT,
                pass_fds=(orders.socket, orders.slot, orders.rows),
                start_new_session=True,  # a terminal's Ctrl-C is not for it
            )

    def until_ready(self) -> Process:
        """Itself, once it can be asked. Raises ChildProcessError with its last words where it cannot start."""
        self._socket.settimeout(_START_SECONDS)
        with self._stderr:
            with suppress(OSError):
                if self._socket.recv(len(READY)) == READY:
                    return self
            status = self.end(_END_SECONDS)
            raise ChildProcessError(f"The last one {_death(status)} and said: {self._last_words()}")

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, request: bytes, seconds: float) -> bytes:
        """Its ANSWER to a REQUEST for the picture in the slot.

        TimeoutError: none came in time; ConnectionError: it died.
        """
        self._socket.settimeout(seconds)
        self._socket.sendall(request)
        answer = self._socket.recv(ANSWER.size)
        if not answer:
            raise ConnectionResetError
        return answer

    def end(self, patience: float = 0.0) -> int:
        """Let it go, kill it where it does not within `patience` seconds; its exit status as Popen has it."""
        self._socket.close()
        try:
            return self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _last_words(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace").strip().rpartition("\n")[2] or "nothing"


def _death(status: int) -> str:
    if status < 0:
        return f"died with signal {-status} ({signal.Signals(-status).name})"
    return f"ended with status {status}"


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode(errors="replace")
