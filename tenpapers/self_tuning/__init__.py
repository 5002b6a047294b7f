"""The chapter's laboratory: what its experiments train, measure, claim and draw. Chapter: book/self_tuning.ipynb.

workloads.py        networks, data and hyperparameters of the chapter
compare.py          the experiments: tuners beside searches, schedules, starts
laptop.py           their sizes
search.py           grid, random, Bayesian and median-pruned search by optuna, at one budget
networks.py         an MLP, a small CNN, AlexNet and a language model with named regularisers
"""

from tenpapers.self_tuning.networks import LanguageModel, alexnet, mlp, small_cnn
from tenpapers.self_tuning.ridge import diabetes

__all__ = [
    "LanguageModel",
    "alexnet",
    "diabetes",
    "mlp",
    "small_cnn",
]
