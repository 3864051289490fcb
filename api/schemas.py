"""The shapes that the API takes and gives, as JSON Schema, for `openapi.py`."""

from __future__ import annotations

from typing import Any

from api import limits
from api.collections import FIELD_TYPES
from shared.contract import MAX_ID_LENGTH
from shared.errors import FailureCode, RequestCode

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}
OBJECT: Schema = {"type": "object"}
MOMENT: Schema = {"type": "string", "format": "date-time"}
BINARY: Schema = {"type": "string", "format": "binary"}

_COLLECTION_NAME = {"type": "string", "pattern": f"^{limits.COLLECTION_NAME.pattern}$"}
_ID = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_ID_LENGTH,
    "description": "The client's own key. Sent again, it replaces what stood under it.",
}
FILTER: Schema = {
    "type": "object",
    "description": (
        "Qdrant's filter JSON: `must`, `should`, `must_not`, … of `match`, `range`, `is_empty`, … At most "
        f"{limits.MAX_FILTER_CONDITIONS} conditions, {limits.MAX_FILTER_DEPTH} filters inside each other, "
        f"{limits.MAX_FILTER_LIST:,} members of a list and {limits.MAX_FILTER_BYTES // 1024} KiB."
    ),
    "example": {"must": [{"key": "brand", "match": {"value": "Philips"}}]},
}


def ref(name: str) -> Schema:
    """Stands for the shape of that name."""
    return {"$ref": f"#/components/schemas/{name}"}


def array(of: Schema) -> Schema:
    return {"type": "array", "items": of}


def nullable(schema: Schema) -> Schema:
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return {**schema, "type": [*types, "null"]}


def record(**properties: Schema) -> Schema:
    """An object that has all of these."""
    return shape(*properties, **properties)


def shape(*required: str, **properties: Schema) -> Schema:
    """An object that may have these, and has those that are `required`."""
    return {"type": "object", "properties": properties, "required": list(required)}


SCHEMAS: dict[str, Schema] = {
    "Item": shape(
        "url",
        url={"type": "string", "maxLength": limits.MAX_URL_LENGTH, "description": "http or https."},
        id={
            **_ID,
            "description": f"{_ID['description']} By default the URL, or `url-sha256:<hex>` of a URL of more than "
            f"{MAX_ID_LENGTH} characters.",
        },
        payload={
            "type": "object",
            "description": "The client's own fields. None begins with `_`; numbers are finite and at most 64 bits; "
            f"at most {limits.MAX_PAYLOAD_DEPTH} objects and lists inside each other.",
        },
    ),
    "Items": record(items=array(ref("Item"))),
    "Job": shape(
        *("id", "collection", "state", "total", "indexed", "unchanged", "failed", "pending", "failures"),
        *("images_per_second", "eta_seconds", "created_at", "finished_at"),
        id=STRING,
        collection=STRING,
        state={"type": "string", "enum": ["accepting", "queued", "running", "done", "cancelled"]},
        total={**nullable(INTEGER), "description": "null while the body is read."},
        indexed=INTEGER,
        unchanged={**INTEGER, "description": "The same id, bytes and model stood already."},
        failed=INTEGER,
        pending=INTEGER,
        failures={"type": "object", "additionalProperties": INTEGER, "description": "How many of each code."},
        images_per_second=nullable(NUMBER),
        eta_seconds=nullable(NUMBER),
        created_at=MOMENT,
        finished_at=nullable(MOMENT),
        last_error={**STRING, "description": "What last went wrong with a service, or why it was cancelled."},
    ),
    "Jobs": record(jobs=array(ref("Job")), next_cursor=nullable(STRING)),
    "Failure": record(
        id=STRING,
        url=nullable(STRING),
        code={"type": "string", "enum": [str(code) for code in FailureCode]},
        detail=STRING,
        retryable=BOOLEAN,
        attempts=INTEGER,
    ),
    "Failures": record(failures=array(ref("Failure")), next_cursor=nullable(STRING)),
    "NewCollection": shape(
        model={
            **nullable(STRING),
            "minLength": 1,
            "maxLength": limits.MAX_MODEL_LENGTH,
            "description": "By default the one that the workers run.",
        },
        indexes={
            "type": ["object", "null"],
            "additionalProperties": {"type": "string", "enum": list(FIELD_TYPES)},
            "description": "Payload fields that filters and facets will ask about.",
        },
    ),
    "Collection": record(
        name=_COLLECTION_NAME,
        model=STRING,
        revision=STRING,
        preprocessing=STRING,
        dimension=INTEGER,
        distance={"type": "string", "const": "cosine"},
        images=INTEGER,
        indexes={"type": "object", "additionalProperties": STRING},
    ),
    "Collections": record(collections=array(ref("Collection"))),
    "Facets": record(values=array(record(value={"type": ["string", "integer", "boolean"]}, count=INTEGER))),
    "Image": record(id=STRING, url=nullable(STRING), payload=OBJECT),
    "Images": record(images=array(ref("Image")), next_cursor=nullable(STRING)),
    "Options": shape(
        filter=FILTER,
        limit={"type": "integer", "minimum": 1, "maximum": 1000, "default": 10},
        offset={"type": "integer", "minimum": 0, "maximum": 100_000, "default": 0},
        score_threshold={**NUMBER, "description": "Least cosine similarity of a hit."},
        exact={"type": "boolean", "default": False, "description": "Compare with every image."},
        with_payload={"type": ["boolean", "array"], "items": STRING, "default": True},
    ),
    "Hit": record(id=STRING, score=NUMBER, payload=OBJECT, url=nullable(STRING), thumbnail=nullable(STRING)),
    "Search": shape(
        "id",
        "state",
        id=STRING,
        state={"type": "string", "enum": ["pending", "done", "failed"]},
        hits=array(ref("Hit")),
        problem=ref("Problem"),
        took_ms={
            "type": "object",
            "additionalProperties": NUMBER,
            "description": "queue, fetch, embed, search.",
        },
    ),
    "Problem": shape(
        *("type", "title", "status", "detail", "code"),
        type=STRING,
        title=STRING,
        status=INTEGER,
        detail={**STRING, "description": "What happened, to which item, and what to do."},
        code={"type": "string", "enum": [str(code) for code in (*RequestCode, *FailureCode)]},
        request_id={**STRING, "description": "As in the `X-Request-Id` header, and in the server's log."},
        retry_after={
            **INTEGER,
            "description": "Seconds after which it is worth sending again, as `Retry-After`.",
        },
        job={**STRING, "description": "A job that had begun when its body went wrong, and is cancelled."},
    ),
    "Alive": record(status={"type": "string", "const": "ok"}),
    "Ready": record(status={"type": "string", "const": "ready"}, parts=OBJECT),
}
for _name in ("Item", "Items", "NewCollection", "Options"):  # what the API does not know it refuses
    SCHEMAS[_name]["additionalProperties"] = False
SCHEMAS["Query"] = {
    **SCHEMAS["Options"],
    "description": "Exactly one of `url`, `id` and `vector`, and options.",
    "properties": {
        "url": {**STRING, "description": "A picture that a worker fetches."},
        "id": {**_ID, "description": "An image of the collection; it is not among its own hits."},
        "vector": {**array(NUMBER), "maxItems": limits.MAX_VECTOR_LENGTH},
        **SCHEMAS["Options"]["properties"],
    },
}
for _name in ("Options", "Query"):  # null is as good as leaving it out
    SCHEMAS[_name]["properties"] = {
        field: nullable(schema) for field, schema in SCHEMAS[_name]["properties"].items()
    }
