"""The chapter's laboratory: what its experiments train, measure, claim and draw. Chapter: book/bcop.ipynb.

workloads.py   the settings of each data set, a classifier trained with them, the images that critics tell from digits
measure.py     what one run measures: a classifier's accuracies, a critic's bound, what is left of a gradient
runs.py        the tables: which networks, methods and seeds, at laptop and at paper size
claims.py      what the paper says, and what decides it here
figures/       the chapter's pictures
"""
