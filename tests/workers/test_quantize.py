from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from shared.contract import ModelCard
from shared.errors import StartError
from shared.settings import Settings
from tests.embedding import with_openvino
from tests.models import make_clip, make_vit
from tests.photographs import make_photographs
from workers.decode import decode
from workers.embed import quantize
from workers.embed.embedder import TorchEmbedder
from workers.embed.openvino_embedder import OpenVinoEmbedder, load_folder
from workers.embed.transformer import transformer

pytestmark = with_openvino

PHOTOGRAPHS = 42
ROOT = Path(__file__).parents[2]


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(quantize.main, [str(argument) for argument in arguments])
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_vit(tmp_path_factory.mktemp("vit"))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photographs(tmp_path_factory.mktemp("photographs"), PHOTOGRAPHS)


@pytest.fixture(scope="module")
def made(vit: Path, photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of an int8 model, and what making it said."""
    folder = tmp_path_factory.mktemp("models") / "int8"
    return folder, make(vit, photographs, folder)


def make(*arguments: Path) -> str:
    """What it says, in a process of its own."""
    command = [sys.executable, "-m", "workers.embed.quantize", *map(str, arguments)]
    result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert result.returncode == 0, result.stdout[-2000:]
    return result.stdout


def test_an_int8_model_is_nearly_the_model(vit: Path, made: tuple[Path, str], photographs: Path) -> None:
    embedder = load_folder(Settings(model=str(made[0])))
    exact = TorchEmbedder("exact", transformer(Settings(model=str(vit))), "cpu", torch.float32)
    pixels = [
        decode(path.read_bytes(), embedder.shape, 10**8).pixels for path in sorted(photographs.iterdir())
    ]
    ours, theirs = embedder.embed(pixels), exact.embed(np.stack(pixels))
    cosines = (ours * theirs).sum(axis=1)
    assert cosines.min() >= 0.98
    assert cosines.max() < 0.9999999  # it is int8, not the model itself


def test_an_int8_form_of_two_towers_embeds_pictures_and_takes_no_text(
    photographs: Path, tmp_path: Path
) -> None:
    make(make_clip(tmp_path / "clip"), photographs, tmp_path / "int8")
    embedder = load_folder(Settings(model=str(tmp_path / "int8")))
    assert (embedder.card.preprocessing, embedder.text) == ("short64-crop64-bicubic/joint", None)
    exact = TorchEmbedder("exact", transformer(Settings(model=str(tmp_path / "clip"))), "cpu", torch.float32)
    pixels = [decode(path.read_bytes(), embedder.shape, 10**8).pixels for path in photographs.iterdir()]
    assert (embedder.embed(pixels) * exact.embed(np.stack(pixels))).sum(axis=1).min() >= 0.98


def test_the_folder_holds_the_model_and_where_it_came_from(vit: Path, made: tuple[Path, str]) -> None:
    folder, _ = made
    assert {path.name for path in folder.iterdir()} == {
        "openvino_model.xml",
        "openvino_model.bin",
        "lookalike.json",
    }
    note = (folder / "lookalike.json").read_text()
    source = transformer(Settings(model=str(vit)))
    for said in (str(vit), source.revision, '"calibrated_on":28', '"pooling":"mean"'):
        assert said in note
    assert np.array(json.loads(note)["vectors"]).shape == (5, 48)


def test_an_int8_model_is_another_model_than_its_source(vit: Path, made: tuple[Path, str]) -> None:
    card = load_folder(Settings(model=str(made[0]))).card
    source = OpenVinoEmbedder(str(made[0]), transformer(Settings(model=str(vit))), torch.float32).card
    assert card.revision != source.revision
    assert card == ModelCard(**{**source.model_dump(), "revision": card.revision})


def test_the_same_pictures_make_the_same_model(
    vit: Path, made: tuple[Path, str], photographs: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    make(vit, photographs, again)
    for path in made[0].iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes(), path.name


def test_changed_content_is_another_revision(made: tuple[Path, str], tmp_path: Path) -> None:
    first = load_folder(Settings(model=str(made[0]))).card
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in made[0].iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    note = copy / "lookalike.json"
    note.write_text(note.read_text().replace('"source":"', '"source":"/mnt'))
    assert load_folder(Settings(model=str(copy))).card.revision == first.revision
    note.write_text(note.read_text().replace('"mean"', '"cls"'))
    assert load_folder(Settings(model=str(copy))).card.revision != first.revision


def test_a_machine_that_gives_other_vectors_does_not_serve_it(made: tuple[Path, str], tmp_path: Path) -> None:
    for path in made[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    note = json.loads((tmp_path / "lookalike.json").read_text())
    note["vectors"][3] = note["vectors"][3][::-1]
    (tmp_path / "lookalike.json").write_text(json.dumps(note))
    with pytest.raises(StartError, match=r"does not give on this machine the vectors.*make it anew"):
        load_folder(Settings(model=str(tmp_path)))


def test_the_name_that_is_said_is_the_one_that_is_served(made: tuple[Path, str]) -> None:
    assert f"as {load_folder(Settings(model=str(made[0]))).card.fingerprint}." in made[1]


@pytest.mark.parametrize("count", [0, 1, 449, 450, 451, 899, 900, 5000])
def test_pictures_are_taken_evenly_from_the_first_to_the_last(count: int) -> None:
    files = [Path(str(number)) for number in range(count)]
    taken = [int(path.name) for path in quantize._spread(files)]
    assert len(taken) == min(count, 450)
    if count:
        assert (taken[0], taken[-1]) == (0, count - 1)
        steps = np.diff(taken)
        assert not steps.size or (steps.min() >= 1 and steps.max() - steps.min() <= 1)


def test_what_nncf_cannot_do_is_a_sentence_and_leaves_no_folder(
    vit: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("an operation is unknown")

    monkeypatch.setattr(quantize.nncf, "quantize", fail)
    code, output = run(vit, photographs, tmp_path / "made")
    assert code == 1
    assert "NNCF cannot make an int8 form" in output
    assert "an operation is unknown" in output
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_does_not_serve_leaves_no_folder(
    vit: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StartError("it does not serve")

    monkeypatch.setattr(quantize, "load_folder", fail)
    code, output = run(vit, photographs, tmp_path / "made")
    assert code == 1
    assert "it does not serve" in output
    assert list(tmp_path.iterdir()) == []


def test_the_agreement_with_fp32_is_said_of_pictures_it_was_not_made_from(made: tuple[Path, str]) -> None:
    output = made[1]
    assert f"on {PHOTOGRAPHS // 3 * 2} pictures" in output
    assert f"on the {PHOTOGRAPHS // 3} other pictures" in output
    for word in ("cosine", "less the mean", "ten nearest", "LOOKALIKE_MODEL="):
        assert word in output


def test_a_file_that_is_no_picture_is_left_out_by_name(vit: Path, photographs: Path, tmp_path: Path) -> None:
    for path in photographs.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "secret.jpg").touch(mode=0)
    pixels = quantize._decoded(tmp_path, transformer(Settings(model=str(vit))).shape, 10**8)
    assert len(pixels) == PHOTOGRAPHS


def test_too_few_pictures_are_said_so_and_leave_no_folder(vit: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    (few / "notes.txt").write_text("no picture")
    code, output = run(vit, few, tmp_path / "made")
    assert code == 1
    assert "holds 0 pictures" in output
    assert "at least 36" in output
    assert str(few / "notes.txt") in output
    assert not (tmp_path / "made").exists()


def test_a_folder_that_exists_is_not_written_over(vit: Path, photographs: Path, tmp_path: Path) -> None:
    code, output = run(vit, photographs, tmp_path)
    assert code == 1
    assert f"{tmp_path} exists" in output


def test_without_nncf_it_says_what_to_install(
    vit: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize, "nncf", None)
    code, output = run(vit, photographs, tmp_path / "made")
    assert code == 1
    assert "lookalike[openvino]" in output
