"""The architectures of the experiments, named by plain settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from mechconn import models
from mechconn.models import build_seeded


@dataclass(frozen=True)
class Architecture:
    """A network without its weights.

    Attributes:
        name: small_convnet, vgg13, resnet18, or perceptron (one hidden layer; inputs that are images are flattened).
        num_classes: outputs.
        shape: of one input.
        width: of small_convnet and the perceptron.
    """

    name: str
    num_classes: int
    shape: tuple[int, ...]
    width: int

    def build(self, seed: int) -> nn.Module:
        """The network with fresh weights, a function of the seed."""
        if self.name == "perceptron":
            return build_seeded(self._perceptron, seed)
        if self.name == "small_convnet":
            return models.small_convnet(self.num_classes, self.width, channels=self.shape[0], seed=seed)
        large = {"vgg13": models.vgg13, "resnet18": models.resnet18}[self.name]
        return large(self.num_classes, channels=self.shape[0], seed=seed)

    def _perceptron(self) -> nn.Module:
        hidden = nn.Linear(math.prod(self.shape), self.width)
        flat = [nn.Flatten()] if len(self.shape) > 1 else []
        return nn.Sequential(*flat, hidden, nn.ReLU(), nn.Linear(self.width, self.num_classes))

    def build_with_state(self, state: Mapping[str, Tensor]) -> nn.Module:
        """The network with these weights and statistics, in evaluation mode."""
        model = self.build(0)
        model.load_state_dict(dict(state))
        return model.eval()


def choose_architecture(network: str, width: int, num_classes: int, shape: tuple[int, ...]) -> Architecture:
    """What suits the inputs: `network` for images, the perceptron for everything else."""
    return Architecture(network if len(shape) == 3 else "perceptron", num_classes, shape, width)
