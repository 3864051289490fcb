"""One version of a collection in the embedded engine: its shard, and beside it the model card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import qdrant_edge as edge

from shared.contract import ModelCard
from shared.errors import RequestCode, RequestError, StartError
from workers.index.folders import CARD
from workers.index.interface import FieldType

_SHARD = "shard"

# HNSW links for each value of a number or a bool cost much and help no search.
_SCHEMAS: dict[FieldType, Any] = {
    "keyword": edge.KeywordIndexParams(),
    "integer": edge.IntegerIndexParams(lookup=True, range=True, enable_hnsw=False),
    "float": edge.FloatIndexParams(enable_hnsw=False),
    "bool": edge.BoolIndexParams(enable_hnsw=False),
    "datetime": edge.DatetimeIndexParams(enable_hnsw=False),
    "text": edge.TextIndexParams(tokenizer=edge.TokenizerType.Word, lowercase=True, phrase_matching=True),
    "uuid": edge.UuidIndexParams(),
}

# Of four bits a number, for the first pass of a search.
_CODES = edge.TurboQuantQuantizationConfig(always_ram=True)


@dataclass(frozen=True)
class Shard:
    """An open shard; `engine` must be closed before another process can open its folder."""

    card: ModelCard
    engine: edge.EdgeShard

    def indexes(self) -> dict[str, FieldType]:
        schema = self.engine.info().payload_schema
        return {
            field: cast(FieldType, str(index.data_type).rpartition(".")[2].lower())
            for field, index in schema.items()
        }

    def make_index(self, field: str, kind: FieldType) -> None:
        """RequestError(INVALID_REQUEST) where the field's path is none."""
        try:
            self.engine.update(edge.UpdateOperation.create_field_index(field, _SCHEMAS[kind]))
        except ValueError as error:
            raise RequestError(
                RequestCode.INVALID_REQUEST, f"Field `{field}` cannot be indexed: {error}."
            ) from error


def fill(folder: Path, card: ModelCard) -> None:
    """Make an empty shard in an empty folder."""
    edge.EdgeShard.create(str(folder / _SHARD), _config(card)).close()
    (folder / CARD).write_text(card.model_dump_json())


def load(folder: Path) -> Shard:
    """Open what stands in a folder. StartError where it cannot be."""
    try:
        card = ModelCard.model_validate_json((folder / CARD).read_bytes())
        return Shard(card, edge.EdgeShard.load(str(folder / _SHARD), _config(card)))
    except Exception as error:
        raise StartError(
            f"Collection `{folder.name}` cannot be opened: {error}. "
            f"Bring {folder} back from a copy, or move it away to start without that collection."
        ) from error


def _config(card: ModelCard) -> edge.EdgeConfig:
    return edge.EdgeConfig(
        vectors=edge.EdgeVectorParams(
            size=card.dimension, distance=edge.Distance.Cosine, quantization_config=_CODES
        )
    )
