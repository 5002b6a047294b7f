"""The chapter's laboratory: what its experiments train, measure, claim and draw. Chapter: book/nqm.ipynb.

workloads.py    the networks of the chapter, their data, their optimisers, the loss that counts as reached
measure.py      what one run is: steps to that loss; what is best over a grid; the best again on other seeds
runs.py         the recorded tables
predictions.py  what the model says: the numbers of the claims on it
comparisons.py  networks compared seed by seed: the numbers of the claims on them
claims.py       what the paper says, and what decides it here
figures/        one picture a file
"""
