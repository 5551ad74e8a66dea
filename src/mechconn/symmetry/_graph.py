"""The operations that a model's forward pass runs, by torch.export, with its weights as inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export.graph_signature import InputKind, InputSpec, OutputKind
from torch.fx import Interpreter, Node
from torch.utils._pytree import tree_leaves, tree_map

from mechconn.core import Inputs, isolate_rng
from mechconn.network import check_initialised, make_call_arguments
from mechconn.symmetry._equal_values import find_uniform_buffers
from mechconn.symmetry._looks import Forced, Look, Looks, OtherAnswerError
from mechconn.symmetry._module_copies import copy_with_tensors, has_meta_tensors
from mechconn.symmetry._no_dropout import train_without_statistics
from mechconn.symmetry._recorded_runs import (
    Predictions,
    RecordedRun,
    prepare,
    run_borrowed,
    silence_export,
    take_first_line,
)
from mechconn.symmetry._recurrent_layers import take_apart_recurrent_layers
from mechconn.symmetry._shape_only import MissingValuesError
from mechconn.symmetry._windows import name_windows


class UnreadableError(ValueError):
    """The operations of a model cannot be read; what to do instead depends on what they were read for."""


SEEDS = 5
"""Runs with other random numbers, of which one must have other outputs for these to count, and one more."""

OriginKind = Literal["parameter", "buffer", "constant", "input"]


@dataclass(frozen=True)
class TensorOrigin:
    """Where a tensor that no operation makes comes from; parameters and buffers under their first names."""

    kind: OriginKind
    name: str


@dataclass(frozen=True)
class Graph:
    """A forward pass in evaluation mode, for inputs of one shape.

    Attributes:
        program: what torch.export found.
        sources: name of a placeholder -> where its value comes from, in the order of the placeholders.
        looks: at which values of the input the forward pass looked, and what it saw.
        uniform: buffers of which all places hold one number -> that number.
    """

    program: torch.export.ExportedProgram
    sources: Mapping[str, TensorOrigin]
    looks: tuple[Look, ...] = ()
    uniform: Mapping[str, float] = field(default_factory=dict)

    @property
    def nodes(self) -> Iterator[Node]:
        """Operations in the order in which they run, placeholders first, the output last."""
        return iter(self.program.graph.nodes)

    def list_written(self) -> dict[str, str]:
        """Operation -> the parameter that the forward pass writes its result into, where it is not returned."""
        signature = self.program.graph_signature
        names = {str(spec.target): self.sources[spec.arg.name].name for spec in signature.input_specs}
        kinds: dict[str, list[OutputKind]] = {}
        for spec in signature.output_specs:
            kinds.setdefault(spec.arg.name, []).append(spec.kind)
        return {
            spec.arg.name: names[str(spec.target)]
            for spec in signature.output_specs
            if kinds[spec.arg.name] == [OutputKind.PARAMETER_MUTATION]
        }

    @torch.no_grad()
    def run(self, state: Mapping[str, Tensor], inputs: Inputs, see: Callable[[str, Any], None]) -> None:
        """Run the forward pass at the weights and buffers in `state`; `see` gets each operation's name and result.

        Raises:
            OtherAnswerError: the forward pass looks at values of these inputs, and sees others than on the example.
        """
        given = iter(tree_leaves(make_call_arguments(inputs)))
        values = {
            "parameter": lambda name: state[name],
            "buffer": lambda name: state[name],
            "constant": lambda name: self.program.constants[name],
            "input": lambda _: next(given),
        }
        try:
            _Watched(self.program.graph_module, see).run(*[values[s.kind](s.name) for s in self.sources.values()])
        except OtherAnswerError as error:
            looks = "; ".join(map(str, self.looks))
            raise OtherAnswerError(
                f"the forward pass looks at values of its input and sees others in this batch than in the first one of "
                f"its shape ({looks}); pass batches of which these are the same, or match weights, WeightMatching()"
            ) from error


class _Watched(Interpreter):
    """Runs a graph operation by operation and shows each result; none is kept longer than the graph needs it."""

    def __init__(self, module: torch.fx.GraphModule, see: Callable[[str, Any], None]) -> None:
        super().__init__(module)
        self._see = see

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if n.op == "call_function":
            self._see(n.name, result)
        return result

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        # The graph was written for one layout in memory; weights in another make views impossible that were not.
        if target is torch.ops.aten.view.default:
            target = torch.ops.aten.reshape.default
        return super().call_function(target, args, kwargs)


def export_graph(
    model: nn.Module,
    example_input: Inputs,
    forced: Forced | None = None,
    *,
    training: bool = False,
) -> Graph:
    """The operations of the model's forward pass on an example, in evaluation mode or, without dropout, in training.

    Where it looks at values of its input, it gets the answers of the example, or those that are `forced`.

    Raises:
        ValueError: the model rejects the example, returns no tensor, or draws random numbers.
        UnreadableError: its forward pass cannot be exported, for example because it branches on values.
    """
    for name, parameter in model.named_parameters():
        check_initialised(name, parameter)
    on_meta = has_meta_tensors(model)
    probe, arguments = prepare(model, example_input)
    if training:
        train_without_statistics(probe)
    # Frozen parameters would send some modules (attention) down a path of one opaque operation.
    for parameter in probe.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    with isolate_rng(0, "graph"):
        run = _check_accepted(model, probe, arguments, forced)
        looks = Looks(replayed=run.looks)
        try:
            with torch.enable_grad(), silence_export():
                args, kwargs = arguments
                if on_meta:
                    probe, (args, kwargs) = _faked(probe, arguments)
                probe.packed, probe.looks = run.packed, looks
                program = torch.export.export(probe, args, kwargs, strict=False).run_decompositions({})
        except Exception as error:
            raise UnreadableError(_explain_unreadable(model, take_first_line(error))) from error
    for node in program.graph.nodes:
        shapes = [t.shape for t in tree_leaves(node.meta.get("val")) if isinstance(t, Tensor)]
        if not all(isinstance(size, int) for shape in shapes for size in shape):
            why = f"the shape of what {node.target} returns depends on values"
            raise UnreadableError(_explain_unreadable(model, why))
    _refuse_random(model, probe, arguments, run, forced, program)
    take_apart_recurrent_layers(program.graph)
    name_windows(program.graph)
    own = {f"model.{name}": first for name, first in map_to_first_names(probe.model).items()}
    sources = {spec.arg.name: _find_origin(spec, own) for spec in program.graph_signature.input_specs}
    return Graph(program, sources, tuple(looks.seen), find_uniform_buffers(model))


def _refuse_random(
    model: nn.Module,
    probe: Predictions,
    arguments: Any,
    run: RecordedRun,
    forced: Forced | None,
    program: torch.export.ExportedProgram,
) -> None:
    """Raise where random numbers are drawn for hidden units, as dropout does, and the outputs depend on them."""
    names = list(_list_drawn(program))
    if not names or has_meta_tensors(model) or probe.training:
        return
    probe.packed = None  # a run, and no export: it answers looks itself
    for seed in range(1, SEEDS):
        with isolate_rng(seed, "graph"), silence_export():
            again = run_borrowed(probe, arguments, forced)
        pairs = zip(tree_leaves(run.output), tree_leaves(again.output), strict=True)
        if not all(_equal(a, b) for a, b in pairs if isinstance(a, Tensor) and isinstance(b, Tensor)):
            raise ValueError(
                f"{type(model).__name__} draws random numbers for its hidden units in evaluation mode "
                f"({', '.join(dict.fromkeys(names))}), so that every call computes another function; draw them in "
                "training mode alone, as F.dropout(x, p, self.training) does"
            )


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())


def _list_drawn(program: torch.export.ExportedProgram) -> Iterator[str]:
    """Operations that draw random numbers for tensors that depend on parameters."""
    parameters = set(program.graph_signature.inputs_to_parameters)
    dependent: set[Node] = set()
    for node in program.graph.nodes:
        if node.name in parameters or not dependent.isdisjoint(node.all_input_nodes):
            dependent.add(node)
            if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
                yield str(node.target).split(".")[1]


def _check_accepted(model: nn.Module, probe: nn.Module, arguments: Any, forced: Forced | None) -> RecordedRun:
    """A run on the example; raise unless the model runs on it and returns tensors."""
    try:
        run = run_borrowed(probe, arguments, forced)
    except MissingValuesError as error:
        raise UnreadableError(_explain_unreadable(model, take_first_line(error))) from error
    except Exception as error:
        raise ValueError(
            f"{type(model).__name__} rejects the example input ({take_first_line(error)}); pass a batch that "
            "the model accepts"
        ) from error
    _check_tensors(model, run.output)
    return run


def _faked(probe: Predictions, arguments: Any) -> tuple[Predictions, Any]:
    """The model and its arguments as torch.export's own tensors without values, those on the meta device on the CPU."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)

    def fake(tensor: Tensor) -> Tensor:
        if not tensor.is_meta:
            return mode.from_tensor(tensor)
        with mode:
            return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)

    requires = {name: parameter.requires_grad for name, parameter in probe.named_parameters()}
    made = copy_with_tensors(probe, fake)
    assert isinstance(made, Predictions)
    for name, parameter in made.named_parameters():
        parameter.requires_grad_(requires[name])
    return made, tree_map(lambda v: fake(v) if isinstance(v, Tensor) else v, arguments)


def _check_tensors(model: nn.Module, found: Any) -> None:
    if not any(isinstance(leaf, Tensor) for leaf in tree_leaves(found)):
        raise ValueError(
            f"cannot read the operations of {type(model).__name__} (it returns no tensor but {type(found).__name__}); "
            f"wrap it to return its predictions"
        )


def find_shared_memory(model: nn.Module) -> set[str]:
    """First names of parameters and buffers that are different tensors over places of the same memory."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    spans = sorted((*_memory_span(t), name) for name, t in tensors.items() if t.numel() and not t.is_meta)
    shared: set[str] = set()
    furthest, holder = 0, ""
    for start, end, name in spans:
        if start < furthest:
            shared |= {name, holder}
        if end > furthest:
            furthest, holder = end, name
    return shared


def _memory_span(tensor: Tensor) -> tuple[int, int]:
    """Addresses of a tensor's first byte, and of the one behind its last."""
    last = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()


def map_to_first_names(model: nn.Module) -> dict[str, str]:
    """Every name of a parameter or buffer -> the first name of the same tensor."""
    first: dict[int, str] = {}
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {name: first.setdefault(id(tensor), name) for name, tensor in named}


def _find_origin(spec: InputSpec, own: Mapping[str, str]) -> TensorOrigin:
    kinds: dict[InputKind, OriginKind] = {
        InputKind.PARAMETER: "parameter",
        InputKind.BUFFER: "buffer",
        InputKind.USER_INPUT: "input",
    }
    kind = kinds.get(spec.kind, "constant")
    if kind == "input":
        return TensorOrigin(kind, spec.arg.name)
    target = str(spec.target)
    return TensorOrigin(kind, own.get(target, target))


def _explain_unreadable(model: nn.Module, why: str) -> str:
    name = type(model).__name__
    return f"cannot read the operations of {name} ({why}); its forward pass must not branch on values"
