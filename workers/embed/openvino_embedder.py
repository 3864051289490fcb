"""The Embedder that computes with OpenVINO, on the CPU: the vectors of torch, in less time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shared.contract import ModelCard
from shared.errors import OutOfMemory, StartError
from shared.settings import Settings
from workers.decode import PixelShape
from workers.embed.graph import AVAILABLE, Graph, openvino, read, trace
from workers.embed.network import Network
from workers.embed.probe import probe
from workers.plan import cores

__all__ = ["AVAILABLE", "OpenVinoEmbedder", "load_folder"]

# Pictures in one pass. Four cost least each, fixed shapes cost 5 to 15 % less than open ones, and memory stays flat;
# what is left of a batch goes one by one.
_PASS = 4

_LEAST_AGREEMENT = 0.9995  # of bf16 with fp32, as for torch

_OUT_OF_MEMORY = ("bad_alloc", "out of memory", "out_of_memory", "can't allocate", "failed to allocate")

_log = logging.getLogger("lookalike.embed")


class OpenVinoEmbedder:
    """The Embedder of a network, or of a graph from a folder. Construction runs it, which warms it.

    In bf16 where the hardware multiplies it and the model bears it, else in fp32; its card is that of the same
    network under torch.
    """

    device = "cpu"

    def __init__(self, name: str, network: Network | Graph, batch_size: int) -> None:
        graph = network if isinstance(network, Graph) else trace(network)
        self.shape = graph.shape
        self._passes = _fastest(graph, sorted({1, min(batch_size or _PASS, _PASS)}, reverse=True))
        self.dtype = self._passes.precision
        pictures = list(probe(graph.shape))
        self.card = ModelCard(
            name=name,
            revision=graph.revision,
            preprocessing=f"{graph.shape}/{graph.pooling}",
            dimension=self.embed([*pictures, *pictures]).shape[1],  # enough for a pass of each size
        )

    def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """See Embedder."""
        _check(pictures, self.shape)
        vectors = self._passes.run(pictures)
        if vectors is None:
            raise OutOfMemory(
                f"The model has no memory on cpu for {len(pictures)} pictures at once. Lower LOOKALIKE_EMBED_THREADS, "
                "or give this machine more memory or fewer other users."
            )
        broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist()
        if broken:
            raise ValueError(f"The model gave no finite vector for the rows {broken} of the batch.")
        return vectors


def load_folder(settings: Settings) -> OpenVinoEmbedder:
    """The model of a folder that `workers.embed.quantize` made, warm. StartError says what to change."""
    if not AVAILABLE:
        raise StartError(
            f"The model in the folder {settings.model} runs under OpenVINO only. Install lookalike[openvino]."
        )
    if settings.runtime == "torch" or settings.device not in ("auto", "cpu"):
        raise StartError(
            f"The model in the folder {settings.model} runs under OpenVINO on the CPU only. Set LOOKALIKE_RUNTIME "
            "to auto or openvino, and LOOKALIKE_DEVICE to auto or cpu."
        )
    graph = read(Path(settings.model))
    try:
        return OpenVinoEmbedder(settings.model, graph, settings.batch_size)
    except Exception as error:
        raise StartError(
            f"The model in the folder {settings.model} loads but cannot embed a picture: {error}"
        ) from error


class _Passes:
    """A graph compiled in one number format for passes of each of the `sizes`, the largest first.

    As many streams as cores, of one thread each: so many calling threads run at once, further ones wait. No
    stream is bound to a core: another process would bind its own to the same one.
    """

    def __init__(self, graph: Graph, precision: str, sizes: Sequence[int]) -> None:
        self.precision = precision
        self._shape = graph.shape
        self._compiled = {size: _compile(graph, precision, size) for size in sizes}
        self._thread = threading.local()

    def run(self, pictures: Sequence[np.ndarray]) -> np.ndarray | None:
        """float32 [B, D] of length 1; None where memory ran out."""
        try:
            features = np.concatenate([self._pass(part) for part in self._parts(pictures)])
        except (MemoryError, RuntimeError) as error:
            if _is_out_of_memory(error):
                return None
            raise
        with np.errstate(invalid="ignore", divide="ignore"):  # what is not finite is named by its row
            return features / np.linalg.norm(features, axis=1, keepdims=True)

    def _parts(self, pictures: Sequence[np.ndarray]) -> list[Sequence[np.ndarray]]:
        parts, start = [], 0
        for size in self._compiled:
            while len(pictures) - start >= size:
                parts.append(pictures[start : start + size])
                start += size
        return parts

    def _pass(self, part: Sequence[np.ndarray]) -> np.ndarray:
        request = self._request(len(part))
        pixels = request.get_input_tensor().data
        for row, picture in enumerate(part):
            pixels[row] = picture
        request.infer()
        return request.get_output_tensor().data.copy()

    def _request(self, size: int) -> Any:
        """The calling thread's own: a request holds the buffers of one pass."""
        if not hasattr(self._thread, "requests"):
            self._thread.requests = {}
        requests: dict[int, Any] = self._thread.requests
        if size not in requests:
            requests[size] = self._compiled[size].create_infer_request()
        return requests[size]


def _compile(graph: Graph, precision: str, size: int) -> Any:
    model = graph.model.clone()
    model.reshape([size, graph.shape.height, graph.shape.width, 3])
    streams = cores()
    return openvino.Core().compile_model(
        model,
        "CPU",
        {
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": streams,
            "INFERENCE_PRECISION_HINT": precision,
            "ENABLE_CPU_PINNING": False,
        },
    )


def _fastest(graph: Graph, sizes: Sequence[int]) -> _Passes:
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pictures = list(probe(graph.shape))
        exact, fast = (_Passes(graph, precision, [1]).run(pictures) for precision in ("f32", "bf16"))
        agreement = 0.0 if exact is None or fast is None else float((exact * fast).sum(axis=1).min())
        _log.info("bf16 vectors agree with fp32 to a cosine of %.5f under OpenVINO", agreement)
        if agreement >= _LEAST_AGREEMENT:
            return _Passes(graph, "bf16", sizes)
    return _Passes(graph, "f32", sizes)


def _check(pictures: Sequence[np.ndarray], shape: PixelShape) -> None:
    wanted = (shape.height, shape.width, 3)
    kinds = {(picture.dtype.name, picture.shape) for picture in pictures}
    if kinds != {("uint8", wanted)}:
        raise ValueError(f"A batch is uint8 [1 or more, {wanted}], not {sorted(kinds) or 'empty'}.")


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in _OUT_OF_MEMORY)
