"""The ways in which the worker can compute one model: with torch, with OpenVINO, and in 8-bit integers."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from benchmarks.context import Context
from demo.stack import ROOT

Name = Literal["torch", "openvino", "int8"]
NAMES: tuple[Name, ...] = get_args(Name)
_QUANTIZER = "workers.embed.quantize"


class Missing(Exception):
    """This way cannot be measured here; the sentence says why."""


@dataclass(frozen=True)
class Variant:
    """The same weights each time. `environment` makes a worker compute them this way."""

    name: Name
    environment: dict[str, str]


def variant(context: Context, name: Name) -> Variant:
    """Raises Missing where what it needs is not there."""
    if name != "torch" and importlib.util.find_spec("openvino") is None:
        raise Missing("OpenVINO is not installed (the extra `openvino`)")
    runtime = "openvino" if name == "int8" else name
    model = _quantized(context) if name == "int8" else context.vit
    # What is compared with it, the limit and the notebooks, is the CPU's too, and makes no thumbnails.
    return Variant(
        name,
        {
            "LOOKALIKE_MODEL": str(model),
            "LOOKALIKE_RUNTIME": runtime,
            "LOOKALIKE_DEVICE": "cpu",
            "LOOKALIKE_THUMBNAILS": "false",
        },
    )


def unseen(context: Context) -> list[Path]:
    """The photographs that the int8 model was not calibrated on: every second one."""
    return list(context.corpora.originals[1::2])


def _quantized(context: Context) -> Path:
    """The int8 model, made anew in each call, so that it is of this commit."""
    folder = context.scratch / "vit-s16-int8"
    if folder.exists():
        return folder
    context.say("quantizing the model on every second photograph")
    calibration = context.scratch / "calibration"
    calibration.mkdir(exist_ok=True)
    for photo in context.corpora.originals[::2]:
        (calibration / photo.name).symlink_to(photo)
    command = [sys.executable, "-m", _QUANTIZER, str(context.vit), str(calibration), str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{_QUANTIZER} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return folder


@contextmanager
def environment(changes: dict[str, str]) -> Iterator[None]:
    """Our own environment, changed for a block: the stack's processes inherit it."""
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
