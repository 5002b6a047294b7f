"""Networks used by more than one chapter, one family a file; all take ``seed``, ``device`` and ``dtype``."""

from nnlib.models.cnn import SmallCNN
from nnlib.models.init import glorot_, he_, normal_
from nnlib.models.mlp import MLP
from nnlib.models.preresnet import PreResNet
from nnlib.models.resnet import ResNet
from nnlib.models.vgg import VGG

__all__ = ["MLP", "VGG", "PreResNet", "ResNet", "SmallCNN", "glorot_", "he_", "normal_"]
