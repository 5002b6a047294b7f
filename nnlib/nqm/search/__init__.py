"""Which hyperparameters reach a target risk first? The search behind ``steps_to_target``, for all batch sizes at once.

Paper: arXiv 1907.04164, section 3. Chapter: book/nqm.ipynb.

fewest.py       fewest_steps: the search from its start to its end
coordinates.py  hyperparameters as points of a plane without walls
landscape.py    Landscape: log R over points, times and batch sizes, on as few eigenvalues as will do
table.py        one coarse table over times and hyperparameters, which serves every batch size
parabola.py     downhill at a fixed time, by a parabola through a star of points
valley.py       along the valley: downhill, then to the time at which the target is met
ripples.py      the ripples that the heavy ball's oscillations draw on its valley
whole.py        whole numbers of steps, and fewer of them as long as that will do
certificate.py  the whole spectrum decides
"""

from nnlib.nqm.search.fewest import fewest_steps

__all__ = ["fewest_steps"]
