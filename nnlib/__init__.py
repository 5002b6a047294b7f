"""Implementations of ten papers, one module a paper. The book that uses them is in ``book/``."""
