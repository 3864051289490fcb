"""What a schema says of its columns beyond their types: which hold pictures, and what labels are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import datasets
import pyarrow as pa

from workers.sources.rows import Row


@dataclass(frozen=True)
class Columns:
    """`pictures` are the columns of pictures, `labels` those whose numbers stand for names."""

    pictures: list[str]
    labels: dict[str, list[str]]

    def named(self, row: Row) -> Row:
        """The row, with its labels' names."""
        for column, names in self.labels.items():
            if isinstance(number := row.get(column), int):
                row[column] = names[number] if 0 <= number < len(names) else None
        return row


def columns_of(features: Mapping[str, Any]) -> Columns:
    """What the features of a data set say."""
    return Columns(
        pictures=[name for name, feature in features.items() if _is_picture(feature)],
        labels={
            name: list(feature.names)
            for name, feature in features.items()
            if isinstance(feature, datasets.ClassLabel)
        },
    )


def columns_of_schema(schema: pa.Schema) -> Columns:
    """What a Parquet file's schema says; `datasets` keeps its features there."""
    try:
        return columns_of(datasets.Features.from_arrow_schema(schema))
    except (ValueError, TypeError, KeyError, AttributeError):  # of another version, or of types that it lacks
        return Columns([], {})


def _is_picture(feature: Any) -> bool:
    if isinstance(feature, Mapping):  # a struct of bytes and their path, as others write it
        return getattr(feature.get("bytes"), "dtype", None) in ("binary", "large_binary")
    return isinstance(feature, datasets.Image) or isinstance(
        getattr(feature, "feature", None), datasets.Image
    )
