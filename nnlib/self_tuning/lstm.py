"""How does a recurrent layer answer to hyperparameters? Each of its two maps is a linear layer with a best response.

Paper: arXiv 1903.03088, section 4.2 and appendix. Chapter: ``book/self_tuning.ipynb``.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional

from nnlib.arguments import shown, typed, whole
from nnlib.self_tuning.layers import Response
from nnlib.self_tuning.setting import RATE, Setting, kept

State = tuple[Tensor, Tensor]


def connect_mask(setting: Setting, name: str, weight: Tensor) -> Tensor:
    """DropConnect's mask of the hidden-to-hidden weights, (4H, H), at the rate of this name."""
    rate = setting.value(name, weight)
    return kept(rate if rate.ndim == 0 else rate[0], setting.uniform(weight.shape, weight))


def zeros(x: Tensor, hidden_size: int) -> State:
    """The state at the start of a text x (T, B, D)."""
    start = x.new_zeros(1, x.shape[1], hidden_size)
    return start, start


@typed
class LSTM(nn.LSTM):
    """One layer of torch's LSTM, with DropConnect on the hidden-to-hidden weights.

    Args:
        input_size: D.
        hidden_size: H.
        drop_connect: Name of the hyperparameter that is the rate, or None.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        ValueError: for a size that is not positive; in ``forward`` for inputs or states of another shape.

    Chapter: ``book/self_tuning.ipynb``.

    >>> output, (h, c) = LSTM(3, 5)(torch.zeros(7, 2, 3))
    >>> tuple(output.shape), tuple(h.shape)
    ((7, 2, 5), (1, 2, 5))
    """

    weight_ih_l0: nn.Parameter
    weight_hh_l0: nn.Parameter
    bias_ih_l0: nn.Parameter
    bias_hh_l0: nn.Parameter

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        drop_connect: str | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        whole(1, input_size=input_size, hidden_size=hidden_size)
        super().__init__(input_size, hidden_size, device=device, dtype=dtype)
        self.setting: Setting = Setting()
        self.drop_connect: str | None = drop_connect
        self.limits = {} if drop_connect is None else {drop_connect: RATE}

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """x (T, B, D), state (h, c) of (1, B, H) each, zero by default -> (T, B, H), state."""
        fit_sequence(x, state, self.input_size, self.hidden_size)
        if self.drop_connect is None or not self.training:
            return super().forward(x, state)
        W = self.weight_hh_l0 * connect_mask(self.setting, self.drop_connect, self.weight_hh_l0)
        weights = [self.weight_ih_l0, W, self.bias_ih_l0, self.bias_hh_l0]
        return run(x, zeros(x, self.hidden_size) if state is None else state, weights, self.training)


def fit_sequence(x: Tensor, state: State | None, features: int, hidden_size: int) -> None:
    """Refuse what is no batch of texts (T, B, D), or a state that is not its own."""
    if not isinstance(x, Tensor) or x.ndim != 3 or not x.numel() or x.shape[2] != features:
        raise ValueError(f"x must have shape (T, B, {features}), no axis empty: got {shown(x)}")
    wanted = (1, x.shape[1], hidden_size)
    if state is not None and not (len(state) == 2 and all(part.shape == wanted for part in state)):
        raise ValueError(
            f"state must be a pair (h, c) of shapes {wanted}, for this x: got {', '.join(map(shown, state))}"
        )


def run(x: Tensor, state: State, weights: list[Tensor], training: bool) -> tuple[Tensor, State]:
    """Torch's own LSTM, one layer, at weights of one's own: of the input, of the hidden state, and two biases."""
    output, h, c = torch.lstm(x, state, weights, True, 1, 0.0, training, False, False)
    return output, (h, c)


class ResponseLSTM(Response):
    """An LSTM with a best response in both maps; torch's order of gates (input, forget, cell, output).

    The masks of DropConnect are those of W and of W_r at once. ``weight`` and ``bias`` belong to the map of the input
    (the bias is the sum of torch's two), ``weight_hh`` to that of the hidden state.
    """

    ordinary = LSTM
    examples = 1
    bias: nn.Parameter
    weight_hh: nn.Parameter
    response_weight_hh: nn.Parameter
    gates_hh: nn.Parameter

    def __init__(self, layer: Any, n: int, gate_std: float, generator: torch.Generator):
        nn.Module.__init__(self)
        self.setting: Setting = Setting()
        self.options = self.read_options(layer)
        self.drop_connect: str | None = self.options["drop_connect"]
        self.limits = {} if self.drop_connect is None else {self.drop_connect: RATE}
        self.take(layer.weight_ih_l0, layer.bias_ih_l0 + layer.bias_hh_l0, "")
        self.take(layer.weight_hh_l0, None, "_hh")
        self.add_response("", self.weight, n, gate_std, generator, bias=True)
        self.add_response("_hh", self.weight_hh, n, gate_std, generator, bias=False)

    @staticmethod
    def read_options(layer: nn.LSTM) -> dict:
        plain = layer.num_layers == 1 and not layer.bidirectional and layer.proj_size == 0
        if not (plain and layer.bias and not layer.batch_first):
            raise ValueError(
                "an LSTM has a response with one layer, one direction, biases, and time as first dimension"
            )
        sizes = {"input_size": layer.input_size, "hidden_size": layer.hidden_size}
        return sizes | {"drop_connect": getattr(layer, "drop_connect", None)}

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        fit_sequence(x, state, self.options["input_size"], self.options["hidden_size"])
        r = self.setting.response
        if state is None:
            state = zeros(x, self.options["hidden_size"])
        W: Tensor = self.weight_hh
        W_r: Tensor = self.response_weight_hh
        if self.drop_connect is not None and self.training:
            mask = connect_mask(self.setting, self.drop_connect, self.weight_hh)
            W, W_r = W * mask, W_r * mask
        if r is None:
            return self.plain(x, state, W)
        self.fit(x, r)
        if self.setting.linear:
            return self.linearised(x, state, W.detach(), W_r, r)
        both = torch.cat([W, W_r])  # (8H, H): one product a step
        gates = r @ self.gates_hh.T  # (B, 4H)
        into = functional.linear(x, self.weight, self.bias) + self.answer(x, r)  # (T, B, 4H)
        h, c = state[0][0], state[1][0]
        outputs = []
        for step in into:
            plain, response = (h @ both.T).chunk(2, 1)
            i, f, g, o = torch.addcmul(step + plain, gates, response).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            outputs.append(h)
        return torch.stack(outputs), (h[None], c[None])

    def plain(self, x: Tensor, state: State, W: Tensor) -> tuple[Tensor, State]:
        """Torch's own LSTM, with the ordinary weights."""
        return run(x, state, [self.weight, W, self.bias, torch.zeros_like(self.bias)], self.training)

    def answer(self, x: Tensor, r: Tensor) -> Tensor:
        """What the map of the input answers to r: (T, B, 4H)."""
        return (r @ self.bias_gates.T) * self.response_bias + (r @ self.gates.T) * functional.linear(
            x, self.response_weight
        )

    def linearised(self, x: Tensor, state: State, W: Tensor, W_r: Tensor, r: Tensor) -> tuple[Tensor, State]:
        """Outputs of the ordinary LSTM and their derivatives along r, as pairs of forward mode.

        The outputs come from torch's LSTM, so that everything but the recursion of the derivatives is one product for
        all times: d pre_t = known_t + W dh_{t-1};  dc_t = f dc_{t-1} + c_{t-1} df + g di + i dg;  dh_t = tanh(c) do +
        o (1 - tanh(c)²) dc_t.
        """
        x, dx = forward_ad.unpack_dual(x)
        with torch.no_grad():
            output, last = self.plain(x, state, W)
            before = torch.cat([state[0], output[:-1]])  # h_{t-1}, (T, B, H)
            i, f, g, o = (functional.linear(x, self.weight, self.bias) + before @ W.T).chunk(4, 2)
            i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
            cells = [state[1][0]]
            for forget, new in zip(f, i * g, strict=True):
                cells.append(torch.addcmul(new, forget, cells[-1]))
            c, tanh = torch.stack(cells[:-1]), torch.stack(cells[1:]).tanh()
            slopes = torch.cat([g * i * (1 - i), c * f * (1 - f), i * (1 - g**2), tanh * o * (1 - o)], 2)
            through = o * (1 - tanh**2)
        known = self.answer(x, r) + (r @ self.gates_hh.T) * (before @ W_r.T)  # (T, B, 4H)
        if dx is not None:
            known = known + functional.linear(dx, self.weight.detach())
        dh = dc = torch.zeros_like(state[0][0])
        moved = []
        for pre, slope, forget, k in zip(known, slopes, f, through, strict=True):
            di, df, dg, do = (torch.addmm(pre, dh, W.T) * slope).chunk(4, 1)
            dc = torch.addcmul(di + df + dg, forget, dc)
            dh = torch.addcmul(do, k, dc)
            moved.append(dh)
        return forward_ad.make_dual(output, torch.stack(moved)), last

    def squared_norm(self, r: Tensor | None, end: str | None = None) -> Tensor:
        """Of both maps' weights."""
        return super().squared_norm(r, "") + super().squared_norm(r, "_hh")
