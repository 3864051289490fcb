"""The messages that cross between the halves, and the name, queue and options of every task."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from shared.errors import FailureCode

MAX_ID_LENGTH = 512
SYSTEM_KEY = "_image"


def point_id(item_id: str) -> str:
    """The Qdrant point id of an item: UUIDv5 of its id, so that an item sent again replaces itself."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, item_id))


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid")


# Items wait in Redis: a worker of the version before must not choke on what a newer API adds.
_OF_ANY_VERSION = ConfigDict(extra="ignore")


class Refusal(Message):
    """What acceptance already knows to be wrong with an item; it becomes the item's failure row.

    `unnamed`: the id of what was refused, or of all that it stands for, could not be read.
    """

    model_config = _OF_ANY_VERSION

    code: FailureCode
    detail: str
    unnamed: bool = False


class Item(Message):
    """One image reference: a `url`, or the sha256 of parked `upload` bytes, and the client's payload.

    An item that is copied from elsewhere may bring a `thumbnail`, the sha256 of the bytes that a kept thumbnail is of
    and that stands in for them; or its `vector`, base64 of little-endian float32 [dimension], with the `fingerprint`
    of the model that made it and the `image`'s system fields as they stood there. `changed_at` is when what it is
    copied from was last written, in ISO 8601.
    """

    model_config = _OF_ANY_VERSION

    id: str
    url: str | None = None
    upload: str | None = None
    payload: dict[str, Any] = Field(default_factory=dict)
    refused: Refusal | None = None
    thumbnail: str | None = None
    vector: str | None = None
    image: dict[str, Any] | None = None
    fingerprint: str | None = None
    changed_at: str | None = None


ITEMS = TypeAdapter(list[Item])


@dataclass(frozen=True)
class Chunk:
    """Up to `chunk_size` items of one job, under a lease that `token` names.

    `attempt` counts its runs, this one included, and `fetches` how often its items were fetched before it.
    `origin` is the number of the chunk that it was split from, or put off from.
    """

    job: str
    number: int
    collection: str
    token: str
    attempt: int
    items: list[Item]
    fetches: int = 0
    origin: int | None = None

    @property
    def mark(self) -> str:
        """Stands on every point that this chunk wrote, so that a second run knows its own work."""
        return f"{self.job}/{self.origin or self.number}"


@dataclass(frozen=True)
class ItemOutcome:
    """How one item ended, after `attempts` tries."""

    item: Item
    status: Literal["indexed", "unchanged", "failed"]
    code: FailureCode | None = None
    detail: str | None = None
    retryable: bool = False
    attempts: int = 1


class Failure(Message):
    """One row of a job's failures. `item` is kept so that the job can be tried again."""

    item: Item
    code: FailureCode
    detail: str
    retryable: bool
    attempts: int


FAILURES = TypeAdapter(list[Failure])


@dataclass(frozen=True)
class PutOff:
    """Items that have not ended: they are fetched again after `pause` seconds. So far they were, `fetches` times."""

    items: list[Item]
    fetches: int
    pause: float


@dataclass(frozen=True)
class ChunkReport:
    """What a worker says of a chunk when everything that it wrote is durable."""

    chunk: Chunk
    outcomes: list[ItemOutcome]
    put_off: list[PutOff] = field(default_factory=list)

    def count(self, status: str) -> int:
        return sum(outcome.status == status for outcome in self.outcomes)

    def failures(self) -> list[Failure]:
        return [
            Failure(
                item=outcome.item,
                code=outcome.code,
                detail=outcome.detail or "",
                retryable=outcome.retryable,
                attempts=outcome.attempts,
            )
            for outcome in self.outcomes
            if outcome.code is not None
        ]


class Source(Message):
    """Where the rows of an import come from. Exactly one of `dataset`, `files`, `upload` and `collection` is set.

    `revision` is the commit from the first reading on, or of files that are read where they stand a word for their
    sizes and last changes. `upload` are names of the job's kept files (shared/files.py), `collection` is the key of a
    version whose images are copied. `fraction` and `limit` are for trials: of all rows, evenly spread and the same
    each time, and then so many at most.
    """

    dataset: str | None = Field(default=None, min_length=1, max_length=200)
    files: list[str] | None = Field(default=None, min_length=1, max_length=1000)
    upload: list[str] | None = Field(default=None, min_length=1, max_length=1000)
    collection: str | None = Field(default=None, min_length=1, max_length=200)
    config: str | None = Field(default=None, min_length=1, max_length=200)
    split: str = Field(default="train", min_length=1, max_length=200)
    revision: str | None = Field(default=None, min_length=1, max_length=200)
    format: Literal["csv", "tsv", "parquet", "json", "imagefolder", "webdataset"] | None = None
    image_column: str | None = Field(default=None, min_length=1, max_length=512)
    url_column: str | None = Field(default=None, min_length=1, max_length=512)
    id_column: str | None = Field(default=None, min_length=1, max_length=512)
    group_column: str | None = Field(default=None, min_length=1, max_length=512)
    separator: str | None = Field(default=None, min_length=1, max_length=16)
    fill: dict[str, Any] = Field(default_factory=dict, max_length=1000)
    prices: list[str] = Field(default_factory=list, max_length=1000)
    limit: int | None = Field(default=None, ge=1)
    fraction: float | None = Field(default=None, gt=0, le=1)


class Sync(Message):
    """What is no longer in the feed is removed when its job has ended, unless it is more than this share of all."""

    share: float = Field(default=0.2, ge=0, le=1)
    force: bool = False


class ModelCard(Message):
    """What makes two vectors comparable. Stands on the collection and, as `fingerprint`, on every point."""

    name: str
    revision: str
    preprocessing: str
    dimension: int

    @property
    def fingerprint(self) -> str:
        return f"{self.name}@{self.revision}/{self.preprocessing}"


class Query(Message):
    """One search: by exactly one of `uploads`, `url`, `id`, `vector` and `like`, or by `text`.

    `uploads` are sha256s of parked bytes, and count as one picture, their mean; `like` and `unlike` are ids or URLs.
    `text` may stand alone or beside `uploads`, `url` or `id`. `crop` is left, top, right and bottom in fractions of
    the query's picture. With `group_by`, a payload field, `limit` and `offset` count groups.
    """

    collection: str
    uploads: list[str] | None = None
    url: str | None = None
    id: str | None = None
    text: str | None = None
    vector: list[float] | None = None
    like: list[str] | None = None
    unlike: list[str] | None = None
    crop: list[float] | None = None
    filter: dict[str, Any] | None = None
    limit: int = Field(10, ge=1, le=1000)
    offset: int = Field(0, ge=0, le=100_000)
    score_threshold: float | None = None
    group_by: str | None = None
    group_size: int = Field(1, ge=1, le=100)
    exact: bool = False
    placeholders: bool = True
    with_payload: bool | list[str] = True
    sent_at: float = 0.0


class Hit(Message):
    """One result. `score` is the cosine similarity, -1 to 1."""

    id: str
    score: float
    payload: dict[str, Any]
    url: str | None = None
    thumbnail: str | None = None


GroupId = str | int | bool


class HitGroup(Message):
    """The best hits of one value of the field that a search groups by, and how many there are in all."""

    id: GroupId
    count: int
    hits: list[Hit]


@dataclass(frozen=True)
class TaskSpec:
    """The one place where a task's name and queue stand; both halves use it, so neither can misspell it."""

    name: str
    queue: Literal["ingest", "search"]
    answers: bool = True


INGEST_CHUNK = TaskSpec("ingest_chunk", "ingest", answers=False)
SEARCH = TaskSpec("search", "search")
SEARCH_BATCH = TaskSpec("search_batch", "search")
LIST_COLLECTIONS = TaskSpec("list_collections", "search")
GET_COLLECTION = TaskSpec("get_collection", "search")
PUT_COLLECTION = TaskSpec("put_collection", "search")
DELETE_COLLECTION = TaskSpec("delete_collection", "search")
LIST_VERSIONS = TaskSpec("list_versions", "search")
ADD_VERSION = TaskSpec("add_version", "search")
ROUTE_COPY = TaskSpec("route_copy", "search")
COMPARE_VERSIONS = TaskSpec("compare_versions", "search")
GO_LIVE = TaskSpec("go_live", "search")
DROP_VERSION = TaskSpec("drop_version", "search")
GET_FACETS = TaskSpec("get_facets", "search")
LIST_IMAGES = TaskSpec("list_images", "search")
GET_IMAGE = TaskSpec("get_image", "search")
DELETE_IMAGE = TaskSpec("delete_image", "search")

TASKS = (
    INGEST_CHUNK,
    SEARCH,
    SEARCH_BATCH,
    LIST_COLLECTIONS,
    GET_COLLECTION,
    PUT_COLLECTION,
    DELETE_COLLECTION,
    LIST_VERSIONS,
    ADD_VERSION,
    ROUTE_COPY,
    COMPARE_VERSIONS,
    GO_LIVE,
    DROP_VERSION,
    GET_FACETS,
    LIST_IMAGES,
    GET_IMAGE,
    DELETE_IMAGE,
)
