"""Every knob of Lookalike: name, type, default, meaning. The one reader of the environment."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _knob(default: object, doc: str, *, env: str | None = None, **bounds: object):  # type: ignore[no-untyped-def]
    alias = {"validation_alias": AliasChoices(env)} if env else {}
    return Field(default, description=doc, **alias, **bounds)  # type: ignore[call-overload]


class Settings(BaseSettings):
    """Read from `LOOKALIKE_<NAME>` variables; `REDIS_URL` and `QDRANT_URL` go by their usual names."""

    model_config = SettingsConfigDict(
        env_prefix="LOOKALIKE_", extra="ignore", populate_by_name=True, frozen=True
    )

    # Where the other parts are
    redis_url: str = _knob(
        "redis://127.0.0.1:6379/0",
        "Redis or Valkey: broker, results and the ledger. `unix:///path?db=0` is understood.",
        env="REDIS_URL",
    )
    qdrant_url: str | None = _knob(
        None, "A Qdrant server. Takes the embedded store's place.", env="QDRANT_URL"
    )
    qdrant_api_key: str | None = _knob(None, "The Qdrant server's API key.", env="QDRANT_API_KEY", repr=False)
    store_socket: Path | None = _knob(
        None, "Unix socket of the embedded store's process. `lookalike up` sets it."
    )
    data: Path = _knob(Path("lookalike-data"), "The folder that `lookalike up` keeps everything in.")

    # The model
    model: str = _knob(
        "facebook/dino-vits16",
        "Hub id or folder of a transformers vision model, or `efficientnet-lite2` (needs no hub; "
        "the default of `lookalike up`).",
    )
    model_revision: str | None = _knob(
        None, "Commit of the hub model. The default model has one pinned; others default to `main`."
    )
    models: Annotated[tuple[str, ...], NoDecode] = _knob(
        (),
        "Further models that a collection may name, hub ids or folders, comma-separated. A worker loads one when a "
        "collection under it is first used.",
    )
    models_memory_mib: int = _knob(
        4096,
        "Memory that the further models of one worker may take, by their weights: those that were not used for the "
        "longest time are let go.",
        ge=1,
    )
    pooling: Literal["mean", "cls"] = _knob("mean", "How a transformer's tokens become one vector.")
    device: Literal["auto", "cpu", "cuda", "mps"] = _knob(
        "auto", "Where the model runs. A device asked for and missing is an error, never a silent fallback."
    )
    runtime: Literal["auto", "torch", "openvino"] = _knob(
        "auto",
        "What computes a model on a CPU. auto: the quickest that gives the model's own vectors, of OpenVINO where "
        "it is installed (the extra `openvino`) and of torch.",
    )
    batch_size: int = _knob(
        0,
        "Most images in one forward pass. 0: 4 on a CPU, which never takes more; 256 on CUDA, 16 on Metal.",
        ge=0,
        le=4096,
    )
    embed_threads: int = _knob(
        0, "Forward passes at once, one CPU thread each. 0: one a core on a CPU, two on CUDA.", ge=0, le=256
    )

    # Ingest
    chunk_size: int = _knob(64, "Items that one queue message stands for.", ge=1, le=1000)
    fetch_threads: int = _knob(
        0,
        "Images that one worker fetches and decodes at once. 0: eight a core, and 16 at least.",
        ge=0,
        le=1024,
    )
    lease_seconds: float = _knob(
        60.0, "How long a silent worker keeps a chunk before another may take it.", gt=0
    )
    resend_seconds: float = _knob(30.0, "A chunk that nobody took for this long is sent again.", gt=0)
    reconcile_seconds: float = _knob(5.0, "How often workers look for chunks that stand still.", gt=0)
    max_attempts: int = _knob(
        5, "Runs of a chunk that may die or break before it is split in search of the item at fault.", ge=1
    )
    redelivery_seconds: float = _knob(
        3600.0,
        "When Celery sends a message again that was not acknowledged. Leases decide who works, so it can be long.",
        gt=0,
    )
    job_ttl: int = _knob(604_800, "Seconds that an ended job can still be read.", ge=60)

    # Workers that end themselves, for their supervisor to start them again
    chunk_seconds: float = _knob(
        600.0,
        "A chunk in hand for longer means that its worker hangs: the worker ends. With chunks of many hundred slow "
        "images it must be longer.",
        gt=0,
    )
    idle_seconds: float = _knob(
        60.0,
        "A worker with a free slot that takes nothing from a filled queue for so long ends. "
        "A search's index work, and a batch of searches, may take half of it.",
        gt=0,
    )
    drain_seconds: float = _knob(
        20.0,
        "Seconds that chunks in hand may take when a worker is asked to stop; then they are given back.",
        ge=0,
    )
    worker_memory_mib: int = _knob(
        0,
        "Resident memory above which a worker ends its work and stops. 0: four fifths of its container's limit.",
        ge=0,
    )

    # Fetching other people's URLs
    fetch_allow: Annotated[tuple[Network, ...], NoDecode] = _knob(
        (),
        "Networks (CIDRs, comma-separated) exempt from the rule that only public addresses and the ports "
        "80 and 443 are fetched.",
    )
    fetch_timeout: float = _knob(
        10.0, "Seconds for one image in all: name, connection, redirects, body.", gt=0
    )
    fetch_max_bytes: int = _knob(20 * 2**20, "Largest image file, fetched or uploaded.", ge=1024)
    fetch_max_redirects: int = _knob(5, "Redirects that are followed, each checked anew.", ge=0, le=20)
    fetch_user_agent: str = _knob(
        "Lookalike/0.1 (self-hosted visual search)", "How fetches introduce themselves."
    )
    fetch_attempts: int = _knob(
        3,
        "Fetches of one image before a fault that may pass (time-out, no connection, 429, 5xx) is its failure.",
        ge=1,
        le=10,
    )
    fetch_retry_seconds: float = _knob(
        5.0,
        "Pause before the second fetch; it triples with each further one. A longer Retry-After is kept.",
        gt=0,
    )
    fetch_per_host: int = _knob(8, "Images that one worker fetches from one host at once.", ge=1)
    fetch_headers: dict[str, dict[str, str]] = _knob(
        {},
        'Headers for your own hosts, JSON by origin: `{"https://cdn.shop.example": {"Authorization": "Bearer …"}}`. '
        "They follow no redirect to another origin.",
        repr=False,
    )

    # Decoding
    max_pixels: int = _knob(50_000_000, "Largest picture, in pixels.", ge=1)
    decode_processes: int = _knob(
        0, "Processes of a worker that decode pictures. 0: one a core.", ge=0, le=256
    )
    decode_seconds: float = _knob(5.0, "Longest that one picture may take to decode.", gt=0)
    decode_memory_mib: int = _knob(1024, "Most memory that one picture may take to decode.", ge=128)

    # Files that are kept
    files: str | None = _knob(
        None,
        "Where thumbnails are kept, and feeds until they are read: a folder, or a URL that fsspec knows, such as "
        "`s3://bucket/folder` (with fsspec's own package for it installed). `lookalike up`: `files` in its data "
        "folder. Empty: no files are kept.",
    )
    thumbnails: bool = _knob(
        False,
        "Keep a small WebP of every image that is indexed. `lookalike up`: true. Needs LOOKALIKE_FILES.",
    )
    thumbnail_pixels: int = _knob(256, "Longest side of a thumbnail.", ge=16, le=512)

    # Imports
    import_folders: Annotated[tuple[Path, ...], NoDecode] = _knob(
        (),
        "Folders of the workers' own machine, comma-separated, below which imports may read files. None by default.",
    )
    import_ahead: int = _knob(
        32,
        "Chunks of one import that may wait for workers: its source is read no further ahead, so that no picture "
        "bytes pile up in Redis.",
        ge=1,
        le=10_000,
    )
    feed_max_bytes: int = _knob(
        4 * 2**30, "Most bytes that an import fetches by URL, all its files together.", ge=1024
    )
    import_memory_mib: int = _knob(
        2048, "Most memory that the process which reads an import's source may take.", ge=256
    )

    # The API
    host: str = _knob("127.0.0.1", "Address that `lookalike up` serves on.")
    port: int = _knob(8080, "Port that `lookalike up` serves on.", ge=0, le=65535)
    api_keys: str | None = _knob(
        None,
        "`key=scope+scope,key=scope`, keys plain or as `lookalike keys` hashes them; scopes are search, ingest "
        "and admin. Unset: open, on loopback only.",
        repr=False,
    )
    rate_limit: str | None = _knob(
        "6000/minute", "Requests of one key: `<count>/<second, minute, hour or day>`. Empty: no limit."
    )
    max_pending: int = _knob(
        5_000_000,
        "Pending items of all jobs above which new submissions are put off (429 `backlog_full`).",
        ge=1,
    )
    max_broker_memory_mib: int = _knob(
        0,
        "Memory of Redis above which new submissions are put off. 0: four fifths of its `maxmemory`, if it has one.",
        ge=0,
    )
    read_seconds: float = _knob(
        20.0, "Longest that a request's head may take, and longest silence in its body.", gt=0
    )
    accepting_seconds: float = _knob(
        600.0, "A job whose body brought nothing for so long lost its client or its API, and is ended.", gt=0
    )
    max_body_bytes: int = _knob(1 * 2**30, "Largest request body.", ge=1024)
    max_item_bytes: int = _knob(1 * 2**20, "Largest item: one NDJSON line, CSV row or JSON element.", ge=1024)
    max_images_per_upload: int = _knob(1000, "Image parts in one upload request.", ge=1)
    search_ttl: int = _knob(120, "Seconds that a search and its result can be read.", ge=1)
    answer_seconds: float = _knob(10.0, "Longest that the API waits for a worker's quick answer.", gt=0)

    # The command line
    url: str = _knob("http://127.0.0.1:8080", "The API that the command line talks to.")
    api_key: str | None = _knob(None, "The key that the command line sends.", repr=False)

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = _knob("INFO", "Least level that is logged.")

    @field_validator("fetch_allow", mode="before")
    @classmethod
    def _networks(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(
            ipaddress.ip_network(part.strip(), strict=False) for part in value.split(",") if part.strip()
        )

    @field_validator("import_folders", mode="before")
    @classmethod
    def _folders(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(Path(part.strip()).absolute() for part in value.split(",") if part.strip())

    @field_validator("models", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))

    @field_validator(
        "qdrant_url",
        "qdrant_api_key",
        "store_socket",
        "files",
        "model_revision",
        "api_keys",
        "api_key",
        "rate_limit",
        mode="before",
    )
    @classmethod
    def _blank_is_unset(cls, value: object) -> object:
        return None if value == "" else value

    @property
    def celery_url(self) -> str:
        """`redis_url` as Celery spells it: unix sockets are `redis+socket://…?virtual_host=N` there."""
        if not self.redis_url.startswith("unix://"):
            return self.redis_url
        return self.redis_url.replace("unix://", "redis+socket://", 1).replace("db=", "virtual_host=", 1)


def environment_name(field: str) -> str:
    """The variable that sets a field."""
    alias = Settings.model_fields[field].validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"LOOKALIKE_{field.upper()}"
