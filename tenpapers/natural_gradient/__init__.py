"""The chapter's laboratory: what its experiments train, measure, claim and draw. Chapter: book/natural_gradient.ipynb.

workloads.py   points on the sphere, two classes of images, labels turned over, a model whose C is known
measure.py     what one run is and measures, one row each
units.py       the same run in other parameters
batches.py     mini-batches, at infinite width and on a deep network
runs.py        the recorded tables
claims.py      what the paper says, and what decides it here; by question in claims_*.py
"""
