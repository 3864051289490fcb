"""The worker's end of a reading process: its life, and what it says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, BinaryIO, cast

from workers.scratch import scratch
from workers.sources.frames import Frame, read
from workers.sources.orders import Orders

_ROOT = Path(__file__).resolve().parents[2]
# All that a reading process gets of our environment; what asks a hub gets a person's access to it, and no other does.
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH", "TMPDIR")
_HUB = (
    *("HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)
_END_SECONDS = 5.0
_MEMORY_HINT = "it may take more memory than it is allowed (LOOKALIKE_IMPORT_MEMORY_MIB)"
_ALWAYS = {
    # Nobody is told what is read here.
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    # Rows are read as Python's own values, on one thread; each further one would take address space.
    "USE_TORCH": "0",
    "USE_TF": "0",
    "USE_JAX": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "2",
}


class Reading:
    """A process that reads a source. Iterate for its frames, the last of which says `end` or `error`.

    ChildProcessError where it died before that: another try may go better. Frames wait in a pipe, so it reads no
    faster than they are taken. `end` it from any thread, which ends the iteration too.
    """

    def __init__(self, orders: Orders) -> None:
        self._ended = False
        with ExitStack() as stack:
            self._folder = stack.enter_context(scratch())
            self._stderr = stack.enter_context(tempfile.TemporaryFile())
            self._process = subprocess.Popen(
                [sys.executable, "-m", "workers.sources"],
                stdin=stack.enter_context(_file_of(orders)),
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=self._environment(orders),
                cwd=self._folder,  # a data set's name is never taken for a folder that stands there
                start_new_session=True,  # a terminal's Ctrl-C is not for it
            )
            self._stack = stack.pop_all()

    def __enter__(self) -> Reading:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        if self._process.stdout:
            self._process.stdout.close()
        self._stack.close()

    def __iter__(self) -> Iterator[Frame]:
        pipe = cast(BinaryIO, self._process.stdout)
        while True:
            try:
                frame = read(pipe)
            except (EOFError, ValueError) as error:
                if self._ended:
                    return
                raise ChildProcessError(self._cause()) from error
            yield frame
            if frame.head.end or frame.head.error:
                return

    @property
    def pid(self) -> int:
        return self._process.pid

    def end(self) -> None:
        """Kill it, wherever it is."""
        self._ended = True
        self._process.kill()
        self._process.wait()

    def _environment(self, orders: Orders) -> dict[str, str]:
        names = (*_INHERITED, *_HUB) if orders.source.dataset else _INHERITED
        environment = {name: os.environ[name] for name in names if name in os.environ}
        paths = [str(_ROOT), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        return {**environment, **_ALWAYS, "HF_HOME": str(self._folder)}

    def _cause(self) -> str:
        """How it died, in words."""
        try:
            status = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.end()
            return "The process that read it said nonsense."
        if status < 0:
            name = signal.Signals(-status).name
            return f"The process that read it died ({name}); {_MEMORY_HINT}."
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace").strip().rpartition("\n")[2] or "nothing"
        return f"The process that read it ended with status {status} and said: {said[:500]}"


def _file_of(orders: Orders) -> IO[bytes]:
    """Not an argument: those have a bound, and every user of the machine may see them."""
    file = tempfile.TemporaryFile()  # noqa: SIM115
    file.write(orders.model_dump_json().encode())
    file.seek(0)
    return file
