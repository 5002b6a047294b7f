"""What no input, target or number can be is refused by name, in place of NaN or a bare error of linear algebra."""

import math

import pytest
import torch
from torch import nn

from nnlib import natural_gradient as ng

NAN, INF = math.nan, math.inf
X, Y = torch.eye(3), torch.tensor([1.0, -1.0, 1.0])
ONES = torch.ones(3, 1)
LINEAR = nn.Linear(3, 2)
SAME = torch.ones(3, 3)


def net(width=8):
    return ng.TwoLayer(3, width)


REFUSED = {
    "inputs NaN": (lambda: ng.train(net(), X * NAN, Y, "K-FAC", 0.1, 2), "x must hold finite"),
    "inputs of 4 features": (lambda: ng.train(net(), torch.eye(4), Y, "GD", 0.1, 2), "x must have shape"),
    "targets NaN": (lambda: ng.train(net(), X, Y * NAN, "GD", 0.1, 2), "y must hold finite"),
    "targets a column": (lambda: ng.train(net(), X, Y[:, None], "GD", 0.1, 2), "y must have shape"),
    "more targets": (lambda: ng.train(net(), X, torch.ones(5), "GD", 0.1, 2), "y must have shape"),
    "infinite lr": (lambda: ng.train(net(), X, Y, "GD", INF, 2), "lr must be a number in"),
    "infinite damping": (lambda: ng.train(net(), X, Y, "Gauss-Newton", 0.1, 2, damping=INF), "damping must be"),
    "half a step": (lambda: ng.train(net(), X, Y, "GD", 0.1, 2.5), "steps must be int: got 2.5"),
    "ideal lr": (lambda: ng.ideal_run(X, Y, Y, "GD", -1.0, 2), "lr must be a number in"),
    "ideal steps": (lambda: ng.ideal_run(X, Y, Y, "GD", 0.1, -1), "steps must be a whole number"),
    "ideal start": (lambda: ng.ideal_run(X, Y[:2], Y, "GD", 0.1, 1), "u must have shape"),
    "complexity of NaN": (lambda: ng.complexity(X, Y * NAN), "y must hold finite"),
    "complexity of a column": (lambda: ng.complexity(X, Y[:, None]), "y must have shape"),
    "new of 2 features": (lambda: ng.interpolate(X, Y, torch.ones(1, 2)), "z must have shape"),
    "infinite distance": (lambda: ng.loss_bound(INF, 1.0, 5), "distance must be a number in"),
    "half an example": (lambda: ng.loss_bound(1.0, 1.0, 2.5), "n must be int"),
    "infinite eigenvalue": (lambda: ng.radius(1.0, INF), "smallest must be a number in"),
    "infinite change": (lambda: ng.stability_constant(INF, 1.0), "change must be a number in"),
    "certificate of NaN": (lambda: ng.certified_radius(net(), X * NAN, 0.1), "x must hold finite"),
    "certificate of nothing": (lambda: ng.certified_radius(net(), X[:0], 0.1), "x must have shape"),
    "certificate for all": (lambda: ng.certified_radius(net(), X, INF), "change must be a number in"),
    "Gram matrix of NaN": (lambda: ng.gram(net(), X * NAN), "x must hold finite"),
    "Gram matrix of nothing": (lambda: ng.gram(net(), X[:0]), "x must have shape"),
    "slope NaN": (lambda: ng.natural_gradient(net(), X, ONES * NAN), "slope must hold finite"),
    "damping": (lambda: ng.natural_gradient(net(), X, ONES, damping=INF), "damping must be a number in"),
    "damping lost": (lambda: ng.natural_gradient(net(), SAME, ONES, damping=1e-12), "damping must be larger: 1e-12"),
    "damping lost in training": (
        lambda: ng.train(net(), SAME, Y, "Natural gradient", 0.1, 2, damping=1e-12),
        "damping must be larger: 1e-12",
    ),
    "Gram matrix that is too large": (lambda: ng.natural_gradient(net(), 1e30 * X, ONES), "x, or curvature, is too"),
    "without parameters": (lambda: ng.gram(nn.ReLU(), X), "model must have parameters"),
    "inputs of 4 features to a Gram matrix": (lambda: ng.gram(net(), torch.eye(4)), "x must be what the model takes"),
    "not symmetric": (lambda: ng.complexity(X + torch.ones(3, 3).triu(1), Y), "G must be symmetric"),
    "parallel inputs": (lambda: ng.interpolate(SAME, Y, X), "x must have no two parallel rows"),
    "a distance from a column": (lambda: ng.train(net(), X, Y, "GD", 0.1, 2).distance(ONES), "target must have shape"),
    "ideal lr that overflows": (lambda: ng.ideal_run(X, Y, 2 * Y, "GD", 1e30, 9), "lr is too large"),
    "minimiser of a class": (lambda: ng.Loss(torch.add, torch.add, nn.ReLU, 1.0, 1.0), "minimiser must be a function"),
    "smoother than convex": (lambda: ng.Loss(torch.add, torch.add, torch.abs, 2.0, 1.0), r"smoothness must .* \[2.0,"),
    "change of nothing": (lambda: ng.jacobian_change(net(), net(), X[:0]), "x must have shape"),
    "change between two": (lambda: ng.jacobian_change(net(), net(9), X), "reference must have the parameters"),
    "change between outputs": (
        lambda: ng.jacobian_change(LINEAR, nn.Sequential(LINEAR, nn.AvgPool1d(2)), X),
        "reference must have the 2 outputs of model: got 1",
    ),
    "pulled back": (lambda: ng.pull_back(net(), X, torch.ones(2)), "v must have a number for each of the 3"),
    "infinite l2": (lambda: ng.logistic(INF), "l2 must be a number in"),
    "kernel of NaN": (lambda: ng.infinite_gram(X * NAN), "x must hold finite"),
    "kernel of a vector": (lambda: ng.infinite_gram(Y), "x must have shape"),
    "rate of nothing": (lambda: ng.stable_lr(net(), X[:0]), "x must have shape"),
    "rate of zeros": (lambda: ng.stable_lr(net(), torch.zeros(2, 3)), "every rate is stable"),
    "half a feature": (lambda: ng.TwoLayer(1.5, 2), "in_features must be int"),
    "features NaN": (lambda: ng.kfac_operator(X, ONES * NAN), "features must hold finite numbers"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_an_argument_cannot_be_is_refused_by_name(case):
    ask, message = REFUSED[case]
    with pytest.raises((ValueError, TypeError), match=message):
        ask()


def test_a_network_that_is_refused_keeps_its_running_statistics():
    """Breaks if a pass comes before the question whether examples see each other."""
    model = nn.Sequential(nn.Unflatten(1, (1, 3)), nn.BatchNorm1d(1), nn.Flatten(), nn.Linear(3, 1))
    for ask in (lambda: ng.gram(model, X), lambda: ng.pull_back(model, X, ONES)):
        with pytest.raises(ValueError, match="'1', a BatchNorm1d, must be in evaluation mode"):
            ask()
    assert torch.equal(model[1].running_mean, torch.zeros(1))
