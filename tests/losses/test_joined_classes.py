"""Classes that join outputs: HANS's two labels scored from the three outputs of MNLI."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.core import isolate_rng
from mechconn.datasets import TokenSet
from mechconn.losses import JoinedClasses, read_loss

HANS = JoinedClasses(parts=((0,), (1, 2)))
Z = torch.randn(60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.arange(60) % 2


def test_the_probability_of_a_class_is_the_sum_over_its_outputs() -> None:
    p = Z.softmax(1)
    expected = -torch.where(Y == 0, p[:, 0], p[:, 1] + p[:, 2]).log()
    torch.testing.assert_close(HANS(Z, Y), expected)
    swapped = JoinedClasses(parts=((2, 1), (0,)))
    torch.testing.assert_close(swapped(Z, 1 - Y), expected)
    each = JoinedClasses(parts=((0,), (1,), (2,)))
    torch.testing.assert_close(each(Z, Y), mc.losses.cross_entropy(Z, Y))


def test_a_prediction_is_the_class_of_the_largest_output_or_of_the_largest_sum() -> None:
    """By HANS's script evaluate_heur_output.py every prediction but entailment is non-entailment."""
    found = HANS.classify(Z, Y)
    assert found is not None and found.classes == 2
    assert found.predicted.tolist() == [0 if largest == 0 else 1 for largest in Z.argmax(1).tolist()]
    summed = JoinedClasses(((0,), (1, 2)), decide="sum").classify(Z, Y)
    assert summed is not None
    assert summed.predicted.tolist() == (Z.softmax(1)[:, 0] < 0.5).long().tolist() != found.predicted.tolist()
    lost = HANS.classify(Z.index_fill(0, torch.tensor([3]), float("nan")), Y)
    assert lost is not None and lost.predicted[3] == -1


def test_it_is_named_in_files() -> None:
    plain = HANS.describe()
    assert plain == {"name": "joined_classes", "parts": [[0], [1, 2]]}
    assert read_loss(plain) == HANS
    assert read_loss({"name": "joined_classes", "parts": [[0], [1, 2]]}) == HANS


def test_what_does_not_fit_is_said() -> None:
    for parts, kind, text in (
        (
            ((0, 1, 2),),
            ValueError,
            "parts must be two classes or more that share out the outputs 0 ... K - 1, each once",
        ),
        (((0,), (1, 1)), ValueError, "each once, got ((0,), (1, 1))"),
        (((0,), (2,)), ValueError, "each once, got ((0,), (2,))"),
        (((0, 1), ()), ValueError, "each once, got ((0, 1), ())"),
        ((0, 1), TypeError, "parts must be a list of the outputs of each class, as ((0,), (1, 2)), got (0, 1)"),
        (((0,), ("b",)), TypeError, "an output in parts must be a whole number, got 'b'"),
    ):
        with pytest.raises(kind) as caught:
            JoinedClasses(parts)  # pyright: ignore[reportArgumentType]
        assert text in str(caught.value)
    with pytest.raises(ValueError, match="decide must be one of 'largest', 'sum', got 'most'"):
        JoinedClasses(((0,), (1,)), decide="most")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="parts shares out 3 outputs, but the network gives 4; name each output once"):
        HANS(torch.zeros(2, 4), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"labels must lie in 0 \.\.\. 1, .* got 0 \.\.\. 2"):
        HANS(Z, torch.arange(60) % 3)
    with pytest.raises(ValueError, match="a loss over joined classes takes"):
        HANS(Z[:, 0], Y)


# ---------------------------------------------------------------- in the verbs


class Nli(nn.Module):
    """A classifier of MNLI as Transformers has them: three outputs with names; which is largest for the ids 0 to 3."""

    def __init__(
        self,
        names: tuple[str, ...] = ("entailment", "neutral", "contradiction"),
        largest: tuple[int, ...] = (0, 1, 2, 0),
    ) -> None:
        super().__init__()
        self.config = SimpleNamespace(id2label=dict(enumerate(names)), label2id={})
        with isolate_rng(0, "test model"):
            self.head = nn.Linear(4, 3)
        with torch.no_grad():
            self.head.weight.copy_(3.0 * nn.functional.one_hot(torch.tensor(largest), 3).T)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.head(nn.functional.one_hot(input_ids[:, 0], 4).float() + 0 * attention_mask[:, :1])


def hans(shift: int = 0, classes: tuple[str, ...] = ("entailment", "non-entailment")) -> TokenSet:
    ids = ((torch.arange(80) + shift) % 4)[:, None].repeat(1, 2)
    return TokenSet(ids, torch.ones_like(ids), y=(torch.arange(80) % 4 > 0).long(), classes=classes)


SUITE = mc.Suite({"cue": hans(), "moved": hans(1)}, reference="cue")


def expect(model: Nli, data: TokenSet) -> float:
    predicted = model(data.input_ids, data.attention_mask).argmax(1) != 0
    return float((predicted.long() == data.y).double().mean())


def test_verbs_score_two_labels_from_three_outputs() -> None:
    a, b = Nli().eval(), Nli(largest=(0, 1, 2, 1)).eval()
    expected = {"cue": 0.75, "moved": 0.25}  # all but the id 3; moved by one, only the id 2
    assert {name: expect(a, hans(k)) for k, name in enumerate(SUITE)} == expected
    assert mc.measure_invariance(a, SUITE, loss=HANS).accuracy == expected
    groups = mc.measure_groups(a, hans(), {"y": hans().y}, loss=HANS)
    assert groups.mean == expected["cue"] and list(groups) == ["y=0", "y=1"]
    overlapping = mc.measure_groups(a, hans(), {"late": torch.arange(80) // 40}, overlapping=True, loss=HANS)
    assert list(overlapping) == ["late=1, y=0", "late=1, y=1"]
    compared = mc.compare_mechanisms(a, b, SUITE, loss=HANS)
    assert compared.a.accuracy == expected
    audited = mc.audit(a, b, SUITE, loss=HANS, ts=3, alignment="none")
    assert audited.comparison.a.accuracy == expected
    assert audited.settings["loss"] == {"name": "joined_classes", "parts": [[0], [1, 2]]}


def test_names_of_outputs_are_held_against_the_classes_that_join_them() -> None:
    other_order = Nli(("contradiction", "neutral", "entailment")).eval()
    with pytest.raises(ValueError) as caught:
        mc.measure_invariance(other_order, SUITE, loss=HANS)
    assert str(caught.value) == (
        "class 0 of split 'cue' is 'entailment', but the loss joins the outputs 'contradiction' of the model to it; "
        "give its parts in the order of the data's classes ('entailment', 'non-entailment')"
    )
    fitting = JoinedClasses(parts=((2,), (0, 1)))
    assert mc.measure_invariance(other_order, SUITE, loss=fitting).accuracy.keys() == {"cue", "moved"}
    wrong = mc.Suite({"cue": hans(classes=("non-entailment", "entailment"))}, reference="cue")
    with pytest.raises(
        ValueError, match="class 0 of split 'cue' is 'non-entailment', but the loss joins the outputs 'e"
    ):
        mc.measure_invariance(Nli().eval(), wrong, loss=HANS)
    with pytest.raises(ValueError, match="name different classes"):
        mc.measure_invariance(Nli().eval(), SUITE)
