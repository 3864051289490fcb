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


class Refusal(Message):
    """What acceptance already knows to be wrong with an item; it becomes the item's failure row."""

    code: FailureCode
    detail: str


class Item(Message):
    """One image reference: a `url`, or the sha256 of parked `upload` bytes, and the client's payload."""

    # Items wait in Redis: a worker of the version before must not choke on what a newer API adds.
    model_config = ConfigDict(extra="ignore")

    id: str
    url: str | None = None
    upload: str | None = None
    payload: dict[str, Any] = Field(default_factory=dict)
    refused: Refusal | None = None


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
    """One search. Exactly one of `upload` (sha256 of parked bytes), `url`, `id` and `vector` is set."""

    collection: str
    upload: str | None = None
    url: str | None = None
    id: str | None = None
    vector: list[float] | None = None
    filter: dict[str, Any] | None = None
    limit: int = Field(10, ge=1, le=1000)
    offset: int = Field(0, ge=0, le=100_000)
    score_threshold: float | None = None
    exact: bool = False
    with_payload: bool | list[str] = True
    sent_at: float = 0.0


class Hit(Message):
    """One result. `score` is the cosine similarity, -1 to 1."""

    id: str
    score: float
    payload: dict[str, Any]
    url: str | None = None
    thumbnail: str | None = None


@dataclass(frozen=True)
class TaskSpec:
    """The one place where a task's name and queue stand; both halves use it, so neither can misspell it."""

    name: str
    queue: Literal["ingest", "search"]
    answers: bool = True


INGEST_CHUNK = TaskSpec("ingest_chunk", "ingest", answers=False)
SEARCH = TaskSpec("search", "search")
LIST_COLLECTIONS = TaskSpec("list_collections", "search")
GET_COLLECTION = TaskSpec("get_collection", "search")
PUT_COLLECTION = TaskSpec("put_collection", "search")
DELETE_COLLECTION = TaskSpec("delete_collection", "search")
GET_FACETS = TaskSpec("get_facets", "search")
LIST_IMAGES = TaskSpec("list_images", "search")
GET_IMAGE = TaskSpec("get_image", "search")
DELETE_IMAGE = TaskSpec("delete_image", "search")

TASKS = (
    INGEST_CHUNK,
    SEARCH,
    LIST_COLLECTIONS,
    GET_COLLECTION,
    PUT_COLLECTION,
    DELETE_COLLECTION,
    GET_FACETS,
    LIST_IMAGES,
    GET_IMAGE,
    DELETE_IMAGE,
)
