"""Variational inference with the interface of an optimiser: sample the weights, backpropagate, step, predict.

``with optimizer.sample():`` puts a draw from the posterior into the model; a forward pass in there also brings the
Fisher statistics, from targets that the model itself draws. ``step`` moves the posterior. Outside, the model holds the
posterior mean. Papers: arXiv 1712.02390, 1811.12565. Chapter: ``book/noisy_ekfac.ipynb``.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nnlib.bayes import Categorical, Likelihood
from nnlib.curvature import joint_weight
from nnlib.curvature.capture import Capture
from nnlib.curvature.outputs import output_vectors, predictions, wide
from nnlib.curvature.passes import Hook, watchable
from nnlib.modes import evaluating
from nnlib.noisy_ekfac.layers import forget_gradient, joint_gradient, noisy_layers, put
from nnlib.noisy_ekfac.natural import FisherPosterior
from nnlib.noisy_ekfac.posterior import Posterior
from nnlib.noisy_ekfac.statistics import Locations, Rows


class NoisyOptimizer:
    """What the four methods share; use one of its subclasses.

    Args:
        model: Maps (B, ...) to (B, C). Every trainable parameter belongs to an ``nn.Linear`` or an ungrouped
            ``nn.Conv2d``.
        n_data: Number of training examples, positive.
        lr: Learning rate, positive.
        likelihood: A head of :mod:`nnlib.bayes`; its ``loss`` is what is backpropagated.
        prior_variance: Of the prior N(0, prior_variance I) of the weights.
        kl_weight: Factor on the KL term, 1 for the posterior.
        damping: Extrinsic, not negative: of the step alone.
        momentum: In [0, 1).
        decay: Of the running averages of Fisher statistics, in [0, 1).
        update_statistics_every: Steps between two updates of them.
        kl_clip: c: the move is shortened so that lr^2 v' F^-1 v <= c; None: never.
        seed: Of weights and drawn targets.
        options: For the posterior of a layer, by name.

    Raises:
        ValueError: for arguments out of range, or a trainable parameter outside such layers, named.
        RuntimeError: from ``step``, where no sample was backpropagated.
        ArithmeticError: from ``step``, where a gradient is not finite.

    Source: arXiv 1811.12565, algorithm 1. Chapter: ``book/noisy_ekfac.ipynb``.
    """

    kind: type[Posterior]

    def __init__(
        self,
        model: nn.Module,
        n_data: int,
        lr: float,
        *,
        likelihood: Likelihood | None = None,
        prior_variance: float = 1.0,
        kl_weight: float = 1.0,
        damping: float = 0.0,
        momentum: float = 0.9,
        decay: float = 0.99,
        update_statistics_every: int = 1,
        kl_clip: float | None = None,
        seed: int = 0,
        **options: Any,
    ):
        if not (lr > 0 and damping >= 0 and 0 <= momentum < 1 and (kl_clip is None or kl_clip > 0)):
            raise ValueError(
                "lr and kl_clip must be positive, damping not negative and momentum in [0, 1): "
                f"got {lr}, {kl_clip}, {damping} and {momentum}"
            )
        if update_statistics_every < 1:
            raise ValueError(f"update_statistics_every must be at least 1: got {update_statistics_every}")
        self.model, self.likelihood = model, Categorical() if likelihood is None else likelihood
        self.lr, self.damping, self.momentum, self.kl_clip = lr, damping, momentum, kl_clip
        self.update_statistics_every, self.steps = update_statistics_every, 0
        self.layers = noisy_layers(model)
        common = {"n_data": n_data, "prior_variance": prior_variance, "kl_weight": kl_weight, "decay": decay}
        self.posteriors = {
            name: self.kind(wide(joint_weight(layer)), **common, **options) for name, layer in self.layers.items()
        }
        device = next(iter(self.posteriors.values())).mean.device
        self.generator = torch.Generator(device).manual_seed(seed)
        # Since the last step: for each layer, of each sample, the gradient, the weights and their noise; for each
        # forward pass, the Fisher statistics of each layer.
        self._draws: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {name: [] for name in self.layers}
        self._statistics: list[dict[str, tuple[Tensor, Tensor]]] = []

    @contextmanager
    def sample(self) -> Iterator[None]:
        """In here the model holds a draw of its weights; gradients that it gets in here count for the next step."""
        noise = {name: self._noise(q.mean.shape) for name, q in self.posteriors.items()}
        with self._full_precision():
            weights = {name: q.sample(noise[name][None])[0] for name, q in self.posteriors.items()}
        due = self.steps % self.update_statistics_every == 0 and issubclass(self.kind, FisherPosterior)
        capture = Capture(self.model, {**self.layers}) if due else None
        hook = self.model.register_forward_hook(Hook(lambda *called: self._watch(capture, *called[1:])))
        for name, layer in self.layers.items():
            put(layer, weights[name])
            forget_gradient(layer)
        try:
            yield
            for name, layer in self.layers.items():
                if (gradient := joint_gradient(layer)) is not None:
                    self._draws[name].append((wide(gradient), weights[name], noise[name]))
        finally:
            hook.remove()
            if capture is not None:
                capture.remove()
            self._restore()

    @torch.no_grad()
    def step(self) -> None:
        """Move the posterior by the samples since the last step, and put its mean into the model."""
        without = [name for name, draws in self._draws.items() if not draws]
        if len(without) == len(self._draws):
            raise RuntimeError("nothing to step by: call loss.backward() inside `with optimizer.sample():` first")
        if without:
            raise ValueError(
                f"no gradient came to {', '.join(without)}: every layer must be called, since its posterior moves "
                "with every step; leave such layers out of the model"
            )
        with self._full_precision():
            for found in self._statistics:
                for name, (x, ds) in found.items():
                    single = x.shape[1] == 1 and len(ds) == 1
                    self.posteriors[name].observe(Rows(x[:, 0], ds[0, :, 0]) if single else Locations(x, ds))
            moves, squared = {}, 0.0
            for name, q in self.posteriors.items():
                gradient, weights, noise = (torch.stack(part) for part in zip(*self._draws[name], strict=True))
                if not math.isfinite(gradient.sum().item()):
                    raise ArithmeticError(
                        f"the gradient of layer {name!r} is not finite at step {self.steps}: lower lr"
                    )
                moves[name], length = q.propose(
                    gradient, weights, noise, lr=self.lr, damping_ex=self.damping, momentum=self.momentum
                )
                squared += length.item()
            nu = shortening(squared, self.kl_clip)
            for name, q in self.posteriors.items():
                q.mean = q.mean + nu * moves[name]
        self._draws, self._statistics = {name: [] for name in self.layers}, []
        self.steps += 1
        self._restore()

    @torch.no_grad()
    def predict(self, x: Tensor, particles: int = 100, seed: int = 0) -> Tensor:
        """Outputs of sampled networks, (particles, n, C), in evaluation mode.

        Args:
            x: (n, ...).
            particles: At least 1.
            seed: Of the draws, which are independent of those of training.
        """
        if particles < 1:
            raise ValueError(f"particles must be at least 1: got {particles}")
        generator, found = torch.Generator(self.generator.device).manual_seed(seed), []
        try:
            with evaluating(self.model):
                for _ in range(particles):
                    for name, layer in self.layers.items():
                        q = self.posteriors[name]
                        with self._full_precision():
                            put(layer, q.sample(self._noise(q.mean.shape, generator)[None])[0])
                    found.append(self.model(x))
        finally:
            self._restore()
        return torch.stack(found)

    def kl(self) -> Tensor:
        """KL[q || prior], the exact sum over all layers, a scalar."""
        return torch.stack([q.kl() for q in self.posteriors.values()]).sum()

    def logdet(self) -> Tensor:
        """log det of the posterior covariance of all weights, a scalar."""
        return torch.stack([q.logdet() for q in self.posteriors.values()]).sum()

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        layers = {name: q.state() for name, q in self.posteriors.items()}
        return {"steps": self.steps, "generator": self.generator.get_state(), "layers": layers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave; the model gets the posterior mean."""
        if list(state["layers"]) != list(self.posteriors):
            raise ValueError(f"the state is of layers {list(state['layers'])}, not {list(self.posteriors)}")
        for name, q in self.posteriors.items():
            q.load(state["layers"][name])
        self.steps = state["steps"]
        self.generator.set_state(state["generator"].cpu())
        self._restore()

    def _watch(self, capture: Capture | None, args: tuple[Any, ...], returned: Any) -> None:
        """After a forward pass: gradients of a loss whose targets the model itself has drawn, for the Fisher matrix."""
        if capture is None or not watchable() or not capture.calls:
            return
        outputs = predictions(returned, None)
        rows = len(args[0]) if args and isinstance(args[0], Tensor) else None
        vectors = output_vectors(outputs, "sampled", self.likelihood.kind, None, self.generator)
        precision = self.likelihood.precision
        vectors = vectors * (precision.detach() if isinstance(precision, Tensor) else precision) ** 0.5
        self._statistics.append(capture.samples(outputs, vectors, rows=rows))
        capture.clear()
        capture.on = True

    def _full_precision(self) -> torch.autocast:
        """Outside autocast, which is for the network's own passes."""
        return torch.autocast(self.generator.device.type, enabled=False)

    def _noise(self, shape: torch.Size, generator: torch.Generator | None = None) -> Tensor:
        mean = next(iter(self.posteriors.values())).mean
        generator = self.generator if generator is None else generator
        return torch.randn(shape, generator=generator, dtype=mean.dtype, device=mean.device)

    def _restore(self) -> None:
        for name, layer in self.layers.items():
            put(layer, self.posteriors[name].mean)


def shortening(squared: float, kl_clip: float | None) -> float:
    """nu = min(1, sqrt(kl_clip / squared)): nu times a move of this squared length has kl_clip at most.

    >>> shortening(4.0, 1.0), shortening(0.5, 1.0), shortening(4.0, None)
    (0.5, 1.0, 1.0)
    """
    return min(1.0, (kl_clip / squared) ** 0.5) if kl_clip is not None and squared > 0 else 1.0
