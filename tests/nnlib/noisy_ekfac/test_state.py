"""What an optimiser keeps: through bad batches, errors, and from one run to the next."""

import copy
import io
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from nnlib.bayes import GammaGaussian, Gaussian
from nnlib.models import MLP, SmallCNN
from nnlib.noisy_ekfac import OPTIMIZERS, BayesByBackprop, NoisyAdam, NoisyEKFAC, NoisyKFAC

METHODS = list(OPTIMIZERS)
NAN = math.nan


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X, Y = numbers(30, 5), torch.arange(30) % 3


def made(method, lr=0.01, **options):
    model = MLP([5, 6, 3], seed=0, dtype=torch.float64)
    return model, OPTIMIZERS[method](model, 30, lr, **options)


def train(model, optimizer, x=X, y=Y, samples=1):
    for _ in range(samples):
        with optimizer.sample():
            loss = cross_entropy(model(x), y) if y.dtype == torch.int64 else optimizer.likelihood.loss(model(x), y)
            loss.backward()
    optimizer.step()


def kept(optimizer):
    state = copy.deepcopy(optimizer.state_dict())
    del state["generator"]  # drawing is no harm
    return state


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def spoilt(value, row=3):
    x = X.clone()
    x[row] = value
    return x


class Nowhere(torch.autograd.Function):
    """The number itself, with a slope that is none."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * NAN


BAD = {  # what is done, and what is raised
    "one input NaN": (lambda model, optimizer: train(model, optimizer, spoilt(NAN)), ArithmeticError),
    "one input infinite": (lambda model, optimizer: train(model, optimizer, spoilt(math.inf)), ArithmeticError),
    "inputs too large to square": (lambda model, optimizer: train(model, optimizer, 1e200 * X), ArithmeticError),
    "the second sample NaN": (lambda model, optimizer: (second(model, optimizer), optimizer.step()), ArithmeticError),
    "only the slope NaN": (lambda model, optimizer: slope(model, optimizer), ArithmeticError),
    "no gradient at the first layer": (lambda model, optimizer: cut(model, optimizer), ValueError),
    "an error in the loss": (lambda model, optimizer: train(model, optimizer, X, Y + 5), (RuntimeError, IndexError)),
    "no sample": (lambda model, optimizer: optimizer.step(), RuntimeError),
    "a forward pass alone": (lambda model, optimizer: alone(model, optimizer), RuntimeError),
}


def second(model, optimizer):
    for x in (X, spoilt(NAN)):
        with optimizer.sample():
            cross_entropy(model(x), Y).backward()


def slope(model, optimizer):
    with optimizer.sample():
        Nowhere.apply(cross_entropy(model(X), Y)).backward()
    optimizer.step()


def cut(model, optimizer):
    *first, last = model.layers
    with optimizer.sample():
        h = nn.Sequential(*first)(X).detach()
        cross_entropy(last(h), Y).backward()
    optimizer.step()


def alone(model, optimizer):
    with optimizer.sample():
        model(X)
    optimizer.step()


@pytest.mark.parametrize(
    ("method", "bad"),
    # Adam sees no scale: of the largest inputs Bayes by backprop learns as of others
    [(m, b) for m in METHODS for b in BAD if (m, b) != ("Bayes by backprop", "inputs too large to square")],
)
def test_a_bad_batch_is_refused_and_the_next_good_one_goes_on_as_if_it_had_not_been(method, bad):
    """Breaks if statistics are averaged in before all is looked at, or if what was drawn stays for the next step."""
    (model, optimizer), (other, clean) = made(method), made(method)
    for m, o in ((model, optimizer), (other, clean)):
        train(m, o)
    before = kept(optimizer)
    spoil, error = BAD[bad]
    with pytest.raises(error):
        spoil(model, optimizer)
    assert same(kept(optimizer), before)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))
    optimizer.generator.set_state(clean.generator.get_state())
    train(model, optimizer)
    train(other, clean)
    assert same(optimizer.state_dict(), clean.state_dict())
    assert optimizer.predict(X, 2).isfinite().all()


@pytest.mark.parametrize("method", METHODS)
def test_the_message_names_the_layer_and_looks_for_the_cause_in_the_batch_first(method):
    model, optimizer = made(method)
    with pytest.raises(
        ArithmeticError, match=r"layer 'layers\..' is not finite at step 0: look for NaN .* in the batch"
    ):
        train(model, optimizer, spoilt(NAN))
    with pytest.raises(ValueError, match=r"no gradient came to layers\.1: every layer must be called"):
        cut(model, optimizer)


@pytest.mark.parametrize("method", METHODS)
def test_a_bad_batch_does_not_stay_in_running_statistics(method):
    """Breaks if only the weights are put back: BatchNorm's mean would be NaN for ever."""
    model = SmallCNN(1, 8, 3, width=2, seed=0, batch_norm=True, dtype=torch.float64)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)
    optimizer = OPTIMIZERS[method](model, 20, 0.01)
    x, y = numbers(10, 1, 8, 8), torch.arange(10) % 3
    train(model, optimizer, x, y)
    before = [buffer.clone() for buffer in model.buffers()]
    with pytest.raises(ArithmeticError):
        train(model, optimizer, x * NAN, y, samples=2)
    assert before and all(torch.equal(a, b) for a, b in zip(model.buffers(), before, strict=True))
    train(model, optimizer, x, y)
    assert any(not torch.equal(a, b) for a, b in zip(model.buffers(), before, strict=True))


def saved_and_loaded(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_resumed_after_its_rates_have_changed_is_the_same_run(method):
    """Breaks if any rate is not saved: after a fall of lr the resumed run would go on ten times too fast."""
    options = {} if method == "Bayes by backprop" else {"update_statistics_every": 2, "decay": 0.9}
    model, optimizer = made(method, kl_clip=0.5, **options)
    for _ in range(3):
        train(model, optimizer)
    optimizer.lr, optimizer.momentum, optimizer.kl_clip = 0.003, 0.5, 1e-3
    optimizer.damping = 0.0 if method == "Bayes by backprop" else 0.05
    other, resumed = made(method, kl_clip=0.5, **options)
    resumed.load_state_dict(saved_and_loaded(optimizer.state_dict()))
    for _ in range(3):
        train(model, optimizer)
        train(other, resumed)
    assert same(resumed.state_dict(), optimizer.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["gamma", "learnt", "fixed"])
def test_the_likelihood_resumes_too(method, kind):
    def make():
        model = MLP([5, 4, 1], seed=0, dtype=torch.float64)
        head = {
            "gamma": lambda: GammaGaussian(30, decay=0.5, dtype=torch.float64),
            "learnt": lambda: Gaussian(0.5, learnt=True, dtype=torch.float64),
            "fixed": lambda: Gaussian(0.5, dtype=torch.float64),
        }[kind]()
        return model, OPTIMIZERS[method](model, 30, 0.01, likelihood=head), head

    y = X[:, :1] + 1
    model, optimizer, head = make()
    train(model, optimizer, X, y)
    head.observe(model(X), y)
    if kind == "learnt":
        with torch.no_grad():
            head.raw.add_(0.7)
    state = optimizer.state_dict()
    later = saved_and_loaded(state)
    _, resumed, new = make()
    resumed.load_state_dict(later)
    assert torch.equal(new.precision, head.precision)
    with torch.no_grad():
        head.raw.add_(1.0)
    assert same(state, later)  # what was saved does not change with the run


def changed(state, **parts):
    return copy.deepcopy(state) | parts


STATES = {
    "another method": (lambda s: changed(s, method="NoisyKFAC"), "the state is of NoisyKFAC, not of NoisyAdam"),
    "a torch optimiser": (
        lambda s: torch.optim.Adam([nn.Parameter(torch.zeros(1))]).state_dict(),
        "this is no state of NoisyAdam: it must have method, steps, rates",
    ),
    "no dictionary": (lambda s: [s], "this is no state of NoisyAdam"),
    "an older form": (lambda s: {k: s[k] for k in ("steps", "generator", "layers")}, "it must have method"),
    "other layers": (lambda s: changed(s, layers={"a": {}}), r"of layers \['a'\], not \['layers.1', 'layers.3'\]"),
    "other data": (lambda s: changed(s, settings=s["settings"] | {"n_data": 60}), "made with n_data 60, not 30"),
    "another temperature": (
        lambda s: changed(s, settings=s["settings"] | {"kl_weight": 0.1, "prior_variance": 2.0}),
        "prior_variance 2.0, not 1.0, kl_weight 0.1, not 1.0",
    ),
    "another average": (lambda s: changed(s, settings=s["settings"] | {"decay": 0.5}), "decay 0.5, not 0.99"),
    "another likelihood": (
        lambda s: changed(s, likelihood={"kind": "Gaussian", "state": {"raw": torch.zeros(())}}),
        "likelihood .'Gaussian'",
    ),
    "other shapes": (
        lambda s: changed(s, layers={n: q | {"mean": q["mean"][:1]} for n, q in s["layers"].items()}),
        r"does not fit layer 'layers.1': mean has the shape \(1, 6\), not \(6, 6\)",
    ),
    "something missing": (
        lambda s: changed(s, layers={n: {"mean": q["mean"]} for n, q in s["layers"].items()}),
        "does not fit layer 'layers.1': it holds",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", STATES)
def test_a_state_of_something_else_is_refused_and_nothing_has_changed(case):
    """Breaks if a setting is overwritten in silence, or if a part is loaded before all is looked at."""
    other, message = STATES[case]
    model, optimizer = made("Noisy Adam")
    train(model, optimizer)
    source = made("Noisy Adam")[1].state_dict()
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(other(source))
    assert same(optimizer.state_dict(), before)


def test_a_state_in_another_type_is_taken_over_in_the_optimisers_own():
    model, optimizer = made("Noisy EK-FAC")
    train(model, optimizer)
    small = MLP([5, 6, 3], seed=1, dtype=torch.float32)
    other = NoisyEKFAC(small, 30, 0.01)
    other.load_state_dict(optimizer.state_dict())
    assert {p.dtype for p in small.parameters()} == {torch.float32}
    train(small, other, X.float())


class Unknown(Gaussian):
    kind = "poisson"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda m: NoisyEKFAC(m, 5, 0.1, damping_kind="exact"), TypeError, "scale_decay, update_basis_every: got"),
        (lambda m: NoisyKFAC(m, 5, 0.1, damping_kind="exact"), TypeError, "takes factored_damping"),
        (lambda m: NoisyKFAC(m, 5, 0.1, on_basis_change="keep"), TypeError, "got on_basis_change"),
        (lambda m: NoisyAdam(m, 5, 0.1, update_basis_every=3), TypeError, "takes no options: got update_basis_every"),
        (lambda m: BayesByBackprop(m, 5, 0.1, damping=0.1), ValueError, "takes no damping"),
        (lambda m: BayesByBackprop(m, 5, 0.1, decay=0.5, update_statistics_every=2), ValueError, "decay or update"),
        (lambda m: BayesByBackprop(m, 5, 0.1, update_basis_every=3), TypeError, "rho_start: got update_basis_every"),
        (lambda m: NoisyAdam(m, 5, NAN), ValueError, "lr must be a number in .0, inf"),
        (lambda m: NoisyAdam(m, 5, math.inf), ValueError, "lr must be a number in .0, inf"),
        (lambda m: NoisyAdam(m, 5, 0.1, damping=math.inf), ValueError, "damping must be a number in .0, inf"),
        (lambda m: NoisyAdam(m, 5, 0.1, update_statistics_every=2.5), TypeError, "update_statistics_every must be"),
        (lambda m: NoisyKFAC(m, 5, 0.1, update_basis_every=0), ValueError, "update_basis_every must be"),
        (lambda m: NoisyAdam(m, 2.5, 0.1), TypeError, "n_data must be int: got 2.5"),
        (lambda m: NoisyAdam(m, 5, "0.1"), TypeError, "lr must be float: got '0.1'"),
        (lambda m: NoisyAdam(m, 5, 0.1).predict(torch.zeros(1, 2), 0), ValueError, "particles must be"),
        (lambda m: NoisyAdam(m, 5, 0.1).predict(torch.zeros(1, 2), 3, seed=-1), ValueError, "seed must be"),
        (lambda m: NoisyAdam(m, 5, 0.1).predict([[0.0, 0.0]]), TypeError, "x must be Tensor"),
        (lambda m: NoisyAdam(m, 5, 0.1, likelihood=nn.MSELoss()), TypeError, "likelihood must have kind"),
        (lambda m: NoisyAdam(m, 5, 0.1, likelihood=Unknown()), ValueError, "likelihood.kind must be one of"),
    ],
)  # fmt: skip
def test_arguments_that_a_method_ignores_or_cannot_use_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make(nn.Linear(2, 2))


def test_the_clip_of_bayes_by_backprop_shortens_both_moves():
    """Breaks if rho is moved whole: the deviations would go on where the means are held."""
    moves = {}
    for clip in (None, 1e-6):
        model, optimizer = made("Bayes by backprop", lr=0.5, kl_clip=clip)
        before = {name: (q.mean, q.rho) for name, q in optimizer.posteriors.items()}
        train(model, optimizer)
        moves[clip] = {n: (q.mean - before[n][0], q.rho - before[n][1]) for n, q in optimizer.posteriors.items()}
    ratios = torch.cat(
        [(b / a).flatten() for n in moves[None] for a, b in zip(moves[None][n], moves[1e-6][n], strict=True)]
    )
    assert ratios.max() < 0.1
    torch.testing.assert_close(ratios, ratios[:1].expand_as(ratios), rtol=1e-6, atol=0)
