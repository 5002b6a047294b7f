"""Can a network tune its hyperparameters while it trains? Best-response layers, and tuners that teach and use them.

Papers: MacKay, Vicol, Lorraine, Duvenaud and Grosse, Self-Tuning Networks (ICLR 2019, arXiv 1903.03088); Bae and
Grosse, Delta-STN (NeurIPS 2020, arXiv 2010.13514). Chapter: book/self_tuning.ipynb.

hyperparameters.py  named, bounded values and their coordinates on the real line
setting.py          what the layers of a network know of the hyperparameters
layers.py lstm.py   Linear, Conv2d, Embedding and LSTM whose weights answer to hyperparameters
response.py         from an ordinary network to its best response, and back
losses.py           what STN and Delta-STN descend on, formula by formula
linearised.py       the network that is linear in its response, by forward mode
tuner.py            STN and Delta-STN: who descends when
batches.py          batches for ever, of examples or of texts
regularizers.py     dropout of five kinds, noise, penalties of activations
augment.py          cutout and colour jitter on tensors
train.py            ordinary training at fixed or scheduled values
schedules.py        what a tuner found, as a schedule to replay
ridge.py            where everything is known exactly: ridge regression
tune_ridge.py       both tuners there, in exact expectation, and descent along hypergradients
"""

from nnlib.self_tuning.augment import ColorJitter, Cutout, ScaleNoise
from nnlib.self_tuning.hyperparameters import Hyperparameter, Space
from nnlib.self_tuning.lstm import LSTM
from nnlib.self_tuning.regularizers import Dropout, EmbeddingDropout, InputNoise, activation_penalty, slowness_penalty
from nnlib.self_tuning.response import BestResponse, respond, squared_norm
from nnlib.self_tuning.ridge import Ridge, joint_hessian
from nnlib.self_tuning.schedules import replay
from nnlib.self_tuning.setting import Setting, set_values
from nnlib.self_tuning.train import train
from nnlib.self_tuning.tuner import SelfTuner

__all__ = [
    "LSTM",
    "BestResponse",
    "ColorJitter",
    "Cutout",
    "Dropout",
    "EmbeddingDropout",
    "Hyperparameter",
    "InputNoise",
    "Ridge",
    "ScaleNoise",
    "SelfTuner",
    "Setting",
    "Space",
    "activation_penalty",
    "joint_hessian",
    "replay",
    "respond",
    "set_values",
    "slowness_penalty",
    "squared_norm",
    "train",
]
