"""A network as OpenVINO takes it. The one door to openvino: its telemetry stays outside."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from shared.errors import StartError
from workers.decode import PixelShape
from workers.embed.network import Network
from workers.embed.text import TextSide

# The package openvino-telemetry reports each import and each conversion to Google Analytics unless it was told
# not to. Python refuses to import what stands here as None, and openvino and nncf run on without it.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

try:  # the extra `openvino`
    import openvino
except ImportError as error:
    openvino = None
    if importlib.util.find_spec("openvino"):
        logging.getLogger("lookalike.embed").warning(
            "openvino is installed and cannot be imported: %s", error
        )

AVAILABLE: bool = openvino is not None

MODEL_FILE = "openvino_model.xml"  # its weights stand beside it, in openvino_model.bin
_NOTE_FILE = "lookalike.json"


class Note(BaseModel):
    """What a folder's model is, beside its graph: which one it was made from, how, and its vectors of the probe."""

    source: str
    source_revision: str
    shape: PixelShape
    pooling: str
    calibrated_on: int
    vectors: list[list[float]]


@dataclass(frozen=True)
class Graph:
    """`model` takes uint8 [B, H, W, 3] RGB of `shape` and gives features, float32 [B, D], not of length 1.

    Everything else is as in Network.
    """

    model: Any
    shape: PixelShape
    pooling: str
    revision: str
    memory: int
    text: TextSide | None = None


class _FromPixels(nn.Module):
    """The network, with what is done to its pixels before and to its tokens after."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.module = network.module
        self.features = network.features
        self.register_buffer("mean", torch.tensor(network.mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(network.std, dtype=torch.float32))

    def forward(self, pixels: Tensor) -> Tensor:
        batch = ((pixels.float() - self.mean) / self.std).permute(0, 3, 1, 2)
        return self.features(self.module, batch).float()


def trace(network: Network) -> Graph:
    """The network as a graph. It shares the weights' memory with the network."""
    example = torch.zeros(2, network.shape.height, network.shape.width, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer's, of checks on sizes that are fixed here
        model = openvino.convert_model(_FromPixels(network).eval(), example_input=example)
    model.reshape([-1, *example.shape[1:]])
    return Graph(model, network.shape, network.pooling, network.revision, network.memory, network.text)


def save(model: Any, note: Note, folder: Path) -> None:
    """Write the model and what it is into a folder that exists."""
    openvino.save_model(model, folder / MODEL_FILE, compress_to_fp16=False)
    (folder / _NOTE_FILE).write_text(note.model_dump_json() + "\n")


def is_folder(path: Path) -> bool:
    """Whether it is what `save` wrote; others export a graph beside a model's safetensors, and leave no note."""
    return (path / MODEL_FILE).is_file() and (path / _NOTE_FILE).is_file()


def read(folder: Path) -> tuple[Graph, np.ndarray]:
    """What `save` wrote, and its vectors of the probe. StartError says what is wrong with the folder."""
    try:
        note = Note.model_validate_json((folder / _NOTE_FILE).read_text())
        revision = _revision(folder, note)
        model = openvino.Core().read_model(folder / MODEL_FILE)
        vectors = np.array(note.vectors, dtype=np.float32)
        memory = (folder / MODEL_FILE).with_suffix(".bin").stat().st_size
    except (
        OSError,
        ValueError,
        RuntimeError,
    ) as error:  # ValueError: also the note's, and of what is no UTF-8
        said = [line for line in str(error).strip().split("\n") if not line.startswith("Exception from")]
        raise StartError(
            f"The OpenVINO model in the folder {folder} cannot be used: {said[0].rstrip('.:')}. It must be as "
            "`python -m workers.embed.quantize` wrote it: make it anew."
        ) from error
    return Graph(model, note.shape, note.pooling, revision, memory), vectors


def _revision(folder: Path, note: Note) -> str:
    """A hash of what makes the vectors, and of nothing else."""
    digest = hashlib.sha256(f"{note.shape!r}/{note.pooling}".encode())
    for path in (folder / MODEL_FILE, (folder / MODEL_FILE).with_suffix(".bin")):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]
