"""The API in OpenAPI 3.1, as `GET /openapi.json` gives it. A test holds it against the routes, both ways."""

from __future__ import annotations

from typing import Any

from api import limits
from api.schemas import (
    BINARY,
    BOOLEAN,
    FILTER,
    INTEGER,
    KEY,
    SCHEMAS,
    STRING,
    SYNC,
    VERSION,
    Schema,
    array,
    ref,
    shape,
)
from shared.rows import MOST_REFERENCES

_JSON = "application/json"
_CSV_TEXT = (
    "The first row names the columns: `url` (see `url_column`), maybe `id` (see `id_column`), and every other "
    "column a payload field. Empty cells are left out, and so are columns without a name. A cell is a number where "
    "it plainly is one (at most 15 digits, no leading zero, no `+`) and a truth value where it is `true` or `false` "
    "in any case, a list where it is one in JSON, and everything else is text. Columns named in `prices` are read as "
    "amounts: `$24.99` and `24,99 €` are 24.99, `1.299,00 €` is 1299.0, of a range the lower end counts, and what "
    "names no amount stays text. A URL cell may hold several, as a JSON list or parted by `separator`: each becomes an "
    "item, of id `<row id>#1`, `#2`, …, and its payload carries the row's own id (or what stands in `group_column`) as "
    f"`group`; without an id column the URL is the id. A row has at most {MOST_REFERENCES:,} images."
)
_SUBMIT_TEXT = (
    "The body is read as a stream, so a million items cost the server no memory; work begins while it is read. An "
    "item whose URL, id or payload cannot be used fails by itself (`bad_url`, `payload_invalid`) and harms no "
    "other. A body that is not a list of items is refused with the number of its line or item; if part of it had "
    "been accepted by then, the problem names that job in `job`, and the job is cancelled. So it is too where the "
    "body fills the backlog (429 `backlog_full`): what was done of it stays, and sent again it costs little."
)
_IMPORT_TEXT = (
    "Exactly one of `dataset`, `files` and uploaded `file` parts. The job is `accepting` while a worker reads the "
    "source, never far ahead of those that index it; a worker that dies is followed by another, which reads on where "
    "it was. Every column but those of the picture and the id is a payload field of its own type; missing values are "
    "left out unless `fill` says what stands there. A row that cannot be used fails by itself. A source that cannot be "
    "read to its end cancels the job with the reason in `last_error`. URLs are fetched as those of images are."
)
_KEY_TEXT = (
    "1 to 255 printable ASCII characters that name this request, for each API key by itself. Sent again with the same "
    "items, address and arguments, it answers with the job that it made and makes no second one; with others it is "
    "422 `idempotency_conflict`; while the first is still being read, 409 `request_in_progress`. A request that "
    "failed frees its key; one that broke off does within half a minute (longer where LOOKALIKE_READ_SECONDS is over "
    "20): its half job is cancelled, and a new one begins. A key is kept as long as an ended job can be read."
)


def _parameter(name: str, where: str, schema: Schema, text: str) -> dict[str, Any]:
    return {"name": name, "in": where, "required": where == "path", "schema": schema, "description": text}


_NAME = _parameter("name", "path", SCHEMAS["Collection"]["properties"]["name"], "The collection.")
_READ = _parameter("name", "path", KEY, "The collection; or one version of it, as `shop@2`.")
_JOB = _parameter("id", "path", STRING, "The job.")
_KEY = _parameter("Idempotency-Key", "header", {**STRING, "pattern": "^[ -~]{1,255}$"}, _KEY_TEXT)
_PROBLEM = {"$ref": "#/components/responses/Problem"}
_LATER = {"$ref": "#/components/responses/Later"}
_KEYED = {"409": _LATER, "422": _PROBLEM}
_IMAGE = _parameter(
    "id", "path", STRING, "The image's id. Percent-encode it, or at least its `?` and `#`: slashes may stand."
)
_FIELD = _parameter("field", "path", STRING, "A payload field of type keyword, integer or bool.")
_CURSOR = _parameter("cursor", "query", STRING, "`next_cursor` of the page before.")
_FILTER = {
    "name": "filter",
    "in": "query",
    "description": "A filter, as in a search.",
    "content": {_JSON: {"schema": FILTER}},
}


def _limit(default: int) -> dict[str, Any]:
    schema = {**INTEGER, "minimum": 1, "maximum": limits.MAX_PAGE, "default": default}
    return _parameter("limit", "query", schema, "At most so many.")


_VECTORS = _parameter(
    "vectors", "query", {**BOOLEAN, "default": False}, "Whether each image brings its vector."
)


def _answer(text: str, schema: str | None = None, *headers: str, **others: Schema) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": text}
    if schema:
        answer["content"] = {_JSON: {"schema": ref(schema)}, **others}
    if headers:
        answer["headers"] = {name: {"schema": STRING} for name in headers}
    return answer


def _body(content: dict[str, Schema], *, required: bool = True) -> dict[str, Any]:
    return {"required": required, "content": {kind: {"schema": schema} for kind, schema in content.items()}}


def _operation(
    summary: str,
    answers: dict[str, dict[str, Any]],
    *parameters: dict[str, Any],
    text: str = "",
    body: dict[str, Any] | None = None,
    is_open: bool = False,
) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": summary}
    if text:
        operation["description"] = text
    if parameters:
        operation["parameters"] = list(parameters)
    if body:
        operation["requestBody"] = body
    operation["responses"] = {**answers, "default": _PROBLEM}
    if is_open:
        operation["security"] = []
    else:
        operation["responses"]["429"] = _LATER
    return operation


_COLLECTIONS = {
    "/v1/collections": {
        "get": _operation("Every collection", {"200": _answer("All that stand.", "Collections")}),
    },
    "/v1/collections/{name}": {
        "put": _operation(
            "Make a collection, or find it",
            {
                "201": _answer("It is made.", "Collection", "Location"),
                "200": _answer("The same stood already.", "Collection", "Location"),
                "409": _PROBLEM,
            },
            _NAME,
            text="The first submission to a name that does not stand makes it too.",
            body=_body({_JSON: ref("NewCollection")}, required=False),
        ),
        "get": _operation("One collection", {"200": _answer("As it stands.", "Collection")}, _READ),
        "delete": _operation(
            "Delete a collection", {"204": _answer("Its images are gone, its jobs cancelled.")}, _NAME
        ),
    },
    "/v1/collections/{name}/facets/{field}": {
        "get": _operation(
            "Count a field's values",
            {"200": _answer("Most frequent first.", "Facets")},
            *(_READ, _FIELD, _limit(limits.FACET_VALUES), _FILTER),
        ),
    },
}

_VERSION = _parameter("version", "path", VERSION, "The number of a version.")
_VERSIONS = {
    "/v1/collections/{name}/versions": {
        "get": _operation(
            "Every version of a collection", {"200": _answer("Oldest first.", "Versions")}, _NAME
        ),
        "post": _operation(
            "Make a version under another model",
            {"201": _answer("It is made, empty and not live.", "Collection", "Location")},
            _NAME,
            text="It is filled by copies and answers as `<name>@<version>` until it is put live.",
            body=_body({_JSON: ref("NewVersion")}),
        ),
    },
    "/v1/collections/{name}/versions/{version}": {
        "delete": _operation(
            "Drop a version that is not live", {"204": _answer("It is gone."), "409": _LATER}, _NAME, _VERSION
        ),
    },
    "/v1/collections/{name}/versions/{version}/copies": {
        "post": _operation(
            "Bring a version up to another one",
            {"202": _answer("Accepted as a job.", "Job", "Location"), **_KEYED},
            *(_NAME, _VERSION, _KEY),
            text="What it lacks of the live version, or of version `from`, is fetched and embedded under its own "
            "model; an image without a URL from its kept thumbnail. Into the live version comes only what has changed "
            "later than what it has.",
            body=_body({_JSON: ref("Copy")}, required=False),
        ),
    },
    "/v1/collections/{name}/versions/{version}/comparison": {
        "get": _operation(
            "How alike a version and the live one answer",
            {"200": _answer("Over a sample of images that both have.", "Comparison")},
            *(_NAME, _VERSION),
            _parameter(
                "sample",
                "query",
                {**INTEGER, "minimum": 1, "maximum": limits.MAX_SAMPLE, "default": limits.SAMPLE},
                "At most so many images.",
            ),
        ),
    },
    "/v1/collections/{name}/versions/{version}/live": {
        "post": _operation(
            "Put a version live, or go back to one",
            {"200": _answer("The plain name stands for it.", "Collection"), "409": _LATER},
            *(_NAME, _VERSION),
            text="One step: no search fails, and each sees one version or the other. 409 while a job still copies into "
            "it.",
        ),
    },
}

_IMAGES = {
    "/v1/collections/{name}/images": {
        "get": _operation(
            "List images",
            {"200": _answer("A page.", "Images")},
            *(_READ, _limit(limits.PAGE), _CURSOR, _FILTER, _VECTORS),
        ),
        "post": _operation(
            "Upload images to be indexed",
            {"202": _answer("Accepted as a job.", "Job", "Location"), **_KEYED},
            _NAME,
            _KEY,
            text="Each image's id is `sha256:<hex>` of its bytes. `payload` is one object for all of them, or a "
            "list with one for each, in the same order.",
            body=_body(
                {
                    "multipart/form-data": shape(
                        "image",
                        image=array(BINARY),
                        payload={"oneOf": [{"type": "object"}, array({"type": "object"})]},
                    )
                }
            ),
        ),
    },
    "/v1/collections/{name}/images/{id}": {
        "get": _operation("One image", {"200": _answer("As it stands.", "Image")}, _READ, _IMAGE),
        "delete": _operation("Remove an image", {"204": _answer("It is gone.")}, _NAME, _IMAGE),
    },
    "/v1/collections/{name}/images/{id}/thumbnail": {
        "get": _operation(
            "An image's thumbnail",
            {
                "200": {"description": "A small WebP.", "content": {"image/webp": {"schema": BINARY}}},
                "304": {"description": "The one with the ETag of `If-None-Match`."},
                "404": _PROBLEM,
            },
            _READ,
            _IMAGE,
            text="404 where none is kept: LOOKALIKE_THUMBNAILS was not set when the image was indexed. At the address "
            "that `thumbnail` of a hit or an image names it can be kept for a day, in private.",
        ),
    },
}

_SYNC = [
    _parameter(name, "query", {**schema, "type": schema["type"][0]}, schema["description"])
    for name, schema in SYNC.items()
]
_JOBS = {
    "/v1/collections/{name}/jobs": {
        "post": _operation(
            "Submit images by URL",
            {"202": _answer("Accepted as a job.", "Job", "Location"), **_KEYED},
            _NAME,
            _KEY,
            _parameter("url_column", "query", {**STRING, "default": "url"}, "CSV: the column of URLs."),
            _parameter("id_column", "query", {**STRING, "default": "id"}, "CSV: the column of ids."),
            _parameter("separator", "query", STRING, "CSV: what stands between several URLs in one cell."),
            _parameter("group_column", "query", STRING, "CSV: the column that says what belongs together."),
            _parameter("prices", "query", STRING, "CSV: columns of prices, parted by commas."),
            *_SYNC,
            text=_SUBMIT_TEXT,
            body=_body(
                {
                    _JSON: ref("Items"),
                    "application/x-ndjson": {**STRING, "description": "An item as JSON on each line."},
                    "text/csv": {**STRING, "description": _CSV_TEXT},
                    "text/tab-separated-values": {**STRING, "description": "As text/csv, with tabs."},
                }
            ),
        ),
    },
    "/v1/collections/{name}/imports": {
        "post": _operation(
            "Import a data set or a feed",
            {"202": _answer("Accepted as a job, which a worker reads.", "Job", "Location"), **_KEYED},
            *(_NAME, _KEY, *_SYNC),
            text=_IMPORT_TEXT,
            body=_body(
                {
                    _JSON: ref("Import"),
                    "multipart/form-data": shape("file", file=array(BINARY), source=ref("Source")),
                }
            ),
        ),
    },
    "/v1/jobs": {
        "get": _operation(
            "Jobs, newest first", {"200": _answer("A page.", "Jobs")}, _limit(limits.PAGE), _CURSOR
        ),
    },
    "/v1/jobs/{id}": {
        "get": _operation(
            "How a job goes",
            {"200": _answer("Now.", "Job")},
            _JOB,
            text="`indexed + unchanged + failed + pending == total` at every moment.",
        ),
        "delete": _operation(
            "Cancel a job",
            {"202": _answer("What is not started is never done.", "Job", "Location")},
            _JOB,
        ),
    },
    "/v1/jobs/{id}/retry": {
        "post": _operation(
            "Try the failed items again",
            {"202": _answer("Accepted as a new job of exactly those items.", "Job", "Location"), **_KEYED},
            _JOB,
            _KEY,
            text="Of a job that copies into a version, a new copy of what that version lacks by now.",
        ),
    },
    "/v1/jobs/{id}/failures": {
        "get": _operation(
            "What failed, and why",
            {
                "200": _answer(
                    "A page; as text/csv or application/x-ndjson (`Accept`), the whole list.",
                    "Failures",
                    **{"text/csv": {"schema": STRING}, "application/x-ndjson": {"schema": STRING}},
                )
            },
            *(_JOB, _limit(limits.PAGE), _CURSOR),
        ),
    },
}

_PREFER = _parameter(
    "Prefer", "header", STRING, f"`wait=5`: wait so many seconds, at most {limits.MAX_WAIT_SECONDS}."
)
_SEARCHED = {
    "202": _answer("It is on its way.", "Search", "Location"),
    "200": _answer("Ready within the wait.", "Search", "Preference-Applied"),
}

_SEARCHES = {
    "/v1/collections/{name}/searches": {
        "post": _operation(
            "Search by picture, text, URL, id, vector or examples",
            _SEARCHED,
            *(_READ, _PREFER),
            text=f"Up to {limits.MAX_QUERY_PICTURES} uploaded pictures count as one, their mean.",
            body=_body(
                {
                    _JSON: ref("Query"),
                    "multipart/form-data": shape(
                        "image",
                        image={**array(BINARY), "minItems": 1, "maxItems": limits.MAX_QUERY_PICTURES},
                        query=ref("Options"),
                    ),
                }
            ),
        ),
    },
    "/v1/collections/{name}/searches/batch": {
        "post": _operation(
            "Many searches at once",
            _SEARCHED,
            *(_READ, _PREFER),
            text="Each has its own result, in the same order: one that fails harms no other. All queries are checked "
            f"first, and a wrong one refuses the batch; together they may ask for {limits.MAX_HITS:,} hits.",
            body=_body({_JSON: ref("Queries")}),
        ),
    },
    "/v1/searches/{id}": {
        "get": _operation(
            "A search's result",
            {"200": _answer("Pending, done, or failed with a problem.", "Search")},
            _parameter("id", "path", STRING, "The search."),
        ),
    },
}

_HEALTH = {
    "/livez": {"get": _operation("Does the process live?", {"200": _answer("Yes.", "Alive")}, is_open=True)},
    "/readyz": {
        "get": _operation(
            "Is every part ready?",
            {
                "200": _answer("Redis, the index and a worker of each queue.", "Ready"),
                "503": _PROBLEM,
            },
            is_open=True,
        )
    },
}


def _tagged(tag: str, paths: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        path: {method: {"tags": [tag], **operation} for method, operation in methods.items()}
        for path, methods in paths.items()
    }


OPENAPI: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {
        "title": "Lookalike",
        "version": "1",
        "description": "Visual search: submit image URLs or files, then search them by picture. Every error is a "
        "problem (RFC 9457) with a short `code`, and every answer carries `X-Request-Id`.",
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    },
    "security": [{"key": []}, {}],
    "paths": {
        **_tagged("collections", _COLLECTIONS),
        **_tagged("versions", _VERSIONS),
        **_tagged("jobs", _JOBS),
        **_tagged("images", _IMAGES),
        **_tagged("searches", _SEARCHES),
        **_tagged("health", _HEALTH),
    },
    "components": {
        "schemas": SCHEMAS,
        "responses": {
            "Problem": {
                "description": "What happened, and what to do.",
                "content": {"application/problem+json": {"schema": ref("Problem")}},
            },
            "Later": {
                "description": "Not now: `rate_limited` (this key's requests, or unknown keys from this address), "
                "`backlog_full` (too much waits for workers, or Redis holds too much) or `request_in_progress`.",
                "headers": {"Retry-After": {"schema": INTEGER, "description": "Seconds."}},
                "content": {"application/problem+json": {"schema": ref("Problem")}},
            },
        },
        "securitySchemes": {
            "key": {
                "type": "http",
                "scheme": "bearer",
                "description": "A key of LOOKALIKE_API_KEYS; where it is unset, none is needed.",
            }
        },
    },
}
