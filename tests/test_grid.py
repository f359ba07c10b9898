import json

import pandas as pd
import pytest
import yaml

from fsl_utils import StudyError, grid, params, store
from fsl_utils.__main__ import main

SMALL = {
    "name": "small",
    "defaults": {"n_real": 10, "adapter_steps": 2, "steps": 2, "classifier_steps": 2, "ratios": [0.5, 1]},
    "sweep": [
        {"classifier": "probe", "arms": ["real", "duplicate", "lora", "synth_only"]},
        {"classifier": "resnet18", "init": "scratch", "arms": ["real"], "ratios": [1]},
    ],
}


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / "grid.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return path
    return write


def test_shipped_grids_are_valid():
    files = sorted((grid.ROOT / "notebooks" / "grids").glob("*.yaml"))
    assert files
    for path in files:
        name, runs = grid.read(path)
        assert name == path.stem and grid.nodes(runs)


def test_lists_are_crossed_and_shared_work_is_one_node(file):
    path = file({"name": "g", "defaults": {"n_real": [20, 40]}, "sweep": [
        {"draw": [0, 1, 2], "classifier": ["probe"], "arms": ["real", "lora"], "ratios": [1, 4]},
        {"draw": 0, "classifier": "resnet18", "init": "scratch", "arms": ["lora"], "ratios": [10]},
        {"draw": 0, "classifier": "resnet18", "init": "scratch", "arms": ["real"]},
    ]})
    _, runs = grid.read(path)
    assert len(runs) == 6 + 2 + 2
    found = grid.nodes(runs)
    count = pd.Series([n.stage for n in found]).value_counts()
    assert count["adapter"] == count["pool"] == count["report"] == 6 and count["cells"] == 10
    sizes = {(n.values["draw"], n.values["n_real"]): n.values["n_images"] for n in found if n.stage == "pool"}
    assert sizes[0, 20] == 200 and sizes[0, 40] == 400 and sizes[1, 40] == 160  # as the largest ratio asks
    order = [n.stage for n in found]
    assert max(i for i, s in enumerate(order) if s == "adapter") < order.index("pool") < order.index("cells")


@pytest.mark.parametrize("content, words", [
    ("a: [", "not YAML"),
    ({"name": "g"}, "exactly the keys name, defaults and sweep"),
    ({"name": "g", "defaults": {}, "sweep": [{"drew": 1}]}, "unknown parameter 'drew'"),
    ({"name": "g", "defaults": {"n_real": "many"}, "sweep": [{}]}, "n_real is 'many'"),
    ({"name": "g", "defaults": {}, "sweep": [{"arms": ["magic"]}]}, "unknown arm 'magic'"),
    ({"name": "g", "defaults": {}, "sweep": [{"domain": "moon"}]}, "unknown domain 'moon'"),
    ({"name": "g", "defaults": {}, "sweep": [{"ratios": [-1]}]}, "ratios"),
])
def test_a_wrong_grid_file_is_refused_in_one_line(file, capsys, content, words):
    assert main(["grid", str(file(content)), "--dry-run"]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_a_missing_grid_file(capsys):
    assert main(["grid", "nowhere.yaml"]) == 1
    assert "nowhere.yaml: no such grid file" in capsys.readouterr().err


def test_the_chain_on_real_cells(file, tmp_path, capsys):
    """Notebooks 02-06 through papermill: everything once, then nothing; a damaged result is made again."""
    path, out = file(SMALL), tmp_path / "out"
    assert main(["grid", str(path), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert said.count("ran ") == 5 and "illustration" in said and "time:" in said
    cells = pd.read_csv(out / "tables" / "cells.csv")
    assert len(cells) == 1 + 3 * 2 + 1 and set(cells["arm"]) == {"real", "duplicate", "lora", "synth_only"}
    figures = {p.suffix for p in (out / "figures").iterdir()}
    assert {".png", ".pdf", ".csv"} <= figures
    for png in (out / "figures").glob("*.png"):
        assert png.with_suffix(".pdf").exists() and png.with_suffix(".csv").exists()

    assert main(["grid", str(path), "--dry-run"]) == 0
    assert "to run" not in capsys.readouterr().out
    before = (out / "tables" / "cells.csv").read_bytes()
    lora = cells[(cells["arm"] == "lora") & (cells["ratio"] == 1)]["cell"].iloc[0]
    (store.root() / "cell" / lora / "scores.parquet").write_bytes(b"harmed")
    with pytest.warns(UserWarning, match="damaged"):
        assert main(["grid", str(path), "--out", str(out)]) == 0
    assert capsys.readouterr().out.count("ran ") == 1
    after = pd.read_csv(out / "tables" / "cells.csv").drop(columns="train_seconds")
    pd.testing.assert_frame_equal(after, cells.drop(columns="train_seconds"))
    assert before.count(b"\n") == len(cells) + 1


def test_a_failing_notebook_says_why_and_keeps_its_copy(file, capsys):
    too_many = {**SMALL, "defaults": {**SMALL["defaults"], "n_real": 5000}, "sweep": [{"arms": ["real"]}]}
    assert main(["grid", str(file(too_many))]) == 1
    error = capsys.readouterr().err
    assert "04_classifier_sweep" in error and "n_real is 5000" in error and error.count("\n") == 1
    kept = error.split("[see ")[1].split("]")[0]
    assert json.loads(open(kept).read())["cells"]


def test_every_notebook_parameter_is_in_the_table():
    for notebook in [*grid.STAGES.values(), "06_paper_figures"]:
        assert set(grid.declared(notebook)) <= set(params.TABLE)
