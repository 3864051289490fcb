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

KEY: Schema = {"type": "string", "pattern": f"^{limits.COLLECTION_KEY.pattern}$"}
VERSION: Schema = {"type": "integer", "minimum": 1, "maximum": limits.MAX_VERSION}
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
        f"{limits.MAX_FILTER_LIST:,} members of a list, {limits.MAX_TEXT_LENGTH:,} characters in all of `text`, "
        f"`text_any` and `phrase`, and {limits.MAX_FILTER_BYTES // 1024} KiB."
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


_COLUMN: Schema = {"type": ["string", "null"], "minLength": 1, "maxLength": 512}
_WORD: Schema = {"type": ["string", "null"], "minLength": 1, "maxLength": 200}
SOURCE: dict[str, Schema] = {
    "dataset": {**_WORD, "description": "A data set of the Hugging Face hub."},
    "files": {
        "oneOf": [{"type": "string"}, {**array(STRING), "minItems": 1, "maxItems": 1000}],
        "description": "http or https URLs, or paths below LOOKALIKE_IMPORT_FOLDERS.",
    },
    "format": {
        "type": ["string", "null"],
        "enum": ["csv", "tsv", "parquet", "json", "imagefolder", "webdataset", None],
        "description": "By default what the first file's name says. `json`: a list of objects, or one a line.",
    },
    "config": {**_WORD, "description": "The data set's configuration."},
    "split": {"type": ["string", "null"], "minLength": 1, "maxLength": 200, "default": "train"},
    "revision": {
        **_WORD,
        "description": "A branch, tag or commit; the commit of the first reading is kept to.",
    },
    "image_column": {
        **_COLUMN,
        "description": "Pictures: bytes, paths or URLs. By default what the source says.",
    },
    "url_column": {**_COLUMN, "description": "URLs; `url` by default, where there is no column of pictures."},
    "id_column": {**_COLUMN, "description": "The client's own ids; `id` by default, where there is one."},
    "group_column": {
        **_COLUMN,
        "description": "What belongs together; by default the id of a row with several.",
    },
    "separator": {
        "type": ["string", "null"],
        "minLength": 1,
        "maxLength": 16,
        "description": "What stands between several URLs in one cell; a JSON list needs none.",
    },
    "fill": {"type": ["object", "null"], "description": "Column to value: what stands where one is missing."},
    "prices": {
        **nullable(array(STRING)),
        "maxItems": 1000,
        "description": "Columns read as amounts: `$24.99`.",
    },
    "limit": {"type": ["integer", "null"], "minimum": 1, "description": "At most so many rows."},
    "fraction": {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "maximum": 1,
        "description": "For trials: of all rows, evenly spread, and the same ones each time.",
    },
}
SYNC: dict[str, Schema] = {
    "sync": {
        "type": ["boolean", "null"],
        "default": False,
        "description": "Remove what is in the collection and not in this feed, once every item has ended.",
    },
    "sync_share": {
        "type": ["number", "null"],
        "minimum": 0,
        "maximum": 1,
        "default": 0.2,
        "description": "Where a larger share of all images would go, none does.",
    },
    "force": {
        "type": ["boolean", "null"],
        "default": False,
        "description": "Remove them whatever their share, and also where items could not be read: once, by hand.",
    },
}

_EXAMPLES: Schema = {
    **array({"type": "string", "minLength": 1, "maxLength": limits.MAX_URL_LENGTH}),
    "minItems": 1,
    "maxItems": limits.MAX_QUERY_PICTURES,
}
_RESULT: dict[str, Schema] = {
    "hits": {
        **array(ref("Hit")),
        "description": "Best first. With `group_by`, the best of each group, each image once.",
    },
    "groups": {**array(ref("Group")), "description": "With `group_by`: best first."},
    "problem": ref("Problem"),
    "took_ms": {
        "type": "object",
        "additionalProperties": NUMBER,
        "description": "queue, fetch, embed, search; added up over pictures that are worked on side by side.",
    },
}

SCHEMAS: dict[str, Schema] = {
    "Item": shape(
        url={
            "type": "string",
            "maxLength": limits.MAX_URL_LENGTH,
            "description": "http or https. Only an item with an `id` and a `vector` needs none.",
        },
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
        vector={
            "type": ["string", "array"],
            "items": NUMBER,
            "maxItems": limits.MAX_VECTOR_LENGTH,
            "description": "As an export has it: base64 of little-endian float32, or the numbers. Nothing is fetched.",
        },
        fingerprint={
            **STRING,
            "maxLength": limits.MAX_MODEL_LENGTH,
            "description": "The model that made the `vector`, as in `_image.model`; it must be the collection's.",
        },
        image={"type": "object", "description": "The `_image` of the export: what was known of the bytes."},
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
        removed={**INTEGER, "description": "With `sync`: images that were removed."},
        sync={
            **record(absent=nullable(INTEGER), share=nullable(NUMBER), refused=nullable(STRING)),
            "description": "With `sync`: how many images the feed does not name, null until every item has ended; "
            "and why not all of them were removed.",
        },
    ),
    "Import": {**shape(**SOURCE, **SYNC), "additionalProperties": False},
    "Source": {
        **shape(**{name: SOURCE[name] for name in SOURCE if name not in ("dataset", "files")}, **SYNC),
        "additionalProperties": False,
    },
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
        version=VERSION,
        live={**BOOLEAN, "description": "Whether the plain name stands for this version."},
        model=STRING,
        revision=STRING,
        preprocessing=STRING,
        dimension=INTEGER,
        distance={"type": "string", "const": "cosine"},
        images=INTEGER,
        indexes={"type": "object", "additionalProperties": STRING},
    ),
    "Collections": record(collections=array(ref("Collection"))),
    "Versions": record(versions=array(ref("Collection"))),
    "NewVersion": record(model={"type": "string", "minLength": 1, "maxLength": limits.MAX_MODEL_LENGTH}),
    "Copy": shape(**{"from": {**nullable(VERSION), "description": "By default the live version."}}),
    "Comparison": record(
        version=VERSION,
        live=VERSION,
        images=record(version=INTEGER, live=INTEGER),
        sampled={**INTEGER, "description": "Images that both have, which were asked for their ten nearest."},
        overlap={**nullable(NUMBER), "description": "Mean share of the ten nearest that both name, 0 to 1."},
        same_first={**nullable(NUMBER), "description": "Share whose nearest image is the same, 0 to 1."},
        least_alike=array(record(id=STRING, overlap=NUMBER)),
    ),
    "Facets": record(values=array(record(value={"type": ["string", "integer", "boolean"]}, count=INTEGER))),
    "Image": shape(
        *("id", "url", "payload", "thumbnail"),
        id=STRING,
        url=nullable(STRING),
        payload=OBJECT,
        thumbnail={**nullable(STRING), "description": "Where a small WebP of it is served, if one is kept."},
        vector={**STRING, "description": "Base64 of little-endian float32, where it was asked for."},
    ),
    "Images": record(images=array(ref("Image")), next_cursor=nullable(STRING)),
    "Options": shape(
        text={
            **STRING,
            "minLength": 1,
            "maxLength": limits.MAX_TEXT_LENGTH,
            "description": "Words, under a model with a text side; beside a picture, the mean of both is asked by.",
        },
        crop={
            **array({"type": "number", "minimum": 0, "maximum": 1}),
            "minItems": 4,
            "maxItems": 4,
            "description": "Left, top, right, bottom: the part of the picture that is asked by, in fractions of it.",
            "example": [0.1, 0.1, 0.6, 0.9],
        },
        filter=FILTER,
        exclude={
            "type": "object",
            "additionalProperties": {
                "type": ["string", "number", "boolean", "array"],
                "items": {"type": ["string", "number", "boolean"]},
            },
            "description": "By field, a value or a list of values that no hit has.",
            "example": {"lesion_id": "HAM_0000118"},
        },
        limit={"type": "integer", "minimum": 1, "maximum": 1000, "default": 10},
        offset={"type": "integer", "minimum": 0, "maximum": 100_000, "default": 0},
        score_threshold={**NUMBER, "description": "Least cosine similarity of a hit."},
        group_by={
            **STRING,
            "minLength": 1,
            "maxLength": limits.MAX_FIELD_LENGTH,
            "description": "A payload field of texts, whole numbers or truth values; an image of several is in the "
            "group of each. The answer has `groups`, one a value, and `limit` and `offset` count them. Images without "
            f"the field are left out. `limit` times `group_size` may be {limits.MAX_HITS:,}, and `offset` and `limit` "
            f"together {limits.MAX_DEPTH:,}.",
        },
        group_size={
            "type": "integer",
            "minimum": 1,
            "maximum": 100,
            "default": 1,
            "description": "Hits of each group.",
        },
        exact={"type": "boolean", "default": False, "description": "Compare with every image."},
        placeholders={
            "type": "boolean",
            "default": True,
            "description": "false: pictures whose very bytes stand under three or more groups (values of `group_by`, "
            "or else of `group`; an image without one is a group by itself) are left out. `offset` and `limit` may be "
            f"{limits.MAX_DEPTH:,} together.",
        },
        with_payload={"type": ["boolean", "array"], "items": STRING, "default": True},
    ),
    "Queries": record(
        queries={**array(ref("Query")), "minItems": 1, "maxItems": limits.MAX_QUERIES},
    ),
    "Hit": record(id=STRING, score=NUMBER, payload=OBJECT, url=nullable(STRING), thumbnail=nullable(STRING)),
    "Group": record(
        id={"type": ["string", "integer", "boolean"], "description": "The value of the field."},
        count={**INTEGER, "description": "How many of its images match the filter and the threshold."},
        hits={**array(ref("Hit")), "description": "The best of them."},
    ),
    "Search": shape(
        *("id", "state"),
        id=STRING,
        state={"type": "string", "enum": ["pending", "done", "failed"]},
        results={**array(ref("Result")), "description": "Of a batch, in its order."},
        **_RESULT,
    ),
    "Result": shape("state", state={"type": "string", "enum": ["done", "failed"]}, **_RESULT),
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
# What the API does not know it refuses.
for _name in ("Item", "Items", "NewCollection", "NewVersion", "Copy", "Options", "Queries"):
    SCHEMAS[_name]["additionalProperties"] = False
SCHEMAS["Query"] = {
    **SCHEMAS["Options"],
    "description": "Exactly one of `url`, `id`, `text`, `vector` and `like`, or `text` beside `url` or `id`.",
    "properties": {
        "url": {**STRING, "description": "A picture that a worker fetches."},
        "id": {**_ID, "description": "An image of the collection; it is not among its own hits."},
        "vector": {**array(NUMBER), "maxItems": limits.MAX_VECTOR_LENGTH},
        "like": {
            **_EXAMPLES,
            "description": "Ids of the collection, or URLs of pictures: what is near their mean. Neither these images "
            "nor those of `unlike` are among the hits.",
        },
        "unlike": {
            **_EXAMPLES,
            "description": "Beside `like`: what to keep away from (twice the one mean, less the other).",
        },
        **SCHEMAS["Options"]["properties"],
    },
}
for _name in ("Options", "Query"):  # null is as good as leaving it out
    SCHEMAS[_name]["properties"] = {
        field: nullable(schema) for field, schema in SCHEMAS[_name]["properties"].items()
    }
