"""The chapter's laboratory: what its experiments train, measure, claim and draw. Chapter: book/eigendamage.ipynb.

workloads.py   the networks of the chapter, their data, how they are trained
measure.py     what one run is: prune by one method, in rounds; how diagonal and how additive curvature is
runs.py        the recorded tables
claims.py      what the paper says, and what decides it here
"""
