"""The chapter's laboratory: what its experiments train, measure, claim and draw. Chapter: book/reversible_rnn.ipynb.

workloads.py     the models of the chapter, their texts, how they are trained
evaluate.py      training with carried states, perplexity, BLEU
reversal.py      the error of a network run backwards in floating point
repeat.py        the task that a network without forgetting cannot do
language.py      one language model: trained, measured, its memory counted
translation.py   one translator: the same, encoder and decoder apart
runs.py          the recorded tables
claims.py        what the paper says, and what decides it here
"""
