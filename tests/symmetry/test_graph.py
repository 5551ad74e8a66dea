"""The exported graph: it computes what the model computes, for every kind of input, at any weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mechconn.symmetry import export_graph
from mechconn.symmetry._module_copies import copy_with_tensors
from symmetry.architectures import ARCHITECTURES
from symmetry.attention_nets import NETS
from symmetry.check import built, outputs

ALL = {**ARCHITECTURES, **NETS}


@pytest.mark.parametrize("name", ["vgg", "instancenorm", "dict_input", "tuple_input", "language_model", "normed"])
def test_a_graph_runs_as_the_model_does(name: str) -> None:
    factory, inputs = ALL[name]
    model, other = built(factory).double(), built(factory).double()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    graph = export_graph(model, inputs_of(inputs))
    results: dict[str, Any] = {}
    state = {**dict(other.named_parameters()), **dict(other.named_buffers())}
    graph.run(state, inputs_of(inputs), results.__setitem__)
    (last,) = [node for node in graph.nodes if node.op == "output"]
    made = [results[node.name] for node in last.all_input_nodes if node.name in results]
    expected = outputs(other, inputs, training=False)
    assert len(made) == len(expected)
    for mine, theirs in zip(made, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


def inputs_of(inputs: Any) -> Any:
    """In float64."""
    if isinstance(inputs, dict):
        return {name: value.double() if isinstance(value, Tensor) else value for name, value in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(value.double() for value in inputs)
    return inputs.double() if inputs.is_floating_point() else inputs


def test_a_graph_holds_the_weights_themselves() -> None:
    """Weights are not copied: a large model is not held twice."""
    model = built(lambda: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)))
    graph = export_graph(model, torch.ones(2, 5))
    held = [t.data_ptr() for t in tree_leaves(dict(graph.program.state_dict)) if isinstance(t, nn.Parameter)]
    assert sorted(held) == sorted(parameter.data_ptr() for parameter in model.parameters())


def test_a_copy_keeps_what_is_shared() -> None:
    first, second = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
    model = nn.Sequential(first, second)
    second.running_mean, second.weight = first.running_mean, first.weight
    vars(first)["table"] = first.running_mean
    one, two = copy_with_tensors(
        model, lambda tensor: tensor.double() if tensor.is_floating_point() else tensor.clone()
    ).children()
    assert one.weight is two.weight and one.running_mean is two.running_mean is one.table
    assert one.weight.dtype == torch.float64 and one.bias is not two.bias
    assert first.weight.dtype == torch.float32
