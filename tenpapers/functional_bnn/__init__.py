"""The chapter's laboratory: what its experiments train, measure, claim and draw. Chapter: book/functional_bnn.ipynb.

workloads.py   what is learnt, played and searched: toy problems, series, tables, bandits, functions; and the priors
agents.py      who plays a bandit, and who searches a function
measure.py     what one run is, one function an experiment
runs.py        the recorded tables
claims.py      what the paper says, and what decides it here
figures/       the chapter's pictures
"""
