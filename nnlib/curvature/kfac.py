"""The K-FAC optimiser: a torch optimiser that preconditions each layer's gradient by its Kronecker factors.

It goes into any training loop: when statistics are due, a hook on the model draws targets from the model's own
output and takes the gradients at the layers' outputs, before the loop's own ``loss.backward()``.
Papers: arXiv 1503.05671, 1602.01407, 1806.03884, 1810.12281. Chapter: ``book/curvature.ipynb``.
"""

import math
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from nnlib.curvature.capture import FISHERS, LIKELIHOODS, Capture, Layer, blocks, output_vectors
from nnlib.curvature.factors import second_moments
from nnlib.curvature.kronecker import Kronecker, NotPositiveDefinite
from nnlib.curvature.running import RunningCurvature

INVERSES = ("factored", "exact", "ekfac")
DECAYS = ("decoupled", "l2", None)


class NonFiniteGradient(ArithmeticError):
    """The gradient of a parameter is infinite or not a number; the message names it."""


class KFAC(torch.optim.Optimizer):
    """Approximate natural gradient with momentum: W' = W - lr v, v = momentum v + nu S_d^-1 grad A_d^-1.

    For each ``nn.Linear`` and ungrouped ``nn.Conv2d`` the gradient of the weights, with the bias as a last column, is
    multiplied by the inverse of the layer's damped factors. All other parameters take SGD steps with the same learning
    rate and momentum; a warning at construction names them.

    Statistics are taken in forward passes in training mode with gradients enabled, from the last such pass before a
    step. Factors are averages of them: A <- e A + (1 - e) A_new, e = min(1 - 1/k, factor_decay) at the k-th update,
    so that there is no bias towards a starting value.

    Args:
        model: Maps a batch to outputs of shape (B, C), in one call.
        lr: Learning rate, positive.
        damping: Added to the curvature, positive.
        fisher: ``sampled`` or ``exact`` Fisher matrix, or J'J by ``gauss_newton`` (one random vector) or
            ``gauss_newton_exact``; see :func:`nnlib.curvature.factors`.
        likelihood: ``categorical`` or ``gaussian``: from which the targets are drawn. The loss is its mean negative
            log over the batch.
        inverse: ``factored``: damping split between the factors by pi, Cholesky inverses; ``exact``: damping added
            to the eigenvalues of the product; ``ekfac``: the same with EKFAC's eigenvalues,
            averaged since the basis was last made.
        momentum: In [0, 1), on the preconditioned gradient.
        weight_decay: Not negative.
        decay: ``decoupled``: W' = W - lr (v + weight_decay W); ``l2``: weight_decay W is added to the gradient before
            it is preconditioned; None: no decay.
        decay_layers: Names of the modules whose own parameters decay; by default all.
        factor_decay: In [0, 1).
        update_factors_every: Steps between two statistics.
        update_inverses_every: Steps between two inversions.
        kl_clip: kappa; nu = min(1, sqrt(kappa / (lr^2 sum_l <U_l, grad_l>))) with U_l the preconditioned gradient;
            None: nu = 1.
        seed: Of the drawn targets.

    Raises:
        ValueError: for an argument out of range, or a model without a layer to precondition.
        NotPositiveDefinite: from ``step``, naming the layer whose factor can't be inverted.
        NonFiniteGradient: from ``step``, naming the parameter.
        RuntimeError: from ``step``, where no statistics were taken.

    Source: arXiv 1503.05671, algorithm 2; arXiv 1810.12281, section 2. Chapter: ``book/curvature.ipynb``.

    >>> from nnlib.models import MLP
    >>> model, x, y = MLP([4, 8, 3], seed=0), torch.eye(4), torch.tensor([0, 1, 2, 0])
    >>> optimizer = KFAC(model, lr=0.1, damping=1e-2)
    >>> losses = []
    >>> for _ in range(20):
    ...     loss = nn.functional.cross_entropy(model(x), y)
    ...     optimizer.zero_grad()
    ...     loss.backward()
    ...     optimizer.step()
    ...     losses.append(loss.item())
    >>> losses[-1] < 0.1 * losses[0]
    True
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        damping: float = 1e-3,
        *,
        fisher: str = "sampled",
        likelihood: str = "categorical",
        inverse: str = "factored",
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        decay: str | None = "decoupled",
        decay_layers: Iterable[str] | None = None,
        factor_decay: float = 0.95,
        update_factors_every: int = 10,
        update_inverses_every: int = 100,
        kl_clip: float | None = None,
        seed: int = 0,
    ):
        _check_choices(fisher, likelihood, inverse, decay)
        _check_ranges(lr, damping, momentum, weight_decay, factor_decay, kl_clip)
        if update_factors_every < 1 or update_inverses_every < 1:
            raise ValueError(
                "update_factors_every and update_inverses_every must be at least 1: "
                f"got {update_factors_every} and {update_inverses_every}"
            )
        names = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        layers = _layers(model)
        if not layers:
            raise ValueError("the model has no layer to precondition: a trainable nn.Linear or ungrouped nn.Conv2d")
        defaults = {"lr": lr, "damping": damping, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(names.values(), defaults)
        self.fisher, self.likelihood, self.inverse, self.decay = fisher, likelihood, inverse, decay
        self.factor_decay, self.kl_clip, self.seed = factor_decay, kl_clip, seed
        self.update_factors_every, self.update_inverses_every = update_factors_every, update_inverses_every
        self.steps = 0
        self.curvature = {name: RunningCurvature() for name in layers}
        self._pairs = {name: (layer.weight, layer.bias) for name, layer in layers.items()}
        self._names: dict[Tensor, str] = {parameter: name for name, parameter in names.items()}
        self._decaying = _decaying(model, decay_layers)
        self._generator: torch.Generator | None = None
        self._pending: dict[str, Kronecker] = {}
        self._samples: dict[str, tuple[Tensor, Tensor]] = {}
        self._watch(model, layers)
        preconditioned = {parameter for pair in self._pairs.values() for parameter in pair}
        self.fallback = [name for name, parameter in names.items() if parameter not in preconditioned]
        if self.fallback:
            warnings.warn(f"without a Kronecker block, trained by SGD: {', '.join(self.fallback)}", stacklevel=2)

    def _watch(self, model: nn.Module, layers: dict[str, Layer]) -> None:
        """Hook the model, by weak references: an optimiser that is no longer used takes its hooks with it."""
        capture, me = Capture(layers), weakref.ref(self)
        capture.on = False

        def before(module: nn.Module, args: Any) -> None:
            optimizer = me()
            due = optimizer is not None and optimizer.steps % optimizer.update_factors_every == 0
            ours = module is model  # and not a deep copy, which has taken the hooks along
            capture.clear()
            # Inside vmap or jacrev there is no graph of the ordinary kind to take gradients in.
            capture.on = due and ours and module.training and not torch._C._are_functorch_transforms_active()

        def after(module: nn.Module, args: Any, output: Any) -> None:
            if capture.on and capture.inputs and (optimizer := me()) is not None:
                optimizer._observe(capture, output)
            capture.on = False
            capture.clear()

        handles = [model.register_forward_pre_hook(before), model.register_forward_hook(after)]
        weakref.finalize(self, _remove, capture, handles)

    def _observe(self, capture: Capture, outputs: Tensor) -> None:
        """Take the statistics of a forward pass; they count when the step comes."""
        if not math.isfinite(outputs.detach().sum().item()):
            return  # neither is the loss: the step will say so
        if self._generator is None or self._generator.device != outputs.device:
            self._generator = torch.Generator(outputs.device).manual_seed(self.seed)
        vectors = output_vectors(outputs, self.fisher, self.likelihood, None, self._generator)
        samples = capture.samples(outputs, vectors)
        self._pending = {name: second_moments(*sample) for name, sample in samples.items()}
        self._samples = samples if self.inverse == "ekfac" else {}  # kept until the step, for it may change the basis

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step from the gradients in ``.grad``; returns the closure's loss, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        group = self.param_groups[0]
        with_grad = [parameter for parameter in group["params"] if parameter.grad is not None]
        self._refuse_non_finite(with_grad)
        self._update_curvature(group["damping"])
        direction = {parameter: parameter.grad for parameter in with_grad}
        decay = group["weight_decay"] if self.decay else 0.0
        decaying = [parameter for parameter in with_grad if decay and self._decays(parameter)]
        if self.decay == "l2":
            direction |= {parameter: parameter.grad.add(parameter, alpha=decay) for parameter in decaying}
        self._precondition(direction, group["lr"])
        if self.decay == "decoupled" and decaying:
            torch._foreach_mul_(decaying, 1 - group["lr"] * decay)  # pyright: ignore[reportPrivateImportUsage]
        self._move(with_grad, [direction[parameter] for parameter in with_grad], group["lr"], group["momentum"])
        self.steps += 1
        return loss

    def _update_curvature(self, damping: float) -> None:
        for name, block in self._pending.items():
            self.curvature[name].update(block, self.factor_decay)
        for name, mine in self.curvature.items():
            if mine.factors is None:
                raise RuntimeError(
                    f"no statistics of layer {name!r}: before a step, call the model itself in training mode, "
                    "with gradients enabled"
                )
            if self.steps % self.update_inverses_every == 0:
                try:
                    mine.invert(self.inverse, damping)
                except NotPositiveDefinite as error:
                    raise NotPositiveDefinite(f"layer {name!r} at step {self.steps}: {error}") from None
        for name, sample in self._samples.items():
            self.curvature[name].rescale(*sample, self.factor_decay)
        self._pending, self._samples = {}, {}

    def _precondition(self, direction: dict[Tensor, Tensor], lr: float) -> None:
        """Replace the gradients of the layers with factors by nu U."""
        damping = self.param_groups[0]["damping"]
        moved, products = [], []
        for name, (weight, bias) in self._pairs.items():
            if weight not in direction:
                continue
            grad = direction[weight].flatten(1)  # (out, in)
            if bias is not None:
                grad = torch.cat([grad, direction[bias][:, None]], 1)  # (out, in + 1)
            U = self.curvature[name].solve(grad, damping)
            if self.kl_clip is not None:
                products.append((U * grad).sum())
            if bias is not None:
                direction[bias] = U[:, -1]
                U = U[:, :-1]
                moved.append(bias)
            direction[weight] = U.view_as(weight)
            moved.append(weight)
        if self.kl_clip is not None and products:
            nu = (self.kl_clip / (lr**2 * torch.stack(products).sum())).sqrt().clamp(max=1)
            for parameter in moved:
                direction[parameter] = direction[parameter] * nu

    def _move(self, parameters: list[Tensor], directions: list[Tensor], lr: float, momentum: float) -> None:
        if momentum:
            for parameter in parameters:
                if "momentum" not in self.state[parameter]:
                    self.state[parameter]["momentum"] = torch.zeros_like(parameter)
            buffers = [self.state[parameter]["momentum"] for parameter in parameters]
            torch._foreach_mul_(buffers, momentum)  # pyright: ignore[reportPrivateImportUsage]
            torch._foreach_add_(buffers, directions)  # pyright: ignore[reportPrivateImportUsage]
            directions = buffers
        torch._foreach_add_(parameters, directions, alpha=-lr)  # pyright: ignore[reportPrivateImportUsage]

    def _decays(self, parameter: Tensor) -> bool:
        return self._decaying is None or parameter in self._decaying

    def _refuse_non_finite(self, parameters: list[Tensor]) -> None:
        grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norms = torch._foreach_norm(grads)  # pyright: ignore[reportPrivateImportUsage]
        if math.isfinite(torch.stack(norms).sum().item()):  # one look, so one wait on a GPU
            return
        for parameter, grad in zip(parameters, grads, strict=True):
            if not grad.isfinite().all():
                raise NonFiniteGradient(
                    f"the gradient of {self._names[parameter]} is not finite at step {self.steps}: lower the learning "
                    "rate or raise the damping"
                )

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs to be the same run bit for bit: also factors, inverses and the generator."""
        mine = {
            "steps": self.steps,
            "generator": None if self._generator is None else self._generator.get_state(),
            "layers": {name: curvature.state() for name, curvature in self.curvature.items()},
        }
        return super().state_dict() | {"curvature": mine}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state; the model must have the same layers, the optimiser the same ``inverse``.

        Raises:
            ValueError: where they differ.
        """
        mine = state_dict["curvature"]
        if list(mine["layers"]) != list(self.curvature):
            raise ValueError(f"the state is of layers {list(mine['layers'])}, not {list(self.curvature)}")
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "curvature"})
        for name, curvature in self.curvature.items():
            curvature.load(mine["layers"][name], self.inverse, self._pairs[name][0].device)
        self.steps = mine["steps"]
        if mine["generator"] is not None:
            self._generator = torch.Generator(next(iter(self._names)).device)
            self._generator.set_state(mine["generator"].cpu())


def _layers(model: nn.Module) -> dict[str, Layer]:
    """Layers whose parameters are all trained and belong to no other module."""
    owners = Counter(p for module in model.modules() for p in module.parameters(recurse=False))
    return {
        name: layer
        for name, layer in blocks(model).items()
        if all(p.requires_grad and owners[p] == 1 for p in layer.parameters(recurse=False))
    }


def _decaying(model: nn.Module, names: Iterable[str] | None) -> set[Tensor] | None:
    """The parameters that decay; None for all."""
    if names is None:
        return None
    modules, found = dict(model.named_modules()), set()
    for name in names:
        if name not in modules:
            raise ValueError(f"decay_layers names {name!r}, which the model does not have: it has {', '.join(modules)}")
        found |= set(modules[name].parameters(recurse=False))
    return found


def _remove(capture: Capture, handles: list[Any]) -> None:
    capture.remove()
    for handle in handles:
        handle.remove()


def _check_choices(fisher: str, likelihood: str, inverse: str, decay: str | None) -> None:
    fishers = tuple(name for name in FISHERS if name != "empirical")  # the hook does not see the true targets
    known = {"fisher": fishers, "likelihood": LIKELIHOODS, "inverse": INVERSES, "decay": DECAYS}
    for name, value in (("fisher", fisher), ("likelihood", likelihood), ("inverse", inverse), ("decay", decay)):
        if value not in known[name]:
            raise ValueError(f"{name} must be one of {', '.join(map(str, known[name]))}: got {value!r}")


def _check_ranges(
    lr: float, damping: float, momentum: float, weight_decay: float, factor_decay: float, kl_clip: float | None
) -> None:
    if not (lr > 0 and damping > 0 and (kl_clip is None or kl_clip > 0)):
        raise ValueError(f"lr, damping and kl_clip must be positive: got {lr}, {damping} and {kl_clip}")
    if not (0 <= momentum < 1 and 0 <= factor_decay < 1):
        raise ValueError(f"momentum and factor_decay must lie in [0, 1): got {momentum} and {factor_decay}")
    if not weight_decay >= 0:
        raise ValueError(f"weight_decay must not be negative: got {weight_decay}")
