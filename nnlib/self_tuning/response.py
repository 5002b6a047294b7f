"""From an ordinary network to its best response, and back.

Paper: arXiv 1903.03088, section 3. Chapter: ``book/self_tuning.ipynb``.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from nnlib.arguments import seeded, shown, typed, within
from nnlib.plain import tied, why_not_plain
from nnlib.self_tuning.hyperparameters import Hyperparameter, Space
from nnlib.self_tuning.layers import Response, ResponseConv2d, ResponseEmbedding, ResponseLinear
from nnlib.self_tuning.lstm import LSTM, ResponseLSTM
from nnlib.self_tuning.setting import Setting, limits_of, set_values, share

KINDS = {
    nn.Linear: ResponseLinear,
    nn.Conv2d: ResponseConv2d,
    nn.Embedding: ResponseEmbedding,
    nn.LSTM: ResponseLSTM,
    LSTM: ResponseLSTM,
}


@typed
def respond(
    network: nn.Module,
    hypers: Sequence[Hyperparameter],
    *,
    fixed: Mapping[str, float] | None = None,
    gate_std: float = 0.0,
    seed: int = 0,
) -> "BestResponse":
    """The best-response version of a network; it copies the network's weights.

    Linear, Conv2d, Embedding and LSTM layers answer to the hyperparameters; all else stays as it is (a normalisation
    layer has the same weights for every value). So does a layer whose weights require no gradient: it stays frozen.

    Args:
        network: Ordinary network; regularisers of this package in it get their values from the tuner.
        hypers: What it answers to.
        fixed: Values of regularisers that are not tuned, by name.
        gate_std: Standard deviation of the gates at the start. With 0 the network is at first the ordinary one for
            every value; the paper's STN starts at 0.01.
        seed: Of the response's start.

    Returns:
        A module that is called like the network.

    Raises:
        TypeError: for an argument of another class.
        ValueError: where no layer can answer, two share a weight, one carries hooks or is of a kind that can't (its
            message says so), or a regulariser can't have all values of a hyperparameter's range.

    Source: arXiv 1903.03088, section 3.2. Chapter: ``book/self_tuning.ipynb``.

    >>> from nnlib.models import MLP
    >>> decay = Hyperparameter("weight_decay", (0, None), init=1e-3)
    >>> network = MLP((64, 32, 10), seed=0)
    >>> model = respond(network, [decay])
    >>> x = torch.rand(5, 64)
    >>> torch.equal(model(x), network(x)), torch.equal(model.ordinary({"weight_decay": 0.1})(x), network(x))
    (True, True)
    """
    within("[0, inf)", gate_std=gate_std)
    generator = seeded(seed)
    for one, other in tied(network).items():
        raise ValueError(
            f"{one} and {other} of the network share a weight: let one layer hold it and the other read it"
        )
    space, n = Space(hypers, fixed), len(hypers)
    _check_limits(network, space)
    for name, layer in network.named_modules():
        if _answers(layer) and (why := why_not_plain(layer, known=(LSTM,))):
            raise ValueError(f"layer {name!r} has no response: {why}")
    network = replace(copy.deepcopy(network), lambda x: KINDS[type(x)](x, n, gate_std, generator), _answers)
    return BestResponse(network, space)


def _answers(layer: nn.Module) -> bool:
    """Whether a layer's weights are trained and can be a function of hyperparameters."""
    return type(layer) in KINDS and any(p.requires_grad for name, p in layer.named_parameters() if "weight" in name)


def _check_limits(network: nn.Module, space: Space) -> None:
    limits = limits_of(network)
    ranges = {hyper.name: hyper.range for hyper in space.hypers} | {name: (v, v) for name, v in space.fixed.items()}
    for name, (low, high) in ranges.items():
        least, most = limits.get(name, (-math.inf, math.inf))
        if not (least <= (-math.inf if low is None else low) and (math.inf if high is None else high) <= most):
            raise ValueError(f"{name!r} must be from {least:g} to {most:g} in this network: got {(low, high)}")


def replace(
    network: nn.Module, make: Callable[[nn.Module], nn.Module], which: Callable[[nn.Module], bool]
) -> nn.Module:
    """Put ``make(layer)`` in the place of each layer that is one of those; the network may be one itself."""
    if which(network):
        return make(network)
    for name, layer in list(network.named_modules()):
        if which(layer):
            network.set_submodule(name, make(layer))
    return network


@typed
class BestResponse(nn.Module):
    """A network whose weights are a function of hyperparameters: w(u) = w_0 + Theta (u - centre). Made by ``respond``.

    Attributes:
        network: The network with response layers.
        space: The hyperparameters.
        centre: Coordinates (n,) at which the response is zero: the current ones for Delta-STN, 0 for STN.
        setting: What all layers see; the tuner changes it.

    Raises:
        ValueError: for a network without a layer that answers.
    """

    centre: Tensor

    def __init__(self, network: nn.Module, space: Space):
        super().__init__()
        self.network, self.space = network, space
        for name, layer in network.named_modules():
            if isinstance(layer, Response):
                layer.name = name
        if not any(self.layers()):
            raise ValueError("the network has no Linear, Conv2d, Embedding or LSTM layer that could answer")
        like = next(network.parameters())
        self.register_buffer("centre", torch.zeros(len(space), device=like.device, dtype=like.dtype))
        self.setting = Setting(space.used(self.start()))
        share(network, self.setting)

    def start(self) -> Tensor:
        """Coordinates (n,) of the hyperparameters' starts."""
        initial = {hyper.name: hyper.init for hyper in self.space.hypers}
        return self.space.unconstrained(initial, device=self.centre.device, dtype=self.centre.dtype)

    def forward(self, *inputs: Any) -> Any:
        ids = inputs[0] if inputs and isinstance(inputs[0], Tensor) else None
        self.setting.text = ids is not None and ids.ndim == 2 and not ids.is_floating_point()
        return self.network(*inputs)

    def layers(self) -> Iterator[Response]:
        """The layers that answer."""
        return (module for module in self.network.modules() if isinstance(module, Response))

    def base_parameters(self) -> list[nn.Parameter]:
        """w_0: all that an ordinary network has."""
        answering = {id(parameter) for parameter in self.response_parameters()}
        return [parameter for parameter in self.network.parameters() if id(parameter) not in answering]

    def response_parameters(self) -> list[nn.Parameter]:
        """Theta: gates and response weights."""
        answers = ("response_", "gates", "bias_gates")
        return [p for layer in self.layers() for name, p in layer.named_parameters() if name.startswith(answers)]

    def squared_norm(self) -> Tensor:
        """|w|² over the weights (not the biases) of all answering layers, at the present setting: (B,) or ()."""
        r = self.setting.response
        return cast(Tensor, sum(layer.squared_norm(r) for layer in self.layers()))

    def place(self, u: Tensor, response: Tensor | None) -> dict[str, Tensor]:
        """Let all layers see hyperparameters, and what their weights answer to.

        Args:
            u: Coordinates, (n,) or one for each example, (B, n): regularisers see their values, without a gradient.
            response: Input of the best response, (B, n), u - centre for w(u); None for w_0.

        Returns:
            The values by name, for a training loss: as numbers, without a gradient.
        """
        self.setting.response, self.setting.values = response, self.space.used(u)
        return self.setting.values

    @typed
    def ordinary(self, values: Mapping[str, float], generator: torch.Generator | None = None) -> nn.Module:
        """An ordinary network with the weights that answer to these values; its regularisers have these values too.

        Args:
            values: By name, inside their ranges, or on an end, as rounding may put what a tuner found.
            generator: Of the regularisers' masks from here on.

        Raises:
            ValueError: for names or values that the hyperparameters do not have.
        """
        inside, ends = self.space.inside(values)
        u = self.space.unconstrained(inside, device=self.centre.device, dtype=self.centre.dtype)
        r = u - self.centre
        with torch.no_grad():
            network = replace(copy.deepcopy(self.network), lambda layer: _plain(layer, r), _is_response)
        used = {name: float(value) for name, value in self.space.used(u).items()}
        used |= {
            hyper.name: float(hyper.used(torch.tensor(float(values[hyper.name]), dtype=torch.float64)))
            for hyper in self.space.hypers
            if hyper.name in ends
        }
        set_values(network, used, generator)
        return network.train(self.training)


def _is_response(layer: nn.Module) -> bool:
    return isinstance(layer, Response)


@typed
def squared_norm(network: nn.Module) -> Tensor:
    """|w|² of an ordinary network: over the weights, not the biases, of the layers that a best response answers with.

    Raises:
        ValueError: for a network without such a layer.

    >>> layer = nn.Linear(2, 1)
    >>> _ = nn.init.ones_(layer.weight)
    >>> squared_norm(layer).item()
    2.0
    """
    parts: list[Tensor] = []
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.Embedding):
            parts.append(layer.weight.square().sum())
        elif isinstance(layer, nn.LSTM):
            parts += [cast(Tensor, weight).square().sum() for weight in (layer.weight_ih_l0, layer.weight_hh_l0)]
    if not parts:
        raise ValueError(f"network must have a Linear, Conv2d, Embedding or LSTM layer: got {shown(network)}")
    return cast(Tensor, sum(parts))


def _plain(layer: Any, r: Tensor) -> nn.Module:
    """The ordinary layer at response input r (n,)."""
    weight, bias = layer.at(r)
    plain = layer.ordinary(**layer.options, device=weight.device, dtype=weight.dtype)
    if isinstance(layer, ResponseLSTM):
        found = {"weight_ih_l0": weight, "bias_ih_l0": bias, "bias_hh_l0": torch.zeros_like(bias)}
        found["weight_hh_l0"] = layer.at(r, "_hh")[0]
    else:
        found = {"weight": weight} | ({} if bias is None else {"bias": bias})
    for name, tensor in found.items():
        getattr(plain, name).copy_(tensor)
    if bias is not None and not layer.bias.requires_grad:
        plain.bias.requires_grad_(False)
    return plain
