"""The chapter's laboratory: what its experiments train, measure, claim and draw. Chapter: book/bcop.ipynb.

classify.py      train_classifier, measure, run: clean, attacked and certified accuracy
recipes.py       the settings of each data set, at laptop and at paper size
wasserstein.py   run_critic: a lower bound on W_1 beside the exact value
attenuation.py   the norm of a gradient through depth
"""

from tenpapers.bcop.attenuation import gradient_norms
from tenpapers.bcop.classify import measure, run, train_classifier
from tenpapers.bcop.wasserstein import gaussian_images, run_critic

__all__ = [
    "gaussian_images",
    "gradient_norms",
    "measure",
    "run",
    "run_critic",
    "train_classifier",
]
