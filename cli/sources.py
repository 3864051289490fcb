"""What a SOURCE of `lookalike ingest` stands for: the requests that submit it, one job each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from cli.client import Client, collection_path
from cli.feed import Reading
from cli.multipart import Multipart

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"})
LIST_TYPES = {
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".ndjson": "application/x-ndjson",
    ".jsonl": "application/x-ndjson",
    ".json": "application/json",
}
FEED_SUFFIXES = frozenset({*LIST_TYPES, ".parquet", ".tar"})
_TABLES = frozenset({".csv", ".tsv"})
_IMAGES_A_REQUEST = 32
_BYTES_A_REQUEST = 32 * 2**20


@dataclass(frozen=True)
class _File:
    """It is streamed."""

    path: Path
    reading: Reading

    @property
    def label(self) -> str:
        return str(self.path)


class ItemFile(_File):
    """A file that lists items; the API itself reads it."""

    def submit(self, client: Client, collection: str) -> Any:
        """Send it; the job."""
        with self.path.open("rb") as file:
            return client.post(
                collection_path(collection, "/jobs"),
                params=self.reading.arguments(of_a_table=self.path.suffix.lower() in _TABLES),
                data=file if self.path.stat().st_size else b"",
                headers={"Content-Type": LIST_TYPES[self.path.suffix.lower()]},
            )


@dataclass(frozen=True)
class Links:
    """Image URLs."""

    urls: list[str]
    reading: Reading

    @property
    def label(self) -> str:
        return self.urls[0] if len(self.urls) == 1 else f"{len(self.urls)} URLs"

    def submit(self, client: Client, collection: str) -> Any:
        """Send them; the job."""
        return client.post(
            collection_path(collection, "/jobs"),
            params=self.reading.arguments(of_a_table=False),
            data="".join(json.dumps({"url": url}) + "\n" for url in self.urls).encode(),
            headers={"Content-Type": "application/x-ndjson"},
        )


@dataclass(frozen=True)
class Pictures:
    """Image files, each with the name that its payload keeps: its path in the folder that was given."""

    files: list[tuple[Path, str]]

    @property
    def label(self) -> str:
        return self.files[0][1] if len(self.files) == 1 else f"{len(self.files)} images"

    def submit(self, client: Client, collection: str) -> Any:
        """Upload them; the job."""
        payload = json.dumps([{"file": name} for _, name in self.files])
        with ExitStack() as opened:
            parts: list[tuple[str, tuple[str | None, Any, str]]] = [
                ("image", (name, opened.enter_context(path.open("rb")), "application/octet-stream"))
                for path, name in self.files
            ]
            parts.append(("payload", (None, payload, "application/json")))
            return client.post(collection_path(collection, "/images"), files=parts)


class FeedFile(_File):
    """A feed that a worker reads."""

    def submit(self, client: Client, collection: str) -> Any:
        """Upload it; the job."""
        with self.path.open("rb") as file:
            body = Multipart("source", json.dumps(self.reading.source()), "file", self.path, file)
            return client.post(
                collection_path(collection, "/imports"),
                data=body,
                headers={"Content-Type": body.content_type},
            )


@dataclass(frozen=True)
class Elsewhere:
    """A feed at a URL, or a data set of a hub: a worker fetches it. `kind` is `files` or `dataset`."""

    kind: str
    name: str
    reading: Reading

    @property
    def label(self) -> str:
        return self.name

    def submit(self, client: Client, collection: str) -> Any:
        """Name it; the job."""
        source = self.reading.source(**{self.kind: self.name})
        return client.post(collection_path(collection, "/imports"), json=source)


Feed = ItemFile | FeedFile | Elsewhere
Submission = Feed | Links | Pictures


def submissions(sources: Iterable[str], dataset: str | None, reading: Reading) -> list[Submission]:
    """The requests to make, in the order of their sources. Raises UsageError before anything is sent."""
    made: list[Submission] = [Elsewhere("dataset", dataset, reading)] if dataset else []
    urls: list[str] = []
    pictures: list[tuple[Path, str]] = []
    for source in sources:
        path = Path(source)
        if is_url(source) and Path(urlsplit(source).path).suffix.lower() in FEED_SUFFIXES:
            made.append(Elsewhere("files", source, reading))
        elif is_url(source):
            urls.append(source)
        elif path.is_dir():
            pictures += _pictures_in(path)
        elif not path.is_file():
            raise click.UsageError(f"{source}: no such file or folder, and not an http(s) URL.")
        elif path.suffix.lower() in LIST_TYPES and not reading.needs_a_worker:
            made.append(ItemFile(path, reading))
        elif path.suffix.lower() in FEED_SUFFIXES or "format" in reading.given:
            made.append(FeedFile(path, reading))
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            pictures.append((path, path.name))
        else:
            raise click.UsageError(
                f"{source}: neither an image ({_spelt(IMAGE_SUFFIXES)}) nor a feed ({_spelt(FEED_SUFFIXES)})."
            )
    if urls:
        made.append(Links(urls, reading))
    made += map(Pictures, _in_requests(pictures))
    if reading.is_of_a_feed and not any(isinstance(each, Feed) for each in made):
        raise click.UsageError("The options say how a feed is read, and none of the sources is one.")
    if reading.syncs and (pictures or len(made) > 1):
        raise click.UsageError(
            "--sync takes one feed, data set or list of URLs: what it does not name is removed."
        )
    return made


def is_url(source: str) -> bool:
    """Whether it is an http(s) URL."""
    return source.lower().startswith(("http://", "https://"))


def _pictures_in(folder: Path) -> list[tuple[Path, str]]:
    found = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    )
    if not found:
        raise click.UsageError(f"{folder}: no images in this folder ({_spelt(IMAGE_SUFFIXES)}).")
    return [(path, path.relative_to(folder).as_posix()) for path in found]


def _in_requests(pictures: list[tuple[Path, str]]) -> Iterator[list[tuple[Path, str]]]:
    request: list[tuple[Path, str]] = []
    room = _BYTES_A_REQUEST
    for picture in pictures:
        size = picture[0].stat().st_size
        if request and (len(request) == _IMAGES_A_REQUEST or size > room):
            yield request
            request, room = [], _BYTES_A_REQUEST
        request.append(picture)
        room -= size
    if request:
        yield request


def _spelt(suffixes: Iterable[str]) -> str:
    return " ".join(sorted(suffixes))
