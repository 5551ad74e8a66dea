"""Signs and scales where a view is read part by part, and no rule covers a part: what was viewed must stay."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import mechconn as mc
from symmetry.check import built, largest_change, largest_change_under, list_actions_alone


class HeadsInGroups(nn.Module):
    """Linear attention plus convolutions of the values, one for the first head and one for the others (CoaT).

    The heads stay in their order, as the convolutions divide them; so queries, keys and values are parts of a view
    whose heads are single places.
    """

    def __init__(self, heads: int = 4, size: int = 2, soft: bool = False) -> None:
        super().__init__()
        self.heads, self.size, self.soft, width = heads, size, soft, heads * size
        self.first, self.qkv, self.last = nn.Linear(5, width), nn.Linear(width, 3 * width), nn.Linear(width, 3)
        self.sizes = [size, width - size]
        self.convs = nn.ModuleList(nn.Conv1d(n, n, 3, padding=1, groups=n) for n in self.sizes)

    def forward(self, x: Tensor) -> Tensor:
        rows, length, _ = x.shape
        q, k, v = (
            self.qkv(self.first(x)).reshape(rows, length, 3, self.heads, self.size).permute(2, 0, 3, 1, 4).unbind(0)
        )
        k = k.softmax(2) if self.soft else k
        channels = v.transpose(-1, -2).reshape(rows, self.heads * self.size, length).split(self.sizes, 1)
        convolved = torch.cat([conv(part) for conv, part in zip(self.convs, channels, strict=True)], 1)
        near = q * convolved.reshape(rows, self.heads, self.size, length).transpose(-1, -2)
        mixed = q @ (k.transpose(-1, -2) @ v) + near
        return self.last(mixed.transpose(1, 2).reshape(rows, length, self.heads * self.size))


X = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(3))


def test_no_wrong_sign_or_scale_of_what_is_read_through_an_ungraded_part() -> None:
    for soft in (False, True):
        model = built(lambda soft=soft: HeadsInGroups(soft=soft))
        symmetry = mc.symmetry_of(model, X)
        symmetry.verify(model)
        assert largest_change(model, X, symmetry) < 1e-12
        assert largest_change_under(model, X, symmetry, list_actions_alone(symmetry)) < 1e-12
        assert 2 in symmetry.sizes.values()  # the dimensions within a head, which all heads share


def test_a_key_under_a_softmax_has_no_sign_and_no_scale() -> None:
    """Negative control: flipping a key, or doubling it, changes the function."""
    model = built(lambda: HeadsInGroups(soft=True)).double()
    x, before = X.double(), {name: t.clone() for name, t in model.state_dict().items()}
    expected = model(x)
    for factor in (-1.0, 2.0):
        state = {name: t.clone() for name, t in before.items()}
        for name in ("qkv.weight", "qkv.bias"):
            state[name][8:10] *= factor  # the first head's key
        model.load_state_dict(state)
        assert not torch.allclose(model(x), expected)
    symmetry = mc.symmetry_of(model, x)
    keys = [m for a in symmetry.actions for m in a.members if m.tensor == "qkv.weight" and a.kind != "linear"]
    assert keys == []
