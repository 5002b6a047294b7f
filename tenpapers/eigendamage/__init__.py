"""The chapter's laboratory: what its experiments train, measure, claim and draw. Chapter: book/eigendamage.ipynb.

neural.py      the experiments of the chapter
workloads.py   the networks of the chapter, their data, how they are trained
"""
