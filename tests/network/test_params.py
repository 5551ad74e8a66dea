"""Weights as dictionaries, and networks as functions of them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.network import Network, read_buffers
from reference import gradients, loaded
from zoo import Named, Recurrent, Shared, Tied, TwoInputs, build, dropout_mlp, mlp, norm_conv, norm_mlp, rows

MODELS = {
    "mlp": mlp, "norm": norm_mlp, "shared": Shared, "tied": Tied, "recurrent": Recurrent,
}  # fmt: skip


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


# ---------------------------------------------------------------- parameters_of, with_parameters


def test_parameters_are_detached_copies() -> None:
    model = build(mlp)
    params = mc.parameters_of(model)
    assert list(params) == [name for name, _ in model.named_parameters()]
    assert not any(tensor.requires_grad for tensor in params.values())
    before = copy.deepcopy(params)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert same(params, before)


def test_tied_weights_appear_once() -> None:
    assert list(mc.parameters_of(build(Tied))) == ["encode.weight", "encode.bias", "out.weight", "out.bias"]


@pytest.mark.parametrize("factory", [*MODELS.values(), norm_conv, dropout_mlp])
def test_round_trip_is_exact(factory: type[nn.Module]) -> None:
    model, other = build(factory, 0), mc.parameters_of(build(factory, 1))
    moved = mc.with_parameters(model, other)
    assert same(mc.parameters_of(moved), other)
    assert same(read_buffers(moved), read_buffers(model))
    assert not any(a is b for a, b in zip(moved.parameters(), model.parameters(), strict=True))


def test_a_copy_with_parameters_keeps_ties_and_frozen_weights() -> None:
    model = build(Tied)
    assert isinstance(model, Tied)
    model.out.weight.requires_grad_(False)
    moved = mc.with_parameters(model, mc.parameters_of(build(Tied, 1)))
    assert isinstance(moved, Tied)
    assert moved.decode.weight is moved.encode.weight
    assert [p.requires_grad for p in moved.parameters()] == [p.requires_grad for p in model.parameters()]


def test_all_differing_names_are_listed() -> None:
    model, params = build(mlp), mc.parameters_of(build(mlp))
    params["extra"], params["more"] = params.pop("0.weight"), params.pop("2.bias")
    with pytest.raises(ValueError) as caught:
        mc.with_parameters(model, params)
    assert str(caught.value) == "parameters do not match: missing 0.weight, 2.bias; unexpected extra, more"


def test_all_differing_shapes_and_types_are_listed() -> None:
    model, params = build(mlp), mc.parameters_of(build(mlp))
    params["0.weight"], params["2.bias"] = torch.zeros(5, 9, dtype=torch.float64), torch.zeros(3)
    with pytest.raises(ValueError) as caught:
        mc.with_parameters(model, params)
    assert str(caught.value) == (
        "parameters have different shapes or types: 0.weight float64[5, 4] against float64[5, 9], "
        "2.bias float64[3] against float32[3]; both endpoints must be the same architecture"
    )


def test_lazy_modules_are_refused_by_name() -> None:
    text = r"^parameter weight is not initialised \(a lazy module\); run the model once"
    for function in (mc.parameters_of, Network, lambda model: mc.with_parameters(model, {})):
        with pytest.raises(ValueError, match=text):
            function(nn.LazyLinear(3))


# ---------------------------------------------------------------- functional evaluation


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_values_are_those_of_a_deep_copy(name: str, training: bool) -> None:
    model, x = build(MODELS[name]), rows(7)[0]
    network = Network(model)
    for seed in (1, 2, 1):  # more than one point: an earlier one must leave nothing behind
        other = build(MODELS[name], seed)
        params, buffers = mc.parameters_of(other), read_buffers(other)
        expected = loaded(model, params, buffers).train(training)
        outputs = network(params, buffers, x, training=training)
        assert torch.equal(outputs, expected(x))
        assert same(buffers, read_buffers(expected))


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_those_of_a_deep_copy(name: str) -> None:
    model, x = build(MODELS[name]), rows(7)[0]
    network, other = Network(model), build(MODELS[name], 1)
    params = {key: value.requires_grad_() for key, value in mc.parameters_of(other).items()}
    outputs = network(params, read_buffers(other), x, training=True)
    found = torch.autograd.grad(outputs.square().sum(), list(params.values()))
    copied = loaded(model, params, read_buffers(other)).train()
    expected = gradients(copied, copied(x).square().sum())
    assert list(expected) == list(params)
    for gradient, name_ in zip(found, expected, strict=True):
        # Tied and shared weights sum their parts in an order that autograd chooses.
        torch.testing.assert_close(gradient, expected[name_], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_the_module_is_left_as_it_was(name: str, training: bool) -> None:
    model, x = build(MODELS[name]), rows(7)[0]
    slots = {
        (path, local): tensor
        for path, part in model.named_modules(remove_duplicate=False)
        for local, tensor in (*part._parameters.items(), *part._buffers.items())
    }
    values = {key: tensor.detach().clone() for key, tensor in slots.items() if tensor is not None}
    network = Network(model)
    for seed in (1, 2):
        other = build(MODELS[name], seed)
        network(mc.parameters_of(other), read_buffers(other), x, training=training)
    for path, part in model.named_modules(remove_duplicate=False):
        for local, tensor in (*part._parameters.items(), *part._buffers.items()):
            assert tensor is slots[path, local]
            if tensor is not None:
                assert torch.equal(tensor, values[path, local])
                assert tensor.requires_grad == (local in part._parameters)


def test_the_networks_own_structure_survives_too() -> None:
    """Trap: a module under two names loses its parameters for good when both names are substituted."""
    network, x = Network(build(Shared)), rows(7)[0]
    before = {name: id(parameter) for name, parameter in network.module.named_parameters(remove_duplicate=False)}
    other = build(Shared, 1)
    network(mc.parameters_of(other), read_buffers(other), x)
    after = {name: id(parameter) for name, parameter in network.module.named_parameters(remove_duplicate=False)}
    assert after == before
    assert all(parameter.is_meta for parameter in network.module.parameters())


def test_training_mode_moves_the_given_buffers_only() -> None:
    """Trap: in training mode a functional call updates the module's own running statistics."""
    model, x = build(norm_mlp), rows(7)[0]
    own, network = read_buffers(model), Network(model)
    passed = read_buffers(model)
    network(mc.parameters_of(model), passed, x, training=True)
    assert same(read_buffers(model), own)
    assert same(network.buffers, own)
    assert not torch.equal(passed["1.running_mean"], own["1.running_mean"])
    assert int(passed["1.num_batches_tracked"]) == 1


def test_a_parameter_that_nobody_gave_is_no_old_value() -> None:
    model = build(mlp)
    params = mc.parameters_of(model)
    del params["0.bias"]
    with pytest.raises(KeyError, match=r"0\.bias"):
        Network(model)(params, {}, rows(2)[0])


def test_inputs_may_be_named_or_several_and_outputs_have_logits() -> None:
    x, scale = rows(6)[0], torch.arange(6.0, dtype=torch.float64)
    named, both = build(Named), build(TwoInputs)
    assert isinstance(named, Named) and isinstance(both, TwoInputs)
    outputs = Network(named)(mc.parameters_of(named), {}, {"values": x, "scale": scale})
    assert torch.equal(outputs, named.body(x) * scale[:, None])
    outputs = Network(both)(mc.parameters_of(both), {}, (x, 3 * x))
    assert torch.equal(outputs, both.body(x + 3 * x))


def test_outputs_must_be_a_tensor() -> None:
    class Several(nn.Module):
        def forward(self, x: Tensor) -> list[Tensor]:
            return [x, x]

    with pytest.raises(TypeError, match=r"^the model must return a tensor or an object with \.logits, got list"):
        Network(Several())({}, {}, rows(2)[0])
