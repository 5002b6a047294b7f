"""Is the optimiser's step the one that the formulas say, and does it fit into any training loop?"""

import copy
import math

import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from nnlib.curvature import KFAC, Kronecker, NonFiniteGradient, NotPositiveDefinite, factors
from nnlib.models import MLP
from nnlib.training import fit
from tenpapers.data import load
from tests.oracles import curvature as oracle
from tests.oracles.curvature import draw, randomised

EVERY_STEP = dict(update_factors_every=1, update_inverses_every=1)


def half_square(f, y):
    return 0.5 * (f - y).square().sum() / len(f)


def mlp():
    layers = [nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 4, bias=False), nn.Tanh(), nn.Linear(4, 3)]
    return randomised(nn.Sequential(*layers))


def cnn():
    return randomised(nn.Sequential(nn.Conv2d(1, 2, 2, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)))


def batches(shape=(4,), n=6, steps=7):
    return [(draw(n, *shape, seed=s), torch.arange(n).roll(s) % 3) for s in range(steps)]


def train(model, optimizer, data, loss=cross_entropy):
    for x, y in data:
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()


def assert_same(model, other, exact=True):
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q) if exact else torch.allclose(p, q, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(inverse="exact"),
        dict(inverse="ekfac"),
        dict(decay="decoupled", weight_decay=0.3),
        dict(decay="l2", weight_decay=0.3),
        dict(decay="decoupled", weight_decay=0.3, decay_layers=["2"]),
        dict(decay="l2", weight_decay=0.3, decay_layers=["0", "4"]),
        dict(decay=None, weight_decay=0.3),
        dict(momentum=0.0),
        dict(kl_clip=1e-3),
        dict(kl_clip=1e-3, decay="l2", weight_decay=0.3, inverse="exact"),
        dict(factor_decay=0.4, inverse="exact"),
        dict(fisher="gauss_newton_exact"),
        dict(likelihood="gaussian", damping=0.5),
    ],
    ids=lambda options: " ".join(f"{k}={v}" for k, v in options.items()) or "default",
)
def test_seven_steps_equal_the_oracle(options):
    """Statistics at steps 0, 2, 4, 6, inverses at 0, 4. Breaks for any change of order between the parts of a step."""
    options = dict(lr=0.1, damping=0.1, fisher="exact", decay=None) | options
    loss, data = cross_entropy, batches()
    if options.get("likelihood") == "gaussian":
        loss, data = half_square, [(x, draw(len(x), 3, seed=9)) for x, _ in data]
    ours, slow = mlp(), mlp()
    train(ours, KFAC(ours, update_factors_every=2, update_inverses_every=4, **options), data, loss)
    oracle.kfac_run(slow, data, loss, factors_every=2, inverses_every=4, **options)
    start = torch.cat([p.flatten() for p in mlp().parameters()])
    moved = torch.cat([p.flatten() for p in slow.parameters()]) - start
    assert moved.norm() > 0.05
    assert_same(ours, slow, exact=False)


@pytest.mark.parametrize("inverse", ["factored", "exact", "ekfac"])
def test_steps_of_a_convolutional_net_equal_the_oracle(inverse):
    """Breaks if the number of locations enters the factors twice or not at all."""
    ours, slow, data = cnn(), cnn(), batches((1, 4, 4), 4, 3)
    train(ours, KFAC(ours, 0.1, 0.1, fisher="exact", inverse=inverse, **EVERY_STEP), data)
    oracle.kfac_run(slow, data, cross_entropy, 0.1, 0.1, inverse=inverse)
    assert_same(ours, slow, exact=False)


@pytest.mark.parametrize("inverse", ["exact", "ekfac"])
def test_one_undamped_step_minimises_a_linear_least_squares_loss(inverse):
    """One layer: the curvature is the Hessian, so a step of lr 1 is Newton's. Breaks for any constant in F or grad."""
    model, x, y = randomised(nn.Sequential(nn.Linear(4, 3))), draw(20, 4), draw(20, 3, seed=1)
    options = dict(fisher="exact", likelihood="gaussian", inverse=inverse, momentum=0)
    train(model, KFAC(model, lr=1, damping=1e-12, **options), [(x, y)], half_square)
    solution = torch.linalg.lstsq(torch.cat([x, torch.ones(20, 1, dtype=x.dtype)], 1), y).solution.T
    torch.testing.assert_close(oracle.joint(model[0]), solution)


class Affine(nn.Module):
    """h -> M h + m, fixed: not a layer of the model, but a change of the coordinates between two layers."""

    def __init__(self, M, m):
        super().__init__()
        self.register_buffer("M", M)
        self.register_buffer("m", m)

    def forward(self, h):
        return h @ self.M.T + self.m


def reparametrised(model):
    """The same function of the same inputs, with inputs, units and pre-activations in other affine coordinates."""
    parts, layers = [], list(model)
    for i, layer in enumerate(layers):
        if not isinstance(layer, nn.Linear):
            parts.append(layer)
            continue
        W = oracle.joint(layer)
        out, inputs = W.shape[0], W.shape[1] - 1
        M = torch.eye(inputs, dtype=W.dtype) + 0.3 * draw(inputs, inputs, seed=20 + i)
        P = torch.eye(out, dtype=W.dtype) + 0.3 * draw(out, out, seed=40 + i)
        m, p = draw(inputs, seed=60 + i), draw(out, seed=80 + i)
        # W h + b = P (W' (M h + m) + b') + p
        new, copied = torch.linalg.solve(P, W[:, :-1]) @ M.inverse(), nn.Linear(inputs, out).double()
        with torch.no_grad():
            copied.weight.copy_(new)
            copied.bias.copy_(torch.linalg.solve(P, W[:, -1] - p) - new @ m)
        parts += [Affine(M, m), copied, Affine(P, p)]
    return nn.Sequential(*parts)


@pytest.mark.parametrize(
    ("optimizer", "invariant"),
    [
        (lambda model: KFAC(model, 0.2, 1e-22, fisher="exact", likelihood="gaussian", **EVERY_STEP), True),
        (lambda model: KFAC(model, 0.2, 0.1, fisher="exact", likelihood="gaussian", **EVERY_STEP), False),
        (lambda model: torch.optim.SGD(model.parameters(), 0.2), False),
    ],
    ids=["undamped", "damped", "SGD"],
)
def test_undamped_steps_are_invariant_to_affine_reparametrisation_of_inputs_and_hidden_units(optimizer, invariant):
    """Three steps give the same function; with damping, or by SGD, another one (so the test can fail)."""
    model = randomised(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)))
    other, x, y = reparametrised(model), draw(30, 3), draw(30, 2, seed=1)
    torch.testing.assert_close(model(x), other(x))
    start = model(x).detach()
    for net in (model, other):
        train(net, optimizer(net), [(x, y)] * 3, half_square)
    moved = (model(x) - start).norm()
    assert moved > 0.1
    assert ((other(x) - model(x)).norm() / moved < 1e-6) == invariant
    assert ((other(x) - model(x)).norm() / moved > 1e-2) == (not invariant)


@pytest.mark.parametrize("inverse", ["factored", "exact", "ekfac"])
def test_constant_statistics_are_their_own_average(inverse):
    """lr so small that nothing moves: the averages equal the factors of the batch, from the first step on."""
    model, (x, y) = mlp(), batches()[0]
    expected = factors(model, x)
    optimizer = KFAC(model, lr=1e-300, fisher="exact", inverse=inverse, **EVERY_STEP)
    for _ in range(4):
        train(model, optimizer, [(x, y)])
        for name, block in expected.items():
            found = optimizer.curvature[name].factors
            torch.testing.assert_close(found.A, block.A, rtol=1e-12, atol=1e-15)
            torch.testing.assert_close(found.S, block.S, rtol=1e-12, atol=1e-15)


def test_statistics_and_inverses_are_taken_when_they_are_due():
    """Breaks if a schedule counts from 1, or inverses are made anew with every statistics."""
    model, changes = mlp(), {"factors": [], "inverse": []}
    optimizer = KFAC(model, lr=0.01, update_factors_every=3, update_inverses_every=6)
    for step, batch in enumerate(batches(steps=14)):
        before = copy.copy(optimizer.curvature["0"])
        train(model, optimizer, [batch])
        for kind, seen in changes.items():
            if getattr(optimizer.curvature["0"], kind) is not getattr(before, kind):
                seen.append(step)
    assert changes == {"factors": [0, 3, 6, 9, 12], "inverse": [0, 6, 12]}


@pytest.mark.parametrize("at", [1, 3, 4])
@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(inverse="exact", fisher="gauss_newton"),
        dict(inverse="ekfac", decay="l2", weight_decay=0.1),
        dict(likelihood="gaussian", kl_clip=1e-3),
    ],
    ids=["sampled", "exact", "ekfac", "gaussian"],
)
def test_resumes_bit_for_bit(options, at, tmp_path):
    """Through a file. Breaks if the generator, a factor, a count or an old inverse is lost."""
    data = batches(steps=9)
    loss = (lambda f, y: half_square(f, f.detach().roll(1))) if "likelihood" in options else cross_entropy
    options = dict(lr=0.05, damping=0.1, update_factors_every=2, update_inverses_every=5, seed=3) | options
    whole = mlp()
    train(whole, KFAC(whole, **options), data, loss)
    first = mlp()
    optimizer = KFAC(first, **options)
    train(first, optimizer, data[:at], loss)
    torch.save({"model": first.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "saved")
    train(first, optimizer, data[at:], loss)  # what was saved must not be changed by going on
    saved = torch.load(tmp_path / "saved", weights_only=True)
    second = mlp()
    second.load_state_dict(saved["model"])
    resumed = KFAC(second, **options | dict(seed=4))  # the state, not the seed, says how the draws go on
    train(second, resumed, data[:1], loss)  # nothing of the time before is left
    second.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["optimizer"])
    train(second, resumed, data[at:], loss)
    assert_same(first, whole)
    assert_same(second, whole)


class Interrupted(RuntimeError):
    """What stops a run in the middle."""


def test_resumes_from_a_checkpoint_of_fit(tmp_path):
    """An interrupted run of nnlib.training.fit goes on to the same weights and the same history."""
    data = load("digits")

    def run(interrupt=None, checkpoint=None):
        def loss(f, y):
            calls.append(1)
            if interrupt is not None and len(calls) > interrupt:
                raise Interrupted
            return cross_entropy(f, y)

        calls, model = [], MLP([64, 8, 10], seed=0, dtype=torch.float64)
        optimizer = KFAC(model, lr=0.02, damping=0.03, update_factors_every=3, update_inverses_every=7)
        options = dict(steps=24, batch_size=64, loss=loss, splits=(), evaluate_at=[], checkpoint_every=5)
        return model, fit(model, data, optimizer, checkpoint=checkpoint, **options)

    with pytest.raises(Interrupted):
        run(interrupt=13, checkpoint=tmp_path / "run")
    resumed, whole = run(checkpoint=tmp_path / "run"), run()
    assert_same(resumed[0], whole[0])
    assert resumed[1].steps == 24


def test_fit_lowers_the_loss_of_digits_and_measuring_takes_no_statistics():
    data, model = load("digits"), MLP([64, 16, 10], seed=0)
    optimizer = KFAC(model, lr=0.03, damping=0.03)
    history = fit(model, data, optimizer, steps=60, batch_size=64, evaluate_at=[0, 25, 60])
    losses = pd.DataFrame(history.rows).query("split == 'validation'").loss.tolist()
    assert losses[-1] < 0.3 < losses[0]
    assert optimizer.curvature["layers.1"].count == 6


def test_learning_rate_schedulers_change_the_step():
    """Without momentum, half the rate is half the step; and the optimiser's rate is read anew at each step."""
    steps = {}
    for factor in (1.0, 0.5):
        model, data = mlp(), batches()[:1] * 2
        optimizer = KFAC(model, lr=0.1, fisher="exact", momentum=0, **EVERY_STEP)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, factor)
        train(model, optimizer, data[:1])
        scheduler.step()
        before = oracle.joint(model[0])
        train(model, optimizer, data[1:])
        steps[factor] = oracle.joint(model[0]) - before
    torch.testing.assert_close(steps[0.5], 0.5 * steps[1.0])


def test_layers_without_a_block_are_named_and_take_sgd_steps_with_decay():
    """BatchNorm, a grouped convolution and tied weights move exactly as by torch's SGD at the same gradients."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.grouped, self.norm = nn.Conv2d(2, 4, 2, groups=2), nn.BatchNorm2d(4)
            self.tied, self.tied_too, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
            self.tied_too.weight = self.tied.weight

        def forward(self, x):
            h = self.norm(self.grouped(x)).mean((2, 3))
            return self.last(self.tied_too(self.tied(h).tanh()).tanh())

    def seen_by_sgd(model):
        return [p for name, p in model.named_parameters() if not name.startswith("last")]

    model = randomised(Net())
    expected = "grouped.weight, grouped.bias, norm.weight, norm.bias, tied.weight, tied.bias, tied_too.bias"
    with pytest.warns(UserWarning, match=f"without a Kronecker block, trained by SGD: {expected}$"):
        optimizer = KFAC(model, lr=0.1, weight_decay=0.2, momentum=0.8, decay="l2", kl_clip=1e-3, **EVERY_STEP)
    assert optimizer.fallback == expected.split(", ")
    other = copy.deepcopy(model)
    sgd = torch.optim.SGD(seen_by_sgd(other), lr=0.1, momentum=0.8, weight_decay=0.2)
    for x, y in batches((2, 3, 3), steps=3):
        model.zero_grad()
        cross_entropy(model(x), y).backward()
        for p, q in zip(model.parameters(), other.parameters(), strict=True):
            q.grad = p.grad.clone()
        optimizer.step()
        sgd.step()
    for p, q in zip(seen_by_sgd(model), seen_by_sgd(other), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)


def test_frozen_parameters_stay_and_their_layer_is_no_block():
    model = mlp()
    model[0].requires_grad_(False)
    before, optimizer = oracle.joint(model[0]), KFAC(model, lr=0.1)
    train(model, optimizer, batches())
    assert list(optimizer.curvature) == ["2", "4"]
    assert torch.equal(oracle.joint(model[0]), before)


def test_passes_in_evaluation_mode_or_without_gradients_take_no_statistics_and_no_draw():
    """Breaks if measuring the model between forward pass and step changes the run."""
    plain, measured, x = mlp(), mlp(), draw(50, 4, seed=8)
    train(plain, KFAC(plain, lr=0.05, update_factors_every=1), batches())
    optimizer = KFAC(measured, lr=0.05, update_factors_every=1)
    for batch in batches():
        optimizer.zero_grad()
        loss = cross_entropy(measured(batch[0]), batch[1])
        with torch.no_grad():
            measured(x)
        measured.eval()
        measured(x).sum()
        torch.func.vmap(measured)(x)
        measured.train()
        torch.func.vmap(measured)(x)
        loss.backward()
        optimizer.step()
    assert_same(plain, measured)


def test_statistics_change_neither_gradients_nor_batchnorm_nor_the_global_generator():
    """Two models in step, one watched: before its first step all is equal. Breaks if the hook runs the model again."""
    layers = lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(inplace=True), nn.Linear(5, 3))  # noqa: E731
    plain, watched, (x, y) = randomised(layers()), randomised(layers()), batches()[0]
    with pytest.warns(UserWarning, match="trained by SGD"):
        optimizer = KFAC(watched, lr=0.1)
    state = torch.get_rng_state()
    for model in (plain, watched):
        cross_entropy(model(x), y).backward()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(plain.parameters(), watched.parameters(), strict=True))
    assert all(torch.equal(p, q) for p, q in zip(plain.buffers(), watched.buffers(), strict=True))
    optimizer.step()


@pytest.mark.parametrize("layers", [["0"], ["4"], []])
def test_decay_layers_say_what_decays_to_the_last_bit(layers):
    """lr so small that only weight_decay * lr counts: W' = (1 - lr weight_decay) W for the named layers alone."""
    model = mlp()
    before = {name: oracle.joint(model[int(name)]) for name in ("0", "2", "4")}
    train(model, KFAC(model, 1e-300, weight_decay=0.25e300, decay_layers=layers), batches()[:1])
    for name, W in before.items():
        assert torch.equal(oracle.joint(model[int(name)]), (0.75 if name in layers else 1) * W)


def test_l2_is_preconditioned_and_decoupled_decay_is_not():
    """At a minimum of the loss only the decay is left: it follows C^-1 W, or W itself."""
    x, W = draw(20, 4), draw(3, 4, seed=1)
    y, steps = x @ W.T, {}
    for decay in ("l2", "decoupled"):
        model = nn.Sequential(nn.Linear(4, 3, bias=False)).double()
        with torch.no_grad():
            model[0].weight.copy_(W)
        options = dict(fisher="exact", likelihood="gaussian", inverse="exact")
        train(model, KFAC(model, 0.1, 1e-9, weight_decay=0.2, decay=decay, **options), [(x, y)], half_square)
        steps[decay] = model[0].weight.detach() - W
    torch.testing.assert_close(steps["decoupled"], -0.02 * W)
    torch.testing.assert_close(steps["l2"], -0.02 * W @ torch.linalg.inv(x.T @ x / 20))


def test_kl_clip_bounds_the_quadratic_form_of_the_step():
    """lr^2 nu^2 sum <U, grad> = kappa when clipped, and steps shorter than that are untouched."""
    moves = {}
    for kl_clip in (None, 1e-4, 1e4):
        model, (x, y) = mlp(), batches()[0]
        before = [oracle.joint(layer) for layer in (model[0], model[2], model[4])]
        train(model, KFAC(model, lr=0.5, fisher="exact", momentum=0, kl_clip=kl_clip), [(x, y)])
        after = [oracle.joint(layer) for layer in (model[0], model[2], model[4])]
        grads = [oracle.joint(layer, "grad") for layer in (model[0], model[2], model[4])]
        moves[kl_clip] = [a - b for a, b in zip(after, before, strict=True)]
        inner = -0.5 * sum((m * g).sum() for m, g in zip(moves[kl_clip], grads, strict=True))  # lr^2 nu sum <U, grad>
    ratio = moves[1e-4][0] / moves[None][0]  # nu, the same for all layers
    torch.testing.assert_close(ratio, ratio[0, 0].expand_as(ratio))
    torch.testing.assert_close(moves[1e-4][2], ratio[0, 0] * moves[None][2])
    torch.testing.assert_close(moves[1e4][0], moves[None][0])
    torch.testing.assert_close(ratio[0, 0].item() ** 2 * inner.item(), 1e-4)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_is_refused_by_name_and_nothing_moves(bad):
    model, (x, y) = mlp(), batches()[0]
    optimizer = KFAC(model, lr=0.1)
    train(model, optimizer, [(x, y)])
    before = copy.deepcopy(model)
    cross_entropy(model(x), y).backward()
    model[2].weight.grad[1, 1] = bad
    with pytest.raises(NonFiniteGradient, match=r"gradient of 2\.weight is not finite at step 1"):
        optimizer.step()
    assert_same(model, before)


def test_inputs_that_are_not_finite_end_as_a_gradient_that_is_not():
    """Not as an error of a Cholesky factorisation, and the factors stay clean."""
    model, (x, y) = mlp(), batches()[0]
    optimizer = KFAC(model, lr=0.1, **EVERY_STEP)
    with pytest.raises(NonFiniteGradient, match=r"0\.weight"):
        train(model, optimizer, [(x.index_fill(0, torch.tensor([2]), math.inf), y)])


@pytest.mark.parametrize("inverse", ["factored", "exact", "ekfac"])
def test_a_factor_that_is_not_positive_definite_is_refused_by_name(inverse):
    """Real statistics never are; a damaged average must not be inverted."""
    model, data = mlp(), batches()[:1]
    optimizer = KFAC(model, lr=0.1, inverse=inverse, **EVERY_STEP)
    train(model, optimizer, data)
    block = optimizer.curvature["2"].factors
    optimizer.curvature["2"].factors = Kronecker(block.A - 100 * torch.eye(len(block.A)), block.S)
    with pytest.raises(NotPositiveDefinite, match=r"layer '2' at step 1: the factor A"):
        train(model, optimizer, data)


def test_a_step_without_statistics_says_what_is_missing():
    model, (x, y) = mlp().eval(), batches()[0]
    with pytest.raises(RuntimeError, match=r"no statistics of layer '0'.*training mode"):
        train(model, KFAC(model, lr=0.1), [(x, y)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(lr=0), r"lr must be a number in \(0, inf\): got 0"),
        (dict(lr=math.inf), r"lr must be a number in \(0, inf\): got inf"),
        (dict(damping=0), r"damping must be a number in \(0, inf\): got 0"),
        (dict(damping=math.nan), r"damping must be a number in \(0, inf\): got nan"),
        (dict(kl_clip=0), r"kl_clip must be a number in \(0, inf\): got 0"),
        (dict(momentum=1), r"momentum must be a number in \[0, 1\): got 1"),
        (dict(factor_decay=-0.1), r"factor_decay must be a number in \[0, 1\): got -0.1"),
        (dict(weight_decay=-1), r"weight_decay must be a number in \[0, inf\): got -1"),
        (dict(update_factors_every=2.5), r"update_factors_every must be int: got 2\.5"),
        (dict(update_inverses_every=0), "update_inverses_every must be a whole number of at least 1: got 0"),
        (dict(decay_layers="0"), "decay_layers must be Iterable or None: got '0'"),
        (dict(layers="0"), "layers must be Iterable or None: got '0'"),
        (dict(layers=["1"]), "layer '1' has no Kronecker block"),
        (dict(exclude=["9"]), "exclude names '9', which the model does not have"),
        (dict(exclude=["0", "2", "4"]), "no layer to precondition"),
        (dict(fisher="empirical"), "fisher must be one of.*got 'empirical'"),
        (dict(likelihood="poisson"), "likelihood must be one of"),
        (dict(inverse="cg"), "inverse must be one of factored, exact, ekfac: got 'cg'"),
        (dict(decay="L2"), "decay must be one of decoupled, l2, None: got 'L2'"),
        (dict(decay_layers=["9"]), "decay_layers names '9', which the model does not have"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        KFAC(mlp(), **dict(lr=0.1) | options)


def test_a_model_with_nothing_to_precondition_is_refused():
    with pytest.raises(ValueError, match="no layer to precondition"):
        KFAC(nn.Sequential(nn.BatchNorm1d(3)), lr=0.1)


def test_states_of_other_models_or_inverses_are_refused():
    saved = []
    for model, inverse in ((mlp(), "factored"), (cnn(), "factored")):
        optimizer = KFAC(model, lr=0.1, inverse=inverse)
        train(model, optimizer, batches() if inverse and len(list(model)) == 5 else batches((1, 4, 4)))
        saved.append(optimizer.state_dict())
    with pytest.raises(ValueError, match="the state is of layers"):
        KFAC(mlp(), lr=0.1).load_state_dict(saved[1])
    with pytest.raises(ValueError, match="another kind of inverse than 'ekfac'"):
        KFAC(mlp(), lr=0.1, inverse="ekfac").load_state_dict(saved[0])
