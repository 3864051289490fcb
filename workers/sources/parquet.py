"""Parquet files, a few rows at a time, whatever the size of their row groups."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from workers.sources.features import Columns, columns_of_schema
from workers.sources.rows import Broken, Row, Rows, SourceError, check_columns

_BATCH_BYTES = 8 * 2**20
_MOST_ROWS = 1024

Opener = Callable[[str], BinaryIO]


def parquet_rows(paths: Sequence[str], open: Opener, skip: int, buffer_size: int = 0) -> Rows:
    """The rows of Parquet files after the first `skip`; the files' own indexes lead there, nothing is decoded.

    A column of a row group is read at once, or `buffer_size` bytes of it at a time.
    """

    def opened(path: str) -> pq.ParquetFile:
        with _in_words(path):
            return pq.ParquetFile(open(path), buffer_size=buffer_size)

    schema = opened(paths[0]).schema_arrow
    columns = columns_of_schema(schema)

    def read(needed: Collection[str]) -> Iterator[Row | Broken]:
        return chain.from_iterable(_rows_after(paths, opened, skip, columns, needed))

    return Rows(read, columns=schema.names, pictures=columns.pictures)


def _rows_after(
    paths: Sequence[str],
    opened: Callable[[str], pq.ParquetFile],
    skip: int,
    columns: Columns,
    needed: Collection[str],
) -> Iterator[Iterator[Row | Broken]]:
    for path in paths:
        with opened(path) as file:
            check_columns(path, file.schema_arrow.names, needed)
            if skip < file.metadata.num_rows:
                yield _rows(file, path, skip, columns)
            skip = max(0, skip - file.metadata.num_rows)


def _rows(file: pq.ParquetFile, path: str, skip: int, columns: Columns) -> Iterator[Row | Broken]:
    for group in range(file.num_row_groups):
        size = file.metadata.row_group(group).num_rows
        if skip < size:
            with _in_words(path):
                for batch in file.iter_batches(_batch_size(file, group), row_groups=[group]):
                    yield from _python_rows(batch.slice(skip), columns)
                    skip = max(0, skip - batch.num_rows)
        else:
            skip -= size


def _python_rows(batch: pa.RecordBatch, columns: Columns) -> Iterator[Row | Broken]:
    """The rows of a batch; where one of them cannot be had, the others are had one by one."""
    try:
        rows: list[Row] = batch.to_pylist()
    except (ValueError, OverflowError):
        for number in range(batch.num_rows):
            yield _python_row(batch.slice(number, 1), columns)
    else:
        yield from map(columns.named, rows)


def _python_row(slice: pa.RecordBatch, columns: Columns) -> Row | Broken:
    try:
        return columns.named(slice.to_pylist()[0])
    except (ValueError, OverflowError) as error:
        return Broken(f"The row has a value that cannot be read: {error}")


def _batch_size(file: pq.ParquetFile, group: int) -> int:
    """So many rows that they take some megabytes, as far as the file's own word goes."""
    said = file.metadata.row_group(group)
    return max(1, min(_MOST_ROWS, _BATCH_BYTES * said.num_rows // max(1, said.total_byte_size)))


@contextmanager
def _in_words(path: str) -> Iterator[None]:
    """What Arrow finds wrong with a file is the person's to mend; a disk or a hub that does not answer is not."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        is_arrows = type(error) is OSError and error.errno is None
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and not is_arrows):
            raise
        raise SourceError(f"`{path.rpartition('/')[2]}` is no sound Parquet file: {error}") from error
