"""Are the gradients of a network that runs backwards those of autograd? The angle between them, weight by weight.

Chapter: ``book/reversible_rnn.ipynb``.
"""

import copy

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy

from nnlib.reversible_rnn.language_model import LanguageModel
from nnlib.reversible_rnn.rnn import RevGRU, RevLSTM


def gradient_cosine(model: LanguageModel, tokens: Tensor, targets: Tensor, seed: int = 0) -> float:
    """The smallest cosine, over weights, of the gradients of a model run backwards and of the same by autograd.

    The cosine of all gradients at once would hide a wrong one behind the last map, whose gradient is the largest.

    Args:
        model: With a reversible recurrent network, in any mode.
        tokens: (T, B).
        targets: (T, B).
        seed: Of the dropout masks, the same for both.

    Source: arXiv 1810.10999, section 5; the authors' code has such a test. Chapter: ``book/reversible_rnn.ipynb``.

    >>> tokens = torch.arange(40).view(20, 2) % 7
    >>> gradient_cosine(LanguageModel(7, "RevGRU", 8, bits=2), tokens, tokens) > 0.9999
    True
    """
    found = []
    for reversible in (True, False):
        twin = copy.deepcopy(model)
        if isinstance(twin.rnn, RevGRU | RevLSTM):
            twin.rnn.reversible = reversible
        logits, _ = twin(tokens, None, torch.Generator(tokens.device).manual_seed(seed))
        loss = cross_entropy(logits.flatten(0, 1), targets.flatten())
        found.append(torch.autograd.grad(loss, list(twin.parameters())))
    pairs = zip(*found, strict=True)
    return min(cosine_similarity(a.flatten().double(), b.flatten().double(), dim=0).item() for a, b in pairs)
