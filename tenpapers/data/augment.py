"""Images are shifted and mirrored at random, on the tensors: the usual augmentation of CIFAR-10 runs.

Papers: arXiv 1810.12281, section 3; 1811.12565, section 5.2. Chapters: ``book/weight_decay.ipynb``,
``book/noisy_ekfac.ipynb``.
"""

import torch
from torch import Tensor, nn


class Augmented(nn.Module):
    """In training mode, images are shifted by up to ``pad`` pixels and mirrored at random before they enter the model.

    Each image is padded by zeros, cut out again at a place of its own, and flipped with probability 1/2: all on the
    tensors, on their device. The draws depend on ``seed`` and on the number of batches seen so far, which is part of
    the state: a resumed run sees the same images.

    Args:
        model: Maps (B, c, s, s) to logits.
        pad: Pixels on each side, not negative.
        seed: Of the draws.

    Raises:
        ValueError: for negative ``pad``.

    Source: arXiv 1810.12281, section 3. Chapters: ``book/weight_decay.ipynb``, ``book/noisy_ekfac.ipynb``.

    >>> model = Augmented(nn.Flatten()).eval()
    >>> torch.equal(model(torch.ones(2, 1, 4, 4)), torch.ones(2, 16))
    True
    """

    def __init__(self, model: nn.Module, pad: int = 4, seed: int = 0):
        if pad < 0:
            raise ValueError(f"pad must not be negative: got {pad}")
        super().__init__()
        self.model, self.pad, self.seed, self.batches = model, pad, seed, 0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            generator = torch.Generator(x.device).manual_seed(self.seed * 1_000_003 + self.batches)
            self.batches += 1
            x = crop_and_flip(x, self.pad, generator)
        return self.model(x)

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.batches, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        self.batches = int(state)


def crop_and_flip(x: Tensor, pad: int, generator: torch.Generator) -> Tensor:
    """Each image of x, (B, c, s, s), shifted by at most ``pad`` pixels each way, and mirrored with probability 1/2.

    Args:
        x: Images; the rim that a shift uncovers is zero.
        pad: Not negative.
        generator: On the device of x.
    """
    n, _, height, width = x.shape
    padded = nn.functional.pad(x, (pad, pad, pad, pad))
    draw = {"generator": generator, "device": x.device}
    top, left = torch.randint(2 * pad + 1, (2, n), **draw)  # (B,) each
    rows = top[:, None] + torch.arange(height, device=x.device)  # (B, s)
    columns = left[:, None] + torch.arange(width, device=x.device)
    mirrored = torch.rand(n, **draw) < 0.5
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    example = torch.arange(n, device=x.device)[:, None, None]
    cut = padded.permute(0, 2, 3, 1)[example, rows[:, :, None], columns[:, None, :]]  # (B, s, s, c)
    return cut.permute(0, 3, 1, 2)
