"""How are hyperparameters tuned while the network trains? Steps on the training loss in turn with steps on validation.

STN: MacKay, Vicol, Lorraine, Duvenaud and Grosse (ICLR 2019, arXiv 1903.03088), algorithm 1.
Delta-STN: Bae and Grosse (NeurIPS 2020, arXiv 2010.13514). Chapter: ``book/self_tuning.ipynb``.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.functional import softplus
from torch.optim import Adam, Optimizer

from nnlib.modes import NonFiniteLoss
from nnlib.self_tuning.response import BestResponse
from nnlib.self_tuning.train import Evaluate, batches, mean_loss, momentum_sgd
from nnlib.training import Split

VARIANTS = ("delta", "stn")


@cache
def _load_forward_rules() -> None:
    """Let torch load its rules of forward differentiation, once: it uses a call that it has itself deprecated."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore", DeprecationWarning)
        forward_ad.make_dual(torch.zeros(1, device="cpu"), torch.zeros(1, device="cpu"))


class SelfTuner:
    """Trains a best-response network and its hyperparameters together.

    A *training step* perturbs the coordinates u of each example by sigma times Gaussian noise, trains at the perturbed
    values, and teaches the response:

    - ``stn``: phi <- phi - lr dL_T(f(x; w(u + eps)), values(u + eps)) for all weights at once, with input u + eps.
    - ``delta``: first w_0 at the unperturbed values, as in ordinary training; then the response alone, at perturbed
      values, in the network that is linear in it, f(x; w_0) + J Theta eps (the product is made in forward mode).

    A *validation step*, in evaluation mode, moves u and sigma down E[L_V(w(u + eps))] - entropy sum_i log sigma_i. The
    training loss is never differentiated by hyperparameters.

    Args:
        model: Made by ``respond``; trained in place.
        training_loss: ``training_loss(outputs, targets, values)``, a mean over the batch; ``values`` by name, (B,) or
            (). A penalty may ask ``model.squared_norm()``, which is (B,) or ().
        validation_loss: ``validation_loss(outputs, targets)``, without any penalty.
        variant: ``delta`` or ``stn``.
        lr: Learning rate of the weights.
        hyper_lr: Of u and of sigma's coordinate, for Adam.
        optimizer: ``optimizer(parameters, lr=lr)``.
        sigma: Scale of the perturbations at the start, in coordinates u.
        entropy: tau; None keeps sigma as it is, and validation steps then do not perturb.
        train_steps: Training steps before each validation step.
        warm_up: Training steps before the first validation step.
        clip: Largest norm of the gradient of the weights, or None.
        seed: Of batches, perturbations and masks.

    Raises:
        ValueError: for an unknown variant or a number out of range.

    Source: arXiv 1903.03088, algorithm 1; arXiv 2010.13514, algorithm 1. Chapter: ``book/self_tuning.ipynb``.

    >>> from nnlib.self_tuning import Hyperparameter, respond
    >>> draws = torch.Generator().manual_seed(0)
    >>> x = torch.randn(200, 5, generator=draws)
    >>> data = Split(x, x[:, :1] + 2 * torch.randn(200, 1, generator=draws))
    >>> model = respond(nn.Linear(5, 1), [Hyperparameter("decay", (0, None), init=0.1)])
    >>> mse = nn.functional.mse_loss
    >>> loss = lambda out, y, values: mse(out, y) + (values["decay"] * model.squared_norm()).mean()
    >>> tuner = SelfTuner(model, loss, mse, lr=0.02, hyper_lr=0.05)
    >>> history = tuner.fit(Split(*(t[:20] for t in data)), Split(*(t[20:] for t in data)), steps=500, batch_size=20)
    >>> len(history), bool(history.decay.iloc[-1] > 0.3)
    (100, True)
    """

    def __init__(
        self,
        model: BestResponse,
        training_loss: Callable[..., Tensor],
        validation_loss: Callable[[object, Tensor], Tensor],
        *,
        variant: str = "delta",
        lr: float,
        hyper_lr: float = 3e-3,
        optimizer: Callable[..., Optimizer] = momentum_sgd,
        sigma: float = 0.5,
        entropy: float | None = 1e-3,
        train_steps: int = 5,
        warm_up: int = 0,
        clip: float | None = None,
        seed: int = 0,
    ):
        if variant not in VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(VARIANTS)}: got {variant!r}")
        if not (sigma > 0 and train_steps >= 1 and warm_up >= 0 and (entropy is None or entropy >= 0)):
            given = f"sigma={sigma}, train_steps={train_steps}, warm_up={warm_up}, entropy={entropy}"
            raise ValueError(f"sigma must be positive, train_steps at least 1, the others not negative: got {given}")
        if variant == "delta":
            _load_forward_rules()
        self.model, self.variant, self.space = model, variant, model.space
        self.training_loss, self.validation_loss = training_loss, validation_loss
        self.entropy, self.train_steps, self.warm_up, self.clip = entropy, train_steps, warm_up, clip
        like = model.centre
        self.u = nn.Parameter(model.start())
        rho = sigma + math.log(-math.expm1(-sigma))  # softplus(rho) = sigma
        self.rho = nn.Parameter(torch.full_like(self.u, rho))
        self.generator = torch.Generator(like.device).manual_seed(seed)
        self.order = torch.Generator("cpu").manual_seed(seed)
        model.setting.generator = self.generator
        self.groups = [model.base_parameters(), model.response_parameters()]
        self.optimizers = [optimizer(group, lr=lr) for group in self.groups]
        self.hyper_optimizer = Adam([self.u] if entropy is None else [self.u, self.rho], lr=hyper_lr)
        self.steps = 0
        self._recentre()

    @property
    def values(self) -> dict[str, float]:
        """The present hyperparameters by name."""
        return self.space.values(self.u)

    @property
    def sigma(self) -> Tensor:
        """Scales of the perturbations, (n,)."""
        return softplus(self.rho)

    def _recentre(self) -> None:
        if self.variant == "delta":
            self.model.centre.copy_(self.u.detach())

    def _place(self, u: Tensor | None, response: Tensor | None, linear: bool = False) -> dict[str, Tensor]:
        """Let the network see hyperparameters and response input; the values come back, for a loss."""
        setting = self.model.setting
        setting.response, setting.linear = response, linear
        setting.values = self.space.used(self.u if u is None else u)
        return setting.values

    def _step(self, loss: Tensor, which: tuple[int, ...]) -> None:
        """One step of some of the two groups of weights, 0 for w_0 and 1 for the response."""
        parameters = [p for i in which for p in self.groups[i]]
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        if self.clip is not None:
            nn.utils.clip_grad_norm_(parameters, self.clip)
        for i in which:
            self.optimizers[i].step()

    def training_step(self, batch: Split) -> float:
        """One step of all weights on a batch; returns the training loss at the unperturbed values (for STN, perturbed).

        Raises:
            NonFiniteLoss: where that loss is infinite or not a number.
        """
        self.model.train()
        x, y = batch
        eps = self.space.noise(self._size(batch), self.generator, self.u)  # (B, n)
        u = self.u.detach() + self.sigma.detach() * eps
        if self.variant == "stn":
            values = self._place(u, u - self.model.centre)
            loss = self.training_loss(self.model(x), y, values)
            self._step(loss, (0, 1))
        else:
            values = self._place(None, None)
            loss = self.training_loss(self.model(x), y, values)
            self._step(loss, (0,))
            self._step(self._linearised(x, y, u), (1,))
        self.steps += 1
        value = loss.item()
        if not math.isfinite(value):
            raise NonFiniteLoss(self.steps, value)
        return value

    def _linearised(self, x: Tensor, y: Tensor, u: Tensor) -> Tensor:
        """Training loss of f(x; w_0) + J Theta r: each output's value and its derivative along r, in forward mode."""
        r = u - self.model.centre
        with forward_ad.dual_level():
            values = self._place(u, r, linear=True)
            outputs = self.model(x)
            several = isinstance(outputs, tuple)
            pairs = [forward_ad.unpack_dual(out) for out in (outputs if several else (outputs,))]
            linear = tuple(out.primal if out.tangent is None else out.primal + out.tangent for out in pairs)
        self.model.setting.linear = False  # a penalty on the weights sees them at r
        return self.training_loss(linear if several else linear[0], y, values)

    def validation_step(self, batch: Split) -> float:
        """One step of the hyperparameters, and of sigma where it is tuned; returns the validation loss of the batch."""
        self.model.eval()
        x, y = batch
        u = self.u.expand(self._size(batch), -1)
        if self.entropy is not None:
            u = u + self.sigma * self.space.noise(len(u), self.generator, self.u)
        self._place(None, u - self.model.centre)
        loss = self.validation_loss(self.model(x), y)
        objective = loss if self.entropy is None else loss - self.entropy * self.sigma.log().sum()
        tuned = [self.u] if self.entropy is None else [self.u, self.rho]
        for parameter, gradient in zip(tuned, torch.autograd.grad(objective, tuned), strict=True):
            parameter.grad = gradient
        self.hyper_optimizer.step()
        self._recentre()
        return loss.item()

    @staticmethod
    def _size(batch: Split) -> int:
        """B: of images the first dimension, of texts (T, B) the second; which of them, the targets' last says."""
        return batch.y.shape[1] if _is_text(batch) else batch.x.shape[0]

    @torch.no_grad()
    def loss(self, batches: Iterable[Split]) -> float:
        """Mean validation loss over batches at the present hyperparameters, unperturbed, in evaluation mode."""
        self.model.eval()
        n = len(self.space)
        self._place(None, (self.u - self.model.centre).expand(1, n))
        return mean_loss(self.model, batches, self.validation_loss)

    def fit(
        self,
        train: Split | Iterable[Split],
        validation: Split | Iterable[Split],
        *,
        steps: int,
        batch_size: int | None = None,
        evaluate: Evaluate | None = None,
    ) -> list[dict[str, Any]]:
        """Train for some steps; a validation step follows every ``train_steps``, the first after the warm-up.

        Args:
            train: A split, drawn in batches without replacement, or an endless iterable of batches.
            validation: The same, of data that the training steps never see.
            steps: Training steps.
            batch_size: Of both, where they are splits.
            evaluate: Called after each validation step with the tuner; what it returns by name joins the row.

        Returns:
            A dict for each validation step: ``step`` (training steps so far), ``train_loss``, ``validation_loss`` (of
            one batch), each hyperparameter and ``sigma <name>`` for its scale. Its ``step`` and
            hyperparameters are the schedule that ``replay`` takes.
        """
        train, validation = (
            batches(part, batch_size, self.order) if isinstance(part, Split) else iter(part)
            for part in (train, validation)
        )
        rows = []
        for batch in _taken(train, steps):
            train_loss = self.training_step(batch)
            if self.steps < self.warm_up or self.steps % self.train_steps:
                continue
            before = self.values
            row = {"step": self.steps, "train_loss": train_loss}
            row["validation_loss"] = self.validation_step(next(validation))
            sigmas = zip(self.space.names, self.sigma.tolist(), strict=True)
            rows.append(row | before | {f"sigma {name}": value for name, value in sigmas})
            if evaluate is not None:
                rows[-1] |= evaluate(self)
        return rows


def _is_text(batch: Split) -> bool:
    """Token ids (T, B) with a target each, or examples (B, ...)."""
    return not batch.x.is_floating_point() and batch.x.shape == batch.y.shape and batch.x.ndim == 2


def _taken(batches: Iterator[Split], steps: int) -> Iterator[Split]:
    if steps < 1:
        raise ValueError(f"steps must be positive: got {steps}")
    return islice(batches, steps)
