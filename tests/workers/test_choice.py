from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import pytest
import torch

from shared.errors import StartError
from tests.embedding import embed, encoded, settings, texture, with_bf16
from workers.embed import choice, choose_device, load_embedder
from workers.embed.embedder import TorchEmbedder
from workers.embed.lite2 import lite2
from workers.embed.network import Network
from workers.embed.openvino_embedder import AVAILABLE, OpenVinoEmbedder
from workers.embed.transformer import transformer

with_openvino = pytest.mark.skipif(not AVAILABLE, reason="OpenVINO is not installed (the extra `openvino`)")


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


def test_a_form_with_other_vectors_or_that_does_not_run_is_passed_over(
    small_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})

    def lean(module: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
        if dtype == torch.bfloat16:
            raise RuntimeError("no such kernel")
        for parameter in module.parameters():
            parameter.mul_(1.5)
        return module

    network = dataclasses.replace(transformer(settings(small_model)), lean=lean)
    with torch.no_grad(), caplog.at_level(logging.INFO, logger="lookalike.embed"):
        chosen = choice._fastest(settings(small_model), network, "cpu")
    plain = TorchEmbedder("plain", network, "cpu", torch.float32)
    files = [encoded(texture(seed)) for seed in range(3)]
    assert (embed(chosen, *files) * embed(plain, *files)).sum(axis=1).min() >= 0.99999
    assert "does not run as torch, packed, bf16" in caplog.text
    assert "no such kernel" in caplog.text


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
    with pytest.raises(StartError, match="loads but cannot embed a picture on cpu: a kernel is missing"):
        choice._fastest(settings(small_model), network, "cpu")


@with_bf16
@with_openvino
def test_bf16_under_torch_goes_before_fp32_under_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    for able, kind in ((True, TorchEmbedder), (False, OpenVinoEmbedder)):  # OpenVINO keeps Lite2 in fp32
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: {"avx512_bf16": able})
        chosen = load_embedder(settings("efficientnet-lite2", runtime="auto", device="cpu"))
        assert isinstance(chosen, kind)
