"""Jobs: submit a list of items, see how it goes, what failed and why, cancel."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

from flask import Blueprint, Response, request

from api import arguments, limits
from api.body import read_items
from api.parts import ask, parts
from api.submission import accept, accept_import, accepted, job_json
from api.sync import sync_asked
from shared.contract import ROUTE_COPY, Failure, Item, Refusal, Source
from shared.errors import FailureCode, RequestCode, RequestError

jobs = Blueprint("jobs", __name__)

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_FAILURE_FIELDS = ("id", "url", "code", "detail", "retryable", "attempts")


@jobs.post("/v1/collections/<name>/jobs")
def submit(name: str) -> Any:
    arguments.collection_name(name)
    sync = sync_asked(request.args)
    return accepted(accept(name, read_items(parts().settings), sync=sync))


@jobs.get("/v1/jobs")
def list_all() -> Any:
    cursor = arguments.cursor()
    if cursor and not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
        raise arguments.no_cursor(cursor)
    page, next_cursor = parts().ledger.jobs(arguments.limit(), cursor)
    return {"jobs": [job_json(job) for job in page], "next_cursor": next_cursor}


@jobs.get("/v1/jobs/<id>")
def get(id: str) -> Any:
    return job_json(parts().ledger.snapshot(_job_id(id)))


@jobs.delete("/v1/jobs/<id>")
def cancel(id: str) -> Any:
    parts().ledger.cancel(_job_id(id), "It was cancelled by a request.")
    return accepted(id)


@jobs.post("/v1/jobs/<id>/retry")
def retry(id: str) -> Any:
    job = parts().ledger.snapshot(_job_id(id))
    if not job.failed:
        raise RequestError(RequestCode.INVALID_REQUEST, f"Nothing of job `{id}` has failed.")
    source = parts().ledger.source(id)
    if source and source.collection:
        return accepted(_copy_again(source.collection, job.collection))
    if source and not any(_is_named(failure.item) for failure in parts().ledger.all_failures(id)):
        raise RequestError(
            RequestCode.INVALID_REQUEST,
            f"Nothing that failed in job `{id}` can be tried by itself: pictures are kept no longer, and rows that "
            "were refused can only be read anew. Mend what its failures name, and import it again.",
        )
    failed = (_once_more(failure.item) for failure in parts().ledger.all_failures(id))
    return accepted(accept(job.collection, failed, of_body=False))


def _copy_again(origin: str, target: str) -> str:
    """A copy finds anew what is missing: the items that failed may be older by now than what stands."""
    name, version = target.split("@")
    source, target = ask(ROUTE_COPY, name, int(version), int(origin.split("@")[1]))  # both still stand
    return accept_import(target, Source(collection=source))


def _is_named(item: Item) -> bool:
    """Whether an import's item can be fetched once more."""
    return item.refused is None and item.upload is None


def _once_more(item: Item) -> Item:
    """A failed item as it is sent again: it holds its picture for itself, or is refused where that is gone."""
    if item.upload is None or parts().uploads.hold_for_ingest(item.upload):
        return item
    gone = Refusal(
        code=FailureCode.EMPTY,
        detail="The picture's bytes are no longer kept; upload the file again, or import it again.",
    )
    return Item(id=item.id, payload=item.payload, refused=gone)


@jobs.get("/v1/jobs/<id>/failures")
def failures(id: str) -> Any:
    ledger = parts().ledger
    ledger.snapshot(_job_id(id))
    wanted = request.accept_mimetypes.best_match(["application/json", *_DOWNLOADS])
    if wanted in _DOWNLOADS:
        suffix, rows = _DOWNLOADS[wanted]
        headers = {"Content-Disposition": f'attachment; filename="{id}-failures.{suffix}"'}
        return Response(rows(ledger.all_failures(id)), mimetype=wanted, headers=headers)
    page, next_cursor = ledger.failures(id, arguments.limit(), _failure_cursor())
    return {"failures": [_row(failure) for failure in page], "next_cursor": next_cursor}


def _job_id(id: str) -> str:
    if not limits.JOB_ID.fullmatch(id):
        raise RequestError(RequestCode.JOB_NOT_FOUND, f"There is no job `{id[:100]}`.")
    return id


def _failure_cursor() -> str | None:
    cursor = arguments.cursor()
    if cursor and len(cursor) > 18:
        raise arguments.no_cursor(cursor)
    return cursor


def _row(failure: Failure) -> dict[str, Any]:
    return {
        "id": failure.item.id,
        "url": failure.item.url,
        "code": failure.code,
        "detail": failure.detail,
        "retryable": failure.retryable,
        "attempts": failure.attempts,
    }


def _csv_rows(failures: Iterable[Failure]) -> Iterator[str]:
    line = io.StringIO()
    writer = csv.DictWriter(line, _FAILURE_FIELDS)
    writer.writeheader()
    yield line.getvalue()
    for failure in failures:
        line.seek(0)
        line.truncate()
        writer.writerow({name: _cell(value) for name, value in _row(failure).items()})
        yield line.getvalue()


def _cell(value: Any) -> Any:
    """As a spreadsheet may open it: text that begins like a formula is quoted, or it would be run."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_STARTS) else value


def _json_lines(failures: Iterable[Failure]) -> Iterator[str]:
    for failure in failures:
        yield json.dumps(_row(failure), ensure_ascii=False) + "\n"


_DOWNLOADS = {"text/csv": ("csv", _csv_rows), "application/x-ndjson": ("ndjson", _json_lines)}
