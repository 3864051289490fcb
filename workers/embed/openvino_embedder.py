"""The Embedder that computes with OpenVINO, on the CPU: the vectors of torch, in less time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shared.contract import ModelCard
from shared.errors import StartError
from shared.settings import Settings
from workers.embed.batch import check_pictures, check_vectors, out_of_memory
from workers.embed.graph import AVAILABLE, Graph, openvino, read, trace
from workers.embed.host import PASS
from workers.embed.network import Network
from workers.embed.probe import probe
from workers.embed.trial import first_agreeing
from workers.plan import cores

__all__ = ["AVAILABLE", "OpenVinoEmbedder", "load_folder", "multiplies_bf16"]

_HINTS = {torch.float32: "f32", torch.bfloat16: "bf16"}

# Of an int8 model's vectors with those that it gave where it was made. int8 products of a processor without
# instructions for them can saturate, and then are others.
_LEAST_OF_FOLDERS = 0.999

_OUT_OF_MEMORY = ("bad_alloc", "out of memory", "out_of_memory", "can't allocate", "failed to allocate")


class OpenVinoEmbedder:
    """The Embedder of a network, or of a graph from a folder, in the number format `dtype`: bf16 or fp32.

    Construction runs it, which warms it. Its card is that of the same network under torch. Batches pass four
    pictures at a time, or `batch_size` where that is less; what is left of a batch goes one by one. Fixed shapes
    cost 5 to 15 % less than open ones, and memory stays flat.
    """

    device = "cpu"

    def __init__(
        self, name: str, network: Network | Graph, dtype: torch.dtype, *, batch_size: int = PASS
    ) -> None:
        graph = network if isinstance(network, Graph) else trace(network)
        self.shape = graph.shape
        self.dtype = dtype
        self.memory = graph.memory
        self.text = graph.text
        self._passes = _Passes(graph, _HINTS[dtype], sorted({1, min(batch_size or PASS, PASS)}, reverse=True))
        self.card = ModelCard(
            name=name,
            revision=graph.revision,
            preprocessing=f"{graph.shape}/{graph.pooling}",
            dimension=self.embed(probe(graph.shape)).shape[1],  # enough for a pass of each size
        )

    def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """See Embedder."""
        check_pictures(pictures, self.shape)
        vectors = self._passes.run(pictures)
        if vectors is None:
            raise out_of_memory(self.device, len(pictures))
        check_vectors(vectors)
        return vectors


def multiplies_bf16() -> bool:
    """Whether OpenVINO has bf16 products on this processor."""
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


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
    graph, wanted = read(Path(settings.model))
    form = partial(OpenVinoEmbedder, settings.model, graph, batch_size=settings.batch_size)
    in_bf16 = [("int8, else bf16", partial(form, torch.bfloat16))] if multiplies_bf16() else []
    in_fp32 = [("int8, else fp32", partial(form, torch.float32))]
    made = first_agreeing(in_bf16, wanted) or first_agreeing(in_fp32, wanted, _LEAST_OF_FOLDERS)
    if made is None:
        raise StartError(
            f"The model in the folder {settings.model} does not give on this machine the vectors that it gave where it "
            f"was made, to a cosine of {_LEAST_OF_FOLDERS}; the log says more. Serve it on a processor like that one "
            "(with AVX-512 VNNI or AMX), or make it anew here, which is another model."
        )
    return made


class _Passes:
    """A graph compiled in one number format for passes of each of the `sizes`, the largest first.

    As many streams as cores, of one thread each: so many calling threads run at once, further ones wait. No
    stream is bound to a core: another process would bind its own to the same one.
    """

    def __init__(self, graph: Graph, precision: str, sizes: Sequence[int]) -> None:
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


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in _OUT_OF_MEMORY)
