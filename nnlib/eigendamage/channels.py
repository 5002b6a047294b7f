"""Which channels are left at each place of a network when filters go? Followed through what it computes.

A filter that is removed takes its channel along: out of the normalisation behind it, out of everything that works on
each channel alone, and out of the weights of the layers that read it. Where branches meet in a sum, a channel stays if
any branch has it, and the others are filled with zeros; where they are concatenated, each keeps its own.
Chapter: ``book/eigendamage.ipynb``.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from nnlib.eigendamage.moves import moves_of
from nnlib.eigendamage.rules import Rule, all_of, refused, rule
from nnlib.eigendamage.trace import NORMS, Constant, Graph, Node, Value, normalisation
from nnlib.eigendamage.weights import booleans
from nnlib.plain import layer_of, why_not_plain

Place = tuple[str, int | str | None]  # a module and which of its arguments, or None for its output


@dataclass
class Surgery:
    """What is left of each layer when filters go.

    Args:
        inputs: By layer, which of its input channels are left; for normalisations and depthwise convolutions, which
            of their channels.
        outputs: By layer whose filters go, which are left.
        moves: Where channels must be put in other places of memory: from which of them to which.
        present: By value with fewer channels than the model's, which are left.
    """

    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    moves: dict[Place, tuple[Tensor, Tensor]] = field(default_factory=dict)
    present: dict[Value, Tensor] = field(default_factory=dict)


def plan(graphs: Sequence[Graph], kept: Mapping[str, Tensor]) -> Surgery:
    """Follow the channels through what the model computes in each of its modes.

    Args:
        graphs: By :func:`nnlib.eigendamage.trace.trace`, of one model.
        kept: By layer, which filters stay, booleans (out,).

    Raises:
        ValueError: where channels can't be followed through an operation, a layer or an output, naming it.
    """
    return _Plan(graphs, kept).surgery


class _Plan:
    """First which channels there are (``present``), then which of them, and which zeros, are in memory (``held``)."""

    def __init__(self, graphs: Sequence[Graph], kept: Mapping[str, Tensor]):
        self.graphs, self.surgery = graphs, Surgery()
        model = graphs[0].modules[""]
        self.modules = graphs[0].modules
        self.device = next((p.device for p in model.parameters()), torch.device("cpu"))
        called = {name: None for graph in graphs for name in graph.calls}
        if missing := set(kept) - set(called):
            names = ", ".join(name for name in called if name)
            raise ValueError(f"the model does not call {', '.join(sorted(missing))}: its layers are {names}")
        masks = {name: self._checked(name, mask) for name, mask in kept.items()}
        self.kept = {name: mask for name, mask in masks.items() if not mask.all()}
        self.rules: dict[Value, Rule] = {}
        before = None
        while before != (before := {name: mask.tolist() for name, mask in self.surgery.inputs.items()}):
            for graph in graphs:  # again: a layer may get other channels in the other mode
                self._follow(graph)
        self._hold()

    def _checked(self, name: str, mask: Tensor) -> Tensor:
        layer = layer_of(self.modules[""], name)
        booleans(len(layer.weight), **{f"kept[{name!r}], of filters,": mask})
        if not mask.any():
            raise ValueError(f"layer {name!r} has {len(layer.weight)} filters of which some must stay: got none")
        if isinstance(layer, nn.Conv2d) and layer.groups > 1:
            raise ValueError(f"layer {name!r} has {layer.groups} groups: its filters can't go one by one")
        return mask.to(self.device)

    def present(self, value: Value | Constant) -> Tensor:
        """Which channels a value has."""
        found = self.surgery.present.get(value) if isinstance(value, Value) else None
        return all_of(value, self.device) if found is None else found

    def _lost(self, value: object) -> bool:
        return isinstance(value, Value) and value in self.surgery.present and not self.surgery.present[value].all()

    def _lost_in(self, node: Node) -> list[Value]:
        return [value for value in node.tensors() if isinstance(value, Value) and self._lost(value)]

    def _follow(self, graph: Graph) -> None:
        anything = False
        for node in graph.nodes:
            lost = self._lost_in(node)
            unknown = [value for value in node.tensors() if isinstance(value, Constant) and not value.known]
            layer = self.modules[node.name] if node.kind == "layer" else None
            if lost and node.where in self.modules and moves_of(self.modules[node.name if layer else node.where]):
                raise ValueError(f"{node.where!r} has zeros for filters that went before: prune the original, by more")
            if unknown and anything:
                raise refused(node, "it reads what torch does not show how it came about, as by autograd.Function")
            if node.kind == "output":
                if lost:
                    behind = ", ".join(repr(name) for name in self._sources(lost[0]))
                    raise ValueError(f"the model's output would lose channels: leave out the layer behind it, {behind}")
            elif layer is not None and (
                node.name in self.kept or node.name in self.surgery.inputs or (lost and list(layer.parameters()))
            ):  # a layer that has lost channels in the other mode reads all that it gets in this one
                if graph.calls[node.name] > 1:
                    times = f"is called {graph.calls[node.name]} times"
                    raise ValueError(f"layer {node.name!r} {times}: its filters can't go")
                self.surgery.present[node.out[0]] = self._through(node, layer)
            elif (norm := normalisation(node, self.modules)) is not None and (lost or norm in self.surgery.inputs):
                self.surgery.present[node.out[0]] = self._normalised(node, norm)
            elif lost and node.kind in ("enter", "leave"):
                self._record(Rule("same", node.out[0], (lost[0],)))
            elif lost:
                self._record(self._rule(node, layer, lost))
            anything = anything or any(self._lost(value) for value in node.out)

    def _sources(self, value: Value | Constant) -> list[str]:
        """The layers whose filters these are."""
        if isinstance(value, Value) and value in self.rules:
            return [name for operand in self.rules[value].ins if self._lost(operand) for name in self._sources(operand)]
        makers = [(node, graph) for graph in self.graphs for node in graph.nodes if value in node.out]
        node, _ = makers[0]
        if node.name in self.kept:
            return [node.name]
        return [name for operand in node.tensors() if self._lost(operand) for name in self._sources(operand)]

    def _rule(self, node: Node, layer: nn.Module | None, lost: list[Value]) -> Rule:
        if layer is not None:
            return rule(replace(node, name=type(layer).__name__), list(dict.fromkeys(lost)))
        around = self.modules[node.where]
        if isinstance(around, nn.Linear | nn.Conv2d) and (why := why_not_plain(around)):
            raise ValueError(f"channels can't be followed through layer {node.where!r}: {why}")
        try:
            return rule(node, list(dict.fromkeys(lost)))
        except ValueError as error:
            raise refused(node, "", around) if "alone" in str(error) else error from None

    def _record(self, found: Rule) -> None:
        self.rules[found.out] = found
        masks = [self.present(value) for value in found.ins]
        if found.kind == "cat":
            mask = torch.cat(masks)
        elif found.kind == "spread":
            mask = masks[0].repeat_interleave(found.times)
        else:
            mask = masks[0]
            for other in masks[1:]:
                mask = mask & other if found.kind == "product" else mask | other
        self.surgery.present[found.out] = mask

    def _input(self, node: Node, name: str) -> Tensor:
        """The channels that a layer reads, in any mode."""
        operand = next(value for value in node.tensors() if isinstance(value, Value | Constant))
        mask = self.present(operand)
        if name in self.surgery.inputs:
            mask = mask | self.surgery.inputs[name]
        self.surgery.inputs[name] = mask
        return mask

    def _through(self, node: Node, layer: nn.Module) -> Tensor:
        """The channels that are left behind a layer with weights."""
        name, shape = node.name, node.out[0].shape
        if isinstance(layer, NORMS):
            return self._input(node, name)
        if isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels == layer.out_channels > 1:
            return self._input(node, name)
        if not isinstance(layer, nn.Linear | nn.Conv2d) or (isinstance(layer, nn.Conv2d) and layer.groups > 1):
            raise refused(replace(node, name=type(layer).__name__, where=name), "its groups see different channels")
        if len(shape) != (2 if isinstance(layer, nn.Linear) else 4):
            what = "the linear layer works on a sequence, whose dimension 1 is no channel"
            what = what if isinstance(layer, nn.Linear) else "the convolution's input is no batch of images"
            raise refused(replace(node, name=type(layer).__name__, where=name), what)
        self._input(node, name)
        mask = self.kept.get(name, all_of(node.out[0], self.device))
        self.surgery.outputs[name] = mask
        return mask

    def _normalised(self, node: Node, name: str) -> Tensor:
        """Behind a batch normalisation that a module with a forward of its own calls as a function."""
        norm = self.modules[name]
        mine = [c.owner for g in self.graphs for n in g.nodes for c in n.tensors() if isinstance(c, Constant)]
        uses = {key: mine.count((name, key)) for key in (*norm._parameters, *norm._buffers)}
        calls = sum(normalisation(n, self.modules) == name for g in self.graphs for n in g.nodes)
        if any(count not in (0, calls) for key, count in uses.items() if key != "num_batches_tracked"):
            raise refused(node, "its statistics or scales are also used elsewhere")
        return self._input(node, name)

    # In memory

    def _hold(self) -> None:
        """Which channels are in memory: where a sum wants more than there are, zeros are put in at the last module."""
        self.own: dict[Value, Tensor] = {}  # what a module puts into its output, or finds at its input
        self.narrow: dict[Value, Tensor] = {}  # where exactly these are wanted
        places = self._places()
        for graph in self.graphs:
            for node in graph.nodes:
                if any(map(self._lost, node.tensors())) and normalisation(node, self.modules) and node.kind != "layer":
                    operand = next(value for value in node.tensors() if isinstance(value, Value))
                    self.narrow[operand] = self.surgery.inputs[str(normalisation(node, self.modules))]
        while self._settle(places):
            pass
        for place, pairs in places.items():
            moves = [(self._source(before), self._target(behind)) for before, behind in pairs]
            if all(torch.equal(source, target) for source, target in moves):
                continue
            if any(not (torch.equal(s, moves[0][0]) and torch.equal(t, moves[0][1])) for s, t in moves[1:]):
                raise ValueError(f"module {place[0]!r} has other channels in training than in evaluation mode")
            self.surgery.moves[place] = moves[0]
        for found in self.rules.values():
            held, present = self.held(found.ins[0]), self.present(found.ins[0])
            if found.kind == "same" and not found.zero and not torch.equal(held, present):
                raise ValueError(
                    f"channels can't be followed through the operation {found.name!r}: a sum needs zeros in the place "
                    "of channels that are gone, and this makes other numbers of them"
                )
        for value, mask in self.narrow.items():
            if not torch.equal(self.held(value), mask):
                raise ValueError("a batch normalisation called as a function stands where a sum needs zeros")

    def _places(self) -> dict[Place, list[tuple]]:
        """Where channels can be put in other places: at modules that are called once; (before, behind) by mode."""
        places: dict[Place, list[tuple]] = defaultdict(list)
        every = [
            (graph, node) for graph in self.graphs for node in graph.nodes if node.kind not in ("function", "output")
        ]
        # A hook acts in both modes, also where no channel is lost in one of them.
        changed = {node.name for _, node in every if any(map(self._lost, [*node.tensors(), *node.out]))}
        for graph, node in every:
            if node.name not in changed or graph.calls[node.name] > 1:
                continue
            if node.kind == "layer":
                key, operand = _first(node)
                if node.name in self.surgery.inputs or node.out[0] in self.rules:
                    places[node.name, key].append((operand, node))
                places[node.name, None].append((node, node.out[0]))
            elif _free(self.modules[node.name]):
                places[node.name, node.key if node.kind == "enter" else None].append((node.args[0], node.out[0]))
        self.movable = {pair[1] for pairs in places.values() for pair in pairs if isinstance(pair[1], Value)}
        return places

    def _within(self, node: Node) -> Tensor:
        """The channels that a layer works on."""
        if node.name in self.surgery.inputs:
            return self.surgery.inputs[node.name]
        found = self.rules[node.out[0]]
        return self.held(found.ins[0]) if found.zero and found.kind == "same" else self.present(found.ins[0])

    def _source(self, source: Value | Constant | Node) -> Tensor:
        if not isinstance(source, Node):
            return self.held(source)
        if source.out[0] not in self.rules:
            return self.present(source.out[0])
        found, mask = self.rules[source.out[0]], self._within(source)
        return mask.repeat_interleave(found.times) if found.kind == "spread" else mask

    def _target(self, target: Value | Node) -> Tensor:
        return self._within(target) if isinstance(target, Node) else self.held(target)

    def held(self, value: Value | Constant) -> Tensor:
        """Which channels of a value are in memory: those present, and perhaps zeros."""
        if isinstance(value, Constant) or value not in self.surgery.present:
            return all_of(value, self.device)
        if value in self.narrow and value in self.movable:
            return self.narrow[value]
        own = self.own.get(value, self.present(value))
        if value not in self.rules:
            return own
        found = self.rules[value]
        if value in self.movable:
            return own | self.held(found.ins[0]) if found.zero and found.kind == "same" else own
        if found.kind == "cat":
            return torch.cat([self.held(operand) for operand in found.ins])
        mask = self.held(found.ins[0])  # the operands of a sum will have the same
        return mask.repeat_interleave(found.times) if found.kind == "spread" else mask

    def _settle(self, places: dict[Place, list[tuple]]) -> bool:
        """Ask for zeros where operands of a sum, or a place in two modes, differ; whether anything was asked."""
        groups = [list(found.ins) for found in self.rules.values() if found.kind in ("sum", "product")]
        groups += [[b for b, _ in pairs if not isinstance(b, Node)] for pairs in places.values() if len(pairs) > 1]
        groups += [[t for _, t in pairs if isinstance(t, Value)] for pairs in places.values() if len(pairs) > 1]
        moved = False
        for group in groups:
            masks = [self.held(value) for value in group]
            if any(not torch.equal(mask, masks[0]) for mask in masks[1:]):
                everything = torch.stack(masks).any(0)
                for value in group:
                    moved = self._want(value, everything) or moved
                if not moved:
                    raise ValueError("a sum needs zeros in the place of channels that are gone, where none can be put")
        return moved

    def _want(self, value: Value | Constant, mask: Tensor) -> bool:
        """Ask that a value holds these channels; whether that was new."""
        held = self.held(value)
        if not (mask & ~held).any() or isinstance(value, Constant):
            return False
        if value in self.movable or value not in self.rules:
            if value not in self.movable:
                raise ValueError(
                    f"a sum needs zeros in the place of channels of {', '.join(self._sources(value))} that are gone, "
                    "where none can be put"
                )
            self.own[value] = held | mask
            return True
        found = self.rules[value]
        if found.kind == "cat":
            parts = mask.split([len(self.held(operand)) for operand in found.ins])
            return any([self._want(operand, part) for operand, part in zip(found.ins, parts, strict=True)])
        mask = mask.view(-1, found.times).any(1) if found.kind == "spread" else mask
        return any([self._want(operand, mask) for operand in found.ins])


def _first(node: Node) -> tuple[int | str, Value | Constant]:
    """Which argument is the input of a layer."""
    found = [(key, arg) for key, arg in [*enumerate(node.args), *node.kwargs.items()] if isinstance(arg, Value)]
    return found[0]


def _free(module: nn.Module) -> bool:
    """Whether a hook can be added to a module as the only one."""
    return not (module._forward_hooks or module._forward_pre_hooks)
