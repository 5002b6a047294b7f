"""Other people's networks and loops at every public entry point of the curvature: right, or refused by name.

A situation is a network that computes the same function as :class:`Plain`, with the same three layers, in a way that
users write. What an entry point says of these layers must then be what it says of ``Plain``, which the chapter's own
tests hold against slow oracles; or it is a ValueError that names the layer, the argument or the shape.
"""

import copy
import io
import math
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from nnlib.curvature import (
    KFAC,
    Eigenbasis,
    blocks,
    dense_fisher,
    factors,
    gauss_newton_norm,
    jacobian,
    jacobian_norm,
    kfac_norm,
    layer_index,
    rescale,
)
from nnlib.eigendamage import prune
from nnlib.noisy_ekfac import OPTIMIZERS, NoisyEKFAC
from nnlib.self_tuning import Hyperparameter, SelfTuner, respond
from nnlib.training import Split
from tests.oracles.curvature import draw, randomised
from tests.oracles.user_models import MODELS, Alone, build

LAYERS = ["a", "b", "c"]
EVERY_STEP = dict(update_factors_every=1, update_inverses_every=1)


class Plain(nn.Module):
    """(B, 4) -> (B, 3)."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.c(self.b(self.a(x).tanh()).tanh())


class Keyword(Plain):
    def forward(self, x):
        return self.c(input=self.b(input=self.a(input=x).tanh()).tanh())


class InPlace(Plain):
    def forward(self, x):
        return self.c(self.b(self.a(x).tanh_()).tanh_())


class Unused(Plain):
    def __init__(self):
        super().__init__()
        self.extra = nn.Linear(6, 2)


class Discarded(Unused):
    def forward(self, x):
        self.extra(self.a(x).tanh())
        return super().forward(x)


class Rarely(Unused):
    """The extra layer is called in every second pass, with no effect but through its own output, times zero."""

    passes = 0

    def forward(self, x):
        self.passes += 1
        f = super().forward(x)
        return f + 0 * self.extra(self.a(x).tanh()).sum(1, keepdim=True) if self.passes % 2 == 0 else f


class Checkpointed(Plain):
    def forward(self, x):
        return self.c(checkpoint(lambda h: self.b(h).tanh(), self.a(x).tanh(), use_reentrant=False))


class Reentrant(Plain):
    def forward(self, x):
        return self.c(checkpoint(lambda h: self.b(h).tanh(), self.a(x).tanh(), use_reentrant=True))


class Tuple(Plain):
    def forward(self, x):
        return super().forward(x), x


class Dict(Plain):
    def forward(self, x):
        return {"aux": x.sum(), "logits": super().forward(x)}


class Own(nn.Linear):
    def forward(self, x):
        return super().forward(x)


class OwnForward(Plain):
    """The middle layer has a forward of its own: what it computes is not known from its class."""

    def __init__(self):
        super().__init__()
        self.b = Own(6, 6)


class Parametrised(Plain):
    def __init__(self):
        super().__init__()
        self.b = torch.nn.utils.parametrizations.weight_norm(nn.Linear(6, 6))


class Hooked(Plain):
    """A user's hook doubles the middle layer's output; the rest of the network halves it."""

    def __init__(self):
        super().__init__()
        self.b.register_forward_hook(_doubled)

    def forward(self, x):
        return self.c((self.b(self.a(x).tanh()) / 2).tanh())


def _doubled(module, args, output):
    return 2 * output


class Tied(Plain):
    """A second layer, without effect, has the middle one's weight."""

    def __init__(self):
        super().__init__()
        self.again = nn.Linear(6, 6)
        self.again.weight = self.b.weight

    def forward(self, x):
        return super().forward(x) + 0 * self.again(self.a(x)).sum(1, keepdim=True)


class Stochastic(Plain):
    """A branch that is left out in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.skip = nn.Linear(6, 6)

    def forward(self, x):
        h = self.b(self.a(x).tanh()).tanh()
        return self.c(h + 0 * self.skip(h) if self.training else h)


class Frozen(Plain):
    def __init__(self):
        super().__init__()
        self.a.requires_grad_(False)


class AllFrozen(Plain):
    def __init__(self):
        super().__init__()
        self.requires_grad_(False)


def of(kind):
    """A network of this kind with the weights of ``Plain``."""
    plain, model = randomised(Plain()), randomised(kind(), seed=1)
    with torch.no_grad():
        for name in LAYERS:
            mine, theirs = model.get_submodule(name), plain.get_submodule(name)
            if kind is Parametrised and name == "b":
                mine.weight = theirs.weight.detach()
            else:
                mine.weight.copy_(theirs.weight)
            mine.bias.copy_(theirs.bias)
    return model.eval()


X, Y = draw(5, 4), torch.arange(5) % 3
BASES = {
    name: Eigenbasis(torch.linalg.qr(draw(i, i, seed=i)).Q, torch.linalg.qr(draw(o, o, seed=9)).Q, draw(o, i))
    for name, o, i in (("a", 6, 5), ("b", 6, 7), ("c", 3, 7))
}


def found_by_factors(model, **options):
    blocks = factors(model, X, **options)
    return {f"{name} {part}": getattr(blocks[name], part) for name in LAYERS for part in "AS"}


def found_by_rescale(model, **options):
    return {name: basis.values for name, basis in rescale(model, X, BASES, **options).items()}


def found_by_jacobian(model):
    J = jacobian(model, X)
    return {name: J[:, :, layer_index(model, name)] for name in LAYERS}


def found_by_dense_fisher(model):
    F = dense_fisher(model, X)
    return {name: F[layer_index(model, name)][:, layer_index(model, name)] for name in LAYERS}


def moved_by_kfac(model, **options):
    """Three steps on the exact Fisher matrix; the network is in training mode."""
    optimizer = KFAC(model.train(), 0.1, 0.1, fisher="exact", **EVERY_STEP, **options)
    for _ in range(3):
        returned = model(X)
        f = options["output"](returned) if "output" in options else returned
        optimizer.zero_grad()
        F.cross_entropy(f, Y).backward()
        optimizer.step()
    return {name: p.detach().clone() for name, p in model.named_parameters() if name[0] in "abc" and name[1] == "."}


def moved_by_noisy_ekfac(model):
    optimizer = NoisyEKFAC(model.train(), 5, 0.1)
    for _ in range(2):
        with optimizer.sample():
            F.cross_entropy(model(X), Y).backward()
        optimizer.step()
    return {name: p.detach().clone() for name, p in model.named_parameters()}


ENTRIES = {
    "factors": found_by_factors,
    "factors of layers": lambda model: found_by_factors(model, layers=LAYERS),
    "rescale": found_by_rescale,
    "jacobian": found_by_jacobian,
    "dense_fisher": found_by_dense_fisher,
    "jacobian_norm": lambda model: {"": jacobian_norm(model, X)},
    "gauss_newton_norm": lambda model: {"": gauss_newton_norm(model, X)},
    "kfac_norm": lambda model: {"": kfac_norm(model, X)},
    "KFAC": moved_by_kfac,
    "NoisyEKFAC": moved_by_noisy_ekfac,
}
OF_ALL = ("factors", "kfac_norm")  # look at every layer
OF_THREE = ("factors of layers", "rescale")
DENSE = ("jacobian", "dense_fisher", "jacobian_norm", "gauss_newton_norm")
CURVATURE = OF_ALL + OF_THREE
RIGHT = None
# For each situation, what the entry points do: RIGHT, or the message of a refusal.
TABLE = {
    Keyword: dict.fromkeys(ENTRIES, RIGHT),
    InPlace: dict.fromkeys(ENTRIES, RIGHT),
    Checkpointed: dict.fromkeys((*CURVATURE, "KFAC", "NoisyEKFAC"), RIGHT),
    Hooked: dict.fromkeys((*CURVATURE, "KFAC", "NoisyEKFAC"), RIGHT),
    Unused: dict.fromkeys(OF_ALL, r"layer 'extra' was not called.*leave it out of `layers`")
    | dict.fromkeys(OF_THREE + DENSE + ("KFAC",), RIGHT)
    | {"NoisyEKFAC": "no gradient came to extra"},
    Discarded: dict.fromkeys(OF_ALL, "layer 'extra' has no influence on the output: leave it out of `layers`")
    | dict.fromkeys(OF_THREE + DENSE + ("KFAC",), RIGHT)
    | {"NoisyEKFAC": "no gradient came to extra"},
    Rarely: dict.fromkeys(OF_THREE + DENSE + ("KFAC",), RIGHT),
    Stochastic: dict.fromkeys(OF_ALL, "layer 'skip' was not called")
    | dict.fromkeys(OF_THREE + DENSE + ("KFAC",), RIGHT),
    Reentrant: dict.fromkeys(CURVATURE, "layer 'a' lies before a checkpoint with use_reentrant=True"),
    Frozen: dict.fromkeys(CURVATURE + DENSE, RIGHT) | {"NoisyEKFAC": "'a': it is frozen, at least in part"},
    AllFrozen: dict.fromkeys(CURVATURE + DENSE, RIGHT)
    | {"KFAC": "no layer to precondition", "NoisyEKFAC": "'a': it is frozen, at least in part; 'b': it is frozen"},
    Tuple: dict.fromkeys(ENTRIES, r"output must have shape \(batch, outputs\): got a tuple of 2"),
    Dict: dict.fromkeys(ENTRIES, r"output must have shape \(batch, outputs\): got a dict of 'aux', 'logits'"),
    OwnForward: dict.fromkeys(OF_THREE, "layer 'b' has no Kronecker block: Own computes its output in its own way"),
    Parametrised: dict.fromkeys(OF_THREE, RIGHT),
    Tied: dict.fromkeys(CURVATURE, "layer 'b' shares parameters with 'again'")
    | dict.fromkeys(("jacobian", "gauss_newton_norm", "jacobian_norm"), RIGHT)
    | {"NoisyEKFAC": "'b': it shares parameters with 'again'"},
}
CELLS = [(kind, entry, expected) for kind, row in TABLE.items() for entry, expected in row.items()]


@pytest.mark.parametrize(("kind", "entry", "expected"), CELLS, ids=[f"{k.__name__} {e}" for k, e, _ in CELLS])
def test_the_function_counts_and_not_how_it_is_written(kind, entry, expected):
    """Breaks if a class is trusted for what it computes, who trains decides what curves, or a call is missed."""
    model = of(kind)
    torch.testing.assert_close(_logits(model(X)), of(Plain)(X))
    if expected is not RIGHT:
        with pytest.raises(ValueError, match=expected):
            ENTRIES[entry](model)
        return
    required = {name: p.requires_grad for name, p in model.named_parameters()}
    found, reference = ENTRIES[entry](model), ENTRIES[entry](of(Plain))
    assert set(reference) <= set(found)
    for name, value in reference.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")
    assert {name: p.requires_grad for name, p in model.named_parameters()} == required


def _logits(returned):
    return (
        returned["logits"] if isinstance(returned, dict) else returned[0] if isinstance(returned, tuple) else returned
    )


@pytest.mark.parametrize("entry", [found_by_factors, found_by_rescale, moved_by_kfac])
@pytest.mark.parametrize("kind", [Tuple, Dict])
def test_an_output_function_takes_any_structure(kind, entry):
    """Breaks if it is forgotten at one of the three."""
    found, reference = entry(of(kind), output=_logits), entry(of(Plain))
    for name, value in reference.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("where", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("entry", [*CURVATURE, *DENSE])
def test_the_mode_of_gradients_does_not_matter(entry, where):
    model, reference = of(Plain), ENTRIES[entry](of(Plain))
    with where():
        x = X.clone()
        found = ENTRIES[entry](model)
        blocks = factors(model, x)
        norms = [jacobian(model, x).square().sum(), jacobian_norm(model, x), gauss_newton_norm(model, x)]
    for norm, f in zip(
        norms, (lambda m, x: jacobian(m, x).square().sum(), jacobian_norm, gauss_newton_norm), strict=True
    ):
        torch.testing.assert_close(norm, f(model, X))
    for name, value in reference.items():
        torch.testing.assert_close(found[name], value)
    torch.testing.assert_close(blocks["b"].A, factors(of(Plain), X)["b"].A)


def test_an_input_changed_in_place_after_the_layer_is_refused():
    """No gradient of the layer's own weight needs it, so autograd says nothing. Breaks if the hook trusts its input."""

    class Changing(Plain):
        def forward(self, x):
            h = x * 1
            f = self.c(self.b(self.a(h).tanh()).tanh())
            h.zero_()
            return f

    with pytest.raises(ValueError, match="layer 'a': its input was changed in place"):
        factors(of(Changing), X)


# Which axis counts the examples?


class Sequence(nn.Module):
    """(B, T, 4) -> (B, 3): each position by two layers, with a mixture over positions in between."""

    def __init__(self, layout, T):
        super().__init__()
        self.layout, self.a, self.b, self.mix, self.c = (
            layout,
            nn.Linear(4, 6),
            nn.Linear(6, 6),
            nn.Linear(T, T),
            nn.Linear(6, 3),
        )

    def each(self, layer, h):
        B, T, _ = h.shape
        match self.layout:
            case "batch first":
                return layer(h)
            case "time first":
                return layer(h.transpose(0, 1)).transpose(0, 1)
            case "flattened":
                return layer(h.reshape(B * T, -1)).view(B, T, -1)
            case "flattened, time first":
                return layer(h.transpose(0, 1).reshape(B * T, -1)).view(T, B, -1).transpose(0, 1)
            case "two by two":  # (2, B T / 2)-like: a window axis behind the examples
                return layer(h.view(B, 2, T // 2, -1)).view(B, T, -1)
            case "windows":  # windows are put into the batch
                return layer(h.view(B * 2, T // 2, -1)).view(B, T, -1)
            case "step by step":
                return torch.stack([layer(h[:, t]) for t in range(T)], 1)
            case "transposed and back":
                return layer(h.permute(1, 0, 2).contiguous()).permute(1, 0, 2)

    def forward(self, x):
        h = self.each(self.a, x).tanh()
        h = h + self.mix(h.transpose(1, 2)).transpose(1, 2)  # MLP-mixer: (B, channels, T)
        return self.c(self.each(self.b, h).tanh().mean(1))


@pytest.mark.parametrize("frames", [3, 4])
def test_images_of_a_sequence_in_the_batch_are_locations_of_their_example(frames):
    """(B, T, 1, 5, 5) through a convolution as (B T, ...) and as (T B, ...), against ordinary gradients."""

    class Video(nn.Module):
        def __init__(self, time_first):
            super().__init__()
            self.time_first, self.conv, self.last = time_first, nn.Conv2d(1, 3, 3), nn.Linear(3, 3)

        def forward(self, x):
            x = x.transpose(0, 1) if self.time_first else x
            h = self.conv(x.flatten(0, 1)).tanh().mean((2, 3)).unflatten(0, x.shape[:2])
            return self.last(h.mean(0 if self.time_first else 1))

    x = draw(4, frames, 1, 5, 5)
    for time_first in (False, True):
        model = randomised(Video(time_first))
        bases = {name: block.eigen() for name, block in factors(model, x).items()}
        F, index = dense_fisher(model, x), layer_index(model, "conv")
        Q, found = torch.kron(bases["conv"].Q_S, bases["conv"].Q_A), rescale(model, x, bases)["conv"].values
        torch.testing.assert_close(found.flatten(), (Q.T @ F[index][:, index] @ Q).diagonal())


def sequence(layout, T):
    return randomised(Sequence(layout, T))


LAYOUTS = [
    "time first",
    "flattened",
    "flattened, time first",
    "two by two",
    "windows",
    "step by step",
    "transposed and back",
]


@pytest.mark.parametrize("shape", [(3, 4), (4, 4), (2, 4), (1, 4), (8, 2)], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_has_the_curvature_of_the_batch_first_one(layout, shape):
    """Also where time and batch are equally long. Breaks if the first axis is taken for the examples unseen."""
    (B, T), names = shape, ["a", "b", "mix", "c"]
    x = draw(B, T, 4)
    one, other = sequence("batch first", T), sequence(layout, T)
    torch.testing.assert_close(one(x), other(x))
    expected, found = factors(one, x), factors(other, x)
    F, bases = dense_fisher(one, x), {name: block.eigen() for name, block in expected.items()}
    rescaled = rescale(other, x, bases)
    for name in names:
        torch.testing.assert_close(found[name].A, expected[name].A)
        torch.testing.assert_close(found[name].S, expected[name].S)
        index, Q = layer_index(one, name), torch.kron(bases[name].Q_S, bases[name].Q_A)
        diagonal = (Q.T @ F[index][:, index] @ Q).diagonal()
        torch.testing.assert_close(rescaled[name].values.flatten(), diagonal, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("inverse", ["factored", "ekfac"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_trained_alike(layout, inverse):
    x, y, moved = draw(4, 4, 4), torch.arange(4) % 3, []
    for model in (sequence("batch first", 4), sequence(layout, 4)):
        optimizer = KFAC(model, 0.1, 0.1, fisher="exact", inverse=inverse, **EVERY_STEP)
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        moved.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(moved[0], moved[1])


def test_a_layout_that_is_none_is_refused_with_the_shapes():
    """One example at a time, rows picked at random, outputs flattened behind a mixture of positions."""

    class OneByOne(Plain):
        def forward(self, x):
            return self.c(torch.cat([self.b(self.a(row[None]).tanh()) for row in x]).tanh())

    class Picked(Plain):
        def forward(self, x):
            return super().forward(x[[0, 1, 1, 2, 3, 4, 0]])[[0, 1, 3, 4, 5]]

    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.mixed = sequence("batch first", 4)

        def forward(self, x):
            h = self.mixed.a(x).tanh()
            return self.mixed.c(h + self.mixed.mix(h.transpose(1, 2)).transpose(1, 2)).flatten(0, 1)

    class Neighbours(Plain):  # of a graph whose nodes are the rows
        def forward(self, x):
            return super().forward(x) + super().forward(x).mean(0)

    with pytest.raises(ValueError, match=r"layer 'a': its input of shape \(5, 4\) can't be told apart"):
        factors(of(Neighbours), X)
    for model, x, shape in (
        (of(OneByOne), X, r"\(1, 4\)"),
        (of(Picked), X, r"\(7, 4\)"),
        (Flat(), draw(3, 4, 4), r"\(3, 4, 4\)"),
    ):
        with pytest.raises(ValueError, match=rf"input of shape {shape} can't be told apart into the \d+ examples"):
            factors(model, x)
        with pytest.raises(ValueError, match=rf"layer '(mixed\.)?a'.*{shape}"):
            KFAC(model.train(), 0.1)  # hooks live as long as the optimiser
            optimizer = KFAC(model, 0.1)
            model(x)
            del optimizer


def test_with_batchnorm_a_layout_that_the_lengths_leave_open_is_refused():
    """Examples see each other, so the graph can't be asked; lengths that leave one layout decide."""

    class Normed(nn.Module):
        def __init__(self, time_first):
            super().__init__()
            self.a, self.norm, self.c = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)
            self.time_first = time_first

        def forward(self, x):
            h = self.a(x.transpose(0, 1)).transpose(0, 1) if self.time_first else self.a(x)
            return self.c(self.norm(h.transpose(1, 2)).mean(2))

    one, other = randomised(Normed(False)), randomised(Normed(True))
    found, same = factors(one, draw(5, 3, 4)), factors(other, draw(5, 3, 4))
    bases = {name: block.eigen() for name, block in found.items()}
    for name in ("a", "c"):
        torch.testing.assert_close(found[name].S, same[name].S)
        first, second = (rescale(model, draw(5, 3, 4), bases)[name].values for model in (one, other))
        torch.testing.assert_close(first, second)
    with pytest.raises(ValueError, match=r"layer 'a'.*\(5, 5, 4\).*each other through 'norm'"):
        factors(one, draw(5, 5, 4))


# Likelihoods and precision


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("fisher", ["exact", "empirical", "sampled"])
def test_the_bernoulli_fisher_is_that_of_independent_logits(outputs, fisher):
    """One logit is softmax of (f, 0): F of the categorical likelihood with a second logit held at 0.

    Breaks for a variance that is not p (1 - p), or for targets drawn from another distribution.
    """
    model = randomised(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, outputs)))
    y = (draw(5, outputs, seed=3) > 0).double()
    options = {"y": y} if fisher == "empirical" else {}
    found = factors(model, X, fisher=fisher, likelihood="bernoulli", **options)["0"].S
    if fisher == "sampled":
        draws = [factors(model, X, fisher="sampled", likelihood="bernoulli", seed=s)["0"].S for s in range(400)]
        limit = factors(model, X, likelihood="bernoulli")["0"].S
        error = torch.stack(draws) - limit
        assert (error.mean(0) / error.std(0) * 20).abs().max() < 4
        return
    J, p = jacobian(model, X), model(X).sigmoid().detach()
    if fisher == "exact":
        expected = torch.einsum("bcp,bc,bcq->pq", J, p * (1 - p), J) / 5
    else:
        g = torch.einsum("bcp,bc->bp", J, p - y)
        expected = g.T @ g / 5
    torch.testing.assert_close(dense_fisher(model, X, "bernoulli", options.get("y")), expected)
    bias = [20, 21, 22, 23, 24]  # of the first layer: there x is 1, so that its block is S
    torch.testing.assert_close(found, expected[bias][:, bias])
    if (outputs, fisher) == (1, "exact"):
        two = nn.Sequential(model, _Beside())
        torch.testing.assert_close(factors(two, X)["0.0"].S, found)


class _Beside(nn.Module):
    def forward(self, f):
        return torch.cat([f, torch.zeros_like(f)], 1)


@pytest.mark.parametrize("fisher", ["sampled", "exact", "empirical"])
def test_one_logit_is_no_categorical_distribution(fisher):
    """Its softmax is 1, and S would be 0: a step of gradient descent in disguise."""
    model = nn.Sequential(nn.Linear(4, 1)).double()
    with pytest.raises(ValueError, match=r"two classes or more: got outputs of shape \(5, 1\).*'bernoulli'"):
        factors(model, X, fisher=fisher, y=Y * 0 if fisher == "empirical" else None)
    if fisher != "empirical":
        optimizer = KFAC(model, 0.1, fisher=fisher)
        with pytest.raises(ValueError, match="two classes or more"):
            model(X)
        del optimizer
    assert factors(model, X, fisher="gauss_newton_exact")["0"].S > 0


@pytest.mark.parametrize(
    ("likelihood", "y", "message"),
    [
        ("categorical", torch.tensor([0, 1, 2, 3, 0]), "classes from 0 to 2: got .*, 0 to 3"),
        ("categorical", torch.tensor([0, 1, -1, 0, 0]), "classes from 0 to 2: got .*, -1 to 1"),
        ("categorical", torch.zeros(5), "classes from 0 to 2: got torch.float32"),
        ("bernoulli", torch.full((5, 3), 2.0), r"y must lie in \[0, 1\].*got 2"),
        ("bernoulli", torch.zeros(5), r"y must have shape \(5, 3\)"),
    ],
)
def test_wrong_targets_are_refused(likelihood, y, message):
    with pytest.raises(ValueError, match=message):
        factors(of(Plain), X, fisher="empirical", likelihood=likelihood, y=y)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_targets_are_drawn_in_single_precision_also_from_half_precision_outputs(dtype):
    """1,000 classes alike: chi-squared of 20,000 draws. In bfloat16 half of the classes would never come."""
    from nnlib.curvature.outputs import output_vectors

    f = torch.zeros(20_000, 1000, dtype=dtype)
    vectors = output_vectors(f, "sampled", "categorical", None, torch.Generator().manual_seed(0))
    assert vectors.dtype == torch.float32
    counts = vectors[0].argmin(1).bincount(minlength=1000).double()
    chi2 = ((counts - 20) ** 2 / 20).sum()
    assert abs(chi2 - 999) < 4 * math.sqrt(2 * 999)


@pytest.mark.parametrize("inverse", ["factored", "exact", "ekfac"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("how", ["autocast", "model"])
def test_statistics_of_half_precision_are_in_single_precision(how, dtype, inverse):
    """Near those of a float32 network; and training goes on. Also where the step itself is under autocast."""
    plain, model, x = of(Plain).float(), of(Plain).float(), X.float()
    if how == "model":
        model = model.to(dtype)
    autocast = torch.autocast("cpu", dtype, enabled=how == "autocast")
    with autocast:
        found = factors(model, x if how == "autocast" else x.to(dtype))
        bases = {name: block.eigen() for name, block in found.items()}
        values = rescale(model, x if how == "autocast" else x.to(dtype), bases)
    for name, block in factors(plain, x).items():
        assert found[name].A.dtype == found[name].S.dtype == values[name].values.dtype == torch.float32
        torch.testing.assert_close(found[name].S, block.S, rtol=0, atol=0.05 * float(block.S.abs().max()))
        torch.testing.assert_close(found[name].A, block.A, rtol=0, atol=0.05 * float(block.A.abs().max()))
    optimizer = KFAC(model.train(), 0.1, 0.1, inverse=inverse, **EVERY_STEP)
    losses = []
    for _ in range(10):
        with autocast:
            loss = F.cross_entropy(model(x if how == "autocast" else x.to(dtype)).float(), Y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert optimizer.curvature["b"].factors.A.dtype == torch.float32


def test_outputs_whose_sum_overflows_bring_statistics():
    """64 x 1000 numbers of about 5 sum to more than float16 holds, and each of them is finite."""
    model = nn.Sequential(nn.Linear(4, 1000)).half()
    with torch.no_grad():
        model[0].bias.fill_(5.0)
    optimizer = KFAC(model, 0.1)
    F.cross_entropy(model(torch.ones(64, 4).half()).float(), torch.zeros(64).long()).backward()
    optimizer.step()
    assert optimizer.curvature["0"].count == 1


# Training loops


def training(model, optimizer, steps=4, x=X, y=Y, loss=F.cross_entropy):
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()


def plain_kfac(model=None, **options):
    model = of(Plain) if model is None else model
    return model, KFAC(model.train(), 0.1, 0.1, **dict(fisher="exact") | EVERY_STEP | options)


def same(model, other):
    return all(torch.equal(p, q) for p, q in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


class Headed(nn.Module):
    """A body under K-FAC and a head that joins later."""

    def __init__(self):
        super().__init__()
        self.body, self.head = of(Plain), randomised(nn.Linear(3, 3), seed=3)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_further_group_takes_sgd_steps_with_its_own_settings(frozen):
    """Of another model, or of a layer that was frozen at the start. Breaks if only the first group is read."""
    net = Headed()
    if frozen:
        net.head.requires_grad_(False)
    _, optimizer = plain_kfac(net if frozen else net.body)
    net.head.requires_grad_(True)
    other = copy.deepcopy(net.head)
    names = "head.weight, head.bias" if frozen else "parameter 0 of group 1, parameter 1 of group 1"
    with pytest.warns(UserWarning, match=f"in a further group, trained by SGD: {names}$"):
        optimizer.add_param_group(
            {"params": list(net.head.parameters()), "lr": 0.3, "momentum": 0.5, "weight_decay": 0.1}
        )
    sgd = torch.optim.SGD(other.parameters(), lr=0.3, momentum=0.5)
    net.forward = lambda x: net.head(net.body(x))
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(net(X), Y).backward()
        for p, q in zip(net.head.parameters(), other.parameters(), strict=True):
            q.grad = p.grad.clone()
            q.data.mul_(1 - 0.3 * 0.1)
        optimizer.step()
        sgd.step()
    for p, q in zip(net.head.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q)
    assert not same(net.body, of(Plain))


@pytest.mark.parametrize("bad", [dict(lr=-1.0), dict(momentum=1.0), dict(damping=0.0), dict(weight_decay=math.nan)])
def test_a_group_with_bad_settings_is_refused_and_not_added(bad):
    model, optimizer = plain_kfac()
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))], **bad})
    assert len(optimizer.param_groups) == 1
    training(model, optimizer)


def test_groups_keep_their_own_rates_also_for_layers():
    """A layer's weight and bias moved into a group by themselves: half the rate is half the first step."""
    moved = {}
    for share in (1.0, 0.5):
        model, optimizer = plain_kfac(momentum=0.0)
        optimizer.param_groups[0]["params"] = [p for n, p in model.named_parameters() if not n.startswith("b")]
        optimizer.param_groups.append(
            {**optimizer.param_groups[0], "params": [*model.b.parameters()], "lr": 0.1 * share}
        )
        before = copy.deepcopy(model.state_dict())
        training(model, optimizer, 1)
        moved[share] = {name: p.detach() - before[name] for name, p in model.named_parameters()}
    for name, move in moved[1.0].items():
        torch.testing.assert_close(moved[0.5][name], move * (0.5 if name.startswith("b") else 1.0))


def test_a_step_without_gradients_does_nothing():
    """Before the first pass, after zero_grad, and in between: no step is counted, nothing moves by momentum."""
    model, optimizer = plain_kfac(weight_decay=0.1)
    reference, other = plain_kfac(weight_decay=0.1)
    optimizer.step()
    training(model, optimizer, 2)
    optimizer.zero_grad()
    optimizer.step()
    training(model, optimizer, 2)
    training(reference, other, 4)
    assert same(model, reference) and optimizer.steps == 4


@pytest.mark.parametrize("inverse", ["factored", "ekfac"])
@pytest.mark.parametrize("how", ["deepcopy both", "deepcopy", "pickle", "torch.save", "between forward and step"])
def test_a_copy_goes_on_as_the_original_and_by_itself(how, inverse):
    """Breaks if a copy loses its statistics, its generator or its hooks, or moves the original's weights."""
    model, optimizer = plain_kfac(fisher="sampled", inverse=inverse, update_factors_every=2)
    training(model, optimizer, 3)
    if how == "between forward and step":
        optimizer.zero_grad()
        F.cross_entropy(model(X), Y).backward()
    if how == "pickle":
        other, second = pickle.loads(pickle.dumps((model, optimizer)))
    elif how == "torch.save":
        file = io.BytesIO()
        torch.save((model, optimizer), file)
        file.seek(0)
        other, second = torch.load(file, weights_only=False)
    elif how == "deepcopy":
        second = copy.deepcopy(optimizer)
        other = second._observer.model
    else:
        other, second = copy.deepcopy((model, optimizer))
    if how == "between forward and step":
        for p, q in zip(model.parameters(), other.parameters(), strict=True):
            q.grad = p.grad.clone()
        optimizer.step()
        second.step()
    before = copy.deepcopy(model.state_dict())
    training(other, second, 5)
    assert all(torch.equal(before[name], p) for name, p in model.state_dict().items())
    training(model, optimizer, 5)
    assert same(model, other) and not same(model, of(Plain))


def test_a_model_is_saved_without_its_optimiser():
    """A file of plain torch: nothing of this package in it, and what is loaded takes no statistics."""
    model = randomised(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)))
    optimizer = KFAC(model, 0.1, 0.1)
    training(model, optimizer, 2)
    file = io.BytesIO()
    torch.save(model, file)
    assert b"nnlib" not in file.getvalue()
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    torch.testing.assert_close(loaded(X), model(X))
    twin = copy.deepcopy(model)
    F.cross_entropy(twin(X), Y).backward()
    assert not optimizer._observer.mean


def test_a_layer_frozen_after_the_start_stays_and_may_come_back():
    """Also its bias alone. Breaks if momentum, decay or an old gradient moves what was frozen."""
    model, optimizer = plain_kfac(weight_decay=0.1)
    training(model, optimizer, 2)
    model.a.requires_grad_(False)  # the gradient of before is still there
    before = copy.deepcopy(model.state_dict())
    F.cross_entropy(model(X), Y).backward()
    optimizer.step()
    training(model, optimizer, 3)
    assert torch.equal(model.a.weight, before["a.weight"]) and torch.equal(model.a.bias, before["a.bias"])
    assert not torch.equal(model.b.weight, before["b.weight"])
    model.a.requires_grad_(True)
    training(model, optimizer, 1)
    assert not torch.equal(model.a.weight, before["a.weight"])
    model.b.bias.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    with pytest.warns(UserWarning, match="layer 'b' is trained by SGD for now: only a part") as told:
        training(model, optimizer, 3)
    assert len(told) == 1
    assert torch.equal(model.b.bias, before["b.bias"]) and not torch.equal(model.b.weight, before["b.weight"])


@pytest.mark.parametrize("inverse", ["factored", "exact", "ekfac"])
def test_gradients_added_up_over_passes_have_the_statistics_of_all(inverse):
    """Pieces of 2, 2 and 1 examples make the step of the batch of 5. Breaks if the last piece speaks for all."""
    (whole, first), (pieces, second) = plain_kfac(inverse=inverse), plain_kfac(inverse=inverse)
    training(whole, first, 3)
    for _ in range(3):
        second.zero_grad()
        for x, y in zip(X.split(2), Y.split(2), strict=True):
            (F.cross_entropy(pieces(x), y) * len(x) / 5).backward()
        second.step()
    for p, q in zip(whole.parameters(), pieces.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)


def test_measuring_between_forward_and_step_changes_nothing():
    """Factors of a probe, norms, a pass in training mode that is not backpropagated: with gradients or without."""
    (plain, first), (measured, second) = plain_kfac(fisher="sampled"), plain_kfac(fisher="sampled")
    training(plain, first, 3)
    probe = draw(9, 4, seed=5)
    for _ in range(3):
        second.zero_grad()
        loss = F.cross_entropy(measured(X), Y)
        factors(measured, probe)
        rescale(measured, probe, BASES)
        jacobian(measured, probe)
        gauss_newton_norm(measured, probe)
        loss.backward()
        factors(measured, probe)
        second.step()
    assert same(plain, measured)
    first.zero_grad()
    second.zero_grad()
    loss = F.cross_entropy(measured(X), Y)
    state = second._observer.generator.get_state()
    measured(probe).sum()  # not backpropagated
    second._observer.generator.set_state(state)
    loss.backward()
    second.step()
    training(plain, first, 1)
    assert same(plain, measured)


@pytest.mark.parametrize("options", [dict(layers=["b"]), dict(exclude=["a", "c"])], ids=str)
def test_layers_left_out_take_sgd_steps(options):
    with pytest.warns(UserWarning, match="trained by SGD: a.weight, a.bias, c.weight, c.bias"):
        model, optimizer = plain_kfac(**options)
    assert list(optimizer.curvature) == ["b"]
    F.cross_entropy(model(X), Y).backward()
    before = {name: (p.detach().clone(), p.grad.clone()) for name, p in model.named_parameters()}
    optimizer.step()
    for name, p in model.named_parameters():
        old, grad = before[name]
        assert torch.allclose(p, old - 0.1 * grad, rtol=1e-12) == (not name.startswith("b"))


def test_a_container_is_excluded_with_all_its_layers():
    net = Headed()
    with pytest.warns(UserWarning, match="trained by SGD: body.a.weight"):
        assert list(KFAC(net, 0.1, exclude=["body"]).curvature) == ["head"]


@pytest.mark.parametrize("model", [[nn.Parameter(torch.zeros(2))], nn.Linear(2, 2).parameters(), None])
def test_parameters_in_the_place_of_the_model_are_refused(model):
    with pytest.raises(TypeError, match="model must be Module: got "):
        KFAC(model, 0.1)


@pytest.mark.parametrize(
    ("kind", "message"),
    [(Tied, "shares parameters with 'again'"), (Parametrised, "made from other"), (Frozen, "frozen")],
)
def test_layers_that_cannot_be_preconditioned_fall_back_and_by_name_are_refused(kind, message):
    model, name = of(kind), "a" if kind is Frozen else "b"
    with pytest.raises(ValueError, match=f"layers names '{name}', which can't be preconditioned: it.*{message}"):
        KFAC(model, 0.1, layers=[name])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        _, optimizer = plain_kfac(model)
        training(model, optimizer)
    assert name not in optimizer.curvature
    assert [f"{name}." in str(w.message) for w in told] == ([] if kind is Frozen else [True])


@pytest.mark.parametrize("kind", [Reentrant, Unused])
def test_layers_without_statistics_fall_back_and_are_named_once(kind):
    """Breaks if the step fails for them, or the warning comes at every step."""

    class Used(Unused):
        def forward(self, x):
            h = self.a(x).tanh()
            return super().forward(x) + F.linear(h, self.extra.weight, self.extra.bias).sum(1, keepdim=True)

    model, names = (of(Reentrant), ["a", "b"]) if kind is Reentrant else (of(Used), ["extra"])
    _, optimizer = plain_kfac(model)
    with pytest.warns(UserWarning, match="is trained by SGD for now: no pass has brought statistics") as told:
        training(model, optimizer, 3)
    assert [str(w.message).split("'")[1] for w in told] == names


def test_a_layer_that_is_called_now_and_then_is_preconditioned_as_soon_as_it_was_seen():
    """Stochastic depth: skipped in the first pass, there in the second. Breaks if the step then fails."""

    class Deep(Plain):
        passes = 0

        def forward(self, x):
            h = self.a(x).tanh()
            self.passes += 1
            return self.c(h + self.b(h).tanh() if self.passes % 2 == 0 else h)

    model, optimizer = plain_kfac(of(Deep), inverse="ekfac", update_inverses_every=3)
    training(model, optimizer, 6)
    assert optimizer.curvature["b"].count == 3 and optimizer.curvature["a"].count == 6


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's, of its own graphs
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize(
    "order", ["compile, then watch", "watch, then compile", "run, then watch", "watch the compiled"]
)
def test_compiled_networks_are_trained_alike(order, backend):
    """Breaks if graphs compiled before do not call the hooks, or a gradient is taken inside of one."""
    reference, first = plain_kfac()
    training(reference, first)
    model = of(Plain).train()
    compiled = torch.compile(model, backend=backend) if order != "watch, then compile" else None
    if order == "run, then watch":
        compiled(X)
    _, optimizer = plain_kfac(compiled if order == "watch the compiled" else model)
    training(torch.compile(model, backend=backend) if compiled is None else compiled, optimizer)
    for p, q in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(p, q)
    found = factors(model if compiled is None else compiled, X)
    torch.testing.assert_close([*found.values()][1].S, factors(reference, X)["b"].S)


PARALLEL = """
import sys, torch
from torch import distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from nnlib.curvature import KFAC
from tests.nnlib.test_user_models import EVERY_STEP, Plain, of
from tests.oracles.curvature import draw

rank, port, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.set_num_threads(1)
distributed.init_process_group("gloo", init_method=f"file://{port}", rank=rank, world_size=2)
for inverse, order in (("factored", "wrap, then watch"), ("ekfac", "watch, then wrap")):
    for fisher in ("exact", "sampled"):
        model = of(Plain).train()
        options = dict(fisher=fisher, inverse=inverse, **EVERY_STEP)
        if order == "wrap, then watch":
            wrapped = DistributedDataParallel(model)
            optimizer = KFAC(wrapped, 0.1, 0.1, **options)
        else:
            optimizer = KFAC(model, 0.1, 0.1, **options)
            wrapped = DistributedDataParallel(model)
        x, y = draw(8, 4)[4 * rank : 4 * rank + 4], (torch.arange(8) % 3)[4 * rank : 4 * rank + 4]
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(wrapped(x), y).backward()
            optimizer.step()
        torch.save(model.state_dict(), f"{folder}/{inverse} {order} {fisher} {rank}")
distributed.destroy_process_group()
"""


def test_two_processes_take_the_step_of_one_with_the_whole_batch(tmp_path):
    """DistributedDataParallel on gloo. Breaks if each process inverts factors of its own, and the copies part."""
    run = [sys.executable, "-c", PARALLEL]
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    }
    (tmp_path / "out").mkdir()
    both = [
        subprocess.Popen([*run, str(rank), str(tmp_path / "meet"), str(tmp_path / "out")], env=env) for rank in (0, 1)
    ]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    for inverse, order in (("factored", "wrap, then watch"), ("ekfac", "watch, then wrap")):
        whole, optimizer = plain_kfac(inverse=inverse)
        training(whole, optimizer, 3, draw(8, 4), torch.arange(8) % 3)
        for fisher in ("exact", "sampled"):
            one, two = (torch.load(tmp_path / "out" / f"{inverse} {order} {fisher} {rank}") for rank in (0, 1))
            for name, p in whole.state_dict().items():
                assert torch.equal(one[name], two[name])
                assert torch.allclose(one[name], p, rtol=1e-9, atol=1e-12) == (fisher == "exact")


@pytest.mark.filterwarnings("ignore:`torch.jit.trace")
def test_a_pass_that_is_traced_or_exported_brings_no_statistics():
    model, optimizer = plain_kfac()
    torch.jit.trace(model, X)
    torch.export.export(model, (X,), strict=False)
    assert not optimizer._observer.mean and not optimizer._observer.latest


def test_half_way_to_another_precision():
    """model.double() between two steps, without momentum. Breaks if averages of both precisions meet."""
    model, optimizer = plain_kfac(of(Plain).float(), momentum=0.0)
    training(model, optimizer, 2, X.float())
    model.double()
    training(model, optimizer, 2)
    assert optimizer.curvature["b"].factors.A.dtype == torch.float64


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: factors([nn.Linear(4, 3)], X), TypeError, r"model must be an nn\.Module: got \[Linear"),
        (lambda: factors(of(Plain), [1, 2]), TypeError, r"x must be a tensor .*got \[1, 2\]"),
        (lambda: factors(of(Plain), X * math.nan), ValueError, "is not finite: are the model's weights and x"),
        (lambda: factors(of(Plain), X[:0]), ValueError, "at least one example"),
        (lambda: factors(of(Plain), X, layers=[]), ValueError, "layers must name at least one layer"),
        (lambda: factors(of(Plain), X, layers="a"), ValueError, "layers must be a list of names: got the string 'a'"),
        (lambda: rescale(of(Plain), X, {}), ValueError, "bases must name at least one layer"),
        (lambda: rescale(of(Plain), X, {"a": BASES["b"]}), ValueError, r"bases\['a'\] must have .*\(6, 5\)"),
        (lambda: rescale(of(Plain).float(), X.float(), BASES), ValueError, r"bases\['a'\] must have .*float32"),
        (lambda: KFAC(nn.Sequential(nn.LazyLinear(3)), 0.1), ValueError, "no layer to precondition"),
        (lambda: plain_kfac()[1].load_state_dict({"state": {}, "param_groups": []}), ValueError, "must be KFAC's"),
        (lambda: jacobian_norm(build("transformer").eval(), torch.zeros(2, 5).long()), ValueError, "floating-point"),
    ],
)
def test_bad_input_is_refused_by_name(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


# Four networks as users write them


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "autocast"])
@pytest.mark.parametrize("inverse", ["factored", "ekfac"])
@pytest.mark.parametrize("name", MODELS)
def test_kfac_trains_a_users_network(name, inverse, autocast):
    """Twenty steps; every layer that is called gets statistics, in float32, and nothing is warned of but SGD."""
    model = build(name)
    x, y = model.data(12)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        options = dict(inverse=inverse, update_factors_every=2, update_inverses_every=4, output=model.output)
        optimizer, losses = KFAC(model, 0.05, 0.1, kl_clip=1e-2, **options), []
        for _ in range(20):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                loss = model.loss(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert all("trained by SGD" in str(w.message) for w in told) and len(told) <= 1 + len(model.unseen)
    for layer, mine in optimizer.curvature.items():
        assert (mine.count, layer in model.unseen) in ((10, False), (0, True))
        assert mine.factors is None or mine.factors.A.dtype == torch.float32


@pytest.mark.parametrize("name", MODELS)
def test_curvature_of_a_users_network_is_that_of_the_dense_matrix(name):
    """The exact Fisher matrix of every layer's block, one prediction and class at a time, in two bases.

    Breaks if predictions of an example are mixed up, or rows of a layer are given to another example.
    """
    model = build(name).double().eval()
    x, _ = model.data(3)
    x = x.double() if x.is_floating_point() else x
    layers = [layer for layer in blocks(model) if layer not in model.unseen]
    found = factors(model, x, layers=layers, output=model.output)
    bases = {layer: block.eigen() for layer, block in found.items()}
    values = rescale(model, x, bases, output=model.output)
    alone, examples = Alone(model), x.T if name == "LSTM" else x
    J = jacobian(alone, examples)  # (B, T C, P)
    torch.testing.assert_close(J, slow_jacobian(alone, examples))
    with torch.no_grad():
        f = model(x)
        p = (
            (f if model.output is None else model.output(f)).softmax(-1).flatten(1, -2)
            if model.output
            else f.softmax(-1)[:, None]
        )
    J = J.unflatten(1, p.shape[1:])  # (B, T, C, P)
    centred = J - torch.einsum("btc,btcp->btp", p, J)[:, :, None]
    for layer in layers:
        index, Q = layer_index(alone, f"net.{layer}"), torch.kron(bases[layer].Q_S, bases[layer].Q_A)
        part = (centred[..., index] @ Q).square()  # (B, T, C, .)
        diagonal = torch.einsum("btc,btcp->p", p, part) / p[..., 0].numel()
        torch.testing.assert_close(values[layer].values.flatten(), diagonal, rtol=1e-6, atol=1e-10)
    for layer in model.unseen:
        with pytest.raises(ValueError, match=f"layer '{layer}' was not called"):
            factors(model, x, output=model.output)


def slow_jacobian(model, x):
    """(B, C, P): example by example, output by output, by ordinary gradients."""
    parameters = list(model.parameters())
    rows = [
        torch.autograd.grad(c, parameters, allow_unused=True, retain_graph=True) for e in x for c in model(e[None])[0]
    ]
    flat = [
        torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in zip(row, parameters, strict=True)])
        for row in rows
    ]
    return torch.stack(flat).view(len(x), -1, flat[0].numel())


@pytest.mark.parametrize("name", ["LSTM", "UNet"])
def test_outputs_with_more_axes_are_refused_unless_it_is_said_what_they_are(name):
    model = build(name)
    x, _ = model.data(3)
    shape = r"\(\d, 3, 7\)" if name == "LSTM" else "a dict of 'logits', 'skip'"
    message = rf"output must have shape \(batch, outputs\): got {shape}; for other outputs say by output="
    for call in (lambda: factors(model, x), lambda: jacobian(model.eval(), x)):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.warns(UserWarning, match="trained by SGD"):
        optimizer = KFAC(model.train(), 0.1)
    with pytest.raises(ValueError, match=message):
        model(x)
    del optimizer


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)), "'1', a BatchNorm1d, must be in evaluation mode"),
        (nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5)), "'1', a Dropout, must be in evaluation mode"),
    ],
)
@pytest.mark.parametrize("entry", [jacobian, jacobian_norm, gauss_newton_norm, dense_fisher])
def test_examples_that_see_each_other_have_no_jacobian(entry, model, message):
    """Breaks if BatchNorm's statistics move, or a number comes out."""
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=message):
        entry(model.train(), torch.ones(3, 4))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_batch_along_another_axis_has_no_jacobian():
    """nn.LSTM in its default layout, of inputs (T, B): each row of x is no example."""

    class TimeFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.last = nn.RNN(4, 5), nn.Linear(5, 2)

        def forward(self, x):
            return self.last(self.rnn(x)[0][-1])

    with pytest.raises(ValueError, match=r"one by one along the first axis.*\(3, 2\) for x of shape \(3, 3, 4\)"):
        jacobian(TimeFirst(), torch.randn(3, 3, 4, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("how", ["autocast", "bfloat16"])
def test_noisy_optimisers_keep_single_precision(how, optimizer):
    """The posterior and its statistics, whatever the network runs in. Breaks if the step multiplies under autocast."""
    model = of(Plain).to(torch.float32 if how == "autocast" else torch.bfloat16).train()
    optimizer, x = OPTIMIZERS[optimizer](model, 5, 0.05), X.to(next(model.parameters()).dtype)
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
            with optimizer.sample():
                F.cross_entropy(model(x).float(), Y).backward()
            optimizer.step()
    state = optimizer.posteriors["b"].state()
    assert {value.dtype for value in state.values() if isinstance(value, torch.Tensor)} == {torch.float32}
    assert optimizer.posteriors["b"].mean.isfinite().all()


@pytest.mark.parametrize("layout", ["time first", "flattened, time first"])
def test_noisy_optimisers_see_the_same_curvature_in_every_layout(layout):
    """One pass at the same draw, with T = B: the running averages agree."""
    seen = []
    for model in (sequence("batch first", 4), sequence(layout, 4)):
        optimizer = NoisyEKFAC(model.train(), 4, 0.05)
        with optimizer.sample():
            F.cross_entropy(model(draw(4, 4, 4)), torch.arange(4) % 3).backward()
        optimizer.step()
        seen.append([optimizer.posteriors[name] for name in ("a", "b", "mix", "c")])
    for one, other in zip(*seen, strict=True):
        torch.testing.assert_close(one.S, other.S)
        torch.testing.assert_close(one.A, other.A)


# The same four networks under surgery and under a tuner: what is refused is refused by name

NO_CHANNELS = "channels can't be followed through the operation"
NO_OUTPUT = r"output must have shape \(batch, outputs\): got"
SURGERY = {
    ("transformer", "Magnitude"): "can't be followed through the operation 'Linear' in 'query'",
    ("transformer", "EigenDamage"): RIGHT,
    ("ResNet", "Magnitude"): RIGHT,
    ("ResNet", "EigenDamage"): RIGHT,
    ("LSTM", "Magnitude"): NO_CHANNELS,
    ("LSTM", "EigenDamage"): NO_OUTPUT,
    ("UNet", "Magnitude"): NO_CHANNELS,
    ("UNet", "EigenDamage"): NO_OUTPUT,
}


@pytest.mark.parametrize(("name", "method"), SURGERY)
def test_a_users_network_is_pruned_or_refused_by_name(name, method):
    """A smaller network of the same interface in both modes, and the original as it was."""
    model, expected = build(name).eval(), SURGERY[name, method]
    x, _ = model.data(6)
    before = copy.deepcopy(model.state_dict())
    if expected is not RIGHT:
        with pytest.raises(ValueError, match=expected):
            prune(model, x, method, 0.3)
    else:
        smaller = prune(model, x, method, 0.3).model
        for mode in (True, False):
            assert smaller.train(mode)(x).shape == model(x).shape
        assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in model.parameters())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("variant", ["delta", "stn"])
@pytest.mark.parametrize("name", ["ResNet", "LSTM"])
def test_a_users_network_is_tuned(name, variant):
    """Three steps and one of the hyperparameters, in a network that the tuner has rebuilt."""
    net = build(name)
    model, (x, y) = respond(net, [Hyperparameter("decay", (0, None), 0.05)]), net.data(6)

    def loss(outputs, y, values):
        return net.loss(outputs, y) + (values["decay"] * model.squared_norm()).mean()

    tuner = SelfTuner(model, loss, net.loss, variant=variant, lr=0.05)
    start = [p.detach().clone() for p in model.parameters()]
    for _ in range(3):
        tuner.training_step(Split(x, y))
    tuner.validation_step(Split(x, y))
    assert any(not torch.equal(old, p) for old, p in zip(start, model.parameters(), strict=True))
    assert all(p.isfinite().all() for p in model.parameters())
