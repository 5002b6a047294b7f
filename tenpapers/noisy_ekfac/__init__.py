"""The chapter's laboratory: what its experiments train, measure, claim and draw. Chapter: book/noisy_ekfac.ipynb.

workloads.py    the networks for images, the regression sets, how long each is trained
copies.py       small regression networks, one a split, trained side by side
released.py     the posterior that the released regression code computes, for the tables alone
regression.py   what one run on a regression set is
measure.py      what one run on images is; how far posteriors of two weights are from the exact one
hmc.py          Hamiltonian Monte Carlo, to be compared with
marginals.py    the standard deviation of each weight of a small network, by every posterior
runs.py         the recorded tables
comparisons.py  which runs are compared, paired by what, at what equal
identities.py   what is exact, computed here and now
prose.py        the numbers in the chapter's sentences
claims.py       what the paper says, and what decides it here
"""
