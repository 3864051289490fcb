"""What every engine refuses, in the same words, before its own engine is asked."""

from __future__ import annotations

import re
import uuid

import numpy as np

from shared.contract import ModelCard
from shared.errors import ModelMismatch, RequestCode, RequestError
from workers.index.interface import FieldType, split_key

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


def no_collection(name: str) -> RequestError:
    return RequestError(RequestCode.COLLECTION_NOT_FOUND, f"There is no collection `{name}`.")


def no_image(collection: str, id: str) -> RequestError:
    return RequestError(
        RequestCode.IMAGE_NOT_FOUND, f"There is no image `{id}` in collection `{collection}`."
    )


def invalid_filter(reason: str) -> RequestError:
    return RequestError(RequestCode.INVALID_FILTER, f"The filter cannot be used: {reason}")


def other_index(field: str, standing: FieldType, wanted: FieldType) -> RequestError:
    return RequestError(
        RequestCode.INVALID_REQUEST,
        f"Field `{field}` is indexed as {standing} already, so it cannot be indexed as {wanted}.",
    )


def check_model(name: str, standing: ModelCard | None, wanted: ModelCard) -> None:
    """ModelMismatch unless both are the same; `standing` is None for a collection that we did not make."""
    if standing is None:
        raise ModelMismatch(
            f"Collection `{name}` stands in Qdrant but was not made by Lookalike; choose another name."
        )
    if standing != wanted:
        raise ModelMismatch(
            f"Collection `{name}` holds vectors of {_described(standing)}, not of {_described(wanted)}; "
            "use that model, or another collection."
        )


def live_version(key: str) -> RequestError:
    return RequestError(
        RequestCode.INVALID_REQUEST,
        f"`{key}` is live: searches use it. Put another version live first, or delete the whole collection.",
    )


def used_number(key: str) -> ModelMismatch:
    return ModelMismatch(f"`{key}` was dropped, and no version is given its number again.")


def check_name(name: str) -> tuple[str, int | None]:
    """The plain name and the version that it asks for. A plain name becomes a folder and a part of a URL."""
    plain, version = split_key(name)
    if not _NAME.fullmatch(plain):
        raise RequestError(
            RequestCode.INVALID_NAME,
            f"`{name}` cannot name a collection: use 1 to 128 letters, digits, `-` and `_`, "
            "and begin with a letter or a digit.",
        )
    return plain, version


def check_cursor(cursor: str | None) -> None:
    """A cursor is the point id that the next page begins with."""
    if cursor is None:
        return
    try:
        uuid.UUID(cursor)
    except ValueError as error:
        raise RequestError(
            RequestCode.INVALID_REQUEST, f"`{cursor}` is not a cursor: send `next_cursor` of the page before."
        ) from error


def plain_vector(vector: np.ndarray | None, dimension: int) -> list[float]:
    """The vector as engines take it. ValueError where it is missing, not finite or of another dimension."""
    if vector is None or np.shape(vector) != (dimension,):
        shape = "nothing" if vector is None else f"shape {np.shape(vector)}"
        raise ValueError(f"A vector of {dimension} numbers is wanted, and {shape} was given.")
    if not np.isfinite(vector).all():
        raise ValueError("A vector holds NaN or infinity.")
    return np.asarray(vector, dtype=np.float32).tolist()


def _described(card: ModelCard) -> str:
    return f"{card.fingerprint} ({card.dimension} dimensions)"
