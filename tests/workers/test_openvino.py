from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from shared.errors import OutOfMemory, StartError
from shared.settings import Settings
from tests.embedding import WRONG_BATCHES, with_openvino
from tests.models import make_vit
from tests.photographs import make_photographs, make_pixels
from workers.embed.embedder import TorchEmbedder
from workers.embed.lite2 import lite2
from workers.embed.network import Network
from workers.embed.openvino_embedder import OpenVinoEmbedder, load_folder, multiplies_bf16
from workers.embed.transformer import transformer
from workers.plan import cores

pytestmark = with_openvino

ROOT = Path(__file__).parents[2]


def pictures(network: Network, count: int, seed: int = 0) -> np.ndarray:
    """uint8 [count, H, W, 3]"""
    shape = network.shape
    return np.stack([make_pixels(100 * seed + row, shape.height, shape.width) for row in range(count)])


def exact(network: Network) -> TorchEmbedder:
    return TorchEmbedder("model", network, "cpu", torch.float32)


def made(network: Network, dtype: torch.dtype | None = None, **others: int) -> OpenVinoEmbedder:
    """In the number format that serves where none is asked for."""
    dtype = dtype or (torch.bfloat16 if multiplies_bf16() else torch.float32)
    return OpenVinoEmbedder("model", network, dtype, **others)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return transformer(Settings(model=str(make_vit(tmp_path_factory.mktemp("vit")))))


@pytest.fixture(scope="module")
def embedder(vit: Network) -> OpenVinoEmbedder:
    return made(vit)


def test_vectors_of_a_transformer_equal_those_of_torch(vit: Network, embedder: OpenVinoEmbedder) -> None:
    batch = pictures(vit, 11)
    assert (embedder.embed(batch) * exact(vit).embed(batch)).sum(axis=1).min() >= 0.999


def test_vectors_of_lite2_equal_those_of_torch_and_its_cards_too() -> None:
    network = lite2()
    embedder, reference = made(network, torch.float32), exact(network)
    batch = pictures(network, 6)
    assert (embedder.embed(batch) * reference.embed(batch)).sum(axis=1).min() >= 0.999
    assert embedder.card == reference.card


def test_a_collection_can_go_on_under_the_other_runtime(vit: Network, embedder: OpenVinoEmbedder) -> None:
    assert embedder.card == exact(vit).card


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 18])
def test_a_vector_does_not_depend_on_its_batch(vit: Network, embedder: OpenVinoEmbedder, count: int) -> None:
    batch = pictures(vit, count)
    together = embedder.embed(batch)
    assert together.dtype == np.float32
    assert together.shape == (count, 48)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    alone = np.concatenate([embedder.embed(batch[row : row + 1]) for row in range(count)])
    assert (together * alone).sum(axis=1).min() >= 0.9999


def test_pictures_may_lie_anywhere_and_are_not_kept(vit: Network, embedder: OpenVinoEmbedder) -> None:
    batch = pictures(vit, 6)
    wanted = embedder.embed(batch)
    scattered = [np.asfortranarray(picture) for picture in batch]
    vectors = embedder.embed(scattered)
    for picture in scattered:
        picture[:] = 0
    np.testing.assert_array_equal(vectors, wanted)


def test_batches_of_one_are_all_that_a_batch_size_of_one_needs(vit: Network) -> None:
    batch = pictures(vit, 3)
    assert (made(vit, batch_size=1).embed(batch) * exact(vit).embed(batch)).sum(1).min() >= 0.999


def test_many_threads_embed_what_one_does(vit: Network, embedder: OpenVinoEmbedder) -> None:
    batches = [pictures(vit, 1 + seed % 7, seed) for seed in range(24)]
    alone = [embedder.embed(batch) for batch in batches]
    with ThreadPoolExecutor(6) as threads:
        together = list(threads.map(embedder.embed, batches))
    for ours, wanted in zip(together, alone, strict=True):
        np.testing.assert_array_equal(ours, wanted)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.skipif(cores() < 2, reason="one core runs one thread at a time")
def test_two_callers_are_computed_at_once_and_bound_to_no_core(vit: Network) -> None:
    embedder = made(vit)
    stop = threading.Event()
    batch = pictures(vit, 64)

    def go() -> None:
        while not stop.is_set():
            embedder.embed(batch)

    callers = [threading.Thread(target=go) for _ in range(2)]
    for caller in callers:
        caller.start()
    running = Counter(_running_threads() for _ in range(200))
    stop.set()
    for caller in callers:
        caller.join()
    assert sum(count for threads, count in running.items() if threads >= 2) > 50
    assert len(set(map(str, _affinities()))) == 1


def _running_threads() -> int:
    """Threads of this process, but for the calling one, that compute or wait for a core."""
    time.sleep(0.01)
    tasks = [task for task in _tasks() if int(task.name) != threading.get_native_id()]
    return sum((task / "stat").read_text().rpartition(")")[2].split()[0] == "R" for task in tasks)


def _affinities() -> list[str]:
    lines = [line for task in _tasks() for line in (task / "status").read_text().splitlines()]
    return [line for line in lines if line.startswith("Cpus_allowed_list")]


def _tasks() -> list[Path]:
    return list(Path("/proc/self/task").iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_threads_stay_few(vit: Network) -> None:
    before = len(_tasks())
    embedder = made(vit)
    for seed in range(8):  # each from a thread of its own
        with ThreadPoolExecutor(1) as thread:
            thread.submit(embedder.embed, pictures(vit, 5, seed)).result()
    assert len(_tasks()) - before <= 4 * cores() + 2


@pytest.mark.parametrize("batch", WRONG_BATCHES.values(), ids=WRONG_BATCHES)
def test_a_batch_of_another_shape_is_refused(embedder: OpenVinoEmbedder, batch: np.ndarray) -> None:
    with pytest.raises(ValueError, match="A batch is uint8"):
        embedder.embed(batch)


def test_vectors_that_are_not_finite_are_named_by_row(vit: Network) -> None:
    """A picture that is black in its corner has no finite vector in this network."""

    def features(module: torch.nn.Module, pixels: torch.Tensor) -> torch.Tensor:
        return vit.features(module, pixels) / (pixels[:, :1, 0, 0] > -2)

    broken = Network(module=vit.module, features=features, **_feeding(vit))
    batch = pictures(vit, 6).clip(20, 255)
    embedder = made(broken)
    assert len(embedder.embed(batch)) == 6
    batch[[1, 5], 0, 0] = 0
    with pytest.raises(ValueError, match=r"rows \[1, 5\]"):
        embedder.embed(batch)


def _feeding(network: Network) -> dict[str, object]:
    return {name: getattr(network, name) for name in ("shape", "mean", "std", "pooling", "revision")}


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("std::bad_alloc"),
        RuntimeError("cpu_memory.cpp:257: Failed to allocate 519168000 bytes of memory"),
    ],
)
def test_a_machine_without_memory_is_said_so(
    vit: Network, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    embedder = made(vit)

    def fail(part: object) -> np.ndarray:
        raise error

    monkeypatch.setattr(embedder._passes, "_pass", fail)
    with pytest.raises(OutOfMemory, match="no memory on cpu for 3 pictures"):
        embedder.embed(pictures(vit, 3))


def test_another_fault_of_the_model_is_no_want_of_memory(
    vit: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = made(vit)

    def fail(part: object) -> np.ndarray:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(embedder._passes, "_pass", fail)
    with pytest.raises(RuntimeError, match="shapes"):
        embedder.embed(pictures(vit, 3))


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"openvino_model.xml": "<net/>"}, "lookalike.json"),
        (
            {"openvino_model.xml": "<net/>", "openvino_model.bin": "", "lookalike.json": "{}"},
            "errors for Note",
        ),
        ({"openvino_model.xml": "<net/>", "lookalike.json": "\udcff"}, "utf-8"),
    ],
    ids=["no note", "an empty note", "no text"],
)
def test_a_folder_that_quantize_did_not_make_is_refused(
    tmp_path: Path, files: dict[str, str], said: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(StartError, match=rf"(?s){said}.*make it anew") as caught:
        load_folder(Settings(model=str(tmp_path)))
    assert str(tmp_path) in caught.value.detail


@pytest.mark.parametrize("others", [{"runtime": "torch"}, {"device": "cuda"}], ids=str)
def test_a_folder_of_openvinos_cannot_run_elsewhere(tmp_path: Path, others: dict[str, str]) -> None:
    with pytest.raises(StartError, match="OpenVINO on the CPU only"):
        load_folder(Settings(model=str(tmp_path), **others))  # type: ignore[arg-type]


# Every way to the network or into a file that Python code has raises an audit event before it is gone.
_WATCHED = """
import os, sys

home, model, photos, made = sys.argv[1:]

def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request"):
        print("NETWORK", event, arguments[1:], flush=True)
        os._exit(3)
    if event in ("open", "os.mkdir") and str(arguments[0]).startswith(home):
        print("HOME", event, arguments, flush=True)
        os._exit(4)

sys.addaudithook(watch)

import numpy as np
import torch
from pathlib import Path
from shared.settings import Settings
from workers.embed.openvino_embedder import OpenVinoEmbedder, load_folder
from workers.embed.quantize import make
from workers.embed.transformer import transformer

settings = Settings(model=model)
OpenVinoEmbedder("model", transformer(settings), torch.float32).embed(np.zeros((5, 64, 64, 3), np.uint8))
make(settings, Path(photos), Path(made))
load_folder(Settings(model=made)).embed(np.zeros((5, 64, 64, 3), np.uint8))

import openvino.tools.ovc
import nncf.telemetry.wrapper
assert not [name for name in sys.modules if name.startswith("openvino_telemetry.")]
print("QUIET")
"""


def test_openvino_and_nncf_send_nothing_and_leave_nothing_in_the_home_folder(
    tmp_path: Path,
) -> None:
    home, photos = tmp_path / "home", tmp_path / "photos"
    home.mkdir()
    photos.mkdir()
    make_photographs(photos, 36)
    arguments = [str(home), str(make_vit(tmp_path / "vit")), str(photos), str(tmp_path / "made")]
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", _WATCHED, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    assert result.stdout.rstrip().endswith("QUIET")
    assert list(home.iterdir()) == []


def test_openvino_that_is_installed_and_broken_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "openvino").mkdir()
    (tmp_path / "openvino" / "__init__.py").write_text("raise ImportError('libtbb.so: no such file')")
    result = subprocess.run(
        [sys.executable, "-c", "from workers.embed import graph; assert not graph.AVAILABLE"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert "openvino is installed and cannot be imported: libtbb.so" in result.stderr
