"""How many of timm's architectures lose filters rightly? Each is pruned, or refused by name, and compared with itself.

    python benchmarks/timm_models.py

timm is downloaded into a temporary folder and imported from there, without what it depends on: torchvision,
huggingface_hub and safetensors are stubs, for no weights are loaded. The architectures are those of
``timm_models.txt``, at random weights, in double precision, one at a time. Right is a network that says what the
original says when a removed filter's channel is set to zero behind its layer, and wherever a normalisation or a
depthwise convolution would make something else of it.
"""

import copy
import gc
import re
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from nnlib.eigendamage import prunable, remove_filters

VERSION = "1.0.31"
NEEDED = 20  # of them must be right
SIZE = 64  # pixels


class Anything(type):
    """A class that has a constant of every name."""

    def __getattr__(cls, name: str):
        if not name.isupper():
            raise AttributeError(name)
        return name


class Stub(types.ModuleType):
    """A module in which every name is a class without content."""

    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything(name, (nn.Module,), {})


def stub() -> None:
    """Let timm be imported without its dependencies."""
    names = "torchvision torchvision.ops torchvision.ops.misc torchvision.models torchvision.models.feature_extraction "
    names += "torchvision.transforms torchvision.transforms.functional torchvision.datasets torchvision.utils "
    names += "huggingface_hub huggingface_hub.utils safetensors safetensors.torch"
    for name in names.split():
        parent, _, last = name.rpartition(".")
        sys.modules[name] = Stub(name)
        if parent:
            setattr(sys.modules[parent], last, sys.modules[name])


def randomised(model: nn.Module) -> nn.Module:
    """Scales, shifts and statistics of normalisations that are not 0 and 1, which hide mistakes."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor, low in ((module.weight, 0.5), (module.bias, -0.3), (module.running_mean, -0.3)):
                tensor.data.copy_(low + torch.rand(tensor.shape, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=generator))
    return model.double().eval()


def drawn(model: nn.Module, names: list[str]) -> dict[str, torch.Tensor]:
    """About seven of ten filters of each layer."""
    generator, kept = torch.Generator().manual_seed(1), {}
    for name in names:
        kept[name] = torch.rand(len(model.get_submodule(name).weight), generator=generator) < 0.7
        kept[name][0] = True
    return kept


ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Hardswish, nn.Mish)


def masked(model: nn.Module, kept: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """What the original says with zeros for the removed channels.

    Behind normalisations and depthwise convolutions a channel is removed that comes in as zero everywhere; whether it
    does is found in a copy without activations, which would make zeros of their own.
    """
    alive: dict[str, torch.Tensor] = {}
    bare = copy.deepcopy(model)
    for name, module in list(bare.named_modules()):
        if isinstance(module, ACTIVATIONS):
            bare.set_submodule(name, nn.Identity())

    def shaped(mask: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        return mask.view(1, -1, *[1] * (out.ndim - 2))

    def zero(name: str):
        return lambda layer, args, out: out * shaped(kept[name], out)

    def find(name: str):
        def hook(layer, args, out):
            alive[name] = (args[0] != 0).transpose(0, 1).flatten(1).any(1)
            return out * shaped(alive[name], out)

        return hook

    def use(name: str):
        return lambda layer, args, out: out * shaped(alive[name], out)

    for network, behind in ((bare, find), (model, use)):
        handles = []
        for name, module in network.named_modules():
            if name in kept:
                handles.append(module.register_forward_hook(zero(name)))
            depthwise = isinstance(module, nn.Conv2d) and module.groups == module.in_channels == module.out_channels > 1
            if isinstance(module, nn.modules.batchnorm._BatchNorm) or depthwise:
                handles.append(module.register_forward_hook(behind(name)))
        expected = network(x)
        for handle in handles:
            handle.remove()
    return expected


@torch.no_grad()
def tried(name: str) -> str:
    """``right`` and the share of parameters that are left, ``refused`` and why, or ``WRONG``."""
    import timm

    model = randomised(timm.create_model(name, pretrained=False, num_classes=10))
    x = torch.randn(2, 3, SIZE, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    try:
        kept = drawn(model, prunable(model, x))
        pruned = remove_filters(model, x, kept)
    except ValueError as error:
        return f"refused: {error}"
    expected = masked(model, kept, x)
    error = ((pruned(x) - expected).abs().max() / expected.abs().max()).item()
    changed = ((model(x) - expected).abs().max() / expected.abs().max()).item()
    left, all_ = (sum(p.numel() for p in net.parameters()) for net in (pruned, model))
    verdict = "right" if error < 1e-9 < 1e-6 < changed else "WRONG"
    return f"{verdict}: off by {error:.0e}, changed by {changed:.0e}, {left / all_:.0%} of {all_ / 1e6:.1f} M left"


def main() -> None:
    stub()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, f"timm=={VERSION}"]
        subprocess.run(command, check=True)
        sys.path.insert(0, str(next(Path(folder).glob("timm-*.whl"))))  # a wheel of Python files is imported as it is
        compare()


def compare() -> None:
    torch.set_num_threads(1)
    chosen = sys.argv[1:] or Path(__file__).with_suffix(".txt").read_text().split()
    found = {}
    for name in chosen:
        start = time.perf_counter()
        found[name] = tried(name)
        gc.collect()
        print(f"{name:28} {time.perf_counter() - start:5.1f} s  {found[name]}", flush=True)
    right = sum(verdict.startswith("right") for verdict in found.values())
    wrong = [name for name, verdict in found.items() if not re.match("right|refused", verdict)]
    print(f"{right} of {len(found)} right, {len(wrong)} wrong {wrong}, the rest refused by name")
    if wrong or (not sys.argv[1:] and right < NEEDED):
        sys.exit(1)


if __name__ == "__main__":
    main()
