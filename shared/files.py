"""Files that are kept beside the index, in a folder or wherever else fsspec reaches: S3 and its kin."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, cast

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from shared.errors import FilesUnavailable, LookalikeError, StartError
from shared.settings import Settings

# A key's parts have no way up or out, whatever a client called its file.
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@=-]*")

_PIECE = 2**20  # bytes that are copied at once


class Files:
    """Files by key (`thumbnails/shop/ab/ab….webp`) under LOOKALIKE_FILES. Safe from any thread.

    A file is either whole or not there. A key that is none raises ValueError, and a place that does not answer
    FilesUnavailable.
    """

    def __init__(self, settings: Settings) -> None:
        """StartError where LOOKALIKE_FILES is empty or no place that files can be kept in."""
        self._url = settings.files or ""
        try:
            # Others write there too, so no listing is remembered.
            self._fs, self._root = url_to_fs(self._url, use_listings_cache=False)
        except ImportError as error:
            raise StartError(
                f"LOOKALIKE_FILES=`{self._url}` needs a package that is not installed here. {error}."
            ) from error
        except ValueError as error:
            known = "a folder, or a URL such as `s3://bucket/folder`"
            raise StartError(f"LOOKALIKE_FILES=`{self._url}` is no {known}: {error}.") from error
        if not self._url:
            raise StartError(
                "No files are kept here: LOOKALIKE_FILES is empty. Set it to a folder or to a URL such as "
                "`s3://bucket/folder`, the same for the API and the workers."
            )

    def probe(self) -> None:
        """Keep a file, read it and delete it; StartError where that fails."""
        key = f"probe-{secrets.token_hex(8)}"
        try:
            self.write(key, b"probe")
            kept = self.read(key)
            self.delete(key)
        except FilesUnavailable as error:
            raise StartError(f"Nothing can be kept at LOOKALIKE_FILES. {error}") from error
        if kept != b"probe":
            raise StartError(f"LOOKALIKE_FILES=`{self._url}` did not give back what was just kept there.")

    def write(self, key: str, data: bytes | BinaryIO) -> None:
        """Keep these bytes, or what is left in an open file, under `key`; what stood there is replaced."""
        path = self._path(key)
        with self._answering(key):
            if isinstance(self._fs, LocalFileSystem):
                # fsspec would write to the system's own folder for temporary files, perhaps on another disk.
                _write_local(path, data)
            elif isinstance(data, bytes):
                self._fs.pipe_file(path, data)
            else:
                self._write_remote(path, data)

    def read(self, key: str) -> bytes | None:
        """What is kept under `key`, None where nothing is."""
        path = self._path(key)
        with self._answering(key):
            try:
                return cast(bytes, self._fs.cat_file(path))
            except FileNotFoundError:
                return None

    def has(self, key: str) -> bool:
        """Whether something is kept under `key`."""
        path = self._path(key)
        with self._answering(key):
            try:
                self._fs.info(path)
            except FileNotFoundError:
                return False
            return True

    def open(self, key: str) -> BinaryIO | None:
        """A kept file, to be read piece by piece and closed; None where nothing is kept."""
        path = self._path(key)
        with self._answering(key):
            try:
                return cast(BinaryIO, self._fs.open(path, "rb"))
            except FileNotFoundError:
                return None

    def delete(self, key: str) -> None:
        """Keep it no longer. It is no error where nothing is kept."""
        path = self._path(key)
        with self._answering(key), suppress(FileNotFoundError):
            self._fs.rm_file(path)

    def delete_folder(self, key: str) -> None:
        """Keep nothing any longer whose key begins with `key` and a slash."""
        path = self._path(key)
        with self._answering(key), suppress(FileNotFoundError):
            self._fs.rm(path, recursive=True)

    def _write_remote(self, path: str, source: BinaryIO) -> None:
        """A source may break off, and not every file system takes back what it was given: so it is read first."""
        with tempfile.NamedTemporaryFile() as file:
            shutil.copyfileobj(source, file, _PIECE)
            file.flush()
            self._fs.put_file(file.name, path)

    @contextmanager
    def _answering(self, key: str) -> Iterator[None]:
        """Whatever a file system's own package raises is its fault: FilesUnavailable."""
        try:
            yield
        except LookalikeError:  # the source's
            raise
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise FilesUnavailable(f"The kept file `{key}` cannot be reached: {reason}.") from error

    def _path(self, key: str) -> str:
        if not all(_PART.fullmatch(part) for part in key.split("/")):
            raise ValueError(f"`{key[:200]}` is no key of a kept file.")
        return f"{self._root.rstrip('/')}/{key}"


def _write_local(path: str, data: bytes | BinaryIO) -> None:
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", delete=False) as file:
        try:
            if isinstance(data, bytes):
                file.write(data)
            else:
                shutil.copyfileobj(data, file, _PIECE)
            file.flush()
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
