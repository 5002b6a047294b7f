"""The laboratory of the book Ten Papers You Can Run: data, runs, claims and pages, and one room a chapter.

Needs nnlib, which needs nothing of this. The text is in ``book/``.
"""
