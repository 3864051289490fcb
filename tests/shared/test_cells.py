"""shared/cells.py: what a cell says."""

from __future__ import annotations

from typing import Any

import pytest

from shared.cells import cell_value, price, urls_in


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("$24.99", 24.99), ("24,99 €", 24.99), ("$5", 5.0), ("1.299,00 €", 1299.0), ("$1,299.00", 1299.0),
        ("$1,299", 1299.0), ("1.299 €", 1299.0), ("1,234,567.89", 1234567.89), ("1.234.567", 1234567.0),
        ("₹1,29,999.00", 129999.0), ("CHF 1'299.–", 1299.0), ("1 299 kr", 1299.0), ("1\u00a0299,50 zł", 1299.5),
        ("USD 24.9", 24.9), ("0.299", 0.299), ("€0,999", 0.999), ("24.9999", 24.9999), ("from $12", 12.0),
        ("$9.99 - $19.99", 9.99), ("9,99–19,99 €", 9.99), ("$19.99 to $9.99", 9.99), ("£5 — £7", 5.0),
        (24, 24.0), (24.5, 24.5),
    ],
)  # fmt: skip
def test_a_price_is_its_amount_and_of_a_range_the_lower(text: Any, amount: float) -> None:
    assert price(text) == amount
    assert type(price(text)) is float


@pytest.mark.parametrize(
    "text", ["Total price:", "", "-$5.00", "2 for $5.00", "$1 $2 $3", "٣", None, True, ["$5"]]
)
def test_what_names_no_amount_or_several_stays(text: Any) -> None:
    assert price(text) == text
    assert type(price(text)) is type(text)


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ('["a", 1, null, {"b": [true]}]', ["a", 1, None, {"b": [True]}]), ("[]", []),
        ("['a']", "['a']"), ("[a]", "[a]"), ("[1", "[1"), ('["\\ud800"]', '["\\ud800"]'),
        ("[" * 100_000 + "]" * 100_000, "[" * 100_000 + "]" * 100_000),
    ],
)  # fmt: skip
def test_a_cell_is_a_list_where_it_is_one_in_json(cell: str, value: Any) -> None:
    assert cell_value(cell) == value


@pytest.mark.parametrize(
    ("cell", "separator", "urls"),
    [
        ("http://a/1", None, None), ("", None, None), ("http://a/1|http://a/2", None, None),
        ("http://a/1| http://a/2 |", "|", ["http://a/1", "http://a/2"]), ("http://a/1", "|", ["http://a/1"]),
        ("", "|", []), (' ["http://a/1", null, " "] ', None, ["http://a/1"]), ('["http://a/1|2"]', "|", ["http://a/1|2"]),
        (["http://a/1", None], None, ["http://a/1"]), ([], None, []), (7, None, None),
    ],
)  # fmt: skip
def test_the_urls_of_a_cell_that_holds_several(
    cell: Any, separator: str | None, urls: list[str] | None
) -> None:
    assert urls_in(cell, separator) == urls
