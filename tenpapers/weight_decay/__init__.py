"""The chapter's laboratory: what its experiments train, measure, claim and draw. Chapter: book/weight_decay.ipynb.

train.py       one training run with everything the chapter measures, mechanism 2's norms among them
follow.py      runs followed epoch by epoch: the norm transfer, the curvature of normalised weights
laptop.py      the runs of the laptop profile: hyperparameters and cells for a sweep
paper.py       the paper's runs of VGG16 and ResNet32 on CIFAR-10
"""

from tenpapers.weight_decay.follow import follow_curvature, transfer
from tenpapers.weight_decay.paper import PAPER, Recipe, paper_row, run_paper
from tenpapers.weight_decay.train import MEASURED, measure, prepared, train

__all__ = [
    "MEASURED",
    "PAPER",
    "Recipe",
    "follow_curvature",
    "measure",
    "paper_row",
    "prepared",
    "run_paper",
    "train",
    "transfer",
]
