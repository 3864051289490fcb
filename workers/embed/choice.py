"""Which runtime, device and number format compute a model: the fastest that gives its vectors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from shared.errors import StartError
from shared.settings import Settings
from workers.embed import graph, lite2, openvino_embedder
from workers.embed.embedder import Embedder, TorchEmbedder
from workers.embed.network import Network
from workers.embed.openvino_embedder import OpenVinoEmbedder
from workers.embed.probe import probe
from workers.embed.threads import one_torch_thread
from workers.embed.transformer import transformer
from workers.embed.trial import first_agreeing

_log = logging.getLogger("lookalike.embed")

Choice = TorchEmbedder | OpenVinoEmbedder


def load_embedder(settings: Settings) -> Embedder:
    """The model that the settings name, warm.

    StartError says what to change where it cannot run; ModelAway: its hub does not answer at the moment.
    """
    one_torch_thread()
    if _is_graph(settings):
        embedder: Choice = openvino_embedder.load_folder(settings)
    else:
        device = choose_device(settings)
        _check_runtime(settings, device)
        network = load_network(settings)
        embedder = _fastest(settings, network, device)
        if network.text and device == "cuda":
            network.text.move(device)
    _log.info(
        "model %s (%d dimensions) by %s on %s in %s, one CPU thread a forward",
        embedder.card.fingerprint,
        embedder.card.dimension,
        "openvino" if isinstance(embedder, OpenVinoEmbedder) else "torch",
        embedder.device,
        str(embedder.dtype).removeprefix("torch."),
    )
    return embedder


def load_network(settings: Settings) -> Network:
    """The network that the settings name, in fp32 on the CPU. Raises as `load_embedder`."""
    return lite2.lite2() if settings.model == lite2.NAME else transformer(settings)


def choose_device(settings: Settings) -> str:
    """Where the model will run. StartError where the device asked for is missing."""
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if settings.device == "auto":
        on_cpu = settings.runtime == "openvino" or _is_graph(settings)
        return "cpu" if on_cpu else next(device for device, there in present.items() if there)
    if not present[settings.device]:
        raise StartError(
            f"LOOKALIKE_DEVICE asks for {settings.device}, and torch {torch.__version__} finds none on this machine. "
            "Install a driver and a torch build for it, or set LOOKALIKE_DEVICE to auto or cpu."
        )
    return settings.device


def _is_graph(settings: Settings) -> bool:
    """Whether the model is a folder that OpenVINO reads."""
    return graph.is_folder(Path(settings.model))


def _check_runtime(settings: Settings, device: str) -> None:
    if settings.runtime != "openvino":
        return
    if not openvino_embedder.AVAILABLE:
        raise StartError(
            "LOOKALIKE_RUNTIME asks for openvino, and it is not installed. Install lookalike[openvino], or set "
            "LOOKALIKE_RUNTIME to auto or torch."
        )
    if device != "cpu":
        raise StartError(
            f"LOOKALIKE_RUNTIME asks for openvino, which runs on the CPU only here, and LOOKALIKE_DEVICE for {device}. "
            "Set LOOKALIKE_DEVICE to cpu, or LOOKALIKE_RUNTIME to torch."
        )


def _fastest(settings: Settings, network: Network, device: str) -> Choice:
    """The first way that gives the vectors of plain fp32 on this CPU."""
    made = first_agreeing(_ways(settings, network, device), _wanted(settings, network))
    if made is None and settings.runtime == "openvino":
        raise StartError(
            f"OpenVINO does not give the vectors of {settings.model}; the log says more. Set LOOKALIKE_RUNTIME "
            "to auto or torch."
        )
    if made is None:
        raise StartError(
            f"The model {settings.model} does not give on {device} the vectors that it gives on the CPU; the log says "
            "more. Set LOOKALIKE_DEVICE to cpu, or mend the device's driver, memory and torch build."
        )
    return made


def _wanted(settings: Settings, network: Network) -> np.ndarray:
    """The probe's vectors. What computed them is let go: two models at once would be twice the memory."""
    try:
        exact = TorchEmbedder(settings.model, network, "cpu", torch.float32)
        return exact.embed(probe(network.shape))
    except Exception as error:
        raise StartError(
            f"The model {settings.model} loads but cannot embed a picture on the CPU: {error}"
        ) from error


def _ways(settings: Settings, network: Network, device: str) -> Iterator[tuple[str, Callable[[], Choice]]]:
    """What each form is called and what makes it, the fastest first: the number format weighs more than the runtime."""
    torch_form = partial(TorchEmbedder, settings.model, network, device, batch_size=settings.batch_size)
    by_openvino = device == "cpu" and settings.runtime != "torch" and openvino_embedder.AVAILABLE
    for dtype, word in ((torch.bfloat16, "bf16"), (torch.float32, "fp32")):
        is_exact = dtype == torch.float32
        if by_openvino and (is_exact or openvino_embedder.multiplies_bf16()):
            yield (
                f"openvino, {word}",
                partial(OpenVinoEmbedder, settings.model, network, dtype, batch_size=settings.batch_size),
            )
        if settings.runtime != "openvino" and (is_exact or _multiplies_bf16(device)):
            if device == "cpu":
                yield f"torch, packed, {word}", partial(torch_form, dtype, lean=True)
            yield f"torch, {word}", partial(torch_form, dtype)


def _multiplies_bf16(device: str) -> bool:
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    cpu = torch.cpu.get_capabilities()
    return device == "cpu" and bool(cpu.get("avx512_bf16") or cpu.get("amx_bf16"))
