"""The source of an import, as a client describes it: what may stand in it, and what may be read at all."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from api.problems import invalid_field, not_built
from shared.contract import Source
from shared.errors import RequestCode, RequestError
from shared.items import MAX_URL_LENGTH, payload_refusal

_OURS = ("upload", "collection")  # set by the API itself
_FIELDS = [name for name in Source.model_fields if name not in _OURS]
_DATASET = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_WEB_URL = re.compile(r"https?://[^\s\x00-\x1f\x7f]+", re.IGNORECASE)
_MOST_FILES = 1000


def read_source(given: dict[str, Any], folders: Sequence[Path], upload: list[str] | None = None) -> Source:
    """The source that `given` describes, or one of uploaded files. RequestError says what is wrong with it.

    Files of the server are read below `folders` only; the worker that opens them looks again, behind every link.
    """
    fields = {name: value for name, value in given.items() if value is not None}
    for name in fields:
        if name == "callback_url":
            raise not_built(name)
        if name not in _FIELDS:
            raise _invalid(f"`{name[:100]}` is not a field of an import; there are {', '.join(_FIELDS)}.")
    if isinstance(fields.get("files"), str):
        fields["files"] = [fields["files"]]
    try:
        source = Source.model_validate(fields | ({"upload": upload} if upload else {}), strict=True)
    except ValidationError as error:
        raise invalid_field(error) from error
    _check_ways(source)
    _check_dataset(source)
    for file in source.files or ():
        _check_file(file, folders)
    if refusal := payload_refusal(source.fill):
        raise _invalid(f"`fill`: {refusal.detail}")
    return source


def _check_ways(source: Source) -> None:
    ways = [name for name in ("dataset", "files", "upload") if getattr(source, name)]
    if len(ways) == 1:
        return
    asked = f"it has {' and '.join(ways)}" if ways else "it has none"
    raise _invalid(f"An import reads exactly one of `dataset`, `files` and uploaded `file` parts; {asked}.")


def _check_dataset(source: Source) -> None:
    if source.dataset and not (_DATASET.fullmatch(source.dataset) and ".." not in source.dataset):
        raise _invalid(
            f"`{source.dataset}` is no data set of the hub, such as `marmal88/skin_cancer`. Name files as `files`."
        )


def _check_file(file: str, folders: Sequence[Path]) -> None:
    if _WEB_URL.fullmatch(file):
        if len(file) > MAX_URL_LENGTH:
            raise _invalid(f"A URL in `files` has {len(file):,} characters, {MAX_URL_LENGTH:,} are allowed.")
        return
    if not file.startswith("/") or "\0" in file:
        raise _invalid(f"`files`: `{file[:200]}` is neither an http or https URL nor a file's whole path.")
    if not any(Path(os.path.normpath(file)).is_relative_to(folder) for folder in folders):
        allowed = "no folder is named there" if not folders else f"these are: {', '.join(map(str, folders))}"
        raise _invalid(
            f"`files`: `{file[:200]}` may not be read. Files of the server are, below the folders of "
            f"LOOKALIKE_IMPORT_FOLDERS; {allowed}. Or send the file itself, as a `file` part."
        )


def _invalid(why: str) -> RequestError:
    return RequestError(RequestCode.INVALID_REQUEST, why)
