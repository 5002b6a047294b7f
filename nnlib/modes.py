"""In which mode is a network measured, and how does a loss say that it is not finite? Shared by every method."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from nnlib.arguments import typed


class NonFiniteLoss(ArithmeticError):
    """A loss became infinite or not a number; ``step`` is the first step (from 1) at which it did."""

    def __init__(self, step: int, value: float, what: str = "training", advice: str = "lower the learning rate"):
        super().__init__(f"the {what} loss is {value} at step {step}: {advice}")
        self.step = step


@typed
@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, and afterwards each of its modules in the mode it was in.

    >>> model = nn.Sequential(nn.BatchNorm1d(2).eval(), nn.Dropout())
    >>> with evaluating(model):
    ...     model[1].training
    False
    >>> [module.training for module in model]
    [False, True]
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
