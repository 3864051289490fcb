from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import pytest
import torch

from shared.errors import StartError
from tests.embedding import embed, encoded, noise, settings, texture, with_bf16, with_openvino
from workers.embed import choice, choose_device, load_embedder
from workers.embed.embedder import TorchEmbedder
from workers.embed.lite2 import lite2
from workers.embed.network import Network
from workers.embed.openvino_embedder import OpenVinoEmbedder
from workers.embed.transformer import transformer


def test_a_device_that_is_asked_for_and_missing_is_an_error(small_model: Path) -> None:
    missing = "mps" if torch.cuda.is_available() or not torch.backends.mps.is_available() else "cuda"
    with pytest.raises(StartError, match=f"asks for {missing}.*LOOKALIKE_DEVICE to auto or cpu"):
        load_embedder(settings(small_model, device=missing))


@pytest.mark.parametrize("model", ["vit", "lite2"])
@pytest.mark.parametrize("runtime", ["torch", "auto"])
def test_what_was_chosen_agrees_with_fp32(model: str, runtime: str, small_model: Path) -> None:
    network = transformer(settings(small_model)) if model == "vit" else lite2()
    name = small_model if model == "vit" else "efficientnet-lite2"
    chosen = load_embedder(settings(name, runtime=runtime, device="cpu"))
    files = [encoded(texture(seed)) for seed in range(12)]
    reference = embed(TorchEmbedder("exact", network, "cpu", torch.float32), *files)
    assert (embed(chosen, *files) * reference).sum(axis=1).min() >= 0.999


@with_bf16
@pytest.mark.parametrize("model", ["vit", "lite2"])
def test_a_processor_that_multiplies_bf16_is_made_use_of(
    model: str, small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = small_model if model == "vit" else "efficientnet-lite2"
    for able, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: {"avx512_bf16": able})
        chosen = load_embedder(settings(name, device="cpu"))
        assert isinstance(chosen, TorchEmbedder)
        assert chosen.dtype == dtype


@pytest.mark.parametrize("runs", [True, False])
def test_a_form_with_other_vectors_or_that_does_not_run_is_passed_over(
    small_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, runs: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})

    def lean(module: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
        if not runs:
            raise RuntimeError("no such kernel")
        for parameter in module.parameters():
            parameter.mul_(1.5)
        return module

    network = dataclasses.replace(transformer(settings(small_model)), lean=lean)
    plain = TorchEmbedder("plain", network, "cpu", torch.float32)
    files = [encoded(texture(seed)) for seed in range(3)]
    with torch.no_grad(), caplog.at_level(logging.INFO, logger="lookalike.embed"):
        chosen = choice._fastest(settings(small_model), network, "cpu")
    assert (embed(chosen, *files) * embed(plain, *files)).sum(axis=1).min() >= 0.99999
    for said in ("does not run as torch, packed, fp32", "no such kernel"):
        assert (said in caplog.text) != runs


@with_bf16
def test_plain_bf16_serves_where_packing_fails(small_model: Path) -> None:
    def lean(module: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
        raise RuntimeError("no such kernel")

    network = dataclasses.replace(transformer(settings(small_model)), lean=lean)
    assert choice._fastest(settings(small_model), network, "cpu").dtype == torch.bfloat16


@pytest.mark.parametrize("size", [1, 4])
def test_a_form_that_is_wrong_in_passes_of_one_size_only_is_passed_over(
    small_model: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    network = transformer(settings(small_model))

    def features(module: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
        given = network.features(module, batch)
        return given.flip(1) if batch.dtype == torch.bfloat16 and len(batch) == size else given

    odd = dataclasses.replace(network, features=features)
    assert choice._fastest(settings(small_model), odd, "cpu").dtype == torch.float32


@with_openvino
@pytest.mark.parametrize("size", [1, 4])
def test_openvino_that_is_wrong_in_passes_of_one_size_only_is_passed_over(
    small_model: Path, size: int
) -> None:
    network = transformer(settings(small_model))

    def features(module: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
        given = network.features(module, batch)
        if not torch.jit.is_tracing():
            return given
        count = torch.ones_like(batch[:, 0, 0, 0]).sum()
        return given + 9.0 * (count == size).float() * given.flip(1)

    odd = dataclasses.replace(network, features=features)
    assert isinstance(choice._fastest(settings(small_model, runtime="auto"), odd, "cpu"), TorchEmbedder)
    two = OpenVinoEmbedder("m", odd, torch.float32, batch_size=2)
    right = TorchEmbedder("m", network, "cpu", torch.float32)
    pictures = noise(2)
    assert (two.embed(pictures) * right.embed(pictures)).sum(axis=1).min() >= 0.999


def test_a_gpu_is_compared_with_the_cpu_and_refused_where_no_form_agrees(
    small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = transformer(settings(small_model))
    tried: list[torch.dtype] = []

    class Gpu(TorchEmbedder):
        """The CPU in the place of a GPU, with other vectors."""

        def __init__(
            self, name: str, network: Network, device: str, dtype: torch.dtype, **options: int
        ) -> None:
            super().__init__(name, network, "cpu", dtype)
            if device != "cpu":
                tried.append(dtype)
                self._forward = lambda pictures: torch.randn(len(pictures), 48)

    monkeypatch.setattr(choice, "TorchEmbedder", Gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    with pytest.raises(StartError, match="does not give on cuda the vectors"):
        choice._fastest(settings(small_model), network, "cuda")
    assert tried == [torch.bfloat16, torch.float32]


@with_openvino
def test_a_graph_beside_safetensors_is_another_programs(small_model: Path, tmp_path: Path) -> None:
    for path in small_model.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "openvino_model.xml").write_text("<net/>")
    assert isinstance(load_embedder(settings(tmp_path, device="cpu")), TorchEmbedder)


def test_what_runs_is_logged(small_model: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="lookalike.embed"):
        embedder = load_embedder(settings(small_model, device="cpu"))
    assert f"{embedder.card.fingerprint} (48 dimensions) by torch on cpu in " in caplog.text


@with_openvino
def test_openvino_is_taken_where_it_is_installed_and_nobody_says_torch(
    small_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="lookalike.embed"):
        chosen = load_embedder(settings(small_model, runtime="auto", device="cpu"))
    assert isinstance(chosen, OpenVinoEmbedder)
    assert "by openvino on cpu in " in caplog.text
    assert isinstance(load_embedder(settings(small_model, runtime="openvino")), OpenVinoEmbedder)
    assert isinstance(load_embedder(settings(small_model, runtime="torch", device="cpu")), TorchEmbedder)


@with_openvino
def test_openvino_with_other_vectors_is_an_error_only_where_it_was_asked_for(small_model: Path) -> None:
    network = transformer(settings(small_model))

    def features(module: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
        given = network.features(module, batch)
        return given.flip(1) if torch.jit.is_tracing() else given

    odd: Network = dataclasses.replace(network, features=features)
    chosen = choice._fastest(settings(small_model, runtime="auto"), odd, "cpu")
    assert isinstance(chosen, TorchEmbedder)
    with pytest.raises(StartError, match=r"does not give the vectors.*LOOKALIKE_RUNTIME"):
        choice._fastest(settings(small_model, runtime="openvino"), odd, "cpu")


def test_openvino_asked_for_and_not_installed_is_an_error(
    small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice.openvino_embedder, "AVAILABLE", False)
    with pytest.raises(StartError, match=r"Install lookalike\[openvino\]"):
        load_embedder(settings(small_model, runtime="openvino"))
    assert isinstance(load_embedder(settings(small_model, runtime="auto", device="cpu")), TorchEmbedder)


@with_openvino
def test_openvino_and_a_gpu_exclude_each_other(small_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device(settings(small_model)) == "cuda"
    assert choose_device(settings(small_model, runtime="openvino")) == "cpu"
    with pytest.raises(StartError, match=r"on the CPU only.*LOOKALIKE_DEVICE"):
        load_embedder(settings(small_model, runtime="openvino", device="cuda"))


def test_a_model_that_cannot_embed_is_an_error_at_start(
    small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(module: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("a kernel is missing")

    network = dataclasses.replace(transformer(settings(small_model)), features=fail)
    with pytest.raises(StartError, match="loads but cannot embed a picture on the CPU: a kernel is missing"):
        choice._fastest(settings(small_model), network, "cpu")


@with_bf16
@with_openvino
def test_bf16_under_torch_goes_before_fp32_under_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    for able, kind in ((True, TorchEmbedder), (False, OpenVinoEmbedder)):  # OpenVINO keeps Lite2 in fp32
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: {"avx512_bf16": able})
        chosen = load_embedder(settings("efficientnet-lite2", runtime="auto", device="cpu"))
        assert isinstance(chosen, kind)
