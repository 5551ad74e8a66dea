"""The features that a head receives, computed once for data that will be read many times."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from mechconn.core import Data, Inputs, isolate_rng, iterate_batches, keep_generator_states
from mechconn.descent import EVALUATED, Problem, find_head, record_head_calls
from mechconn.network import find_hook_computed_weights


class FrozenFeatures:
    """A network up to its head, in evaluation mode.

    Attributes:
        layer: the head.
    """

    def __init__(self, method: str, problem: Problem) -> None:
        self._method, self._problem = method, problem
        with keep_generator_states(problem.clean), isolate_rng(problem.seed, "features"):
            inputs, _ = next(self._read("clean data", problem.clean))
        self.name = problem.head or find_head(problem.model, inputs)
        layer = problem.model.get_submodule(self.name)
        assert isinstance(layer, nn.Linear)
        self.layer = layer
        own = {id(parameter) for parameter in layer.parameters()}
        if any(True for _ in find_hook_computed_weights(layer)):
            raise ValueError(
                f"{method} would give {self.name!r} weights of its own, but a hook computes these (weight_norm, "
                "spectral_norm or prune); take it off first, as by torch.nn.utils.remove_weight_norm"
            )
        if is_parametrized(layer):
            raise ValueError(
                f"{method} would give {self.name!r} weights of its own, but these are computed by a "
                "parametrization; call torch.nn.utils.parametrize.remove_parametrizations on it first"
            )
        if not all(parameter.requires_grad for parameter in layer.parameters()):
            raise ValueError(
                f"{method} trains the head alone, and its weights in {self.name!r} are frozen; call "
                "requires_grad_() on them"
            )
        others = [
            name
            for name, module in problem.model.named_modules()
            if module is not layer and any(id(p) in own for p in module.parameters(recurse=False))
        ]
        if others:
            raise ValueError(
                f"{method} would give {self.name!r} weights of its own, but they are shared with "
                f"{', '.join(others)}; untie them first"
            )

    def of(self, name: str, data: Data) -> tuple[Tensor, Tensor]:
        """(features [N, d], targets) of all rows, on the network's device.

        Raises:
            ValueError: the head's outputs are not the model's.
        """
        model, found, targets = self._problem.model, [], []
        model.eval()
        try:
            with (
                torch.no_grad(),
                keep_generator_states(data),
                isolate_rng(self._problem.seed, "features"),
                record_head_calls(model, self.name) as received,
            ):
                for inputs, target in self._read(name, data):
                    outputs = self._problem.outputs(inputs)
                    z = received.features(len(received.calls) - 1, outputs)
                    self._check_last(z, outputs)
                    received.calls.clear()
                    found.append(z.to(self.layer.weight.dtype))
                    targets.append(target)
        finally:
            model.train(True)
        return torch.cat(found), torch.cat(targets)

    @torch.no_grad()
    def install(self, weight: Tensor, bias: Tensor | None) -> None:
        """Give the head these weights."""
        self.layer.weight.copy_(weight)
        if bias is not None and self.layer.bias is not None:
            self.layer.bias.copy_(bias)

    def _check_last(self, z: Tensor, outputs: Tensor) -> None:
        with self._problem.network.computing():
            given = self.layer(z) if z.shape[-1] == self.layer.in_features else None
        if given is not None and given.shape == (*outputs.shape, 1):  # one logit a row, given as [N]
            given = given[..., 0]
        # The same layer on the same features: other rows in a batch may change the last bits, what follows it more.
        if given is None or given.shape != outputs.shape or not agree_within_rounding(given.to(outputs.dtype), outputs):
            raise ValueError(
                f"{self._method} needs a head whose outputs are the model's, and something comes after "
                f"{self.name!r}; name the last layer with head=, or use a method that trains the whole network"
            )

    def _read(self, name: str, data: Data) -> Iterator[tuple[Inputs, Tensor]]:
        network = self._problem.network
        rows = network.compute.choose_batch_size(EVALUATED)
        return iterate_batches(name, data, batch_size=rows, device=network.device, model=network.module)


def agree_within_rounding(a: Tensor, b: Tensor) -> bool:
    """Whether two outputs agree up to the rounding of bfloat16."""
    return bool((a - b).abs().max() <= 0.02 * b.abs().max().clamp(min=1e-6))
