"""The chapter's laboratory: what its experiments train, measure, claim and draw. Chapter: book/reversible_rnn.ipynb.

repeat.py          the task that a network without forgetting cannot do
evaluate.py        training with carried states, perplexity, BLEU
"""

from tenpapers.reversible_rnn.evaluate import bleu, nats, train_language_model

__all__ = [
    "bleu",
    "nats",
    "train_language_model",
]
