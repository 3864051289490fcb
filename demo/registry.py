"""One source distribution out of the package index that pip is configured with, held against a pinned sha256.

pip builds an old source distribution even to download it, and so runs its setup.py; this takes the file and
runs nothing.
"""

from __future__ import annotations

import ast
import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import url2pathname

import requests
from pip._internal.models.index import PyPI
from requests.adapters import BaseAdapter, HTTPAdapter
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
TIMEOUT = (10, 60)  # seconds to connect, seconds between two reads


class DownloadError(Exception):
    """The file cannot be had; the sentence says which, why, and what to do."""


@dataclass(frozen=True)
class Sdist:
    """A file of the index, pinned: `project` as the index lists it, `size` in bytes."""

    project: str
    filename: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Indexes:
    """Where pip looks, in its order: http(s) or file URLs. `ca`: a bundle's path, True for the usual one."""

    urls: tuple[str, ...]
    ca: str | bool = True


def configured_indexes() -> Indexes:
    """What pip itself would use, from its files and from its environment variables."""
    settings = _pip_settings()
    urls = [settings.get("index-url", PyPI.simple_url), *settings.get("extra-index-url", "").split()]
    return Indexes(tuple(urls), settings.get("cert", True))


def _pip_settings() -> dict[str, str]:
    command = [sys.executable, "-m", "pip", "config", "list"]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [line.partition("=") for line in listing.splitlines()]
    settings: dict[str, str] = {}
    for section in ("global.", "install.", ":env:."):  # as pip has it, the later ones win
        settings |= {
            key.removeprefix(section): ast.literal_eval(value)
            for key, _, value in lines
            if key.startswith(section)
        }
    return settings


def fetch(sdist: Sdist, folder: Path, indexes: Indexes | None = None, console: Console | None = None) -> Path:
    """The file in `folder`, downloaded unless it is there. Raises DownloadError."""
    target = folder / sdist.filename
    if target.exists():  # it was given its name only after its hash was right
        return target
    indexes = indexes or configured_indexes()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _session() as session:
            url = _find(session, sdist, indexes)
            _download(session, url, sdist, target, indexes.ca, console or Console())
    except requests.RequestException as error:
        raise DownloadError(
            f"{sdist.filename} could not be downloaded: {error}. Check that `pip download` works here "
            "(index-url, proxy, certificate), then try again."
        ) from error
    return target


class _LocalFiles(BaseAdapter):
    """file:// for requests, because pip's indexes may be folders."""

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        path = Path(url2pathname(urlsplit(request.url or "").path))
        path = path / "index.html" if path.is_dir() else path
        response = requests.Response()
        response.request, response.url = request, request.url or ""
        response.status_code = 200 if path.is_file() else 404
        response.raw = path.open("rb") if path.is_file() else BytesIO()
        return response

    def close(self) -> None:
        pass


def _session() -> requests.Session:
    session = requests.Session()
    session.headers["Accept-Encoding"] = "identity"  # else a .tar.gz may arrive unpacked
    session.mount("https://", HTTPAdapter(max_retries=3))
    session.mount("file://", _LocalFiles())
    return session


def _find(session: requests.Session, sdist: Sdist, indexes: Indexes) -> str:
    for index in indexes.urls:
        page = session.get(
            f"{index.rstrip('/')}/{sdist.project}/",
            headers={"Accept": ACCEPT},
            timeout=TIMEOUT,
            verify=indexes.ca,
        )
        if page.status_code == 404:
            continue
        page.raise_for_status()
        links = dict(_links(page))
        if sdist.filename in links:
            return links[sdist.filename]
    raise DownloadError(
        f"None of pip's {len(indexes.urls)} package indexes lists {sdist.filename}. Point pip's index-url at "
        "one that mirrors the whole public index, then try again."
    )


def _links(page: requests.Response) -> Iterator[tuple[str, str]]:
    """Each file name on a project's page, and its URL."""
    if "json" in page.headers.get("Content-Type", ""):
        for file in page.json()["files"]:
            yield file["filename"], urljoin(page.url, file["url"])
        return
    anchors = _Anchors()
    anchors.feed(page.text)
    for href in anchors.hrefs:
        url = urljoin(page.url, href)
        yield unquote(PurePosixPath(urlsplit(url).path).name), url


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.hrefs: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href")
        if tag == "a" and href:
            self.hrefs.append(href)


def _download(
    session: requests.Session, url: str, sdist: Sdist, target: Path, ca: str | bool, console: Console
) -> None:
    """Write beside `target`, and rename into place only what has the pinned hash."""
    with tempfile.NamedTemporaryFile(dir=target.parent, suffix=".part", delete=False) as part:
        try:
            with session.get(url, stream=True, timeout=TIMEOUT, verify=ca) as response:
                response.raise_for_status()
                digest = _copy(response, part, sdist, console)
            if digest != sdist.sha256:
                raise DownloadError(
                    f"{sdist.filename} has the sha256 {digest}, not the pinned {sdist.sha256}: it is not the "
                    "file that this version was made with, and was thrown away. Check pip's index-url."
                )
            part.close()
            Path(part.name).replace(target)
        finally:
            Path(part.name).unlink(missing_ok=True)


def _copy(response: requests.Response, part: Any, sdist: Sdist, console: Console) -> str:
    """Stream the body into `part` behind a progress bar; returns the sha256."""
    digest = hashlib.sha256()
    columns = TextColumn("  {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(sdist.filename, total=sdist.size)
        for piece in response.iter_content(256 * 1024):
            digest.update(piece)
            part.write(piece)
            bar.advance(task, len(piece))
            if part.tell() > sdist.size:
                break  # its hash cannot be right any more
    return digest.hexdigest()
