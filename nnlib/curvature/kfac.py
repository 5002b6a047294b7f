"""The K-FAC optimiser: a torch optimiser that preconditions each layer's gradient by its Kronecker factors.

It goes into any training loop: when statistics are due, a hook on the model draws targets from the model's own
output and takes the gradients at the layers' outputs, before the loop's own ``loss.backward()``.
Papers: arXiv 1503.05671, 1602.01407, 1806.03884, 1810.12281. Chapter: ``book/curvature.ipynb``.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nnlib.arguments import function, seeded, typed
from nnlib.curvature.directions import precondition, refuse_non_finite
from nnlib.curvature.kronecker import Eigenbasis, NotPositiveDefinite
from nnlib.curvature.observer import Observer
from nnlib.curvature.options import check_choices, check_group, check_numbers, decaying_parameters, watched_layers
from nnlib.curvature.outputs import Output
from nnlib.curvature.passes import full_precision
from nnlib.curvature.running import RunningCurvature

# What a copy of an optimiser has beside torch's own state.
KEPT = ("inverse", "decay", "factor_decay", "kl_clip", "update_factors_every", "update_inverses_every", "steps")
KEPT += ("fisher", "likelihood", "curvature", "fallback", "_decaying", "_observer", "_told")


@typed
class KFAC(torch.optim.Optimizer):
    """Approximate natural gradient with momentum: W' = W - lr v, v = momentum v + nu S_d^-1 grad A_d^-1.

    For each ``nn.Linear`` and ungrouped ``nn.Conv2d`` the gradient of the weights, with the bias as a last column, is
    multiplied by the inverse of the layer's damped factors. All other parameters, and those of further groups, take SGD
    steps with their group's learning rate and momentum; a warning names them. So does a layer that is not called in
    the passes that brought statistics (an unused head, a skipped block, the projection of
    ``nn.MultiheadAttention``), until statistics come.

    Statistics are taken in forward passes in training mode with gradients enabled, and count once the loop
    backpropagates through the outputs: those of several backward passes before a step are averaged, and
    ``zero_grad`` forgets them. Factors are averages of them: A <- e A + (1 - e) A_new, e = min(1 - 1/k, factor_decay)
    at the k-th update, so that there is no bias towards a starting value. They are in single precision at least, also
    under autocast; under ``DistributedDataParallel`` they are the mean over the processes. The model may be compiled
    before or after, but not with ``fullgraph=True``.

    Args:
        model: Maps a batch to outputs of shape (B, C), in one call; see ``output`` for others.
        lr: Learning rate, positive.
        damping: Added to the curvature, positive.
        layers: Names of those to precondition; by default all of :func:`blocks` that are trained and share no weights.
        exclude: Names of layers, or of modules that contain them, that take SGD steps instead.
        output: For models that return no tensor (B, C): a function from what is returned to the outputs,
            (B, ..., C), classes last, such as ``lambda returned: returned["logits"]`` or, for images,
            ``lambda f: f.movedim(1, -1)``.
        fisher: ``sampled`` or ``exact`` Fisher matrix, or J'J by ``gauss_newton`` (one random vector) or
            ``gauss_newton_exact``; see :func:`nnlib.curvature.factors`.
        likelihood: ``categorical``, ``bernoulli`` or ``gaussian``: from which the targets are drawn. The loss is its
            mean negative log over the batch (and over the predictions of an example, where there are several).
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
            None: nu = 1. It bounds the squared length lr^2 nu^2 sum_l U_l' (F_l + damping) U_l of this gradient's
            share of the step in the damped metric, by kappa. It does not bound a KL divergence: momentum adds up
            such steps, up to 1/(1 - momentum) times as long, and parameters without a block are not scaled.
        seed: Of the drawn targets; each process of a distributed run draws its own.

    Raises:
        TypeError: for an argument of another class.
        ValueError: for an argument out of range, or a model without a layer to precondition. In a forward pass that
            brings statistics: for outputs that are not (B, C), and for a layer whose input can't be told apart into
            the examples, with its name and shape.
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
        layers: Iterable[str] | None = None,
        exclude: Iterable[str] = (),
        output: Output | None = None,
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
        function(output=output)
        seeded(seed)
        check_choices(fisher, likelihood, inverse, decay)
        check_numbers(factor_decay, kl_clip, update_factors_every, update_inverses_every)
        if isinstance(model, nn.parallel.DistributedDataParallel):
            model = model.module
        watched = watched_layers(model, layers, exclude)
        self.inverse, self.decay, self.factor_decay, self.kl_clip = inverse, decay, factor_decay, kl_clip
        self.update_factors_every, self.update_inverses_every = update_factors_every, update_inverses_every
        self.fisher, self.likelihood, self.steps = fisher, likelihood, 0
        self.curvature = {name: RunningCurvature() for name in watched}
        self._decaying = decaying_parameters(model, decay_layers)
        self._observer = Observer(model, watched, fisher, likelihood, output, inverse == "ekfac", seed)
        self._told: set[str] = set()  # layers of which a warning has been given
        defaults = {"lr": lr, "damping": damping, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__([p for p in model.parameters() if p.requires_grad], defaults)
        preconditioned = {parameter for layer in watched.values() for parameter in layer.parameters(recurse=False)}
        self.fallback = [name for name, parameter in self._named() if parameter not in preconditioned]
        if self.fallback:
            warnings.warn(f"without a Kronecker block, trained by SGD: {', '.join(self.fallback)}", stacklevel=2)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Further parameters, with settings of their own where the group has them; they take SGD steps.

        Raises:
            TypeError: for settings that are no numbers.
            ValueError: for settings out of range.
        """
        super().add_param_group(param_group)
        try:
            check_group(self.param_groups[-1])
        except (ValueError, TypeError):
            self.param_groups.pop()
            raise
        if len(self.param_groups) > 1:
            names = {parameter: name for name, parameter in self._named()}
            new = [names[parameter] for parameter in self.param_groups[-1]["params"]]
            self.fallback += new
            warnings.warn(f"in a further group, trained by SGD: {', '.join(new)}", stacklevel=2)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, and the statistics of the passes that they come from."""
        if set_to_none:  # as torch's own does, in a tenth of the time
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None
        else:
            super().zero_grad(set_to_none)
        self._observer.forget()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step from the gradients in ``.grad``; returns the closure's loss, if there is one.

        Parameters without a gradient, or frozen since, stay; without any gradient nothing happens at all.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = {
            parameter: group
            for group in self.param_groups
            for parameter in group["params"]
            if parameter.grad is not None and parameter.requires_grad
        }
        if not groups:
            return loss
        gradients = {parameter: parameter.grad for parameter in groups}
        refuse_non_finite(gradients, self._named, self.steps)
        with full_precision(next(iter(groups))):
            self._update_curvature(groups)
            decaying = [p for p, group in groups.items() if self.decay and group["weight_decay"] and self._decays(p)]
            if self.decay == "l2":
                gradients |= {p: p.grad.add(p, alpha=groups[p]["weight_decay"]) for p in decaying}
            layers = self._observer.layers
            self._tell(precondition(gradients, layers, self.curvature, groups, self.kl_clip))
            for group in self.param_groups:
                mine = [parameter for parameter, settings in groups.items() if settings is group]
                shrinking = [p for p in decaying if groups[p] is group] if self.decay == "decoupled" else []
                if shrinking:
                    torch._foreach_mul_(shrinking, 1 - group["lr"] * group["weight_decay"])  # pyright: ignore[reportPrivateImportUsage]
                if mine:
                    self._move(mine, [gradients[parameter] for parameter in mine], group["lr"], group["momentum"])
        self.steps += 1
        self._observer.due = self.steps % self.update_factors_every == 0
        return loss

    def _update_curvature(self, groups: dict[Tensor, dict[str, Any]]) -> None:
        blocks, samples = self._observer.collect()
        for name, block in blocks.items():
            self.curvature[name].update(block, self.factor_decay)
        unseen = {name for name, mine in self.curvature.items() if mine.factors is None}
        moving = [name for name, layer in self._observer.layers.items() if unseen and layer.weight in groups]
        if moving and unseen.issuperset(moving):
            raise RuntimeError(
                f"no statistics of layer {moving[0]!r}, nor of any other: before a step, call the model itself in "
                "training mode, with gradients enabled, and backpropagate from its (finite) outputs"
            )
        for name, mine in self.curvature.items():
            due = self.steps % self.update_inverses_every == 0 or mine.inverse is None
            if due and mine.factors is not None:
                try:
                    mine.invert(self.inverse, self._group(name)["damping"])
                except NotPositiveDefinite as error:
                    raise NotPositiveDefinite(f"layer {name!r} at step {self.steps}: {error}") from None
        if self.inverse == "ekfac" and self._observer.due:
            bases = {
                name: mine.inverse for name, mine in self.curvature.items() if isinstance(mine.inverse, Eigenbasis)
            }
            for name, values in self._observer.eigenvalues(samples, bases).items():
                self.curvature[name].rescale(values, self.factor_decay)

    def _tell(self, kept: Mapping[str, str]) -> None:
        for name, why in kept.items():
            if name not in self._told:
                self._told.add(name)
                warnings.warn(f"layer {name!r} is trained by SGD for now: {why}", stacklevel=5)

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

    def _named(self) -> list[tuple[str, Tensor]]:
        """All parameters in the groups, with their names."""
        names = {parameter: name for name, parameter in self._observer.model.named_parameters()}
        return [
            (names.get(parameter, f"parameter {i} of group {number}"), parameter)
            for number, group in enumerate(self.param_groups)
            for i, parameter in enumerate(group["params"])
        ]

    def _group(self, name: str) -> dict[str, Any]:
        """The settings of a layer: those of the first group, unless its weight has been put into another one."""
        weight = self._observer.layers[name].weight
        return next((g for g in self.param_groups if any(p is weight for p in g["params"])), self.param_groups[0])

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs to be the same run bit for bit: also factors, inverses and the generator."""
        generator = self._observer.generator
        mine = {
            "steps": self.steps,
            "generator": None if generator is None else generator.get_state(),
            "layers": {name: curvature.state() for name, curvature in self.curvature.items()},
        }
        return super().state_dict() | {"curvature": mine}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state; the model must have the same layers, the optimiser the same ``inverse``.

        Raises:
            ValueError: where they differ, or the state is another optimiser's.
        """
        if "curvature" not in state_dict:
            raise ValueError(f"state_dict must be KFAC's, with 'curvature': it has {', '.join(state_dict)}")
        mine = state_dict["curvature"]
        if list(mine["layers"]) != list(self.curvature):
            raise ValueError(f"the state is of layers {list(mine['layers'])}, not {list(self.curvature)}")
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "curvature"})
        device = self._observer.layers[next(iter(self.curvature))].weight.device
        for name, curvature in self.curvature.items():
            curvature.load(mine["layers"][name], self.inverse, device)
        self.steps = mine["steps"]
        self._observer.due = self.steps % self.update_factors_every == 0
        self._observer.forget()
        if mine["generator"] is not None:
            self._observer.generator = torch.Generator(device)
            self._observer.generator.set_state(mine["generator"].cpu())

    def __getstate__(self) -> dict[str, Any]:
        """For copies and files; the model goes along, and the copy watches its own."""
        return super().__getstate__() | {"kfac": {name: getattr(self, name) for name in KEPT}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({key: value for key, value in state.items() if key != "kfac"})
        vars(self).update(state.get("kfac", {}))
