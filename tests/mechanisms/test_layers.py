"""Which layers linear CKA compares by default, which it names and leaves out."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.core import isolate_rng
from mechconn.mechanisms import NoLayersError, check_layers
from zoo import CLASSES, FEATURES, Batch, build, mlp, rows

with isolate_rng(0, "import"):
    import transformers

hf: Any = transformers
STEPS, WIDTH = 5, 6
ONCE = "ran 0 times in one forward pass"


def cka(factory: Callable[[], nn.Module], data: Any, **settings: Any) -> mc.RepresentationSimilarity:
    return mc.representation_similarity(build(factory, 0).eval(), build(factory, 1).eval(), data, **settings)


def sequences(count: int = 12) -> Batch:
    x, y = rows(count * STEPS)
    return x.view(count, STEPS, FEATURES), y[:count]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(FEATURES, WIDTH)
        self.block = nn.TransformerEncoder(nn.TransformerEncoderLayer(WIDTH, 2, 8, batch_first=True), 1)
        self.attend = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.head, self.unused = nn.Linear(WIDTH, CLASSES), nn.LSTM(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(self.embed(x))
        return self.head(self.attend(x, x, x)[0].mean(1))


class Recurrent(nn.Module):
    """Both directions, projections, time first, and a cell that runs once for each step."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, WIDTH, batch_first=True, bidirectional=True)
        self.gru, self.cell = nn.GRU(2 * WIDTH, WIDTH), nn.RNNCell(WIDTH, 5)
        self.head = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for step in self.gru(self.lstm(x)[0].transpose(0, 1))[0]:
            state = self.cell(step, state)
        return self.head(state)


class Auxiliary(nn.Module):
    """A head that serves training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.aux = nn.Linear(FEATURES, 8), nn.Linear(8, CLASSES), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Any:
        z = self.body(x).relu()
        return (self.head(z), self.aux(z)) if self.training else self.head(z)


class Repeated(nn.Module):
    """One block several times."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.head = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.block(x).relu()))


class Sometimes(nn.Module):
    """A layer that large inputs alone go through."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.rare = nn.Linear(FEATURES, CLASSES), nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + (self.rare(x) if bool((x > 10).any()) else 0.0)


LEFT_OUT: dict[str, tuple[Callable[[], nn.Module], Any, list[str], dict[str, str]]] = {
    "attention": (
        Attention,
        sequences(),
        ["embed", *(f"block.layers.0.{part}" for part in ("self_attn", "linear1", "linear2")), "attend", "head"],
        {"unused": ONCE},
    ),
    "recurrent layers": (
        Recurrent,
        sequences(),
        ["lstm", "gru", "head"],
        {"cell": f"ran {STEPS} times in one forward pass"},
    ),
    "auxiliary head": (Auxiliary, rows(12), ["body", "head"], {"aux": ONCE}),
    "block that repeats": (Repeated, rows(12), ["head"], {"block": "ran 2 times in one forward pass"}),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_layers_without_one_activation_are_left_out_and_named(case: str) -> None:
    factory, data, layers, left_out = LEFT_OUT[case]
    found = cka(factory, data)
    assert list(found) == layers and all(found[layer] is not None for layer in layers)
    assert found.left_out == {name: f"model_a: {why}" for name, why in left_out.items()}
    assert found.to_dict()["left_out"] == found.left_out == json.loads(json.dumps(found.to_dict()))["left_out"]
    assert str(found).splitlines()[-1] == f"  {list(left_out)[-1]}: left out (model_a: {left_out[list(left_out)[-1]]})"
    assert found.layers == cka(factory, data, layers=layers).layers  # the others do not depend on it
    assert found == cka(factory, data, layers="all")
    for name, why in left_out.items():  # asked for by name they are refused, before and with the data
        text = rf"^layer '{name}' of model_a {why}; name layers that run once$"
        with pytest.raises(ValueError, match=text):
            cka(factory, data, layers=[name])
        with pytest.raises(ValueError, match=text):
            check_layers(build(factory), build(factory, 1), data[0][:2], [layers[0], name])
    check_layers(build(factory), build(factory, 1), data[0][:2], "all")
    check_layers(build(factory), build(factory, 1), data[0][:2], layers)


def test_recurrent_layers_with_their_units_in_another_order_are_alike() -> None:
    a, data = build(Recurrent).eval(), sequences(40)
    symmetry = mc.symmetry_of(a, data[0][:4])
    b = mc.with_parameters(a, symmetry.apply(mc.parameters_of(a), symmetry.random(1)))
    found = mc.representation_similarity(a, b, data)
    assert list(found) == ["lstm", "gru", "head"]
    assert [found[layer] for layer in found] == pytest.approx([1.0] * 3)
    other = mc.representation_similarity(a, build(Recurrent, 1).eval(), data)
    assert (other["lstm"] or 0.0) < 0.99


def test_a_layer_that_runs_on_some_batches_only() -> None:
    (x, y), large = rows(8), rows(8)[0] + 100.0
    for batches in ([(x, y), (large, y)], [(large, y), (x, y)]):
        found = cka(Sometimes, batches)
        assert (list(found), dict(found.left_out)) == (["body"], {"rare": f"model_a: {ONCE}"})
    assert list(cka(Sometimes, (large, y))) == ["body", "rare"]
    with pytest.raises(ValueError, match=r"^layer 'rare' of model_a ran 0 times"):
        cka(Sometimes, [(large, y), (x, y)], layers=["rare"])


def test_layers_that_one_model_lacks() -> None:
    a, b = build(lambda: nn.Sequential(nn.Linear(FEATURES, 5), nn.Tanh(), nn.Linear(5, 5), nn.Linear(5, 3))), build(mlp)
    assert dict(mc.representation_similarity(a, b, rows(12)).left_out) == {"3": "model_b: has no such layer"}
    assert dict(mc.representation_similarity(b, a, rows(12)).left_out) == {"3": "model_a: has no such layer"}


def test_one_model_may_use_a_layer_that_the_other_does_not() -> None:
    found = mc.representation_similarity(build(Auxiliary), build(Heads), rows(12))
    assert (list(found), dict(found.left_out)) == (["body", "head"], {"aux": f"model_a: {ONCE}"})
    found = mc.representation_similarity(build(Heads), build(Auxiliary), rows(12))
    assert (list(found), dict(found.left_out)) == (["body", "head"], {"aux": f"model_b: {ONCE}"})


class Heads(Auxiliary):
    def forward(self, x: Tensor) -> Any:
        z = self.body(x)
        return self.head(z) + self.aux(z)


def test_where_no_layer_is_left_python_says_so_in_one_line() -> None:
    with pytest.raises(NoLayersError) as caught:
        cka(lambda: nn.Flatten(), rows(6))
    assert str(caught.value) == (
        "the models have no layers to compare; name layers that run once in a forward pass, layers=[...]"
    )

    class Alone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attend = nn.Linear(FEATURES, FEATURES)

        def forward(self, x: Tensor) -> Tensor:
            return self.attend(self.attend(x)).mean(1)

    for act in (lambda: cka(Alone, sequences()), lambda: check_layers(build(Alone), build(Alone, 1), sequences()[0])):
        with pytest.raises(NoLayersError) as caught:
            act()
        assert str(caught.value) == (
            "none of the models' layers can be compared (attend: model_a: ran 2 times in one forward pass); "
            "name layers that run once in a forward pass, layers=[...]"
        )
    assert cka(Alone, sequences(), layers=[""])[""] is not None  # the remedy
    with pytest.raises(ValueError, match=r"^layers names no layer; name some, or leave it out for all layers$"):
        cka(mlp, rows(6), layers=[])
    with pytest.raises(TypeError, match=r"^layers must be a list of names, got the text '0'; write layers=\['0'\]$"):
        cka(mlp, rows(6), layers="0")


# ---------------------------------------------------------------- in an audit


@pytest.mark.parametrize("case", LEFT_OUT)
def test_an_audit_of_all_layers_names_those_left_out(case: str) -> None:
    factory, (x, y), layers, left_out = LEFT_OUT[case]
    suite = mc.Suite({"cue": (x, y), "moved": (x.flip(0), y)})
    a, b = build(factory).eval(), build(factory, 1).eval()
    found = mc.audit(a, b, suite, ts=3, alignment="none", layers="all")
    assert found.similarity is not None and list(found.similarity) == layers
    record = json.loads(found.to_json())
    similarity = record["similarity"]
    assert similarity["left_out"] == found.similarity.left_out and list(similarity["layers"]) == layers
    name, why = next(iter(left_out.items()))
    assert any(f"Left out: {name} (model_a: {why})" in sentence for sentence in found.findings)


def test_an_audit_refuses_layers_by_name_before_its_work_and_notes_where_none_is_left() -> None:
    (x, y), told = rows(12), []
    suite = mc.Suite({"cue": (x, y), "moved": (x.flip(0), y)})
    a, b = build(Auxiliary).eval(), build(Auxiliary, 1).eval()
    with pytest.raises(ValueError, match=rf"^layer 'aux' of model_a {ONCE}; name layers that run once$"):
        mc.audit(a, b, suite, ts=3, layers=["body", "aux"], progress=told.append)
    with pytest.raises(ValueError, match="layer must be one of '', 'body', 'head', 'aux', got 'bodi'; did you mean"):
        mc.audit(a, b, suite, ts=3, layers=["bodi"], progress=told.append)
    assert told == []
    bare = nn.Flatten(), nn.Flatten()
    found = mc.audit(*bare, suite, ts=3, alignment="none", layers="all")
    assert found.similarity is None and found.to_dict()["similarity"] is None
    assert found.notes[-1].startswith("No linear CKA: the models have no layers to compare; name layers that run once")


# ---------------------------------------------------------------- models of transformers

TEXT: dict[str, Any] = {
    "vocab_size": 30, "max_position_embeddings": 20, "hidden_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 20, "num_labels": 3,
}  # fmt: skip
GPT2: dict[str, Any] = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 20, "vocab_size": 30, "num_labels": 3}
TOKENS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
MODELS: dict[str, tuple[Callable[[], nn.Module], int, str, str]] = {
    "bert": (lambda: hf.BertForSequenceClassification(hf.BertConfig(**TEXT)), 14, "classifier", ""),
    "albert, its block shared": (
        lambda: hf.AlbertForSequenceClassification(hf.AlbertConfig(embedding_size=8, **TEXT, **TOKENS)),
        3, "albert.pooler", "ran 2 times in one forward pass",
    ),
    "gpt2, of Conv1D": (
        lambda: hf.GPT2ForSequenceClassification(hf.GPT2Config(**GPT2, **TOKENS)), 5, "transformer.h.0.attn.c_attn", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MODELS)
def test_models_of_transformers(case: str) -> None:
    factory, count, layer, why = MODELS[case]
    ids = torch.randint(1, 30, (9, 7), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(7) < torch.tensor([7] * 5 + [5] * 4)[:, None]).long()
    ids = ids * mask  # GPT-2 finds a text's end by the id of its pad token, here 0
    batches = [
        ({"input_ids": ids[part], "attention_mask": mask[part]}, torch.arange(9)[part] % 3)
        for part in (slice(5), slice(5, 9))
    ]
    found = cka(factory, batches)
    assert (len(found), found.samples) == (count, 9) and found[layer] is not None
    assert set(found.left_out.values()) == ({f"model_a: {why}"} if why else set())
