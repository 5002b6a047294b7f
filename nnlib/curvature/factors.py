"""What are a network's Kronecker factors on this batch? One forward pass, one backward pass for each output vector.

For a layer s = W x with per-example gradients G_b = sum_t ds_bt x_bt', the Fisher block E[vec(G) vec(G)'] is
approximated by S (x) A with A = E[x x'] and S = E[sum_t ds ds'], in row-major order of W.
Papers: arXiv 1503.05671 (linear layers), 1602.01407 (convolutions), 1806.03884 (eigenvalues).
Chapter: ``book/curvature.ipynb``.
"""

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nnlib.arguments import examples, function, passing, seeded, shown, whole
from nnlib.curvature.capture import Capture
from nnlib.curvature.kronecker import Eigenbasis, Kronecker
from nnlib.curvature.layers import blocks, chosen, shared
from nnlib.curvature.outputs import Output, finite, fit_targets, output_vectors, predictions
from nnlib.curvature.passes import full_precision, measuring, ordinary

Parts = tuple[Tensor, ...]
Means = dict[str, tuple[int, Parts]]  # examples and means by layer
CHUNK = 2**22  # numbers in a chunk of per-example gradients


def factors(
    model: nn.Module,
    x: Tensor,
    *,
    fisher: str = "exact",
    likelihood: str = "categorical",
    y: Tensor | None = None,
    seed: int = 0,
    layers: Iterable[str] | None = None,
    channels: bool = False,
    batch_size: int | None = None,
    output: Output | None = None,
) -> dict[str, Kronecker]:
    """The Kronecker factors of each layer's block of the Fisher or Gauss-Newton matrix, averaged over examples.

    A = mean over examples and locations of x x', S = mean over examples of sum_t ds ds', where x has a 1 appended where
    the layer has a bias. The model runs in its current mode (with BatchNorm in training mode, examples see each
    other); its parameters, buffers, gradients and mode are left as they are. Frozen layers have the curvature that they
    would have if they were trained. Statistics are in single precision at least, also under autocast.

    Args:
        model: Maps (B, ...) to (B, C).
        x: Inputs, (B, ...).
        fisher: ``sampled`` (a target drawn from the model for each example), ``exact`` (every class enumerated),
            ``empirical`` (true targets ``y``), ``gauss_newton`` (J'J, by one N(0, I) vector at the outputs) or
            ``gauss_newton_exact`` (by every unit vector).
        likelihood: ``categorical``: outputs are logits of C >= 2 classes, targets (B,) classes; ``bernoulli``: every
            output is a logit of its own, targets (B, C) in [0, 1], their losses summed; or ``gaussian``: the loss of an
            example is ``|f - y|^2 / 2``, targets (B, C).
        y: Targets, for ``empirical`` alone.
        seed: Of the sampled targets or vectors.
        layers: Names; by default all of :func:`blocks`.
        channels: For convolutions, A over channels alone, averaged over kernel offsets too, as EigenDamage uses it.
        batch_size: Examples in one pass; by default all.
        output: For models that return no tensor (B, C): a function from what is returned to the outputs, (B, ..., C),
            classes last. Several predictions an example count as the mean of their losses.

    Returns:
        A :class:`Kronecker` for each layer.

    Raises:
        TypeError: for what is no model, no tensor or no function.
        ValueError: for a layer without factors (a grouped convolution, say), one that is not called, shares its weights
            or has inputs that can't be told apart into examples, named; unknown options; wrong shapes; inputs that the
            model does not take.

    Source: arXiv 1503.05671, section 3; arXiv 1602.01407, section 3. Chapter: ``book/curvature.ipynb``.

    >>> from nnlib.models import MLP
    >>> found = factors(MLP([4, 8, 3], seed=0), torch.ones(5, 4))
    >>> {name: tuple(block.shape) for name, block in found.items()}
    {'layers.1': (8, 5), 'layers.3': (3, 9)}
    """
    mean: Means = {}
    for n, samples in _passes(model, x, fisher, likelihood, y, seed, layers, channels, batch_size, output):
        average(mean, n, {name: second_moments(*sample) for name, sample in samples.items()})
    return {name: Kronecker(*parts) for name, (_, parts) in mean.items()}


def rescale(
    model: nn.Module,
    x: Tensor,
    bases: dict[str, Eigenbasis],
    *,
    fisher: str = "exact",
    likelihood: str = "categorical",
    y: Tensor | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    output: Output | None = None,
) -> dict[str, Eigenbasis]:
    """The same eigenbases with the eigenvalues that are right there: E[(Q_S' G Q_A)^2], entry by entry (EKFAC).

    These are the diagonal of the layer's Fisher block in the basis Q_S (x) Q_A, so that no other eigenvalues come
    closer to the block in Frobenius norm.

    Args:
        model: As in :func:`factors`, and so are the other arguments.
        x: Inputs, (B, ...).
        bases: For each layer to rescale, of full-patch factors.
        fisher: Which curvature.
        likelihood: Of the targets.
        y: Targets, for ``empirical`` alone.
        seed: Of the sampled targets or vectors.
        batch_size: Examples in one pass.
        output: As in :func:`factors`.

    Returns:
        New bases; ``bases`` is left as it is.

    Source: arXiv 1806.03884, section 3. Chapter: ``book/curvature.ipynb``.
    """
    if not isinstance(bases, dict) or not all(isinstance(basis, Eigenbasis) for basis in bases.values()):
        raise TypeError(f"bases must be a dict of Eigenbasis, by layer: got {shown(bases)}")
    if not bases:
        raise ValueError("bases must name at least one layer: got none")
    mean: Means = {}
    for n, samples in _passes(model, x, fisher, likelihood, y, seed, bases, False, batch_size, output):
        for name, sample in samples.items():
            (inputs, gradients), basis = sample, bases[name]
            if (gradients.shape[-1], inputs.shape[-1]) != basis.values.shape or inputs.dtype != basis.values.dtype:
                raise ValueError(
                    f"bases[{name!r}] must have values of shape {(gradients.shape[-1], inputs.shape[-1])} and "
                    f"{inputs.dtype}, as full-patch factors have: got {tuple(basis.values.shape)} of "
                    f"{basis.values.dtype}"
                )
        average(mean, n, {name: (eigenvalues(*sample, bases[name]),) for name, sample in samples.items()})
    return {name: Eigenbasis(basis.Q_A, basis.Q_S, *mean[name][1]) for name, basis in bases.items()}


def _passes(
    model: nn.Module,
    x: Tensor,
    fisher: str,
    likelihood: str,
    y: Tensor | None,
    seed: int,
    layers: Iterable[str] | None,
    channels: bool,
    batch_size: int | None,
    output: Output | None,
) -> Iterator[tuple[int, dict[str, tuple[Tensor, Tensor]]]]:
    """Samples of each layer, from forward passes over pieces of x, with the number of examples in each."""
    _check(model, x, y, batch_size, channels, output)
    modules = dict(model.named_modules())
    watched, tied = chosen(modules, layers), shared(modules)
    for name in watched:
        if name in tied:
            others = ", ".join(map(repr, (other for other in blocks(model) if other not in tied))) or "none"
            raise ValueError(
                f"layer {name!r} shares parameters with {tied[name]!r}: its gradient is the sum over both, which no "
                f"block of its own describes; leave it out of `layers`, such as [{others}]"
            )
    B, generator = x.shape[0], None
    size = batch_size or B
    buffers, frozen = {}, {}
    if not all(_plain(module) for module in modules.values()):
        buffers = dict(model.named_buffers())
        frozen = {name: p for name, p in model.named_parameters() if not p.requires_grad and p.is_floating_point()}
    with measuring(model), Capture(model, watched) as capture, torch.enable_grad():
        for start in range(0, B, size):
            part = ordinary(x[start : start + size] if size < B else x)
            capture.clear()
            capture.on = True
            # BatchNorm's running statistics move in these copies, not in the model. Curvature does not ask who is
            # trained, so frozen parameters are trained here; the model's own stay as they are.
            copies = {name: buffer.clone() for name, buffer in buffers.items()}
            copies |= {name: p.detach().requires_grad_() for name, p in frozen.items()}
            with passing(x=x):
                returned = functional_call(model, copies, (part,)) if copies else model(part)
            outputs = predictions(returned, output)
            if not finite(outputs):
                raise ValueError("the curvature is not finite: are the model's weights and x?")
            if generator is None:
                generator = _generator(seed, outputs.device)
            targets = None if y is None else y[start : start + size]
            vectors = output_vectors(outputs, fisher, likelihood, targets, generator)
            samples = capture.samples(outputs, vectors, rows=part.shape[0], channels=channels)
            for name in watched:
                if name not in samples:
                    raise ValueError(f"layer {name!r} {_absence(capture, name)}: leave it out of `layers`")
            with full_precision(outputs):
                yield part.shape[0], samples


def _generator(seed: int, device: torch.device) -> torch.Generator:
    try:
        return torch.Generator(device).manual_seed(seed)
    except (RuntimeError, TypeError, ValueError):  # seeded looks first, and takes half as long again
        return seeded(seed, device)


def _plain(module: nn.Module) -> bool:
    """Whether a module has trained parameters alone, or nothing."""
    return not module._buffers and all(p is None or p.requires_grad for p in module._parameters.values())


def _absence(capture: Capture, name: str) -> str:
    if name in capture.barred:
        return "lies before a checkpoint with use_reentrant=True"
    if name in capture.calls:
        return "has no influence on the output"
    return "was not called, or only in a checkpoint with use_reentrant=True"


def _check(
    model: nn.Module, x: Tensor, y: Tensor | None, batch_size: int | None, channels: bool, output: Output | None
) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module: got {shown(model)}")
    examples(x)
    if batch_size is not None:
        whole(1, batch_size=batch_size)
    if not isinstance(channels, bool):
        raise TypeError(f"channels must be bool: got {shown(channels)}")
    if output is not None:
        function(output=output)
    if y is not None:
        fit_targets(x, y)


def second_moments(x: Tensor, ds: Tensor) -> tuple[Tensor, Tensor]:
    """A layer's A and S from its inputs, (B, T, in), and its gradients by each output vector, (K, B, T, out).

    Without locations, (B, in) and (K, B, out).
    """
    x_rows, ds_rows = x.flatten(0, -2), ds.flatten(0, -2)  # (B T, in), (K B T, out)
    return (x_rows.T @ x_rows).div_(x_rows.shape[0]), (ds_rows.T @ ds_rows).div_(x.shape[0])


def eigenvalues(x: Tensor, ds: Tensor, basis: Eigenbasis) -> Tensor:
    """EKFAC's eigenvalues mean_b sum_k (Q_S' G_bk Q_A)^2, (out, in), from the same; G_bk = sum_t ds_kbt x_bt'."""
    B, x, ds = x.shape[0], x @ basis.Q_A, ds @ basis.Q_S
    if x.ndim == 2:  # G_bk is an outer product, so its square is the product of the squares
        x2, ds2 = x.square_(), ds.square_()
        return ((ds2[0] if ds2.shape[0] == 1 else ds2.sum(0)).T @ x2).div_(B)
    return sum((_squares(gradients, x) for gradients in ds), x.new_zeros(())) / B


def _squares(ds: Tensor, x: Tensor) -> Tensor:
    """sum_b (sum_t ds_bt x_bt')^2, entry by entry: (B, T, out), (B, T, in) -> (out, in)."""
    size = max(1, CHUNK // (ds.shape[2] * x.shape[2]))
    parts = zip(ds.split(size), x.split(size), strict=True)
    return sum(((ds_part.mT @ x_part).square_().sum(0) for ds_part, x_part in parts), x.new_zeros(()))


def average(mean: Means, n: int, parts: Mapping[str, Parts]) -> None:
    """Average in parts of n examples; layers that a pass leaves out keep what they had."""
    for name, new in parts.items():
        m, old = mean.get(name, (0, new))
        if m:
            new = tuple(a.lerp(b, n / (m + n)) for a, b in zip(old, new, strict=True))
        mean[name] = m + n, new
