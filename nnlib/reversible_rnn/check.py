"""Are the gradients of a network that runs backwards those of autograd? The angle between them, weight by weight.

Chapter: ``book/reversible_rnn.ipynb``.
"""

import copy

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy

from nnlib.arguments import labels, seeded, typed
from nnlib.reversible_rnn.language_model import LanguageModel
from nnlib.reversible_rnn.rnn import RevGRU, RevLSTM


@typed
def gradient_cosine(model: LanguageModel, tokens: Tensor, targets: Tensor, seed: int = 0) -> float:
    """The smallest cosine, over weights, of the gradients of a model run backwards and of the same by autograd.

    The cosine of all gradients at once would hide a wrong one behind the last map, whose gradient is the largest.

    Args:
        model: With a reversible recurrent network, in any mode.
        tokens: (T, B), whole numbers below the size of the vocabulary.
        targets: (T, B), the same.
        seed: Of the dropout masks, the same for both.

    Raises:
        TypeError: for arguments of another class or dtype.
        ValueError: for a model without a reversible network or without a trained weight, or tokens out of range.

    Source: arXiv 1810.10999, section 5; the authors' code has such a test. Chapter: ``book/reversible_rnn.ipynb``.

    >>> tokens = torch.arange(40).view(20, 2) % 7
    >>> gradient_cosine(LanguageModel(7, "RevGRU", 8, bits=2), tokens, tokens) > 0.9999
    True
    """
    labels(len(model.embedding), "T B", tokens=tokens)
    labels(len(model.weight), "T B", targets=targets)
    if tokens.shape != targets.shape:
        raise ValueError(
            f"tokens and targets must have one shape: got {tuple(tokens.shape)} and {tuple(targets.shape)}"
        )
    if not isinstance(model.rnn, RevGRU | RevLSTM):
        raise ValueError(f"model must have a reversible network, RevGRU or RevLSTM: got {type(model.rnn).__name__}")
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError("model must have a weight that is trained: all are frozen")
    found = []
    for reversible in (True, False):
        twin = copy.deepcopy(model)
        assert isinstance(twin.rnn, RevGRU | RevLSTM)  # as the model's, above
        twin.rnn.reversible = reversible
        logits, _ = twin(tokens, None, seeded(seed, tokens.device))
        loss = cross_entropy(logits.flatten(0, 1), targets.flatten())
        found.append(torch.autograd.grad(loss, [p for p in twin.parameters() if p.requires_grad]))
    pairs = zip(*found, strict=True)
    return min(cosine_similarity(a.flatten().double(), b.flatten().double(), dim=0).item() for a, b in pairs)
