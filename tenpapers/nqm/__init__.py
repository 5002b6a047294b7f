"""The chapter's laboratory: what its experiments train, measure, claim and draw. Chapter: book/nqm.ipynb.

neural.py    the same measurement on networks
"""
