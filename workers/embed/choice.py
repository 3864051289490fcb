"""Which runtime, device and number format compute a model: the fastest that gives its vectors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from shared.errors import StartError
from shared.settings import Settings
from workers.embed import lite2, openvino_embedder
from workers.embed.embedder import Embedder, TorchEmbedder, one_torch_thread
from workers.embed.graph import MODEL_FILE
from workers.embed.network import Network
from workers.embed.openvino_embedder import OpenVinoEmbedder
from workers.embed.probe import probe
from workers.embed.transformer import transformer

# Least cosine to the network's own fp32 vectors on the probe. Photographs stray about twice as far, and theirs
# must stay above 0.999.
_LEAST_AGREEMENT = 0.9995

_BF16 = ("bf16", "torch.bfloat16")

_log = logging.getLogger("lookalike.embed")

Choice = TorchEmbedder | OpenVinoEmbedder


def load_embedder(settings: Settings) -> Embedder:
    """The model that the settings name, warm. StartError says what to change where it cannot run."""
    one_torch_thread()
    if _is_graph(settings):
        embedder: Choice = openvino_embedder.load_folder(settings)
    else:
        device = choose_device(settings)
        _check_runtime(settings, device)
        network = lite2.lite2() if settings.model == lite2.NAME else transformer(settings)
        embedder = _fastest(settings, network, device)
    _log.info(
        "model %s (%d dimensions) by %s on %s in %s, one CPU thread a forward",
        embedder.card.fingerprint,
        embedder.card.dimension,
        "openvino" if isinstance(embedder, OpenVinoEmbedder) else "torch",
        embedder.device,
        str(embedder.dtype).removeprefix("torch."),
    )
    return embedder


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
    return (Path(settings.model) / MODEL_FILE).is_file()


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
    """The first way in bf16, else the first: the number format weighs more than the runtime."""
    try:
        exact = TorchEmbedder(settings.model, network, device, torch.float32, batch_size=settings.batch_size)
    except Exception as error:
        raise StartError(
            f"The model {settings.model} loads but cannot embed a picture on {device}: {error}"
        ) from error
    best = None
    for name, make in _ways(settings, network, device):
        made = _agreeing(name, make, exact)
        if made and str(made.dtype) in _BF16:
            return made
        best = best or made
    if settings.runtime == "openvino" and best is None:
        raise StartError(
            f"OpenVINO does not give the vectors of {settings.model}; the log says more. Set LOOKALIKE_RUNTIME "
            "to auto or torch."
        )
    return best or exact


def _ways(settings: Settings, network: Network, device: str) -> Iterator[tuple[str, Callable[[], Choice]]]:
    """All that may be faster than torch's plain fp32, and what makes each; of one number format, the fastest first."""
    bf16, fp32 = torch.bfloat16, torch.float32
    torch_form = partial(TorchEmbedder, settings.model, network, device, batch_size=settings.batch_size)
    if device == "cpu" and settings.runtime != "torch" and openvino_embedder.AVAILABLE:
        yield "openvino", partial(OpenVinoEmbedder, settings.model, network, settings.batch_size)
    if device == "cpu" and settings.runtime != "openvino":
        if _multiplies_bf16(device):
            yield "torch, packed, bf16", partial(torch_form, bf16, lean=True)
        yield "torch, packed, fp32", partial(torch_form, fp32, lean=True)
    if device != "cpu" and _multiplies_bf16(device):
        yield "torch, bf16", partial(torch_form, bf16)


def _agreeing(name: str, make: Callable[[], Choice], exact: Choice) -> Choice | None:
    """The embedder made this way, where its vectors are those of fp32 nearly enough."""
    try:
        made = make()
        pictures = probe(exact.shape)
        agreement = float((exact.embed(pictures) * made.embed(pictures)).sum(axis=1).min())
    except Exception:
        _log.warning("the model does not run as %s", name, exc_info=True)
        return None
    _log.info("vectors of %s agree with fp32 to a cosine of %.5f", name, agreement)
    return made if agreement >= _LEAST_AGREEMENT else None


def _multiplies_bf16(device: str) -> bool:
    if device == "cuda":
        return torch.cuda.is_bf16_supported()
    cpu = torch.cpu.get_capabilities()
    return device == "cpu" and bool(cpu.get("avx512_bf16") or cpu.get("amx_bf16"))
