"""What does a model compute? Its operations in the order in which they ran, noted while two examples pass through it.

The model runs as it is, so that nothing of it is frozen: the same is done in evaluation and in training mode.
Chapter: ``book/eigendamage.ipynb``.
"""

import copy
import random
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from nnlib.plain import why_not_plain

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
# Modules of torch that count as one operation.
SINGLE = (
    *(nn.Linear, nn.Conv2d, *NORMS),
    *(nn.Identity, nn.Dropout, nn.Dropout2d, nn.Upsample, nn.Flatten),
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardtanh, nn.Hardswish),
    *(nn.Tanh, nn.Sigmoid, nn.Hardsigmoid, nn.Softplus),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
)
# What may be asked of a tensor without looking at its numbers.
METADATA = set(
    "size dim shape ndim ndimension dtype device layout requires_grad requires_grad_ grad grad_fn is_leaf names numel "
    "nelement itemsize nbytes element_size stride storage_offset data_ptr untyped_storage get_device type dim_order "
    "is_cuda is_cpu is_meta is_mps is_xpu is_mkldnn is_nested is_sparse is_sparse_csr is_quantized is_contiguous "
    "is_floating_point is_complex is_signed is_conj is_neg is_inference is_pinned is_shared is_same_size is_set_to "
    "is_tensor is_grad_enabled result_type can_cast broadcast_shapes _version _is_view "
    "_has_compatible_shallow_copy_type __len__ __hash__ __repr__ __str__ __format__ register_hook retain_grad".split()
)
FACTORIES = {"new_empty", "new_zeros", "new_ones", "new_full"}  # of x they take the dtype and device alone


@dataclass(eq=False)
class Value:
    """A tensor that depends on the input."""

    shape: torch.Size


@dataclass(frozen=True)
class Constant:
    """A tensor that doesn't; ``owner`` is the (module, name) it belongs to. Of one that is not ``known`` we can't say.

    What a custom ``autograd.Function`` or scripted code returns is not known: torch shows none of their operations.
    """

    shape: torch.Size
    owner: tuple[str, str] | None = None
    known: bool = True


@dataclass
class Node:
    """One operation: a function, a layer, or a module that is entered or left.

    Args:
        kind: ``function``, ``layer``, ``enter``, ``leave`` or ``output``.
        name: Of the function, the module's own otherwise.
        args: With values and constants in the place of tensors.
        kwargs: The same.
        out: Values that it makes.
        where: The module whose forward called it.
        key: Which argument is entered: a position or a keyword.
    """

    kind: str
    name: str
    args: tuple
    kwargs: dict[str, Any]
    out: list[Value]
    where: str = ""
    key: int | str = 0

    def tensors(self) -> list[Value | Constant]:
        """Its operands."""
        return [leaf for leaf in tree_leaves((self.args, self.kwargs)) if isinstance(leaf, Value | Constant)]


@dataclass
class Graph:
    """The operations of one pass; ``modules`` by name are those of the model that ran."""

    nodes: list[Node]
    modules: dict[str, nn.Module]
    calls: Counter = field(default_factory=Counter)

    def __post_init__(self):
        self.calls = Counter(node.name for node in self.nodes if node.kind in ("layer", "leave"))


def trace(model: nn.Module, x: Tensor, training: bool = False) -> Graph:
    """The operations of a model on inputs like ``x``, in evaluation or in training mode.

    Raises:
        ValueError: for a model whose operations depend on numbers that it computes, with the line of its code, or one
            that does not run in training mode.
    """
    return run(model, x, training)[0]


def run(
    model: nn.Module,
    x: Tensor,
    training: bool = False,
    masks: Mapping[int, Tensor] = MappingProxyType({}),
    seed: int = 0,
) -> tuple[Graph, Any]:
    """The same with the output; what an operation makes is multiplied by the mask of its number, where there is one."""
    model, two = copied(model), two_of(x)
    recorder = Recorder(model, two, masks)
    try:
        with alone(model, training, seed), recorder:
            output = model(two)
    except (ValueError, NotImplementedError, TypeError, RuntimeError, AttributeError, KeyError) as error:
        if isinstance(error, Unfollowed) or not training:
            raise
        what = f"{type(model).__name__} does not run in training mode on two examples ({type(error).__name__}: {error})"
        raise ValueError(f"{what}: what it computes there can't be followed") from error
    finally:
        recorder.remove()
    recorder.nodes.append(Node("output", "output", (recorder.refer(_opened(output)),), {}, []))
    return Graph(recorder.nodes, dict(model.named_modules())), output


def copied(model: nn.Module) -> nn.Module:
    """A deep copy, also of a model in which old-style weight normalisation has left computed weights."""
    left = [t for module in model.modules() for t in vars(module).values() if isinstance(t, Tensor) and not t.is_leaf]
    return copy.deepcopy(model, {id(tensor): tensor.detach().clone() for tensor in left})


def two_of(x: Tensor) -> Tensor:
    """Two examples: one would vanish in a squeeze, and in the variance of a batch."""
    return torch.cat([x[:2], x[:2]])[:2]


@contextmanager
def alone(model: nn.Module, training: bool, seed: int) -> Iterator[None]:
    """A copy of a model in this mode, without gradients; random numbers are put back behind it."""
    model.train(training)
    state = random.getstate()
    try:
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            random.seed(seed)
            yield
    finally:
        random.setstate(state)


class Unfollowed(ValueError):
    """Operations depend on numbers that the model computes."""


class Recorder(TorchFunctionMode):
    """Notes every function of torch that is called on tensors, and every module that is entered and left."""

    def __init__(self, model: nn.Module, x: Tensor, masks: Mapping[int, Tensor]):
        super().__init__()
        self.model, self.masks = model, masks
        self.nodes: list[Node] = []
        self.values: dict[int, Value] = {id(x): Value(x.shape)}
        self.constants: dict[int, Constant] = {}
        self.alive: list[Any] = [x]  # or another tensor might get its id
        self.stack: list[tuple[str, list[tuple[Tensor, Value, Value]]]] = []
        self.single = 0  # how many modules of SINGLE we are in
        for name, module in model.named_modules():
            for leaf in tree_leaves([v for k, v in vars(module).items() if k not in ("_parameters", "_buffers")]):
                if isinstance(leaf, Tensor):
                    self.constants[id(leaf)] = Constant(leaf.shape)
            for key, tensor in {**module._parameters, **module._buffers}.items():
                if tensor is not None:
                    self.constants[id(tensor)] = Constant(tensor.shape, (name, key))
        self.handles = []
        for name, module in model.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):
                options = {"prepend": True, "with_kwargs": True}
                self.handles.append(module.register_forward_pre_hook(self._enter(name), **options))
                self.handles.append(module.register_forward_hook(self._leave(name), **options))

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self.handles:
            handle.remove()

    def refer(self, tree: Any) -> Any:
        """The tree with values and constants in the place of tensors."""
        return tree_map(lambda leaf: self._of(leaf) if isinstance(leaf, Tensor) else leaf, tree)

    def _of(self, tensor: Tensor) -> Value | Constant:
        with torch._C.DisableTorchFunction():
            shape = tensor.shape
        return self.values.get(id(tensor)) or self.constants.get(
            id(tensor), Constant(shape, known=isinstance(tensor, nn.Parameter))
        )

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if self.single:
            return func(*args, **kwargs)
        operands = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        refs = self.refer((args, kwargs)) if operands else (args, kwargs)
        result = func(*args, **kwargs)
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        name = func.__self__.__name__ if hasattr(func, "__self__") and func.__name__ == "__get__" else func.__name__
        known = [isinstance(ref := self._of(tensor), Constant) and ref.known for tensor in operands]
        follows = name not in FACTORIES and not all(known)
        if not follows:
            for tensor in made:
                self.constants.setdefault(id(tensor), Constant(tensor.shape))
            self.alive += made
        elif made or (result is None and name not in METADATA):
            where = self.stack[-1][0] if self.stack else ""
            result = self._note(Node("function", name, refs[0], refs[1], [], where), result, made)
        elif name not in METADATA and self.stack:
            here = Path(__file__).parent
            frames = [f for f in traceback.extract_stack() if "/torch/" not in Path(f.filename).as_posix()]
            line = next(f.line for f in reversed(frames) if Path(f.filename).parent != here)
            raise Unfollowed(
                f"{type(self.model).__name__} looks at numbers that it computes ({name}) at {line!r}: its graph "
                "depends on its input, so channels can't be followed"
            )
        return result

    def _note(self, node: Node, result: Any, made: list[Tensor]) -> Any:
        """Append an operation; its result, which is masked where that was asked for."""
        mask = self.masks.get(len(self.nodes))
        if mask is not None and isinstance(result, Tensor):
            with torch._C.DisableTorchFunction():
                result = result.mul_(mask) if id(result) in self.values else result * mask
            made = [result]
        for tensor in made:
            self.values[id(tensor)] = Value(tensor.shape)
            node.out.append(self.values[id(tensor)])
        self.alive += made
        self.nodes.append(node)
        return result

    def _enter(self, name: str) -> Callable:
        def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
            single = type(module) in SINGLE and why_not_plain(module) is None
            if self.single or single:
                self.single += 1
                return
            entered: list[tuple[Tensor, Value, Value]] = []
            every = Counter(id(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
            for key, tensor in [*enumerate(args), *kwargs.items()] if self.stack else []:
                if isinstance(tensor, Tensor) and every[id(tensor)] == 1 and id(tensor) in self.values:
                    outer = self.values[id(tensor)]
                    inner = self.values[id(tensor)] = Value(outer.shape)
                    entered.append((tensor, outer, inner))
                    self.nodes.append(Node("enter", name, (outer,), {}, [inner], name, key))
            self.stack.append((name, entered))

        return hook

    def _leave(self, name: str) -> Callable:
        def hook(module: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
            given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            if self.single:
                self.single -= 1
                if self.single:
                    return None
                refs = self.refer((args, kwargs))
                node = Node("layer", name, refs[0], refs[1], [], self.stack[-1][0] if self.stack else name)
                same = any(output is tensor for tensor in given)
                with torch._C.DisableTorchFunction():
                    shown = output.view_as(output) if same else output  # another object: the layer may fill it
                shown = self._note(node, shown, [leaf for leaf in tree_leaves(shown) if isinstance(leaf, Tensor)])
                if same and getattr(module, "inplace", False):
                    self.values[id(output)] = node.out[0]
                return shown
            _, entered = self.stack.pop()
            shown = output
            if isinstance(output, Tensor) and id(output) in self.values and self.stack:
                with torch._C.DisableTorchFunction():
                    shown = output.view_as(output) if any(output is tensor for tensor in given) else output
                inside = self.values[id(output)]
                self.values[id(shown)] = Value(inside.shape)
                self.alive.append(shown)
                self.nodes.append(Node("leave", name, (inside,), {}, [self.values[id(shown)]], name))
            for tensor, outer, inner in entered:
                if self.values[id(tensor)] is inner:  # else it was changed in place
                    self.values[id(tensor)] = outer
            return shown

        return hook


def _opened(output: Any, depth: int = 3) -> Any:
    """Everything in an output, also in objects that torch does not take apart."""
    leaves = tree_leaves(output)
    closed = [depth > 0 and hasattr(leaf, "__dict__") and not isinstance(leaf, Tensor | nn.Module) for leaf in leaves]
    return [_opened(vars(leaf), depth - 1) if open else leaf for leaf, open in zip(leaves, closed, strict=True)]


def tensors_of(output: Any) -> list[Tensor]:
    """The tensors in an output of any form."""
    return [leaf for leaf in tree_leaves(_opened(output)) if isinstance(leaf, Tensor)]


def norms(graph: Graph) -> dict[str, str]:
    """The batch normalisation right behind each layer, where there is one: names, layer -> normalisation."""
    source = {node.out[0]: node.args[0] for node in graph.nodes if node.kind in ("enter", "leave")}

    def origin(value: Any) -> Any:
        while value in source:
            value = source[value]
        return value

    makers = {node.out[0]: node.name for node in graph.nodes if node.kind == "layer"}
    readers = Counter(
        origin(value)
        for node in graph.nodes
        if node.kind not in ("enter", "leave")
        for value in node.tensors()
        if isinstance(value, Value)
    )
    found = {}
    for node in graph.nodes:
        name = normalisation(node, graph.modules)
        value = origin(next((v for v in node.tensors() if isinstance(v, Value)), None)) if name is not None else None
        if name is not None and value in makers and readers[value] == 1:
            found[makers[value]] = name
    return found


def normalisation(node: Node, modules: Mapping[str, nn.Module]) -> str | None:
    """The name of the module whose statistics and scale a batch normalisation uses, as a layer or as a function."""
    if node.kind == "layer" and isinstance(modules[node.name], NORMS):
        return node.name
    if node.kind != "function" or node.name != "batch_norm":
        return None
    owners = {c.owner[0] if c.owner else None for c in node.tensors() if isinstance(c, Constant)}
    name = owners.pop() if len(owners) == 1 else None
    return name if name is not None and hasattr(modules[name], "num_features") else None
