"""Variational inference with the interface of an optimiser: sample the weights, backpropagate, step, predict.

``with optimizer.sample():`` puts a draw from the posterior into the model; a forward pass in there also brings the
Fisher statistics, from targets that the model itself draws. ``step`` moves the posterior. Outside, the model holds the
posterior mean. Papers: arXiv 1712.02390, 1811.12565. Chapter: ``book/noisy_ekfac.ipynb``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from nnlib.arguments import one_of, seeded, shown, typed, whole, within
from nnlib.bayes import Categorical, Likelihood
from nnlib.curvature import joint_weight
from nnlib.curvature.capture import Capture
from nnlib.curvature.outputs import LIKELIHOODS, output_vectors, predictions, wide
from nnlib.curvature.passes import Hook, watchable
from nnlib.modes import evaluating
from nnlib.noisy_ekfac.layers import forget_gradient, joint_gradient, noisy_layers, put
from nnlib.noisy_ekfac.natural import FisherPosterior
from nnlib.noisy_ekfac.posterior import Posterior
from nnlib.noisy_ekfac.saving import saved, take_over
from nnlib.noisy_ekfac.statistics import Locations, Rows


@dataclass
class Since:
    """What was seen since the last step.

    Args:
        draws: For each layer, of each sample, the gradient, the weights and their noise.
        statistics: For each forward pass, the Fisher statistics of each layer.
        buffers: Of the model, and what they were.
    """

    draws: dict[str, list[tuple[Tensor, Tensor, Tensor]]]
    statistics: list[dict[str, tuple[Tensor, Tensor]]]
    buffers: dict[Tensor, Tensor]


@typed
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

    ``lr``, ``damping``, ``momentum`` and ``kl_clip`` are attributes, and may be changed between two steps.

    Raises:
        ValueError: for arguments out of range, or a trainable parameter outside such layers, named.
        TypeError: for an option that the method does not have, what is no model or number, or a likelihood without
            ``kind``, ``precision`` and ``loss``.
        RuntimeError: from ``step``, where no sample was backpropagated.
        ValueError: from ``step``, where a layer had no part in the loss, by name.
        ArithmeticError: from ``step``, where something is not finite, by layer. Then the step is not taken: posteriors
            and the model's buffers (running statistics) are as they were before the batch, and the next one goes on.

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
        within("(0, inf)", lr=lr, **{} if kl_clip is None else {"kl_clip": kl_clip})
        within("[0, inf)", damping=damping)
        within("[0, 1)", momentum=momentum)
        whole(1, update_statistics_every=update_statistics_every)
        known = {field.name for field in fields(self.kind)} - {field.name for field in fields(Posterior)}
        if unknown := sorted(set(options) - known):
            takes = f"takes the options {', '.join(sorted(known))}" if known else "takes no options"
            raise TypeError(f"{type(self).__name__} {takes}: got {', '.join(unknown)}")
        self.model, self.likelihood = model, Categorical() if likelihood is None else likelihood
        if lacks := [name for name in ("kind", "precision", "loss") if not hasattr(self.likelihood, name)]:
            raise TypeError(
                f"likelihood must have {', '.join(lacks)}, as heads of nnlib.bayes: got {shown(likelihood)}"
            )
        one_of(LIKELIHOODS, **{"likelihood.kind": self.likelihood.kind})
        self.lr, self.damping, self.momentum, self.kl_clip = lr, damping, momentum, kl_clip
        self.update_statistics_every, self.steps = update_statistics_every, 0
        self.layers = noisy_layers(model)
        common = {"n_data": n_data, "prior_variance": prior_variance, "kl_weight": kl_weight, "decay": decay}
        self.posteriors = {
            name: self.kind(wide(joint_weight(layer)), **common, **options) for name, layer in self.layers.items()
        }
        device = next(iter(self.posteriors.values())).mean.device
        self.generator = seeded(seed, device)
        self._since = Since({name: [] for name in self.layers}, [], {})

    @contextmanager
    def sample(self) -> Iterator[None]:
        """In here the model holds a draw of its weights; gradients that it gets in here count for the next step."""
        buffers = {buffer: buffer.clone() for buffer in self.model.buffers()}
        self._since.buffers = self._since.buffers or buffers
        seen = len(self._since.statistics)
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
                    self._since.draws[name].append((wide(gradient), weights[name], noise[name]))
        except BaseException:  # half a sample is none
            del self._since.statistics[seen:]
            put_back(buffers)
            raise
        finally:
            hook.remove()
            if capture is not None:
                capture.remove()
            self._restore()

    @torch.no_grad()
    def step(self) -> None:
        """Move the posterior by the samples since the last step, and put its mean into the model."""
        since, self._since = self._since, Since({name: [] for name in self.layers}, [], {})
        if idle := [name for name, draws in since.draws.items() if not draws]:
            if len(idle) == len(since.draws):
                raise RuntimeError("nothing to step by: call loss.backward() inside `with optimizer.sample():` first")
            raise ValueError(
                f"no gradient came to {', '.join(idle)}: every layer must be called, since its posterior moves with "
                "every step; leave such layers out of the model"
            )
        before = {name: dict(vars(q)) for name, q in self.posteriors.items()}  # nothing in them changes in place
        try:
            with self._full_precision():
                self._move(since)
            self.steps += 1
        except BaseException:
            for name, q in self.posteriors.items():
                vars(q).clear()
                vars(q).update(before[name])
            put_back(since.buffers)
            raise
        finally:
            self._restore()

    def _move(self, since: Since) -> None:
        """The step itself; whatever is not finite is named."""
        for name, draws in since.draws.items():
            for gradient, *_ in draws:
                self._refuse_non_finite(f"the gradient of layer {name!r}", gradient)
        for found in since.statistics:
            for name, (x, ds) in found.items():
                # By their squares: factors of finite numbers may be infinite, and then have no eigenvalues.
                self._refuse_non_finite(f"the square of an input of layer {name!r}", x.square().sum())
                self._refuse_non_finite(f"the square of a Fisher statistic of layer {name!r}", ds.square().sum())
                single = x.ndim == 2 and len(ds) == 1
                self.posteriors[name].observe(Rows(x, ds[0]) if single else Locations(x, ds))
        moves, squared = {}, 0.0
        for name, q in self.posteriors.items():
            gradient, weights, noise = (torch.stack(part) for part in zip(*since.draws[name], strict=True))
            moves[name], length = q.propose(
                gradient, weights, noise, lr=self.lr, damping_ex=self.damping, momentum=self.momentum
            )
            squared += length.item()
        nu = shortening(squared, self.kl_clip)
        for name, q in self.posteriors.items():
            q.accept(moves[name], nu)
            for what, value in q.state().items():
                if isinstance(value, Tensor):
                    self._refuse_non_finite(f"{what} of the posterior of layer {name!r}", value)

    def _refuse_non_finite(self, what: str, value: Tensor) -> None:
        if not bool(value.isfinite().all()):
            raise ArithmeticError(
                f"{what} is not finite at step {self.steps}: look for NaN or infinity in the batch, or lower lr; the "
                "step was not taken"
            )

    @typed
    @torch.no_grad()
    def predict(self, x: Tensor, particles: int = 100, seed: int = 0) -> Tensor:
        """Outputs of sampled networks, (particles, n, C), in evaluation mode.

        Args:
            x: (n, ...).
            particles: At least 1.
            seed: Of the draws, which are independent of those of training.

        Raises:
            TypeError: for what is no tensor or number.
            ValueError: for fewer than one particle, or another seed.
        """
        whole(1, particles=particles)
        generator, found = seeded(seed, self.generator.device), []
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
        """All that a resumed run needs, in tensors, numbers and texts: posteriors, rates, draws and the likelihood."""
        return saved(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave; the model gets the posterior mean, the likelihood its own state.

        ``lr``, ``damping``, ``momentum`` and ``kl_clip`` go on as they were when the state was saved, as in torch: a
        schedule may have changed them. Set them after loading where they should be others. What says *which* posterior
        is learnt (``n_data``, ``prior_variance``, ``kl_weight``, ``decay``, ``update_statistics_every`` and options)
        must be the same: neither the state's nor yours would be right for the rest of the run.

        Raises:
            ValueError: where the state is of another method, other layers, another likelihood or other settings, by
                name; then nothing has changed.
        """
        take_over(self, state)
        self._since = Since({name: [] for name in self.layers}, [], {})
        self._restore()

    def _watch(self, capture: Capture | None, args: tuple[Any, ...], returned: Any) -> None:
        """After a forward pass: gradients of a loss whose targets the model itself has drawn, for the Fisher matrix."""
        if capture is None or not watchable() or not capture.calls:
            return
        outputs = predictions(returned, None)
        if not bool(outputs.isfinite().all()):  # no targets can be drawn; the gradient will tell at the step
            capture.clear()
            capture.on = True
            return
        rows = len(args[0]) if args and isinstance(args[0], Tensor) else None
        vectors = output_vectors(outputs, "sampled", self.likelihood.kind, None, self.generator)
        precision = self.likelihood.precision
        vectors = vectors * (precision.detach() if isinstance(precision, Tensor) else precision) ** 0.5
        self._since.statistics.append(capture.samples(outputs, vectors, rows=rows))
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


@torch.no_grad()
def put_back(buffers: dict[Tensor, Tensor]) -> None:
    """Make each buffer what it was."""
    for buffer, value in buffers.items():
        buffer.copy_(value)


def shortening(squared: float, kl_clip: float | None) -> float:
    """nu = min(1, sqrt(kl_clip / squared)): nu times a move of this squared length has kl_clip at most.

    >>> shortening(4.0, 1.0), shortening(0.5, 1.0), shortening(4.0, None)
    (0.5, 1.0, 1.0)
    """
    return min(1.0, (kl_clip / squared) ** 0.5) if kl_clip is not None and squared > 0 else 1.0
