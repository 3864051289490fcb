"""Imports: a data set, a feed by URL, or uploaded files, which a worker reads."""

from __future__ import annotations

import re
from typing import Any

from flask import Blueprint, request
from werkzeug.datastructures import FileStorage

from api import arguments
from api.body import as_object, read_feeds, read_object, read_part, refuse_other_parts
from api.parts import parts
from api.source import read_source
from api.submission import Feed, accept_import, accepted
from api.sync import SYNC_FIELDS, sync_asked
from shared.contract import Source, Sync
from shared.errors import RequestCode, RequestError

imports = Blueprint("imports", __name__)

_MOST_NAME = 80  # characters of a kept file's name that are the client's
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


@imports.post("/v1/collections/<name>/imports")
def submit(name: str) -> Any:
    arguments.collection_name(name)
    arguments.only(SYNC_FIELDS)
    files: list[FileStorage] = []
    if request.mimetype == "multipart/form-data":
        files = read_feeds()
        refuse_other_parts("file", "source")
        given = as_object(read_part("source") or {}, "`source`")
    else:
        given = read_object()
    sync = sync_asked({**given, **request.args})
    described = {field: value for field, value in given.items() if field not in SYNC_FIELDS}
    feeds = [Feed(_kept_name(number, file), file) for number, file in enumerate(files, start=1)]
    source = read_source(described, parts().settings.import_folders, [feed.name for feed in feeds])
    _check_sync(source, sync)
    _check_room(source)
    return accepted(accept_import(name, source, feeds, sync))


def _kept_name(number: int, file: FileStorage) -> str:
    """A name under which the file can be kept; its suffix says what it is."""
    given = _NOT_IN_A_NAME.sub("_", (file.filename or "").replace("\\", "/").rpartition("/")[2])
    return f"{number}-{given[-_MOST_NAME:]}"


def _check_sync(source: Source, sync: Sync | None) -> None:
    if sync and (source.limit is not None or source.fraction is not None):
        raise RequestError(
            RequestCode.INVALID_REQUEST,
            "`sync` with `limit` or `fraction` would remove all that the trial leaves out; leave one of them out.",
        )


def _check_room(source: Source) -> None:
    """Feeds are kept until they are read: the worker that reads on after another one must find the same bytes."""
    urls = any("://" in file for file in source.files or ())
    if (source.upload or urls) and parts().files is None:
        raise RequestError(
            RequestCode.INVALID_REQUEST,
            "This server keeps no files, so it can take no feed by upload or URL: set LOOKALIKE_FILES to a folder or "
            "a bucket that the API and the workers share.",
        )
