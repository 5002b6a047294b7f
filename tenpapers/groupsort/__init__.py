"""The chapter's laboratory: what its experiments train, measure, claim and draw. Chapter: book/groupsort.ipynb.

workloads.py   data, distributions at a known distance, how critics of one variable and classifiers are trained
gan.py         generators and critics of the WGAN and the LWGAN, and how they are trained
measure.py     what one run is: spectra, critics beside exact distances, classifiers clean, attacked and certified
runs.py        the recorded tables
claims.py      what the paper says, and what decides it here
"""
