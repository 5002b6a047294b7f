"""The primer's laboratory: what it trains, measures, claims and draws. Chapter: book/curvature.ipynb.

workloads.py   networks so small that their whole curvature can be written down
measure.py     errors of approximations, shares of the best decrease, directions on a straight-line fit
steps.py       whole steps: inverses between layers, lengths, the KL clip
runs.py        the recorded tables
claims.py      what the papers say, and what decides it here; by question in claims_*.py
"""
