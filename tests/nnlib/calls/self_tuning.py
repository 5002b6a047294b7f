"""Calls of ``nnlib.self_tuning``."""

import math

import torch
from torch import nn

from nnlib.models import MLP
from nnlib.self_tuning import Dropout, Hyperparameter, Ridge, SelfTuner, Space, respond
from nnlib.training import Split

F64 = torch.float64
WHERE = {"device": torch.device("cpu"), "dtype": F64}
RATE = Hyperparameter("rate", (0, 0.9), 0.1)
DECAY = Hyperparameter("decay", (0, None), 0.05)
SEEN = torch.linspace(-1, 1, 24, dtype=F64).view(8, 3).sin()  # (B, d)
DATA = Split(SEEN, SEEN.square() @ torch.ones(3, 1, dtype=F64))
H = torch.linspace(0, 1, 24, dtype=F64).view(4, 2, 3)  # (T, B, H)


def network() -> nn.Module:
    return nn.Sequential(Dropout("rate"), MLP([3, 4, 1], dtype=F64))


def model():
    return respond(network(), [RATE, DECAY])


def loss(outputs, y, values):
    return nn.functional.mse_loss(outputs, y)


def ridge() -> Ridge:
    return Ridge(*(Split(x, x[:, 0] + x[:, 1].square()) for x in (SEEN[:5], SEEN[5:])))


def least_squares(x: torch.Tensor, y: torch.Tensor, penalty: float) -> torch.Tensor:
    """The ridge solution as that of least squares with d more examples."""
    eye = math.sqrt(len(y) * penalty) * torch.eye(x.shape[1], dtype=x.dtype)
    return torch.linalg.lstsq(torch.cat([x, eye]), torch.cat([y, y.new_zeros(len(eye))])).solution


CALLS = {
    "Hyperparameter": lambda: {"name": "rate", "range": (0, 0.9), "init": 0.1, "discrete": False, "shared": False},
    "Hyperparameter.unconstrained": lambda: {"self": RATE, "value": 0.3},
    "Space": lambda: {"hypers": [RATE, DECAY], "fixed": {"noise": 0.0}},
    "Space.unconstrained": lambda: {"self": Space([RATE]), "values": {"rate": 0.3}, "dtype": F64},
    "Space.values": lambda: {"self": Space([RATE, DECAY]), "u": torch.tensor([0.0, 1.0], dtype=F64)},
    "Setting": lambda: {"values": {"rate": H}, "response": H[0], "generator": torch.Generator(), "linear": False},
    "set_values": lambda: {"network": network(), "values": {"rate": 0.1}, "generator": torch.Generator()},
    "Dropout": lambda: {"name": "rate", "kind": "element"},
    "EmbeddingDropout": lambda: {"name": "rate", "vocabulary": 5},
    "InputNoise": lambda: {"name": "s"},
    "Cutout": lambda: {"length": "length", "holes": "holes", "most": 2},
    "ColorJitter": lambda: {"brightness": "a", "contrast": "b", "saturation": "c", "hue": "d"},
    "ScaleNoise": lambda: {"name": "s"},
    "LSTM": lambda: {"input_size": 3, "hidden_size": 4, "drop_connect": "rate", **WHERE},
    "respond": lambda: {
        "network": network(), "hypers": [RATE, DECAY], "fixed": {"noise": 0.0}, "gate_std": 0.1, "seed": 0,
    },
    "BestResponse": lambda: {"network": model().network, "space": Space([RATE, DECAY])},
    "BestResponse.ordinary": lambda: {
        "self": model(), "values": {"rate": 0.1, "decay": 1.0}, "generator": torch.Generator(),
    },
    "squared_norm": lambda: {"network": network()},
    "Ridge": lambda: {"train": ridge().train, "validation": ridge().validation},
    "Ridge.best_response": lambda: {"self": ridge(), "lam": -1.0},
    "Ridge.jacobian": lambda: {"self": ridge(), "lam": -1.0},
    "Ridge.validation_loss": lambda: {"self": ridge(), "w": torch.ones(3, dtype=F64)},
    "Ridge.hypergradient": lambda: {"self": ridge(), "lam": -1.0},
    "Ridge.unrolled_hypergradient": lambda: {"self": ridge(), "lam": -1.0, "steps": 20, "lr": 0.1},
    "Ridge.linear_response": lambda: {"self": ridge(), "lam": -1.0, "sigma": 0.5},
    "Ridge.gates": lambda: {"self": ridge(), "lam": -1.0},
    "joint_hessian": lambda: {"problem": ridge(), "lam": -1.0, "sigma": 0.5, "centred": False},
    "train": lambda: {
        "network": network(), "training_loss": loss, "data": DATA, "schedule": {"rate": 0.1}, "steps": 1, "lr": 0.1,
        "batch_size": 4, "clip": 1.0, "evaluate": lambda network: {}, "evaluate_every": 1, "seed": 0,
    },
    "SelfTuner": lambda: {
        "model": model(), "training_loss": loss, "validation_loss": nn.functional.mse_loss, "variant": "stn", "lr": 0.1,
        "hyper_lr": 0.1, "optimizer": torch.optim.SGD, "sigma": 0.5, "entropy": 0.1, "train_steps": 2, "warm_up": 0,
        "clip": 1.0, "seed": 0,
    },
    "SelfTuner.fit": lambda: {
        "self": SelfTuner(model(), loss, nn.functional.mse_loss, lr=0.1, train_steps=1), "train": DATA,
        "validation": DATA, "steps": 1, "batch_size": 4, "evaluate": lambda tuner: {},
    },
    "SelfTuner.loss": lambda: {
        "self": SelfTuner(model(), loss, nn.functional.mse_loss, lr=0.1), "batches": [DATA],
    },
    "replay": lambda: {"history": [{"step": 5, "rate": 0.1}], "names": ["rate"]},
}  # fmt: skip
ELSEWHERE = {  # run at every step, so that they don't look at the numbers
    "activation_penalty": "tests/nnlib/self_tuning/test_regularizers.py",
    "slowness_penalty": "tests/nnlib/self_tuning/test_regularizers.py",
}
ORACLES = {
    "Hyperparameter.unconstrained": lambda self, value: math.log(value / (0.9 - value)),
    "Ridge.best_response": lambda self, lam: least_squares(*self.train, math.exp(lam)),
    "squared_norm": lambda network: sum(w.square().sum() for n, w in network.named_parameters() if "weight" in n),
}
