"""Adapters side by side: the merged adapter is the mean of the networks with their adapters merged in."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.core import isolate_rng
from text_folders import make_decoder
from zoo import build

peft = pytest.importorskip("peft")

pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning"),  # PEFT's use of Transformers
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning"),
    pytest.mark.filterwarnings("ignore:LoRA adapter added to ConvNd layer with groups:UserWarning"),
    pytest.mark.filterwarnings("ignore:Adapter 'default'. 2 LoRA tensor:UserWarning"),  # a bias has one axis
]


def small() -> nn.Module:
    return build(lambda: nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2)), 7)


def conv() -> nn.Module:
    return build(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)), 7)


def adapt(base: nn.Module, seed: int, **settings: Any) -> Any:
    """An adapter whose factors are drawn, on a copy of the base."""
    with isolate_rng(seed, "adapter"), torch.no_grad():
        model = peft.get_peft_model(copy.deepcopy(base), peft.LoraConfig(**settings))
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.5)
    return model.eval()


def unload(model: Any) -> dict[str, Tensor]:
    """The weights that a network computes with, by PEFT's own merging."""
    return {n: t.detach() for n, t in copy.deepcopy(model).merge_and_unload().state_dict().items()}


def load(base: nn.Module, folder: Path) -> Any:
    with isolate_rng(0, "adapter"):
        return peft.PeftModel.from_pretrained(copy.deepcopy(base), str(folder)).eval()


LINEAR: dict[str, Any] = {"r": 2, "lora_alpha": 6, "target_modules": ["0", "2"]}
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[dict[str, Any], ...]]] = {
    "plain": (small, (LINEAR, LINEAR, LINEAR)),
    "other ranks and scales": (small, (LINEAR, {**LINEAR, "r": 3, "lora_alpha": 5})),
    "rsLoRA": (small, ({**LINEAR, "use_rslora": True, "r": 4}, LINEAR)),
    "ranks and scales by layer": (small, ({**LINEAR, "rank_pattern": {"2": 5}, "alpha_pattern": {"0": 1}}, LINEAR)),
    "other layers": (small, ({**LINEAR, "target_modules": ["0"]}, {**LINEAR, "target_modules": ["2"]})),
    "a head held whole": (small, ({**LINEAR, "modules_to_save": ["4"]}, {**LINEAR, "modules_to_save": ["4"]})),
    "biases": (small, ({**LINEAR, "bias": "lora_only"}, {**LINEAR, "bias": "lora_only"})),
    "a bias of B": (small, ({**LINEAR, "lora_bias": True}, {**LINEAR, "lora_bias": True, "r": 1})),
    "convolutions": (conv, ({"r": 2, "target_modules": ["0", "3"]}, {"r": 3, "target_modules": ["0"]})),
    "gpt2": (
        lambda: make_decoder("gpt2").double(),
        ({"r": 2, "target_modules": ["c_attn", "wte"]}, {"r": 3, "target_modules": ["c_attn", "c_fc"]}),
    ),
    "llama": (
        lambda: make_decoder("llama").double(),
        ({"r": 2, "target_modules": "all-linear"}, {"r": 4, "target_modules": "all-linear"}),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_merged_adapter_is_the_mean_of_the_merged_networks(case: str, tmp_path: Path) -> None:
    factory, settings = CASES[case]
    base = factory()
    models = {f"m{n}": adapt(base, n, **given) for n, given in enumerate(settings)}
    for name, model in models.items():
        model.save_pretrained(tmp_path / name, save_embedding_layers=False)
    weights = {name: float(n + 1) for n, name in enumerate(models)}
    folders = {name: tmp_path / name for name in models}
    found = mc.concatenate_adapters(folders, mc.Mean(weights), tmp_path / "out")
    shares = [weight / sum(weights.values()) for weight in weights.values()]
    states = [unload(model) for model in models.values()]
    merged = unload(load(base, tmp_path / "out"))
    for name, tensor in merged.items():
        if not tensor.is_floating_point():
            continue
        wanted = sum(share * state[name].double() for share, state in zip(shares, states, strict=True))
        assert isinstance(wanted, Tensor)
        # PEFT keeps factors in float32 and multiplies them there
        torch.testing.assert_close(tensor.double(), wanted, rtol=1e-5, atol=2e-6)
    for layer, rank in found.ranks.items():
        parts = [
            m.get_submodule(layer).r.get("default", 0) for m in models.values() if hasattr(m.get_submodule(layer), "r")
        ]
        assert rank == sum(parts)
    assert found.parent_ranks.keys() == models.keys()
    again = mc.concatenate_adapters(models, mc.Mean(weights), tmp_path / "again")
    assert again.ranks == found.ranks
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


def test_its_rank_is_said(tmp_path: Path) -> None:
    base = small()
    for name, rank in {"a": 2, "b": 3}.items():
        adapt(base, rank, **LINEAR | {"r": rank}).save_pretrained(tmp_path / name)
    found = mc.concatenate_adapters({"a": tmp_path / "a", "b": tmp_path / "b"}, mc.Mean(), tmp_path / "out")
    assert found.rank == 5 and str(found) == f"{tmp_path / 'out'}: an adapter of rank 5 = 2 (a) + 3 (b)"
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["rank_pattern"]) == (5, 5, {})
    left_out = mc.Mean({"a": 1.0, "b": 0.0})
    only = mc.concatenate_adapters({"a": tmp_path / "a", "b": tmp_path / "b"}, left_out, tmp_path / "only")
    assert only.rank == 2 and str(only).endswith("an adapter of rank 2 = 2 (a)")


def test_task_arithmetic_adds_and_subtracts_updates(tmp_path: Path) -> None:
    base = small()
    a, b = adapt(base, 1, **LINEAR), adapt(base, 2, **LINEAR)
    method = mc.TaskArithmetic(scale=0.5, weights={"a": 1.0, "b": -2.0})
    mc.concatenate_adapters({"a": a, "b": b}, method, tmp_path / "out")
    merged, own, other, start = unload(load(base, tmp_path / "out")), unload(a), unload(b), base.state_dict()
    for name, tensor in merged.items():
        wanted = start[name] + 0.5 * (own[name] - start[name]) - (other[name] - start[name])
        torch.testing.assert_close(tensor, wanted, rtol=1e-5, atol=2e-6)


def test_the_networks_stay_as_they_are(tmp_path: Path) -> None:
    a, b = (adapt(small(), seed, **LINEAR) for seed in (1, 2))
    held = [{name: tensor.clone() for name, tensor in model.state_dict().items()} for model in (a, b)]
    configs = [copy.deepcopy(model.peft_config) for model in (a, b)]
    a.train()
    mc.concatenate_adapters({"a": a, "b": b}, mc.Mean(), tmp_path / "out")
    for model, own, config in zip((a, b), held, configs, strict=True):
        assert all(torch.equal(tensor, own[name]) for name, tensor in model.state_dict().items())
        assert model.peft_config == config
    assert a.training and not b.training


def test_it_is_the_adapter_that_a_soup_gives(tmp_path: Path) -> None:
    base = small().float()
    a, b = adapt(base, 1, **LINEAR), adapt(base, 2, **LINEAR)
    mc.concatenate_adapters({"a": a, "b": b}, mc.Mean(), tmp_path / "out")
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(load(base, tmp_path / "out")(x), mc.soup([a, b])(x), rtol=1e-5, atol=1e-5)


def test_our_own_reader_takes_it(tmp_path: Path) -> None:
    base = small()
    a, b = adapt(base, 1, **LINEAR), adapt(base, 2, **LINEAR | {"target_modules": ["0"]})
    mc.concatenate_adapters({"a": a, "b": b}, mc.Mean(), tmp_path / "out")
    model = mc.load_model(tmp_path / "out", base=copy.deepcopy(base), note=lambda text: None)
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model(x), load(base, tmp_path / "out")(x))


def test_half_precision_is_rounded_once(tmp_path: Path) -> None:
    base = small().bfloat16()
    models = {name: adapt(base, seed, **LINEAR).bfloat16() for seed, name in enumerate("ab")}
    mc.concatenate_adapters(models, mc.Mean({"a": 1.0, "b": 2.0}), tmp_path / "out")
    from safetensors.torch import load_file

    found = load_file(tmp_path / "out" / "adapter_model.safetensors")
    own = [model.get_submodule("base_model.model.0") for model in models.values()]
    left = torch.cat(
        [m.lora_B["default"].weight.float() * 3.0 * w for m, w in zip(own, (1 / 3, 2 / 3), strict=True)], 1
    )
    assert torch.equal(found["base_model.model.0.lora_B.weight"], left.detach().bfloat16())


def test_other_bases_are_noted(tmp_path: Path) -> None:
    base = small()
    for seed, name in enumerate("ab"):
        adapt(base, seed, **LINEAR).save_pretrained(tmp_path / name)
        config = tmp_path / name / "adapter_config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": f"base-{name}"}))
    found = mc.concatenate_adapters({n: tmp_path / n for n in "ab"}, mc.Mean(), tmp_path / "out")
    assert found.notes == ("the adapters name other bases (a: base-a, b: base-b); the first is kept",)


def test_what_cannot_be_concatenated(tmp_path: Path) -> None:
    base = small().float()
    plain = adapt(base, 1, **LINEAR)
    for settings, text in (
        ({"use_dora": True}, "adapter 'b' has use_dora: its updates are not s B A over its base; merge it into its"),
        ({"init_lora_weights": "pissa"}, "adapter 'b' has init_lora_weights='pissa', which changes the base's weights"),
        (
            {"bias": "all"},
            "the adapters 'a' and 'b' have bias 'none' and 'all'; merge adapters of one base and one task",
        ),
        ({"modules_to_save": ["4"]}, r"the adapters 'a' and 'b' have modules_to_save None and \['4'\]"),
    ):
        other = adapt(base, 2, **LINEAR | settings)
        with pytest.raises(ValueError, match=text) as raised:
            mc.concatenate_adapters({"a": plain, "b": other}, mc.Mean(), tmp_path / "out")
        assert "\n" not in str(raised.value) and not (tmp_path / "out").exists()
    heads = {name: adapt(base, seed, **LINEAR | {"modules_to_save": ["4"]}) for seed, name in enumerate("ab")}
    with pytest.raises(
        ValueError, match="whole, and what that changed of the base is not known here; merge them by Mean"
    ):
        mc.concatenate_adapters(heads, mc.TaskArithmetic(), tmp_path / "out")
    wide = build(lambda: nn.Sequential(nn.Linear(7, 16), nn.ReLU(), nn.Linear(16, 8)), 1)
    with pytest.raises(ValueError, match="the adapters a, b have other shapes in 0; merge adapters of one base"):
        mc.concatenate_adapters({"a": plain, "b": adapt(wide, 2, **LINEAR)}, mc.Mean(), tmp_path / "out")
    grouped = build(lambda: nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Flatten()), 1)
    twins = {name: adapt(grouped, seed, r=2, target_modules=["0"]) for seed, name in enumerate("ab")}
    with pytest.raises(ValueError, match="the factors of 0 are no product B A"):
        mc.concatenate_adapters(twins, mc.Mean(), tmp_path / "out")


def test_wrong_input(tmp_path: Path) -> None:
    base = small()
    a, b = adapt(base, 1, **LINEAR), adapt(base, 2, **LINEAR)
    both = {"a": a, "b": b}
    with pytest.raises(ValueError, match="a merge needs two models or more, got 1"):
        mc.concatenate_adapters({"a": a}, mc.Mean(), tmp_path / "out")
    with pytest.raises(
        ValueError, match=r"TIES treats entries of updates one by one.*pass Mean\(\) or TaskArithmetic\(\)"
    ):
        mc.concatenate_adapters(both, mc.TIES(), tmp_path / "out")
    with pytest.raises(ValueError, match="the parents and the names in weights do not match: missing b; unexpected c"):
        mc.concatenate_adapters(both, mc.Mean({"a": 1.0, "c": 1.0}), tmp_path / "out")
    with pytest.raises(
        TypeError, match=r"adapter 'b' must be a folder that PEFT saved, or a network of peft.*Sequential"
    ):
        mc.concatenate_adapters({"a": a, "b": base}, mc.Mean(), tmp_path / "out")
    with pytest.raises(FileNotFoundError, match=r"adapter 'b': .*none holds no adapter_config.json; pass the folder"):
        mc.concatenate_adapters({"a": a, "b": tmp_path / "none"}, mc.Mean(), tmp_path / "out")
    (tmp_path / "there").mkdir()
    with pytest.raises(FileExistsError, match="there is there already; name a folder that is not"):
        mc.concatenate_adapters(both, mc.Mean(), tmp_path / "there")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "there"]
