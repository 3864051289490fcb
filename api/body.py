"""Request body → items, JSON, or image files. Lists of items are streamed, so their size costs no memory."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from typing import Any

from flask import request
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from api import arguments, limits
from api.json_text import parse_json
from api.lists import json_items, ndjson_items
from api.problems import Later, Unprocessable, not_built
from api.sync import SYNC_FIELDS
from api.table import table_items
from shared.contract import Item
from shared.errors import RequestCode, RequestError
from shared.rows import Layout
from shared.settings import Settings

_BOM = b"\xef\xbb\xbf"
_BUFFER = 64 * 1024
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT)
_NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl")
_DELIMITERS = {"text/csv": ",", "text/tab-separated-values": "\t"}


def read_items(settings: Settings) -> Iterator[Item]:
    """The items of this request's body, as they arrive. RequestError says which line or item is wrong."""
    arguments.only(("url_column", "id_column", "group_column", "separator", "prices", *SYNC_FIELDS))
    kind, most = request.mimetype, settings.max_item_bytes
    if kind not in ("application/json", *_NDJSON, *_DELIMITERS):
        raise _unsupported("application/json, application/x-ndjson or text/csv")
    body = _stream()
    if not body.peek(1):
        return iter(())
    if kind in _DELIMITERS:
        return table_items(body, most, _layout(), _DELIMITERS[kind])
    return ndjson_items(body, most) if kind in _NDJSON else json_items(body, most)


def read_object(*, may_be_empty: bool = False) -> dict[str, Any]:
    """This request's body, a JSON object that is read whole."""
    data = _stream().read(limits.MAX_JSON_BYTES + 1)
    if may_be_empty and not data:
        return {}
    if request.mimetype != "application/json":
        raise _unsupported("application/json")
    if len(data) > limits.MAX_JSON_BYTES:
        raise RequestError(
            RequestCode.BODY_TOO_LARGE, f"The body is larger than {limits.MAX_JSON_BYTES // 2**20} MiB."
        )
    return as_object(_parsed(data, "The body"), "The body")


def read_images(settings: Settings) -> list[FileStorage]:
    """The `image` parts of this multipart request; werkzeug keeps the large ones in temporary files."""
    if request.mimetype != "multipart/form-data":
        raise _unsupported("multipart/form-data")
    images = _files().getlist("image")
    if not images:
        raise Unprocessable(
            RequestCode.INVALID_BODY, "There is no `image` part with a file name; send `image=@picture.jpg`."
        )
    if len(images) > settings.max_images_per_upload:
        raise RequestError(
            RequestCode.BODY_TOO_LARGE,
            f"There are {len(images):,} images, {settings.max_images_per_upload:,} are allowed in one request.",
        )
    for image in images:
        size = image.stream.seek(0, os.SEEK_END)
        image.stream.seek(0)
        if size > settings.fetch_max_bytes:
            raise RequestError(
                RequestCode.BODY_TOO_LARGE,
                f"`{(image.filename or '')[:200]}` has {size:,} bytes, {settings.fetch_max_bytes:,} are allowed.",
            )
    return images


def read_feeds() -> list[FileStorage]:
    """The `file` parts of this multipart request."""
    feeds = _files().getlist("file")
    if not feeds:
        raise Unprocessable(
            RequestCode.INVALID_BODY, "There is no `file` part with a file name; send `file=@feed.csv`."
        )
    return feeds


def read_part(name: str) -> Any:
    """A JSON part of this multipart request, with a file name or without; None where it is missing."""
    if name in request.form:
        return _parsed(request.form[name].encode(), f"`{name}`")
    if name in request.files:
        data = request.files[name].read(limits.MAX_JSON_BYTES + 1)
        if len(data) > limits.MAX_JSON_BYTES:
            raise RequestError(
                RequestCode.BODY_TOO_LARGE, f"`{name}` is larger than {limits.MAX_JSON_BYTES // 2**20} MiB."
            )
        return _parsed(data, f"`{name}`")
    return None


def refuse_other_parts(*known: str) -> None:
    """Name a part of this multipart request that has no meaning here."""
    for name in (*request.files, *request.form):
        if name == "callback_url":
            raise not_built(name)
        if name not in known:
            raise RequestError(
                RequestCode.INVALID_REQUEST,
                f"`{(name or '')[:100]}` is no part here; there are {', '.join(known)}.",
            )


def as_object(value: Any, what: str) -> dict[str, Any]:
    """`value`, if it is a JSON object."""
    if not isinstance(value, dict):
        raise Unprocessable(RequestCode.INVALID_BODY, f"{what} must be a JSON object.")
    return value


def _files() -> MultiDict[str, FileStorage]:
    try:
        return request.files  # reads the whole body
    except (HTTPException, RequestError):
        raise
    except Exception as error:  # each server has its own kinds
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise Later(
                RequestCode.BACKLOG_FULL,
                f"This server has no room for the pictures just now ({error.strerror}). Send fewer in one request, "
                "or the same again later.",
            ) from error
        raise RequestError(
            RequestCode.INVALID_BODY, "The body breaks off, or is not framed as its headers say."
        ) from error


def _parsed(data: bytes, what: str) -> Any:
    try:
        return parse_json(data)
    except ValueError as error:
        raise RequestError(RequestCode.INVALID_BODY, f"{what} is not JSON: {error}.") from error


def _layout() -> Layout:
    given = request.args
    return Layout(
        url_column=given.get("url_column") or "url",
        id_column=given.get("id_column") or None,
        needs_id=bool(given.get("id_column")),
        group_column=given.get("group_column") or None,
        separator=given.get("separator") or None,
        prices=[name for part in given.get("prices", "").split(",") if (name := part.strip())],
    )


def _stream() -> io.BufferedReader:
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise RequestError(
            RequestCode.UNSUPPORTED_MEDIA_TYPE, "Send the body as it is; compressed bodies are not read."
        )
    stream: io.BufferedReader = io.BufferedReader(_Arriving(), _BUFFER)
    if stream.peek(len(_BOM)).startswith(_BOM):
        stream.read(len(_BOM))
    return stream


class _Arriving(io.RawIOBase):
    """The body as it comes in. A body that breaks off is an error, and never looks like its end."""

    def __init__(self) -> None:
        self._stream = request.stream
        self._length = request.content_length
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except (RequestEntityTooLarge, RequestError):
            raise
        except Exception as error:  # each server has its own kinds
            raise self._broken() from error
        if not data and self._length is not None and self._read < self._length:
            raise self._broken()
        buffer[: len(data)] = data
        self._read += len(data)
        return len(data)

    def _broken(self) -> RequestError:
        return RequestError(
            RequestCode.INVALID_BODY, f"The connection broke: the body ends after {self._read:,} bytes."
        )


def _unsupported(wanted: str) -> RequestError:
    given = f"`{request.mimetype[:100]}`" if request.mimetype else "no content type"
    return RequestError(RequestCode.UNSUPPORTED_MEDIA_TYPE, f"Send {wanted}; this came as {given}.")
