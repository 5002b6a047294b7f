"""Outputs and modules of unusual kinds: pruned rightly or refused by name, and what is refused stays as it was."""

import collections
import types

import pytest
import torch
from torch import nn

from nnlib.eigendamage import METHODS, Bottleneck, bottleneck, choose, cost, obs_update, prune, reestimate_batch_norm
from nnlib.models import MLP

X = torch.linspace(-1, 1, 40).view(10, 4).sin()


class Net(nn.Module):
    """Three layers; ``form`` makes the output of the scores and the hidden units."""

    def __init__(self, form, inside=nn.Identity):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.form, self.inside = form, inside

    def forward(self, x):
        hidden = self.inside()(self.b(self.inside()(self.a(x).relu())).relu())
        return self.form(self.c(hidden), hidden)


Named = collections.namedtuple("Named", ["scores", "hidden"])
FORMS = {
    "a tuple of 2": lambda scores, hidden: (scores, hidden),
    "a tuple of 1": lambda scores, hidden: (scores,),
    "a Named of 2": Named,
    "a list of 1": lambda scores, hidden: [scores],
    "a dict of 'scores'": lambda scores, hidden: {"scores": scores},
    "a SimpleNamespace": lambda scores, hidden: types.SimpleNamespace(scores=scores),
    "a NoneType": lambda scores, hidden: None,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", ["C-OBD", "Kron-OBS", "EigenDamage"])
def test_outputs_that_curvature_does_not_know_are_refused_by_their_kind(form, method):
    """Breaks with a bare AttributeError of a tuple."""
    with pytest.raises(ValueError, match=rf"output must have shape \(batch, outputs\): got {form}"):
        prune(Net(FORMS[form]), X, method)


@pytest.mark.parametrize("method", set(METHODS) - {"NN Slimming"})
def test_a_module_that_a_forward_makes_changes_nothing(method):
    """``nn.Identity()`` inside of a forward: the same filters go, and the same is computed, as without."""
    plain, made = (Net(lambda scores, hidden: scores, inside) for inside in (lambda: lambda x: x, nn.Identity))
    ours, theirs = (prune(network, X, method, 0.7) for network in (made, plain))
    assert ours.layers == theirs.layers and any(not row["whole"] for row in ours.layers)
    torch.testing.assert_close(ours.model(X), theirs.model(X))


def test_a_layer_that_returns_a_state_beside_its_output_is_counted():
    """Breaks with a bare AttributeError: of an LSTM the output (7, 5), and the last h and c."""
    assert cost(nn.LSTM(3, 5, batch_first=True), torch.zeros(2, 7, 3)).activations == 7 * 5 + 2 * 5


@pytest.mark.parametrize("x", [X[:, :3], X / 0, X[:0]])
def test_batch_statistics_that_could_not_be_measured_stay_as_they_were(x):
    """Breaks if they are reset, or the momentum is gone, when the network does not take x."""
    model = MLP([4, 5, 3], batch_norm=True)
    model.train()(X)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"^x must "):
        reestimate_batch_norm(model, x)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.layers[2].momentum == 0.1 and model.layers[2].training


EYE, ALL = torch.eye(4), torch.ones(4, dtype=torch.bool)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bottleneck(nn.Linear(4, 4), 1.1 * EYE, EYE, ALL, ALL), "Q_A must be orthogonal: .* is 0.21 away"),
        (lambda: bottleneck(nn.Linear(4, 4), EYE, EYE, ALL, ALL.float()), r"columns must be booleans of shape \(4,\)"),
        (lambda: Bottleneck(nn.Linear(4, 4), nn.Linear(4, 4, bias=False), nn.Linear(4, 4)), "input without a bias"),
        (lambda: Bottleneck(*(nn.Linear(4, n, bias=False) for n in (4, 3, 4))), "core without a bias"),
        (lambda: obs_update(EYE[0], EYE + EYE.roll(1, 0), ALL), "H must be symmetric: .* by 1"),
        (lambda: choose({}, 0.5), "scores must have at least one group"),
    ],
)
def test_what_would_make_another_function_or_no_number_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
