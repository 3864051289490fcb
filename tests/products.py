"""A shop's feed with the columns of the Amazon product data set of 2020."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

# fmt: off
COLUMNS = [
    "Uniq Id", "Product Name", "Brand Name", "Asin", "Category", "Upc Ean Code", "List Price",
    "Selling Price", "Quantity", "Model Number", "About Product", "Product Specification",
    "Technical Details", "Shipping Weight", "Product Dimensions", "Image", "Variants", "Sku",
    "Product Url", "Stock", "Product Details", "Dimensions", "Color", "Ingredients", "Direction To Use",
    "Is Amazon Seller", "Size Quantity Variant", "Product Description",
]
# fmt: on


def write_feed(path: Path, products: Iterable[Mapping[str, str]]) -> Path:
    """A CSV with all 28 columns; those that a product lacks are empty, as most are there."""
    with path.open("w", newline="") as file:
        rows = csv.DictWriter(file, COLUMNS, restval="")
        rows.writeheader()
        rows.writerows(products)
    return path
