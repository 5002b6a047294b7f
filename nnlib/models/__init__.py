"""Networks used by more than one chapter, one family a file; all take ``seed``, ``device`` and ``dtype``."""

from nnlib.models.cnn import SmallCNN
from nnlib.models.init import he_
from nnlib.models.mlp import MLP

__all__ = ["MLP", "SmallCNN", "he_"]
