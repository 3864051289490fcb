"""api/fields.py: payload fields as Qdrant spells them."""

from __future__ import annotations

import pytest

from api.fields import field_path


@pytest.mark.parametrize(
    "path",
    ["dx", "lesion_id", "a-b", "a.b", "a[].b", "a[0].b", '"Uniq Id"', 'a."b c"', "größe", "_image.sha256"],
)
def test_a_path_stands_as_it_is(path: str) -> None:
    assert field_path(path) == path


@pytest.mark.parametrize("name", ["Uniq Id", "price ($)", "a b.c", "a..b", ".a", "a]"])
def test_a_name_that_is_no_path_is_quoted(name: str) -> None:
    assert field_path(name) == f'"{name}"'
