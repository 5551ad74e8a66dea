"""Small networks whose symmetries are of every kind, to be aligned."""

from __future__ import annotations

from torch import Tensor, nn

from zoo import CLASSES, FEATURES


def of_all_kinds() -> nn.Module:
    """Permutations everywhere, scales behind ReLU, signs around tanh, and linear maps between the last two layers."""
    layers = (nn.Linear(FEATURES, 6), nn.ReLU(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3), nn.Linear(3, CLASSES))
    return nn.Sequential(*layers)


class Attending(nn.Module):
    """Two heads in a residual stream that RMSNorm without gains reads, so that rotations of the stream are free."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.qkv, self.out = nn.Linear(2, 6), nn.Linear(6, 18), nn.Linear(6, 6)
        self.norm, self.head = nn.RMSNorm(6, elementwise_affine=False, eps=1e-5), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.unflatten(-1, (2, 2)))
        q, k, v = (part.unflatten(-1, (2, 3)).transpose(1, 2) for part in self.qkv(self.norm(x)).chunk(3, -1))
        x = x + self.out(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return self.head(self.norm(x).mean(1))
