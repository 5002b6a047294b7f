"""How does a layer answer to hyperparameters? Its weights are an affine function of them, row by row.

For one example with response input r (n,):  W(r) = W + diag(V r) W_r,  b(r) = b + (C r) * b_r.
All examples of a batch have their own r: both matrix products run on the whole batch, the gates V r scale the second.

In the network that is linear in its response, f(x; w) + J Theta r, W is fixed and inputs are pairs (x, dx):
y = W x + b  and  dy = W dx + diag(V r) W_r x + (C r) * b_r.  Only dy has a gradient.

Paper: arXiv 1903.03088, section 3.2. Chapter: ``book/self_tuning.ipynb``.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional

from nnlib.self_tuning.setting import Setting


class Response(nn.Module):
    """The part of a layer that answers: gates and a second set of weights; beside it, the layer's ordinary weights.

    ``weight`` and ``bias`` are the ordinary ones, W and b; ``response_weight`` and ``response_bias`` are W_r and b_r;
    ``gates`` V and ``bias_gates`` C have shape (out, n).

    Args:
        layer: Ordinary layer whose weights are taken over (copied).
        n: Number of hyperparameters.
        gate_std: Standard deviation of V and C at the start: 0 for Delta-STN, 0.01 for STN.
        generator: Of the start, on the CPU.
    """

    ordinary: type[nn.Module]
    examples = -2  # the axis of the input that counts them
    name = ""  # in the network
    weight: nn.Parameter
    bias: nn.Parameter | None
    response_weight: nn.Parameter
    response_bias: nn.Parameter
    gates: nn.Parameter
    bias_gates: nn.Parameter

    def __init__(self, layer: Any, n: int, gate_std: float, generator: torch.Generator):
        super().__init__()
        self.setting: Setting = Setting()
        self.options = self.read_options(layer)
        self.take(layer.weight, layer.bias if isinstance(getattr(layer, "bias", None), Tensor) else None, "")
        self.add_response("", self.weight, n, gate_std, generator, self.bias_of("") is not None)

    @staticmethod
    def read_options(layer: Any) -> dict[str, Any]:
        """What makes an ordinary layer of this kind again; refuses what can't answer."""
        raise NotImplementedError

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """What an ordinary layer computes."""
        raise NotImplementedError

    def take(self, weight: Tensor, bias: Tensor | None, end: str) -> None:
        """Copy an ordinary weight and bias; ``end`` tells several pairs of one layer apart."""
        setattr(self, f"weight{end}", nn.Parameter(weight.detach().clone()))
        copied = None if bias is None else nn.Parameter(bias.detach().clone(), bias.requires_grad)
        self.register_parameter(f"bias{end}", copied)

    def bias_of(self, end: str) -> Tensor | None:
        return getattr(self, f"bias{end}")

    def add_response(
        self, end: str, weight: Tensor, n: int, gate_std: float, generator: torch.Generator, bias: bool
    ) -> None:
        """Start W_r, and b_r where there is a bias, uniformly, and V and C at the scale ``gate_std``."""
        out, fan_in = weight.shape[0], weight[0].numel()
        bound = self.bound(fan_in)

        def uniform(*shape: int) -> Tensor:
            return (2 * torch.rand(*shape, generator=generator, device="cpu", dtype=torch.float64) - 1) * bound

        def gates() -> Tensor:
            return gate_std * torch.randn(self.gated(weight), n, generator=generator, device="cpu", dtype=torch.float64)

        found = {"response_weight": uniform(*weight.shape), "gates": gates()}
        if bias:
            found |= {"response_bias": uniform(out), "bias_gates": gates()}
        for name, tensor in found.items():
            setattr(self, f"{name}{end}", nn.Parameter(tensor.to(weight)))

    def forward(self, x: Tensor) -> Tensor:
        r = self.setting.response
        if r is None:
            return self.product(x, self.weight, self.bias)
        gates = self.spread(r @ self.gates.T)  # (B, out): they scale the rows of W_r
        shift = None if self.bias is None else self.spread((r @ self.bias_gates.T) * self.response_bias)
        self.fit(x, r)
        if self.setting.linear:
            x, dx = forward_ad.unpack_dual(x)
            answer = gates * self.product(x, self.response_weight, None)
            dy = answer if dx is None else answer + self.product(dx, self.weight.detach(), None)
            y = self.product(x.detach(), self.weight, self.bias).detach()
            return forward_ad.make_dual(y, dy if shift is None else dy + shift)
        y = torch.addcmul(self.product(x, self.weight, self.bias), gates, self.product(x, self.response_weight, None))
        return y if shift is None else y + shift

    def fit(self, x: Tensor, r: Tensor) -> None:
        """Refuse an input that has not the examples of r (B, n) along the axis that counts them.

        Of a sequence (B, T, in) with B = T no layer could tell; where the network's own input was no text (T, B), it
        is refused too.
        """
        B, at = len(r), self.examples
        found = x.shape[at] if x.ndim >= abs(at) else None
        either = at == -2 and x.ndim > 2 and found == x.shape[0] and not self.setting.text
        if B > 1 and (found != B or either):
            axes = {-2: "(..., B, features)", -1: "(..., B)", 0: "(B, channels, H, W)", 1: "(T, B, features)"}[at]
            advice = "; let sequences be (T, B, features)" if at == -2 else ""
            raise ValueError(
                f"layer {self.name!r} answers to each of {B} examples: its input x must have shape {axes}, got "
                f"{tuple(x.shape)}{advice}"
            )

    @staticmethod
    def spread(gates: Tensor) -> Tensor:
        """Gates (B, out) so that they broadcast over an output."""
        return gates

    @staticmethod
    def bound(fan_in: int) -> float:
        """Largest entry of W_r and b_r at the start."""
        return 1 / math.sqrt(fan_in)

    @staticmethod
    def gated(weight: Tensor) -> int:
        """Number of gates: one for each output."""
        return weight.shape[0]

    def at(self, r: Tensor, end: str = "") -> tuple[Tensor, Tensor | None]:
        """Ordinary weight and bias at one response input r (n,)."""
        get = lambda name: getattr(self, f"{name}{end}")  # noqa: E731
        gate = (get("gates") @ r).view(-1, *[1] * (get("weight").ndim - 1))  # (out, 1, ...)
        weight = get("weight") + gate * get("response_weight")
        return weight, None if get("bias") is None else get("bias") + get("bias_gates") @ r * get("response_bias")

    def squared_norm(self, r: Tensor | None, end: str = "") -> Tensor:
        """|W(r)|² of each example, (B,), or () without a response; biases are left out.

        |W + diag(g) W_r|² = |W|² + sum_i 2 g_i <W_i, W_r,i> + g_i² |W_r,i|²: nothing of size B x out x in is made.
        """
        W, W_r = (getattr(self, f"{name}{end}").flatten(1) for name in ("weight", "response_weight"))
        if r is None:
            return W.square().sum()
        g = r @ getattr(self, f"gates{end}").T  # (B, out)
        return W.square().sum() + g @ (2 * (W * W_r).sum(1)) + g.square() @ W_r.square().sum(1)


class ResponseLinear(Response):
    """A linear layer with a best response: x (..., B, in) -> (..., B, out)."""

    ordinary = nn.Linear

    @staticmethod
    def read_options(layer: nn.Linear) -> dict:
        return {"in_features": layer.in_features, "out_features": layer.out_features, "bias": layer.bias is not None}

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional.linear(x, weight, bias)


class ResponseConv2d(Response):
    """A convolution with a best response, one gate an output channel: x (B, in, H, W) -> (B, out, H', W')."""

    ordinary = nn.Conv2d
    examples = 0

    @staticmethod
    def read_options(layer: nn.Conv2d) -> dict:
        names = ("in_channels out_channels kernel_size stride padding dilation groups padding_mode").split()
        if layer.padding_mode != "zeros":
            raise ValueError(f"only convolutions padded with zeros have a response: got {layer.padding_mode!r}")
        return {name: getattr(layer, name) for name in names} | {"bias": layer.bias is not None}

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        how = [self.options[name] for name in ("stride", "padding", "dilation", "groups")]
        return functional.conv2d(x, weight, bias, *how)

    @staticmethod
    def spread(gates: Tensor) -> Tensor:
        return gates[..., None, None]


class ResponseEmbedding(Response):
    """An embedding with a best response, one gate a feature: ids (..., B) -> (..., B, features)."""

    ordinary = nn.Embedding
    examples = -1

    @staticmethod
    def read_options(layer: nn.Embedding) -> dict:
        if layer.padding_idx is not None or layer.max_norm is not None:
            raise ValueError("an embedding with padding_idx or max_norm has no response")
        return {"num_embeddings": layer.num_embeddings, "embedding_dim": layer.embedding_dim}

    @staticmethod
    def bound(fan_in: int) -> float:
        return 0.1

    @staticmethod
    def gated(weight: Tensor) -> int:
        return weight.shape[1]

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional.embedding(x, weight)

    def at(self, r: Tensor, end: str = "") -> tuple[Tensor, None]:
        return self.weight + (self.gates @ r) * self.response_weight, None

    def squared_norm(self, r: Tensor | None, end: str = "") -> Tensor:
        W, W_r = self.weight, self.response_weight
        if r is None:
            return W.square().sum()
        g = r @ self.gates.T  # (B, features)
        return W.square().sum() + g @ (2 * (W * W_r).sum(0)) + g.square() @ W_r.square().sum(0)
