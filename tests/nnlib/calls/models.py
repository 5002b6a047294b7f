"""Calls of ``nnlib.models``."""

import torch

from nnlib.models import MLP

WHERE = {"seed": 0, "device": torch.device("cpu"), "dtype": torch.float64}

CALLS = {
    "MLP": lambda: {"sizes": [4, 3, 2], "bias": True, "batch_norm": False, **WHERE},
    "SmallCNN": lambda: {"in_channels": 1, "image_size": 8, "classes": 3, "width": 2, "batch_norm": True, **WHERE},
    "ResNet": lambda: {"depth": 8, "in_channels": 1, "classes": 3, "width": 1, "affine": False, **WHERE},
    "PreResNet": lambda: {"depth": 11, "in_channels": 1, "classes": 3, "width": 1, **WHERE},
    "VGG": lambda: {"depth": 11, "in_channels": 1, "classes": 3, "width": 0.1, "affine": False, **WHERE},
    "he_": lambda: {"model": MLP([4, 3, 2]), "seed": 0},
    "glorot_": lambda: {"model": MLP([4, 3, 2]), "seed": 0},
    "normal_": lambda: {"model": MLP([4, 3, 2]), "std": 0.1, "seed": 0},
}
ELSEWHERE: dict[str, str] = {}
