"""Tables of a model's outputs: what is read, what is refused, and that what is written is read again."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from zoo import build, mlp, rows


def table(file: Path, *lines: str) -> Path:
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def write_parquet(file: Path, **columns: list[object]) -> Path:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table(columns), file)
    return file


def load_one(file: Path, **how: object) -> mc.ModelOutputs:
    return mc.load_outputs({"cue": file}, **how)  # pyright: ignore[reportArgumentType]


# ---------------------------------------------------------------- which columns

READ = {
    "numbered": (["label,logit_0,logit_1", "1,0.5,2", "0,1,-1e3"], {}, [[0.5, 2.0], [1.0, -1000.0]], [1, 0]),
    "numbered, in another order": (["b_1,label,b_0", "1,0,2", "3,1,4"], {}, [[2.0, 1.0], [4.0, 3.0]], [0, 1]),
    "more than ten": (
        ["label," + ",".join(f"o_{k}" for k in (10, *range(10))), "0," + ",".join(map(str, (10, *range(10))))],
        {},
        [[float(k) for k in range(11)]],
        [0],
    ),
    "bare numbers": (["id,0,1,label", "a,1,2,0"], {}, [[1.0, 2.0]], [0]),
    "names of classes": (["file,neg,pos,label", "a,1,2,pos", "b,3,4,neg"], {}, [[1.0, 2.0], [3.0, 4.0]], [1, 0]),
    "names and numbers of classes": (["id,neg,pos,label", "7,1,2,1"], {}, [[1.0, 2.0]], [1]),
    "one output": (["label,logit", "1,0.5", "0,-1"], {}, [0.5, -1.0], [1, 0]),
    "one numbered output": (["label,logit_0", "1,0.5", "0,-1"], {}, [[0.5], [-1.0]], [1, 0]),
    "named": (["y,a,b,c", "1,2,3,4"], {"label": "y", "outputs": ["c", "a"]}, [[4.0, 2.0]], [1]),
    "ids are no outputs": (["id,image_id,row,a,b,label", "1,2,3,4,5,0"], {}, [[4.0, 5.0]], [0]),
    "infinities": (["label,z_0,z_1", "0,-inf,inf"], {}, [[-torch.inf, torch.inf]], [0]),
    "classes in floating point": (["label,z_0,z_1", "1.0,2,3", "0.0,2,3"], {}, [[2.0, 3.0], [2.0, 3.0]], [1, 0]),
    "left out": (["label,z_0,z_1", "-100,2,3"], {}, [[2.0, 3.0]], [-100]),
    "a regression": (["label,y", "0.5,2", "1,3"], {}, [2.0, 3.0], [0.5, 1.0]),
}


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("case", READ)
def test_columns_are_found(case: str, suffix: str, tmp_path: Path) -> None:
    lines, how, outputs, labels = READ[case]
    given = load_one(
        table(tmp_path / f"t{suffix}", *(x.replace(",", "\t" if suffix == ".tsv" else ",") for x in lines)), **how
    )
    assert given.outputs["cue"].tolist() == outputs
    assert given.outputs["cue"].dtype == torch.float32
    assert given.suite["cue"].y.tolist() == labels  # pyright: ignore[reportAttributeAccessIssue]


def test_parquet_is_read_by_type(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "t.parquet", label=["b", "a"], a=[0.1, 2.0], b=[1, 2], id=["x", "y"])
    given = load_one(file)
    assert given.outputs["cue"].dtype == torch.float64  # 0.1 is not exact in float32
    assert given.outputs["cue"].tolist() == [[0.1, 1.0], [2.0, 2.0]]
    assert given.suite["cue"].y.tolist() == [1, 0]  # pyright: ignore[reportAttributeAccessIssue]


def test_splits_and_draws_make_a_suite(tmp_path: Path) -> None:
    head = "label,z_0,z_1"
    files = {name: table(tmp_path / f"{name}.csv", head, "0,1,2", "1,3,4") for name in ("clean", "hue", "hue2", "x")}
    given = mc.load_outputs(
        {"clean": files["clean"], "hue": [files["hue"], str(files["hue2"])], "x": files["x"]},
        reference="clean",
        interventions=("hue",),
        paired=True,
    )
    assert repr(given) == "ModelOutputs(clean: 2 x 2, hue: 2 x 2 in 2 draws, x: 2 x 2)"
    assert (given.suite.reference, given.suite.interventions, given.suite.paired) == ("clean", ("hue",), True)
    assert [len(given.suite.draws_of(name)) for name in given.suite] == [1, 2, 1]
    assert len(given.draws["hue"]) == 2


def test_columns_are_matched_by_name_over_files(tmp_path: Path) -> None:
    first = table(tmp_path / "a.csv", "label,neg,pos", "neg,1,2")
    second = table(tmp_path / "b.csv", "pos,neg,label", "2,1,neg")
    given = mc.load_outputs({"cue": first, "x": second})
    assert torch.equal(given.outputs["cue"], given.outputs["x"])


def test_ids_tell_which_rows_correspond(tmp_path: Path) -> None:
    first = table(tmp_path / "a.csv", "id,label,z_0,z_1", "p,0,1,2", "q,1,3,4")
    same = table(tmp_path / "b.csv", "id,label,z_0,z_1", "p,0,1,2", "q,1,3,4")
    other = table(tmp_path / "c.csv", "id,label,z_0,z_1", "q,0,1,2", "p,1,3,4")
    suite = mc.load_outputs({"cue": first, "same": same, "other": other}).suite
    assert (suite.rows_shared("same"), suite.rows_shared("other")) == (True, False)


# ---------------------------------------------------------------- what is refused

WRONG = {
    "no label": (["y,z_0,z_1", "0,1,2"], {}, "t.csv has no column 'label'; columns: y, z_0, z_1"),
    "an empty label": (["label,z_0,z_1", "0,1,2", ",1,2"], {}, "t.csv row 1: column 'label' is empty"),
    "a label of no class": (
        ["label,neg,pos", "neg,1,2", "odd,1,2"],
        {},
        "t.csv row 1: label 'odd' in column 'label' is no number, and no column of outputs is called so (neg, pos); ",
    ),
    "NaN": (["label,z_0,z_1", "0,1,2", "0,1,nan"], {}, "t.csv row 1: column 'z_1' holds NaN; outputs must be numbers"),
    "nothing": (["label,z_0,z_1", "0,,2"], {}, "t.csv row 0: column 'z_0' is empty"),
    "text": (["label,z_0,z_1", "0,1,2", "0,1,two"], {}, "t.csv row 1: 'two' in column 'z_1' is no number"),
    "text in a class": (["label,neg,pos", "0,1,2", "0,1,two"], {}, "t.csv row 1: 'two' in column 'pos' is no number"),
    "digits of Python": (["label,z_0,z_1", "0,1,1_0"], {}, "t.csv row 0: '1_0' in column 'z_1' is no number"),
    "two sets": (
        ["label,logit_0,logit_1,p_0,p_1", "0,1,2,3,4"],
        {},
        "t.csv: several sets of columns may be the outputs (logit_0, p_0, ...); name them in order: outputs=[...]",
    ),
    "numbers from one": (
        ["label,z_1,z_2", "0,1,2"],
        {},
        "t.csv: the columns of the outputs are not numbered from 0 without gaps (z_1, z_2); name them in order",
    ),
    "no outputs": (["label,file", "0,a"], {}, "t.csv has no column of outputs; name them in order: outputs=[...]"),
    "an unknown output": (["label,a", "0,1"], {"outputs": ["b"]}, "t.csv has no column 'b'; columns: a"),
    "a short row": (["label,z_0,z_1", "0,1"], {}, "t.csv: row 0 (line 2) has 2 fields, but the header has 3"),
    "no rows": (["label,z_0,z_1"], {}, "t.csv holds no samples"),
    "no reference": (["label,z_0", "0,1"], {"reference": "clean"}, "reference must be one of 'cue', got 'clean'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_are_named_in_one_line(case: str, tmp_path: Path) -> None:
    lines, how, said = WRONG[case]
    with pytest.raises(ValueError) as error:
        load_one(table(tmp_path / "t.csv", *lines), **how)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    head = "label,z_0,z_1"
    two = table(tmp_path / "two.csv", head, "0,1,2", "1,1,2")
    three = table(tmp_path / "three.csv", f"{head},z_2", "0,1,2,3", "1,1,2,3")
    short = table(tmp_path / "short.csv", head, "0,1,2")
    turned = table(tmp_path / "turned.csv", head, "1,1,2", "0,1,2")
    with pytest.raises(ValueError, match=r"same classes in every file: .*two.csv has 2 \(z_0, .*three.csv has 3 \(z_0"):
        mc.load_outputs({"cue": two, "x": three})
    with pytest.raises(ValueError, match=r"short.csv has 1 rows and .*two.csv has 2; a draw is of the same rows"):
        mc.load_outputs({"cue": two, "x": [two, short]})
    with pytest.raises(
        ValueError, match=r"turned.csv row 0: the label is 1, and 0 in .*two.csv; a draw is of the same"
    ):
        mc.load_outputs({"cue": two, "x": [two, turned]})
    assert len(mc.load_outputs({"cue": two, "x": short}).suite) == 2  # other splits may be of other rows


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.csv does not exist"):
        load_one(tmp_path / "absent.csv")
    with pytest.raises(ValueError, match=r"t.json must be a table of outputs, .csv, .tsv, .parquet, got .json"):
        load_one(tmp_path / "t.json")
    with pytest.raises(ValueError, match="split 'cue' has no file"):
        mc.load_outputs({"cue": []})
    with pytest.raises(TypeError, match="files must be a Mapping, got str; expected"):
        mc.load_outputs("cue.csv")  # pyright: ignore[reportArgumentType]
    pytest.importorskip("pyarrow")
    with pytest.raises(ValueError, match=r"t.parquet cannot be read as parquet"):
        load_one(table(tmp_path / "t.parquet", "no parquet"))


def test_nothing_in_parquet_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"t.parquet row 1: column 'z_1' is empty"):
        load_one(write_parquet(tmp_path / "t.parquet", label=[0, 1], z_0=[1.0, 2.0], z_1=[1.0, None]))
    with pytest.raises(ValueError, match=r"t.parquet row 0: \[1.0\] in column 'z_0' is no number"):
        load_one(write_parquet(tmp_path / "t.parquet", label=[0], z_0=[[1.0]]))


# ---------------------------------------------------------------- in the place of a model


def given(tmp_path: Path) -> mc.ModelOutputs:
    lines = "label,z_0,z_1", "0,1,2", "1,3,4"
    return mc.load_outputs({name: table(tmp_path / f"{name}.csv", *lines) for name in ("cue", "x")})


def test_the_suite_has_labels_and_no_inputs(tmp_path: Path) -> None:
    found = given(tmp_path)
    with pytest.raises(
        ValueError, match="split 'cue' stands for outputs that were given: it has labels, but no inputs"
    ):
        mc.measure_invariance(nn.Identity(), found.suite)


def test_it_can_be_copied_and_asked(tmp_path: Path) -> None:
    found = given(tmp_path)
    assert torch.equal(copy.deepcopy(found).outputs["x"], found.outputs["x"])
    assert not hasattr(found, "config")
    with pytest.raises(TypeError, match="outputs that were given have no weights"):
        found.parameters()


# ---------------------------------------------------------------- what is written


class Plain(nn.Module):
    """One output for each row, without an axis for it."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_numbers_are_written_exactly(kind: torch.dtype, suffix: str, tmp_path: Path) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    x, y = rows(40)
    x = (x * 10.0 ** torch.arange(-20, 20)[:, None]).to(kind)
    suite = mc.Suite({"cue": (x, y), "r": (x.flip(0), y)}, redraws={"r": [(x.flip(1), y)]})
    files = mc.save_outputs(nn.Identity(), suite, tmp_path / "new" / "folder", suffix=suffix)
    assert [file.name for of in files.values() for file in of] == [f"{n}{suffix}" for n in ("cue", "r", "r.draw2")]
    found = mc.load_outputs(files)
    assert {tensor.dtype for of in found.draws.values() for tensor in of} == {kind}
    for name, expected in (("cue", [x]), ("r", [x.flip(0), x.flip(1)])):
        assert all(torch.equal(a, b) for a, b in zip(found.draws[name], expected, strict=True))
        assert all(torch.equal(data.y, y) for data in found.suite.draws_of(name).values())  # pyright: ignore
    again = mc.save_outputs(found, found.suite, tmp_path / "again", suffix=suffix)
    assert [f.read_bytes() for of in again.values() for f in of] == [
        f.read_bytes() for of in files.values() for f in of
    ]


def test_one_output_keeps_its_shape(tmp_path: Path) -> None:
    x, y = rows(4)
    suite = mc.Suite({"cue": (x, (y > 0).float())})
    assert mc.load_outputs(mc.save_outputs(Plain(), suite, tmp_path)).outputs["cue"].shape == (4,)
    suite = mc.Suite({"cue": (x[:, :1], (y > 0).float())})
    found = mc.load_outputs(mc.save_outputs(nn.Identity(), suite, tmp_path))
    assert found.outputs["cue"].shape == (4, 1)
    assert found.suite["cue"].y.dtype == torch.float32  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(("paired", "ids"), [(True, True), (None, False)])
def test_ids_are_written_where_rows_correspond(paired: bool | None, ids: bool, tmp_path: Path) -> None:
    x, y = rows(4)
    files = mc.save_outputs(nn.Identity(), mc.Suite({"cue": (x, y), "r": (x, y)}, paired=paired), tmp_path)
    assert files["r"][0].read_text(encoding="utf-8").startswith("id,label,output_0" if ids else "label,output_0")
    assert mc.load_outputs(files).suite.rows_shared("r") is ids


def test_what_no_table_holds_is_refused(tmp_path: Path) -> None:
    x, y = rows(4)
    wide = mc.Suite({"cue": (torch.zeros(4, 2, 3), y)})
    with pytest.raises(ValueError, match=r"a table holds outputs \[N\] or \[N, K\] .* got outputs \[4, 2, 3\]"):
        mc.save_outputs(nn.Identity(), wide, tmp_path)
    with pytest.raises(ValueError, match=r"and one label for each row, got outputs \[4, 4\] and targets \[4, 4\]"):
        mc.save_outputs(nn.Identity(), mc.Suite({"cue": (x, x)}), tmp_path)
    with pytest.raises(ValueError, match="split 'a/b' cannot be the name of a file"):
        mc.save_outputs(nn.Identity(), mc.Suite({"a/b": (x, y)}, reference="a/b"), tmp_path)
    with pytest.raises(ValueError, match=r"suffix must be one of '.csv', '.tsv', '.parquet', got 'csv'"):
        mc.save_outputs(nn.Identity(), mc.Suite({"cue": (x, y)}), tmp_path, suffix="csv")
    assert list(tmp_path.iterdir()) == []


def test_a_model_stays_as_it_is(tmp_path: Path) -> None:
    model, (x, y) = build(mlp), rows(6)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = mc.load_outputs(mc.save_outputs(model, mc.Suite({"cue": (x, y)}), tmp_path))
    with torch.no_grad():
        assert torch.equal(found.outputs["cue"], model.eval()(x))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
