"""Structured pruning by curvature: EigenDamage, in the Kronecker-factored eigenbasis, and every baseline of its paper.

Paper: Wang, Grosse, Fidler and Zhang, EigenDamage: Structured Pruning in the Kronecker-Factored Eigenbasis (ICML 2019,
arXiv 1905.05934). Chapter: book/eigendamage.ipynb.

prune.py       prune: scores, choice over all layers, surgery, report
measure.py     what a method must know of a network: scores of its filters, or eigenbases
scores.py      the scores of filters and of the entries of rotated weights, and the changes that go with them
weights.py     OBD and OBS for single weights with a dense Hessian
choose.py      which go: a global threshold with a limit for each layer
bottleneck.py  a layer as a product of three in its eigenbasis
trace.py       what a model computes, operation by operation, in both of its modes
rules.py       what an operation does to channels
channels.py    which channels are left at each place of a model when filters go
surgery.py     thinner layers
moves.py       zeros where a sum needs them
verify.py      whether a changed model says what it should
finetune.py    training, new batch statistics, pruning in rounds
separable.py   bottlenecks with depthwise cores
cost.py        parameters, operations, activations, time
"""

from nnlib.eigendamage.bottleneck import Bottleneck, bottleneck
from nnlib.eigendamage.choose import choose
from nnlib.eigendamage.cost import Cost, bottleneck_parameters, break_even, cost, seconds
from nnlib.eigendamage.finetune import prune_iteratively, reestimate_batch_norm, train
from nnlib.eigendamage.measure import DAMPING, METHODS, eigenbases, filter_scores
from nnlib.eigendamage.moves import Fill
from nnlib.eigendamage.prune import Pruned, prunable, prune
from nnlib.eigendamage.scores import (
    c_obd,
    c_obs,
    c_obs_update,
    importance,
    kron_obd,
    kron_obs,
    kron_obs_update,
    magnitude,
    rotate,
)
from nnlib.eigendamage.separable import cp, separate
from nnlib.eigendamage.surgery import remove_filters
from nnlib.eigendamage.weights import obd_scores, obs_scores, obs_update

__all__ = [
    "DAMPING",
    "METHODS",
    "Bottleneck",
    "Cost",
    "Fill",
    "Pruned",
    "bottleneck",
    "bottleneck_parameters",
    "break_even",
    "c_obd",
    "c_obs",
    "c_obs_update",
    "choose",
    "cost",
    "cp",
    "eigenbases",
    "filter_scores",
    "importance",
    "kron_obd",
    "kron_obs",
    "kron_obs_update",
    "magnitude",
    "obd_scores",
    "obs_scores",
    "obs_update",
    "prunable",
    "prune",
    "prune_iteratively",
    "reestimate_batch_norm",
    "remove_filters",
    "rotate",
    "seconds",
    "separate",
    "train",
]
