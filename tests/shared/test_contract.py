"""shared/contract.py: messages that wait while one half is of another version."""

from __future__ import annotations

import json

from shared.contract import FAILURES, ITEMS

REFUSED = {"id": "x", "refused": {"code": "bad_url", "detail": "why", "newer": 1}, "newer": 1}


def test_what_a_newer_api_adds_to_an_item_harms_no_older_worker() -> None:
    (item,) = ITEMS.validate_json(json.dumps([REFUSED]))
    assert item.refused
    assert (item.id, item.refused.detail) == ("x", "why")
    row = {"item": REFUSED, "code": "bad_url", "detail": "why", "retryable": False, "attempts": 1}
    assert FAILURES.validate_json(json.dumps([row]))[0].item == item
