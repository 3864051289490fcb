"""What a submission says of images that are no longer in its feed: `sync`, `sync_share` and `force`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from api.problems import invalid_field
from shared.contract import Sync
from shared.errors import RequestCode, RequestError

SYNC_FIELDS = ("sync", "sync_share", "force")


class _Asked(BaseModel):
    sync: bool = False
    sync_share: float | None = Field(None, ge=0, le=1)
    force: bool = False


def sync_asked(given: Mapping[str, Any]) -> Sync | None:
    """What a URL's arguments or a body ask for; None where nothing is to be removed."""
    try:
        asked = _Asked.model_validate(
            {name: given[name] for name in SYNC_FIELDS if given.get(name) is not None}
        )
    except ValidationError as error:
        raise invalid_field(error) from error
    if not asked.sync:
        if asked.force or asked.sync_share is not None:
            raise RequestError(
                RequestCode.INVALID_REQUEST,
                "`sync_share` and `force` say how to `sync`; send `sync=true` too.",
            )
        return None
    return (
        Sync(force=asked.force)
        if asked.sync_share is None
        else Sync(share=asked.sync_share, force=asked.force)
    )
