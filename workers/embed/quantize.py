"""An int8 form of a model, made once from photographs: `python -m workers.embed.quantize MODEL PICTURES FOLDER`.

Post-training quantisation by NNCF. The int8 form has other vectors than the model, so it is a model of its own.
"""

from __future__ import annotations

import importlib.util
import logging
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from shared.errors import ItemError, LookalikeError, StartError
from shared.settings import Settings
from workers.decode import PixelShape, decode
from workers.embed.agreement import NEIGHBOURS, Agreement, compare
from workers.embed.choice import load_network
from workers.embed.embedder import Embedder, TorchEmbedder
from workers.embed.graph import AVAILABLE, Graph, Note, save, trace
from workers.embed.network import Network
from workers.embed.openvino_embedder import OpenVinoEmbedder, load_folder
from workers.embed.probe import probe

try:  # the extra `openvino`; after workers.embed.graph, which keeps its telemetry out
    import nncf
    from nncf.quantization.advanced_parameters import (
        AdvancedQuantizationParameters,
        AdvancedSmoothQuantParameters,
    )
except ImportError as error:
    nncf = None
    if importlib.util.find_spec("nncf"):
        logging.getLogger("lookalike.embed").warning("nncf is installed and cannot be imported: %s", error)

_LEAST_PICTURES = 36
_MOST_PICTURES = 450  # more bring the ranges of the activations no nearer
_HELD_OUT = 3  # every third picture calibrates nothing, so that the agreement is of pictures not seen
_BATCH = 4


@click.command(help=__doc__)
@click.argument("model")
@click.argument("pictures", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
def main(model: str, pictures: Path, folder: Path) -> None:
    try:
        make(Settings(model=model), pictures, folder.resolve())
    except LookalikeError as error:
        raise click.ClickException(error.detail) from error
    except OSError as error:
        raise click.ClickException(f"{folder} cannot be written: {error}") from error


def make(settings: Settings, pictures: Path, folder: Path) -> None:
    """Write the int8 form of the model that the settings name, and say how well it agrees with fp32.

    StartError says what to change where it cannot be made; then no folder is left behind.
    """
    if not AVAILABLE or nncf is None:
        raise StartError("An int8 model is made with OpenVINO and NNCF. Install lookalike[openvino].")
    if folder.exists():
        raise StartError(f"{folder} exists. Name a folder that does not, or remove it.")
    torch.set_num_threads(1)
    network = load_network(settings)
    pixels = _decoded(pictures, network.shape, settings.max_pixels)
    seen = np.arange(len(pixels)) % _HELD_OUT > 0
    exact = TorchEmbedder(settings.model, network, "cpu", torch.float32)
    click.echo(f"Quantising {settings.model} on {seen.sum()} pictures.")
    graph = _quantised(settings.model, network, pixels[seen])
    made = _written(graph, _note(settings.model, network, int(seen.sum()), graph), folder)
    click.echo(f"Comparing it with fp32 on the {(~seen).sum()} other pictures.")
    click.echo(_said(compare(_vectors(made, pixels[~seen]), _vectors(exact, pixels[~seen]))))
    served = made.card.model_copy(update={"name": str(folder)})
    click.echo(
        f"LOOKALIKE_MODEL={folder} serves it, as {served.fingerprint}. It is a model of its own: a collection "
        "that began with it stays with it, and one that began with another model refuses it."
    )


def _decoded(folder: Path, shape: PixelShape, max_pixels: int) -> np.ndarray:
    """uint8 [N, H, W, 3] of the folder's pictures, in the order of their names; evenly spread where there are many."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    pixels = []
    with click.progressbar(_spread(files), label="Decoding") as chosen:
        for path in chosen:
            try:
                pixels.append(decode(path.read_bytes(), shape, max_pixels).pixels)
            except (ItemError, OSError) as error:
                reason = error.detail if isinstance(error, ItemError) else error
                click.echo(f"\nLeft out {path}: {reason}", err=True)
    if len(pixels) < _LEAST_PICTURES:
        raise StartError(
            f"{folder} holds {len(pixels)} pictures that can be read, and at least {_LEAST_PICTURES} are needed; a few "
            "hundred of the kind that will be searched are best. Add some."
        )
    return np.stack(pixels)


def _spread(files: list[Path]) -> list[Path]:
    """As many as are used, from the first to the last."""
    places = np.linspace(0, len(files) - 1, min(len(files), _MOST_PICTURES)).astype(int)
    return [files[place] for place in places]


def _quantised(name: str, network: Network, pixels: np.ndarray) -> Graph:
    try:
        model = _int8(network, pixels)
        return Graph(model, network.shape, network.pooling, network.revision, network.memory)
    except Exception as error:  # of OpenVINO's and of NNCF's many kinds
        reason = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
        raise StartError(
            f"NNCF cannot make an int8 form of the model {name}: {reason}. Serve the model itself, or take another."
        ) from error


def _int8(network: Network, pixels: np.ndarray) -> Any:
    """The network in int8, but for its first layer, which costs little and brought half of the error."""
    nncf.set_log_level(logging.WARNING)
    model = trace(network).model
    operations = model.get_ordered_ops()
    convolutions = [op.get_friendly_name() for op in operations if op.get_type_name() == "Convolution"]
    return nncf.quantize(
        model,
        nncf.Dataset([picture[None] for picture in pixels]),
        subset_size=len(pixels),
        model_type=nncf.ModelType.TRANSFORMER,
        fast_bias_correction=False,
        ignored_scope=nncf.IgnoredScope(names=convolutions[:1]),
        advanced_parameters=AdvancedQuantizationParameters(
            smooth_quant_alphas=AdvancedSmoothQuantParameters(matmul=0.5)
        ),
    )


def _note(source: str, network: Network, calibrated_on: int, graph: Graph) -> Note:
    exact = OpenVinoEmbedder(source, graph, torch.float32)
    return Note(
        source=source,
        source_revision=network.revision,
        shape=network.shape,
        pooling=network.pooling,
        calibrated_on=calibrated_on,
        vectors=exact.embed(probe(network.shape)).astype(float).round(6).tolist(),
    )


def _written(graph: Graph, note: Note, folder: Path) -> OpenVinoEmbedder:
    """The model as it serves from the folder, of which all is written or nothing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".int8-") as scratch:
        part = Path(scratch) / "model"
        part.mkdir()
        save(graph.model, note, part)
        made = load_folder(Settings(model=str(part), runtime="openvino", device="cpu"))
        part.rename(folder)
    return made


def _vectors(embedder: Embedder, pixels: np.ndarray) -> np.ndarray:
    return np.concatenate(
        [embedder.embed(list(pixels[start : start + _BATCH])) for start in range(0, len(pixels), _BATCH)]
    )


def _said(found: Agreement) -> str:
    plain, centred, neighbours = found.plain, found.centred, NEIGHBOURS * found.neighbours
    return (
        f"Agreement with fp32: cosine {plain.min():.5f} at least, {plain.mean():.5f} on average; less the mean "
        f"vector, {centred.min():.5f} and {centred.mean():.5f}; of the ten nearest, {neighbours.mean():.1f} are the "
        "same."
    )


if __name__ == "__main__":
    main()
