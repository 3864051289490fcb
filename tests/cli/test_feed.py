"""cli/feed.py: what a person's options say of a feed."""

from __future__ import annotations

import click
import pytest

from cli.feed import reading


def test_a_list_is_read_by_the_api_and_told_what_it_knows() -> None:
    asked = reading(
        price=("List Price", "b"), fill=(), url_column="Image", separator="|", sync=True, limit=None
    )
    assert not asked.needs_a_worker
    assert asked.arguments(of_a_table=True) == {
        **{"url_column": "Image", "separator": "|", "sync": "true", "prices": "List Price,b"},
    }
    assert asked.arguments(of_a_table=False) == {"sync": "true"}


def test_an_import_is_told_everything() -> None:
    asked = reading(
        price=("p",), fill=("age=0", "site=unknown", "a=b=c", 'x="0"'), split="test", limit=5, force=False
    )
    assert asked.needs_a_worker
    assert asked.source(dataset="clinic/skin") == {
        "dataset": "clinic/skin",
        "split": "test",
        "limit": 5,
        "prices": ["p"],
        "fill": {"age": 0, "site": "unknown", "a": "b=c", "x": "0"},
    }


@pytest.mark.parametrize("fill", ["age", "=0"])
def test_a_filler_without_a_column_is_refused(fill: str) -> None:
    with pytest.raises(click.BadParameter, match="COLUMN=VALUE"):
        reading(price=(), fill=(fill,))
