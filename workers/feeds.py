"""The files of an import, as files of this machine: fetched by URL, uploaded, or standing here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import unquote, urlsplit

from shared.contract import Source
from shared.errands import feed_folder, feed_key
from shared.errors import FilesUnavailable, LookalikeError, RequestCode, RequestError
from shared.files import Files
from shared.settings import Settings
from workers.fetch import Fetcher
from workers.scratch import scratch

_DOWNLOAD_SECONDS = 3600.0
_BLOCK = 2**20
_MOST_NAME = 80
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


class NoRoom(LookalikeError):
    """The machine's disk is full; another one's may not be."""

    retryable = True


class Feeds:
    """Feeds are kept from their first bytes until they are read: who reads on after another finds the same rows."""

    def __init__(self, fetcher: Fetcher, files: Files | None, settings: Settings) -> None:
        self._fetcher = fetcher
        self._files = files
        self._most_bytes = settings.feed_max_bytes
        self._folders = settings.import_folders

    @contextmanager
    def at_hand(
        self, job: str, source: Source, check: Callable[[], None], *, whole: bool = False
    ) -> Iterator[list[str]]:
        """Paths of the source's files, for the length of the block. `check` is called meanwhile, and may raise.

        ItemError where one cannot be fetched, or is to be `whole` and nobody could tell; RequestError where one may not
        be read or is not there.
        """
        with scratch() as folder:
            feeds = _Job(job, folder, check, whole, self._most_bytes)
            uploaded = [self._uploaded(feeds, name) for name in source.upload or ()]
            named = [self._named(feeds, number, file) for number, file in enumerate(source.files or (), 1)]
            yield [str(path) for path in (*uploaded, *named)]

    def forget(self, job: str) -> None:
        """Keep the job's feeds no longer."""
        if self._files:
            self._files.delete_folder(feed_folder(job))

    def _uploaded(self, feeds: _Job, name: str) -> Path:
        if path := self._kept(feeds, name):
            return path
        raise RequestError(RequestCode.INVALID_REQUEST, f"`{name}` is no longer kept; send it again.")

    def _named(self, feeds: _Job, number: int, file: str) -> Path:
        if "://" not in file:
            return below(self._folders, file)
        name = f"{number}-{_name_of(file)}"
        path = self._kept(feeds, name) or self._fetched(feeds, name, file)
        feeds.bytes_left -= path.stat().st_size
        return path

    def _kept(self, feeds: _Job, name: str) -> Path | None:
        """The file that is kept under `name`, brought here; None where none is."""
        kept = self._store().open(feed_key(feeds.job, name))
        if kept is None:
            return None
        path = feeds.folder / name
        with kept, feeds.writing(path) as file:
            while block := kept.read(_BLOCK):
                file.write(block)
        return path

    def _fetched(self, feeds: _Job, name: str, url: str) -> Path:
        path = feeds.folder / name
        with feeds.writing(path) as file:
            self._fetcher.download(
                url, file, most_bytes=feeds.bytes_left, seconds=_DOWNLOAD_SECONDS, whole=feeds.whole
            )
        with path.open("rb") as file:
            self._store().write(feed_key(feeds.job, name), file)
        return path

    def _store(self) -> Files:
        if self._files is None:
            raise FilesUnavailable(
                "This worker keeps no files: give it the LOOKALIKE_FILES that the API has."
            )
        return self._files


class _Job:
    """The job whose feeds are brought, the folder they come to, what is asked meanwhile, and what they may be."""

    def __init__(
        self, job: str, folder: Path, check: Callable[[], None], whole: bool, bytes_left: int
    ) -> None:
        self.job = job
        self.folder = folder
        self.whole = whole
        self.bytes_left = bytes_left
        self._check = check

    @contextmanager
    def writing(self, path: Path) -> Iterator[BinaryIO]:
        with path.open("wb") as file:
            yield cast(BinaryIO, _Checked(file, self._check))


class _Checked:
    """A file that asks before it takes more."""

    def __init__(self, file: BinaryIO, check: Callable[[], None]) -> None:
        self._file = file
        self._check = check

    def write(self, data: bytes) -> int:
        self._check()
        try:
            return self._file.write(data)
        except OSError as error:
            raise NoRoom(f"This worker's machine cannot hold the feed while it is read: {error}.") from error


def below(folders: Sequence[Path], file: str) -> Path:
    """The file or folder behind every link, if it stands below one of `folders`; RequestError where it does not."""
    try:
        path = Path(file).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise RequestError(RequestCode.INVALID_REQUEST, f"`{file}` cannot be read here: {error}.") from error
    if not any(path.is_relative_to(folder.resolve()) for folder in folders):
        raise RequestError(
            RequestCode.INVALID_REQUEST,
            f"`{file}` does not stand below the folders that this worker may read (LOOKALIKE_IMPORT_FOLDERS).",
        )
    return path


def _name_of(url: str) -> str:
    """The last part of a URL's path, as a kept file may be called; its suffix says what it is."""
    last = unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2]
    return _NOT_IN_A_NAME.sub("_", last)[-_MOST_NAME:] or "feed"
