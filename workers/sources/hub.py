"""What `datasets` reads: data sets of a hub by name, and folders of images.

Nothing of a data set is run: it may come as data files alone, of the kinds in `_KINDS`, and out of its own repository.
"""

from __future__ import annotations

import errno
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import datasets
import pyarrow as pa
from datasets.exceptions import DatasetsError
from datasets.utils.file_utils import xopen
from fsspec.registry import known_implementations
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from shared.contract import Source
from workers.sources.archives import archive_rows
from workers.sources.features import columns_of
from workers.sources.parquet import parquet_rows
from workers.sources.rows import Broken, Row, Rows, SourceError, Unreadable

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_KINDS = frozenset({"arrow", "csv", "imagefolder", "json", "parquet", "webdataset"})
_PROTOCOLS = frozenset({"hf", "file", "local", "zip"})
_READ_BUFFER = 32 * 2**20  # bytes of one request
_IN_ARCHIVE = re.compile(r"zip://[^:]*::")
_HUBS_OWN = frozenset(
    {401, 408, 429}
)  # answers that are no fault of what was asked for, beside those from 500 on
_UNSOUND = (
    *(DatasetsError, pa.ArrowException, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(ValueError, KeyError, TypeError, RuntimeError, EOFError, FileNotFoundError),
)
# What is wrong with a path, or None with what stands there; the rest is a disk's own fault, and may pass.
_PATHS_OWN = frozenset(
    {
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP),
        *(errno.ENAMETOOLONG, errno.EINVAL, None),
    }
)


def keep_to_the_hub() -> None:
    """For the rest of this process: a data set's card may name any address as its data, and none but the hub is asked.

    A revision's own files are read, never a copy of them that the hub made by running a program.
    """
    datasets.config.USE_PARQUET_EXPORT = False
    for protocol in {*known_implementations} - _PROTOCOLS:
        del known_implementations[protocol]


def hub_rows(source: Source, most_bytes: int, skip: int) -> Rows:
    """The rows of a data set of the hub, at one commit from first to last."""
    name, commit = _pinned(source.dataset or "", source.revision)
    origin = f"hf://datasets/{name}@"
    with _in_words(f"`{name}`"):
        builder = datasets.load_dataset_builder(name, source.config, revision=commit)
    kind = _checked_kind(name, origin, builder)
    if kind == "parquet":  # which can be read on from any row, and a tar file, without what comes before it
        rows = parquet_rows(_files_of(builder, source.split), _opened, skip, _READ_BUFFER)
    elif kind == "webdataset":
        rows = archive_rows(_files_of(builder, source.split), _opened, most_bytes, skip)
    else:
        rows = _rows(builder, source.split, skip)
    return replace(rows, open=partial(_hub_bytes, origin), revision=commit)


def folder_rows(paths: Sequence[str], split: str, skip: int) -> Rows:
    """The images of a folder, with what its `metadata.csv` (or `.jsonl`, `.parquet`) says of them, or with labels."""
    if len(paths) != 1 or not Path(paths[0]).is_dir():
        raise SourceError("An `imagefolder` is one folder; give one, or another `format`.")
    folder = Path(paths[0]).resolve()
    with _in_words(f"`{folder.name}`"):
        builder = datasets.load_dataset_builder("imagefolder", data_dir=str(folder))
    return replace(_rows(builder, split, skip), open=partial(_file_bytes, folder))


def _pinned(name: str, revision: str | None) -> tuple[str, str]:
    """The data set's name as the hub spells it, and the commit that stands at the revision now."""
    if not _NAME.fullmatch(name):
        raise SourceError(f"`{name[:200]}` is no name of a data set; they read `owner/name`.")
    try:
        found = HfApi().dataset_info(name, revision=revision)
    except RevisionNotFoundError as error:
        raise SourceError(f"The data set `{name}` has no revision `{revision}`.") from error
    except RepositoryNotFoundError as error:
        raise SourceError(
            f"The hub shows no data set `{name}`. Where it is private or gated, the workers need HF_TOKEN."
        ) from error
    except OfflineModeIsEnabled as error:
        raise SourceError("The workers may ask no hub: HF_HUB_OFFLINE is set for them.") from error
    if "/" not in found.id or not found.sha:
        raise SourceError(f"The data set `{name}` has no owner; name one that has.")
    return found.id, found.sha


def _checked_kind(name: str, origin: str, builder: Any) -> str:
    """What the data set's files are. SourceError where they are none that is read, or not its own."""
    kind = str(type(builder).__module__).rpartition(".")[2]
    if kind not in _KINDS:
        raise SourceError(
            f"`{name}` is a data set of the kind {kind}; these are read: {', '.join(sorted(_KINDS))}."
        )
    for file in (str(file) for files in (builder.config.data_files or {}).values() for file in files):
        if not file.startswith(origin):
            raise SourceError(
                f"`{name}` has data outside its own repository, {file[:200]}; that is never read."
            )
    return kind


def _rows(builder: Any, split: str, skip: int) -> Rows:
    with _in_words("The source"):
        stream = builder.as_streaming_dataset(split=split)
    columns = columns_of(stream.features or {})
    stream = stream.decode(False) if stream.features else stream

    def read(_: Collection[str]) -> Iterator[Row | Broken]:
        with _in_words("The source"):
            for row in stream.skip(skip):
                yield columns.named(dict(row))

    return Rows(read, columns=list(stream.features or ()), pictures=columns.pictures)


def _files_of(builder: Any, split: str) -> list[str]:
    files = builder.config.data_files
    if split not in files:
        raise SourceError(f"There is no split `{split[:100]}`; there are {', '.join(map(str, files))}.")
    return [str(file) for file in files[split]]


def _opened(path: str) -> BinaryIO:
    return cast(BinaryIO, xopen(path, "rb"))


def _hub_bytes(origin: str, path: str, most: int) -> bytes:
    _, place = _parted(path)
    if not place.startswith(origin):
        raise Unreadable(f"`{path[:200]}` is not in the data set's own repository")
    try:
        return _read(path, most)
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in _HUBS_OWN or status >= 500:
            raise
        raise Unreadable(f"`{path[:200]}` is not given out by the hub (status {status})") from error
    except _UNSOUND as error:
        raise _unreadable(path, error) from error


def _file_bytes(folder: Path, path: str, most: int) -> bytes:
    archive, place = _parted(path)
    try:
        file = Path(place).resolve()
        if "::" in str(file) or not file.is_relative_to(folder):  # a link may lead to such a name too
            raise Unreadable(f"`{path[:200]}` is not in the folder")
        return _read(f"{archive}{file}", most)
    except (OSError, *_UNSOUND) as error:
        if isinstance(error, OSError) and error.errno not in _PATHS_OWN:
            raise
        raise _unreadable(path, error) from error


def _parted(path: str) -> tuple[str, str]:
    """The beginning of a path that means a member of an archive, or "", and the place of the archive or file.

    Unreadable where that has a `::` itself: only what stands before one is opened.
    """
    found = _IN_ARCHIVE.match(path)
    archive = found[0] if found else ""
    place = path.removeprefix(archive)
    if "::" in place:
        raise Unreadable(f"`{path[:200]}` names more than one place")
    return archive, place


def _read(path: str, most: int) -> bytes:
    with xopen(path, "rb") as file:
        return bytes(file.read(most))


def _unreadable(path: str, error: Exception) -> Unreadable:
    if isinstance(error, FileNotFoundError):
        return Unreadable(f"`{path[:200]}` is not there")
    why = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return Unreadable(f"`{path[:200]}` cannot be read ({why[:200]})")


@contextmanager
def _in_words(what: str) -> Iterator[None]:
    """What the library finds wrong with a source is the person's to mend; a hub that is away is not."""
    try:
        yield
    except MemoryError:
        raise
    except _UNSOUND as error:
        told = str(error).strip().partition("\n")[0] or type(error).__name__
        raise SourceError(f"{what} cannot be read: {told[:500]}") from error
