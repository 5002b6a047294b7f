"""The chapter's laboratory: what its experiments train, measure, claim and draw. Chapter: book/weight_decay.ipynb.

workloads.py   images, networks, and the settings that were chosen for each optimiser; the paper's recipes
measure.py     one training run with everything the chapter measures; correlations over many networks
follow.py      runs followed epoch by epoch: the norm transfer, the curvature of normalised weights
sphere.py      a loss on the sphere, small enough to follow every step
untrained.py   what is measured without training a network, on several draws
runs.py        the recorded tables
claims.py      what the paper says, and what decides it here
"""
