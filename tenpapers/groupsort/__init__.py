"""The chapter's laboratory: what its experiments train, measure, claim and draw. Chapter: book/groupsort.ipynb.

classify.py       clean, attacked and certified accuracy of one trained classifier
gan.py            a critic between a data set and a WGAN; the LWGAN
"""

from tenpapers.groupsort.classify import classify, classify_run, margin, train_classifier
from tenpapers.groupsort.gan import gan_distance, gan_run, lipschitz_critic, train_gan

__all__ = [
    "classify",
    "classify_run",
    "gan_distance",
    "gan_run",
    "lipschitz_critic",
    "margin",
    "train_classifier",
    "train_gan",
]
