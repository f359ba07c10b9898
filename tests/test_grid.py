"""Grid files: what is read, refused and planned."""

import os
import subprocess
import sys

import pandas as pd
import pytest
import yaml

from fsl_utils import params
from fsl_utils.__main__ import main
from fsl_utils.generator import backbones
from fsl_utils.study import commands, grid, notebooks

SHIPPED = [
    *("quickstart", "rotation", "baselines", "pilot", "rounds", "study1", "shots", "by_image"),
    *("paper", "paper_protocol", "leakage", "mended", "pilot2", "study2", "recipes", "covering"),
    "autoguidance",
]


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / "grid.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return path

    return write


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_grids_are_valid(name):
    path = notebooks.FOLDER / "grids" / f"{name}.yaml"
    found, runs = grid.read(path)
    real = name in ("baselines", "leakage")  # real images alone
    stages = {"cells"} if real else set(grid.STAGES)
    assert found == name and {node.stage for node in grid.nodes(runs)} == stages
    assert path.read_text().startswith("# ")  # what it is and what it costs


def test_every_shipped_grid_is_tested():
    assert {path.stem for path in (notebooks.FOLDER / "grids").glob("*.yaml")} == set(SHIPPED)


def test_lists_are_crossed_and_shared_work_is_one_node(file):
    path = file(
        {
            "name": "g",
            "defaults": {"n_real": [20, 40]},
            "sweep": [
                {
                    "draw": [0, 1, 2],
                    "classifier": ["probe"],
                    "arms": ["real", "lora"],
                    "ratios": [1, 4],
                },
                {
                    "draw": 0,
                    "classifier": "resnet18",
                    "init": "scratch",
                    "arms": ["lora"],
                    "ratios": [10],
                },
                {"draw": 0, "classifier": "resnet18", "init": "scratch", "arms": ["real"]},
            ],
        }
    )
    _, runs = grid.read(path)
    assert len(runs) == 6 + 2 + 2
    found = grid.nodes(runs)
    count = pd.Series([n.stage for n in found]).value_counts()
    assert count["adapter"] == count["pool"] == count["report"] == 6 and count["cells"] == 10
    sizes = {
        (n.values["draw"], n.values["n_real"]): n.values["n_images"]
        for n in found
        if n.stage == "pool"
    }
    assert (
        sizes[0, 20] == 200 and sizes[0, 40] == 400 and sizes[1, 40] == 160
    )  # as the largest ratio asks
    assert all(needed in found[:i] for i, node in enumerate(found) for needed in node.needs)
    needs = {n: [m.stage for m in n.needs] for n in found}
    assert all(
        stages == {"adapter": [], "pool": ["adapter"], "report": ["pool"]}[n.stage]
        for n, stages in needs.items()
        if n.stage != "cells"
    )
    assert (
        sorted(len(stages) for n, stages in needs.items() if n.stage == "cells") == [0, 0] + [1] * 8
    )  # `real` waits for nothing
    assert [(n.stage, n.values["draw"]) for n in found[:6]] == [
        (stage, draw) for draw in (0, 1) for stage in ("adapter", "pool", "cells")
    ]
    assert {n.stage for n in found[-6:]} == {"report"}


def test_the_backbone_alone_needs_no_adapter(file):
    entry = {"arms": ["real", "base_synth"]}
    assert [
        n.stage
        for n in grid.nodes(grid.read(file({"name": "g", "defaults": {}, "sweep": [entry]}))[1])
    ] == ["cells"]
    unused = {
        "classifier": "probe",
        "arms": ["real", "lora_crt"],
    }  # an arm that the probe leaves out
    assert [
        n.stage
        for n in grid.nodes(grid.read(file({"name": "g", "defaults": {}, "sweep": [unused]}))[1])
    ] == ["cells"]


def test_a_default_that_is_written_down_is_the_same_run(file):
    def found(entry):
        return grid.nodes(grid.read(file({"name": "g", "defaults": {}, "sweep": [entry]}))[1])

    assert found({}) == found({"draw": 0, "n_real": 40, "seed": [0]})


@pytest.mark.parametrize(
    "content, words",
    [
        ("a: [", "not YAML"),
        ({"name": "g"}, "defaults is missing"),
        ("- 1", "has the keys name, defaults and sweep"),
        ("", "has the keys name, defaults and sweep"),
        ({"name": "g", "defaults": {}, "sweep": [{}], "more": 1}, "unknown key 'more'"),
        ({"name": "../../x", "defaults": {}, "sweep": [{}]}, "name is '../../x'"),
        ({"name": "/tmp/x", "defaults": {}, "sweep": [{}]}, "name is '/tmp/x'"),
        ({"name": "g", "defaults": {3: 4}, "sweep": [{}]}, "defaults is"),
        ({"name": "g", "defaults": {}, "sweep": [{"drew": 1}]}, "did you mean draw?"),
        ({"name": "g", "defaults": {"n_real": "many"}, "sweep": [{}]}, "n_real is 'many'"),
        ({"name": "g", "defaults": {}, "sweep": [{"arms": ["magic"]}]}, "unknown arm 'magic'"),
        ({"name": "g", "defaults": {}, "sweep": [{"domain": "moon"}]}, "unknown domain 'moon'"),
        ({"name": "g", "defaults": {}, "sweep": [{"ratios": [-1]}]}, "ratios"),
        ({"name": "g", "defaults": {}, "sweep": []}, "sweep is []"),
        ({"name": "g", "defaults": {}, "sweep": [{"image_size": 128}]}, "set image_size: 64"),
        (
            {
                "name": "g",
                "defaults": {},
                "sweep": [{"draw": list(range(1001))} | {"seed": list(range(1001))}],
            },
            "cross to more than 1,000,000 runs",
        ),
        ("a: 1\na: 2", "'a' is given twice"),
        ("a: &a [*a]", "holds itself"),
        ("[" * 2000, "nested too deep"),
        ("name: " + "9" * 5000, "not YAML"),
        (
            "name: g\ndefaults: {}\nsweep: [{rare_class: no}]",
            "rare_class is False: expected a class of the domain in quotes",
        ),
        ({"name": "g", "defaults": [], "sweep": {"draw": 1}}, "defaults is []: expected a map"),
        (
            {"name": "g", "defaults": {}, "sweep": [{}, {"draw": []}]},
            "entry 2 of sweep: draw is an empty list",
        ),
        (
            {"name": "g", "defaults": {}, "sweep": [{"init": "scratch"}]},
            "probe begins with imagenet",
        ),
        ({"name": "g", "defaults": {}, "sweep": [{"arms": ["focal"]}]}, "nothing to run"),
        (
            {"name": "g", "defaults": {}, "sweep": [{"arms": ["real"], "n_real": 5000}]},
            "n_real is 5000",
        ),
        ({"name": "g", "defaults": {}, "sweep": [{"rare_class": "moon"}]}, "moon"),
    ],
)
def test_a_wrong_grid_file_is_refused_in_one_line(file, capsys, content, words):
    assert main(["grid", str(file(content)), "--dry-run"]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_an_alias_bomb_is_refused_at_once(file, capsys):
    lines = ["a0: &a0 {draw: 1}"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    merged = "{" + ", ".join(f"x{i}: 1" for i in range(9)) + "}"
    merge = [f"b0: &b0 {merged}"]
    merge += [f"b{i}: &b{i} {{<<: [{', '.join([f'*b{i - 1}'] * 10)}]}}" for i in range(1, 12)]
    for bomb in (lines, merge):
        assert main(["grid", str(file("\n".join(bomb))), "--dry-run"]) == 1
        assert "aliases stand for more than 100,000 values" in capsys.readouterr().err


def test_what_is_no_plain_file_is_refused(tmp_path, capsys):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo"):
        for command in ("grid", "status"):
            assert main([command, str(path)]) == 1
            assert "not a plain file" in capsys.readouterr().err


def test_files_in_the_wrong_places_are_said_in_one_line(file, tmp_path, monkeypatch, capsys):
    path, wrong = file({"name": "g", "defaults": {}, "sweep": [{"arms": ["real"]}]}), tmp_path / "x"
    wrong.touch()
    for name, more in (("FSL_OUT", []), ("FSL_STORE", []), ("FSL_MINI", ["--dry-run"])):
        with monkeypatch.context() as changed:
            changed.setenv(name, str(wrong / "y"))
            out = wrong / "y" if name == "FSL_OUT" else tmp_path / "out"
            assert main(["grid", str(path), "--out", str(out), *more]) == 1
        said = capsys.readouterr().err
        assert str(wrong) in said and said.count("\n") == 1


@pytest.mark.parametrize(
    "flag, given",
    [("--timeout", "nan"), ("--timeout", "0"), ("--retries", "-1"), ("--workers", "0")],
)
def test_numbers_that_make_no_sense_are_refused(flag, given, capsys):
    with pytest.raises(SystemExit):
        main(["grid", "x.yaml", flag, given])
    assert f"'{given}' is not a" in capsys.readouterr().err


def test_gathering_nothing_is_said(file, own_store, tmp_path, capsys):
    path = file({"name": "g", "defaults": {}, "sweep": [{"arms": ["real"]}]})
    assert main(["grid", str(path), "--gather", "--out", str(tmp_path / "out")]) == 1
    assert "no cell is finished yet" in capsys.readouterr().err


def test_results_go_where_git_does_not_look(file, monkeypatch, tmp_path, capsys):
    """A link in the place of results/mine/<name>, or in it, is not followed."""
    monkeypatch.setattr(commands, "ROOT", tmp_path)
    path = file({"name": "g", "defaults": {}, "sweep": [{"arms": ["real"]}]})
    for link in ("g", "g/tables", "g/figures"):
        place = tmp_path / "results" / "mine" / link
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(tmp_path)
        assert main(["grid", str(path), "--gather"]) == 1
        assert f"{link} is a link to" in capsys.readouterr().err
        place.unlink()
    assert "/results/mine/" in (notebooks.ROOT / ".gitignore").read_text().splitlines()


def test_a_plan_needs_no_data(file, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FSL_DATA_DIR", str(tmp_path))
    path = file({"name": "g", "defaults": {"domain": "magnetic_tile"}, "sweep": [{}]})
    assert main(["grid", str(path), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert said.count("to run  ") == 4 and "not at hand: magnetic_tile" in said


@pytest.mark.slow
def test_a_plan_of_ten_thousand_notebooks_is_quick_and_small(file):
    path = file({"name": "g", "defaults": {"draw": list(range(2500))}, "sweep": [{}]})
    code = f"""
import resource, sys
from fsl_utils.__main__ import main
code = main(["grid", {str(path)!r}, "--dry-run"])
used = resource.getrusage(resource.RUSAGE_SELF)
# Not ru_maxrss: that is inherited from the process that started this one.
most = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(code, used.ru_utime + used.ru_stime, int(most.split()[1]) / 1024, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    code, seconds, megabytes = map(float, done.stderr.split())
    assert "10000 notebooks" in done.stdout and code == 0
    assert seconds < 15 and megabytes < 400


def test_a_relative_folder_is_made_absolute(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = file({"name": "g", "defaults": {}, "sweep": [{"domain": "folder", "folder": "own"}]})
    assert grid.read(path)[1][0]["folder"] == str(tmp_path / "own")


def test_the_pixels_that_a_grid_allows_are_those_that_backbones_paint():
    assert set(grid.PIXELS) == set(backbones.NAMES)
    for name, kind in backbones.MINIS.items():
        assert grid.PIXELS[name] == kind.image_size and kind.name == name


def test_a_missing_grid_file(capsys):
    assert main(["grid", "nowhere.yaml"]) == 1
    assert "nowhere.yaml: no such file" in capsys.readouterr().err


def test_every_notebook_parameter_is_in_the_table():
    for notebook in [*grid.STAGES.values(), "06_paper_figures"]:
        assert set(notebooks.declared(notebook)) <= set(params.TABLE)
