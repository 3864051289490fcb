"""Tar files of samples (WebDataset): members whose names are the same up to a point are one row."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, groupby, islice
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from workers.sources.rows import Broken, Row, Rows, SourceError

_PICTURES = frozenset({"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif"})
_READERS: dict[str, Callable[[bytes], Any]] = {
    "json": json.loads,
    **dict.fromkeys(("txt", "text", "caption", "transcript"), bytes.decode),
    **dict.fromkeys(("cls", "cls2", "index", "inx"), int),
}
_PICTURE = "image"
_KEY = "__key__"

Opener = Callable[[str], BinaryIO]


def archive_rows(paths: Sequence[str], open: Opener, most: int, skip: int) -> Rows:
    """The samples of tar files after the first `skip`, whose bytes are not read; of a member, `most` bytes are.

    Its name is a sample's id. Its first picture is its `image`, and the fields of its JSON are its own. Text and
    numbers stand under their suffixes, and so do all pictures; members of other kinds are passed over.
    """
    samples = chain.from_iterable(_samples(path, open) for path in paths)
    rows = (_row(key, members, most) for key, members in islice(samples, skip, None))
    return Rows(lambda _: rows, pictures=[_PICTURE], key=_KEY, hidden=[_KEY])


class _Member:
    """A file in an archive. It can be read until the next one is asked for."""

    def __init__(self, path: str, archive: tarfile.TarFile, info: tarfile.TarInfo) -> None:
        self._path = path
        self._archive = archive
        self._info = info
        name = PurePosixPath(info.name)
        stem, _, self.suffix = name.name.partition(".")
        self.key = str(name.with_name(stem)) if stem else ""

    def read(self, most: int) -> bytes:
        with _in_words(self._path):
            file = self._archive.extractfile(self._info)
            return file.read(most) if file else b""


def _samples(path: str, open: Opener) -> Iterator[tuple[str, Iterator[_Member]]]:
    yield from groupby(_members(path, open), lambda member: member.key)


def _members(path: str, open: Opener) -> Iterator[_Member]:
    with _in_words(path), open(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
        for info in archive:
            archive.members.clear()  # type: ignore[attr-defined]  # or it keeps all of them
            member = _Member(path, archive, info)
            if info.isreg() and member.key and member.suffix:
                yield member


@contextmanager
def _in_words(path: str) -> Iterator[None]:
    try:
        yield
    except tarfile.TarError as error:
        raise SourceError(f"`{path.rpartition('/')[2]}` is no sound tar file: {error}") from error


def _row(key: str, members: Iterator[_Member], most: int) -> Row | Broken:
    """The whole sample is read, though it be broken: the next one comes after its last member."""
    row: Row = {_KEY: key}
    fields: Row = {}
    flaw = None
    for member in members:
        kind = member.suffix.rpartition(".")[2].lower()
        if kind in _PICTURES:
            row[member.suffix] = member.read(most)
            row.setdefault(_PICTURE, row[member.suffix])
        elif kind in _READERS:
            try:
                value = _READERS[kind](member.read(most))
            except (ValueError, RecursionError) as error:
                flaw = f"Of the sample `{key[:200]}`, `{member.suffix[:100]}` cannot be read: {error}."
            else:
                fields |= value if isinstance(value, dict) else {member.suffix: value}
    return Broken(flaw) if flaw else {**fields, **row}
