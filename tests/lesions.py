"""A small data set with the columns of marmal88/skin_cancer."""

from __future__ import annotations

import io
from typing import Any

import datasets
import numpy as np
from PIL import Image

FEATURES = datasets.Features(
    {
        "image": datasets.Image(),
        "image_id": datasets.Value("string"),
        "lesion_id": datasets.Value("string"),
        "dx": datasets.Value("string"),
        "dx_type": datasets.Value("string"),
        "age": datasets.Value("float64"),
        "sex": datasets.Value("string"),
        "localization": datasets.Value("string"),
    }
)


def jpeg(number: int) -> bytes:
    """A picture that is like no other."""
    pixels = np.random.default_rng(number).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def lesion(number: int) -> dict[str, Any]:
    """Two pictures a lesion; each third age is not known."""
    return {
        "image": {"bytes": jpeg(number), "path": f"ISIC_{number:07}.jpg"},
        "image_id": f"ISIC_{number:07}",
        "lesion_id": f"HAM_{number // 2:07}",
        "dx": ("melanoma", "melanocytic_Nevi")[number % 2],
        "dx_type": "histo",
        "age": float("nan") if number % 3 == 0 else 40.0 + number,
        "sex": ("male", "female")[number % 2],
        "localization": "back",
    }


def lesions(count: int) -> datasets.Dataset:
    return datasets.Dataset.from_list([lesion(number) for number in range(count)], features=FEATURES)


def payload(number: int) -> dict[str, Any]:
    """What a lesion's payload is to be: every column but the picture and the id, without a missing age."""
    row = lesion(number)
    return {name: row[name] for name in row if name not in ("image", "image_id") and row[name] == row[name]}
