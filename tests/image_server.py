"""A real HTTP server of good and hostile images, on loopback.

    with ImageServer(folder) as server:
        fetcher.fetch(server.url("/jpeg/7.jpg"))

`/jpeg/SEED.jpg` and `/png/SEED.png` are made on the spot, every file of the folder (or dict of path → bytes)
stands under its own path, and `HOSTILE` lists the rest. `python -m tests.image_server --port N --folder F`
serves the same by hand.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import mimetypes
import socket
import ssl
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from email.utils import formatdate
from functools import lru_cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from PIL import Image, ImageDraw

HUGE = 200_000_000
Size = tuple[int, int]


def picture(seed: int, size: Size = (600, 450)) -> Image.Image:
    """An RGB picture of its own colours, shapes and grain, the same for the same seed and size."""
    random = np.random.default_rng(seed)
    width, height = size
    across, down = np.linspace(0, 1, width)[None, :, None], np.linspace(0, 1, height)[:, None, None]
    left, right, bottom = random.uniform(0, 255, (3, 3))
    gradient = left * (1 - across) + right * across * (1 - down) + bottom * across * down
    grain = random.normal(0, random.uniform(2, 12), (height, width, 1))
    image = Image.fromarray((gradient + grain).clip(0, 255).astype(np.uint8))
    _draw_shapes(ImageDraw.Draw(image), random, size)
    return image


def _draw_shapes(draw: ImageDraw.ImageDraw, random: np.random.Generator, size: Size) -> None:
    for _ in range(int(random.integers(3, 12))):
        x, y, reach = (random.uniform(0, 1, 3) * (*size, max(size) / 3)).tolist()
        box = (x - reach, y - reach * random.uniform(0.3, 1), x + reach, y + reach * random.uniform(0.3, 1))
        color = tuple(random.integers(0, 256, 3).tolist())
        shape = random.choice(["ellipse", "rectangle", "line", "polygon"])
        if shape == "polygon":
            draw.regular_polygon((x, y, reach), int(random.integers(3, 8)), fill=color)
        elif shape == "line":
            draw.line(box, fill=color, width=int(random.integers(2, 30)))
        else:
            getattr(draw, shape)(box, fill=color)


def jpeg(seed: int, size: Size = (600, 450), quality: int = 85) -> bytes:
    return _encoded(picture(seed, size), "JPEG", quality=quality)


def png(seed: int, size: Size = (600, 450)) -> bytes:
    return _encoded(picture(seed, size), "PNG")


def _encoded(image: Image.Image, form: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@lru_cache
def bomb_png(side: int = 30_000) -> bytes:
    """A valid black PNG of `side` × `side` one-bit pixels: 900 million of them in about 110 KB."""
    deflate = zlib.compressobj(9)
    row = bytes(1 + (side + 7) // 8)
    pixels = b"".join(deflate.compress(row) for _ in range(side)) + deflate.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


class ImageServer:
    """Serves on a free port of 127.0.0.1 from `with` to its end; `requests` counts them by path.

    `not_modified` counts the answers without a body of `/tagged`, by the picture that was known.
    `tls` is a server-side context: the URLs are then https, on `localhost`, the name its certificate is for.
    """

    def __init__(
        self,
        content: Path | Mapping[str, bytes] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.requests: Counter[str] = Counter()
        self._origin = "https://localhost" if tls else f"http://{host}"
        self._server = _Server((host, port), content or {}, self.requests, tls)
        self.not_modified = self._server.not_modified
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.05},
            name="image-server",
            daemon=True,
        )

    @property
    def port(self) -> int:
        return self._server.server_port

    def url(self, path: str) -> str:
        return f"{self._origin}:{self.port}/{path.lstrip('/')}"

    @property
    def connections(self) -> int:
        """How many were opened so far."""
        return self._server.connections

    def drop_connections(self) -> None:
        """Close all that are open, as a server does that is restarted."""
        self._server.drop_connections()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.stopping.set()
        self._server.shutdown()
        self._server.drop_connections()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> ImageServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    request_queue_size = 256
    block_on_close = False

    def __init__(
        self,
        address: tuple[str, int],
        content: Path | Mapping[str, bytes],
        requests: Counter[str],
        tls: ssl.SSLContext | None,
    ) -> None:
        super().__init__(address, _Handler)
        self.connections = 0
        self._tls = tls
        self.content = content
        self.requests = requests
        self.not_modified: Counter[str] = Counter()
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self._open: set[socket.socket] = set()

    def get_request(self) -> tuple[socket.socket, object]:
        connection, address = super().get_request()
        if self._tls:
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        with self.lock:
            self.connections += 1
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        with self.lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def drop_connections(self) -> None:
        with self.lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that leave in the middle are what this server is for."""

    def find(self, path: str) -> bytes | None:
        if isinstance(self.content, Mapping):
            return self.content.get(path) or self.content.get(path.lstrip("/"))
        file = (self.content / path.lstrip("/")).resolve()
        return file.read_bytes() if file.is_file() and file.is_relative_to(self.content.resolve()) else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        with self.server.lock:
            self.server.requests[path] += 1
        if path in HOSTILE:
            HOSTILE[path](self)
        elif (body := self.server.find(path) or _generated(path)) is not None:
            self.answer(body, type=mimetypes.guess_type(path)[0] or "application/octet-stream")
        else:
            self.answer(b"no such picture", status=404, type="text/plain")

    def answer(self, body: bytes, *, status: int = 200, type: str = "image/jpeg", **headers: str) -> None:
        """One whole answer; `Content_Encoding="gzip"` sets that header, and another Content_Length lies."""
        self.send_response(status)
        self.send_header("Content-Type", type)
        headers.setdefault("Content_Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def raw(self, *pieces: bytes, every: float = 0.0) -> None:
        """Bytes as they are, `every` so many seconds one piece, and then the end of the connection."""
        self.close_connection = True
        for piece in pieces:
            if self.server.stopping.wait(every):
                return
            self.wfile.write(piece)

    def flood(self, head: bytes, piece: bytes) -> None:
        """`head`, and then `piece` again and again until the client has had enough."""
        self.raw(head)
        while not self.server.stopping.is_set():
            self.wfile.write(piece)

    def option(self, name: str, default: str) -> str:
        return parse_qs(urlsplit(self.path).query).get(name, [default])[0]

    def log_message(self, format: str, *args: object) -> None:
        """Tests have nothing to say of a request."""


@lru_cache(maxsize=256)
def _generated(path: str) -> bytes | None:
    kind, _, name = path.lstrip("/").partition("/")
    seed, _, _ = name.partition(".")
    if kind not in ("jpeg", "png") or not seed.isdigit():
        return None
    return jpeg(int(seed)) if kind == "jpeg" else png(int(seed))


_OK = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n"


def _dribble(handler: _Handler) -> None:
    handler.raw(_OK + b"Content-Length: 60\r\n\r\n")
    handler.raw(*[b"x"] * 60, every=0.5)


def _dribble_headers(handler: _Handler) -> None:
    header = _OK + b"X-Slow: " + b"y" * 60 + b"\r\n\r\n"
    handler.raw(*[header[i : i + 1] for i in range(60)], every=0.5)


def _huge(handler: _Handler) -> None:
    handler.raw(_OK + b"Content-Length: %d\r\n\r\n" % HUGE, *[bytes(100_000)] * (HUGE // 100_000))


def _huge_without_length(handler: _Handler) -> None:
    handler.raw(_OK + b"Connection: close\r\n\r\n", *[bytes(100_000)] * (HUGE // 100_000))


def _huge_chunked(handler: _Handler) -> None:
    chunk = b"186a0\r\n" + bytes(100_000) + b"\r\n"
    handler.raw(_OK + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * (HUGE // 100_000), b"0\r\n\r\n")


def _endless(handler: _Handler) -> None:
    handler.raw(_OK + b"Connection: close\r\n\r\n")
    while not handler.server.stopping.wait(0.02):
        handler.wfile.write(b"live")


def _redirect(handler: _Handler) -> None:
    if not handler.server.stopping.wait(float(handler.option("after", "0"))):
        to = handler.option("to", "/jpeg/1.jpg")
        handler.answer(b"elsewhere", status=int(handler.option("status", "302")), Location=to)


def _status(handler: _Handler) -> None:
    retry_after = handler.option("retry-after", "")
    headers = {"Retry_After": retry_after} if retry_after else {}
    handler.answer(b"", status=int(handler.option("code", "500")), **headers)


def _truncated(handler: _Handler) -> None:
    whole = jpeg(1)
    handler.answer(whole[: len(whole) // 2])


def _short(handler: _Handler) -> None:
    handler.close_connection = True
    handler.answer(jpeg(1)[:1000], Content_Length="50000")


def _short_chunked(handler: _Handler) -> None:
    handler.raw(_OK + b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n")


def _reset(handler: _Handler) -> None:
    """Closing with a linger of 0 seconds sends RST instead of FIN."""
    handler.close_connection = True
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def _reset_midway(handler: _Handler) -> None:
    handler.raw(_OK + b"Content-Length: 50000\r\n\r\n" + bytes(20_000))
    _reset(handler)


def _many_headers(handler: _Handler) -> None:
    headers = b"".join(b"X-%d: %d\r\n" % (number, number) for number in range(10_000))
    handler.raw(_OK + headers + b"Content-Length: 1\r\n\r\nx")


@lru_cache
def gzip_bomb(size: int = 2**30) -> bytes:
    """`size` zero bytes in about a thousandth of that."""
    deflate = zlib.compressobj(9, wbits=31)
    block = bytes(2**20)
    return b"".join(deflate.compress(block) for _ in range(size // len(block))) + deflate.flush()


_CHUNKED = _OK + b"Transfer-Encoding: chunked\r\n\r\n"
_BLOCK = b"x" * 60_000
ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "/endless-body": (_OK + b"Connection: close\r\n\r\n", _BLOCK),
    "/endless-status-line": (b"HTTP/1.1 200 ", _BLOCK),
    "/endless-header-line": (_OK + b"X-Long: ", _BLOCK),
    "/endless-headers": (_OK, b"X-More: y\r\n"),
    "/endless-continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "/endless-continue-headers": (b"", b"HTTP/1.1 100 Continue\r\nX: " + _BLOCK + b"\r\n\r\n"),
    "/endless-early-hints": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000),
    "/endless-chunk-size": (_CHUNKED, b"0" * 60_000),
    "/endless-chunk-extension": (_CHUNKED + b"1;", _BLOCK),
    "/endless-chunk-extensions": (_CHUNKED, b"1;" + _BLOCK + b"\r\nx\r\n"),
    "/endless-small-chunks": (_CHUNKED, b"1\r\nx\r\n" * 1000),
    "/endless-trailers": (_CHUNKED + b"1\r\nx\r\n0\r\n", b"X-More: y\r\n" * 1000),
    "/endless-trailer-line": (_CHUNKED + b"1\r\nx\r\n0\r\nX-Long: ", _BLOCK),
    "/redirect-endless": (
        b"HTTP/1.1 302 Found\r\nLocation: /jpeg/1.jpg\r\nConnection: close\r\n\r\n",
        _BLOCK,
    ),
    "/error-endless": (b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n", _BLOCK),
}


def _slow(handler: _Handler) -> None:
    # One that is made already: when the wait ends, another test may be watching this process's memory.
    body = _generated("/jpeg/1.jpg") or b""
    if not handler.server.stopping.wait(float(handler.option("seconds", "30"))):
        handler.answer(body)


def _flaky(handler: _Handler) -> None:
    """A bad gateway for the first `?fails=` requests of this server, and a picture from then on."""
    broken = handler.server.requests["/flaky"] <= int(handler.option("fails", "1"))
    handler.answer(b"later" if broken else jpeg(1), status=502 if broken else 200)


def _cookie(handler: _Handler) -> None:
    """Sets a cookie; a client that brings it back gets a 400."""
    if "Cookie" in handler.headers:
        handler.answer(b"a cookie came back", status=400)
    else:
        handler.answer(jpeg(1), Set_Cookie="visited=1; Path=/")


def _tagged(handler: _Handler) -> None:
    """The picture at `?of=`, with its hash as its ETag, or with `by=date` as its date; or 304 where it is known."""
    of = handler.option("of", "/jpeg/1.jpg")
    body = handler.server.find(of) or _generated(of) or b""
    check = zlib.crc32(body)
    if handler.option("by", "hash") == "hash":
        name, question, answer = "ETag", "If-None-Match", f'"{check:x}"'
    else:
        name, question, answer = "Last-Modified", "If-Modified-Since", formatdate(check, usegmt=True)
    if handler.headers.get(question) == answer:
        with handler.server.lock:
            handler.server.not_modified[of] += 1
        handler.send_response(304)
        handler.send_header(name, answer)
        handler.end_headers()
    else:
        handler.answer(body, **{name.replace("-", "_"): answer})


HOSTILE: dict[str, Callable[[_Handler], None]] = {
    "/tagged": _tagged,
    "/missing": lambda handler: handler.answer(b"gone", status=404, type="text/plain"),
    "/error": lambda handler: handler.answer(b"later", status=503, Retry_After="30"),
    "/status": _status,
    "/dribble": _dribble,
    "/dribble-headers": _dribble_headers,
    "/huge": _huge,
    "/huge-without-length": _huge_without_length,
    "/huge-chunked": _huge_chunked,
    "/endless": _endless,
    "/redirect": _redirect,
    "/redirect-loop": lambda handler: handler.answer(b"", status=302, Location="/redirect-loop"),
    "/html.jpg": lambda handler: handler.answer(b"<!doctype html><title>Sorry</title>" * 20),
    "/truncated.jpg": _truncated,
    "/short.jpg": _short,
    "/short-chunked": _short_chunked,
    "/bomb.png": lambda handler: handler.answer(bomb_png(), type="image/png"),
    "/gzip-bomb": lambda handler: handler.answer(gzip_bomb(), Content_Encoding="gzip"),
    "/gzip": lambda handler: handler.answer(gzip.compress(jpeg(1)), Content_Encoding="gzip"),
    "/empty": lambda handler: handler.answer(b""),
    "/reset": _reset,
    "/reset-midway": _reset_midway,
    "/many-headers": _many_headers,
    "/http-0.9": lambda handler: handler.raw(b"<html>no status line</html>" * 100),
    "/length-too-small": lambda handler: handler.answer(jpeg(1), Content_Length="10"),
    "/length-negative": lambda handler: handler.raw(_OK + b"Content-Length: -1\r\n\r\n", bytes(100)),
    "/length-twice": lambda handler: handler.raw(
        _OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef"
    ),
    "/slow": _slow,
    "/cookie": _cookie,
    "/flaky": _flaky,
    **{path: partial(_Handler.flood, head=head, piece=piece) for path, (head, piece) in ENDLESS.items()},
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve good and hostile images.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    server = ImageServer(options.folder, host=options.host, port=options.port)
    print(f"{server.url('/')}  hostile paths: {' '.join(HOSTILE)}", flush=True)
    with server, contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


if __name__ == "__main__":
    main()
