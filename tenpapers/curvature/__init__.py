"""The chapter's laboratory: what it draws. Chapter: book/curvature.ipynb."""
