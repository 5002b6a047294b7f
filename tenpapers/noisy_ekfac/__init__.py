"""The chapter's laboratory: what its experiments train, measure, claim and draw. Chapter: book/noisy_ekfac.ipynb.

workloads.py   the networks for images, the regression sets, how long each is trained
copies.py      small regression networks, one a split, trained side by side
measure.py     what one run is: classify, regress; how far posteriors of two weights are from the exact one
runs.py        the recorded tables
claims.py      what the paper says, and what decides it here
"""
