"""The chapter's laboratory: what its experiments train, measure, claim and draw. Chapter: book/self_tuning.ipynb.

networks.py    an MLP, a small CNN, AlexNet and a language model with named regularisers
workloads.py   the problems: a network, its data and what is tuned
search.py      grid, random, Bayesian and median-pruned search by optuna, at one budget
controls.py    schedules that look for nothing: noise and a wave
measure.py     what one run is: tuners beside searches, schedules beside constants, several starts
runs.py        the recorded tables
claims.py      what the papers say, and what decides it here
figures/       pictures of what a best response is, and of the tables
"""
