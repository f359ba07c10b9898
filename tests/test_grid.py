import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from fsl_utils import StudyError, params, store
from fsl_utils.__main__ import main
from fsl_utils.analysis import contrasts, resampling
from fsl_utils.generator import backbones
from fsl_utils.study import commands, grid, notebooks, publish, summary

SMALL = {
    "name": "small",
    "defaults": {
        "n_real": 10,
        "adapter_steps": 2,
        "steps": 2,
        "classifier_steps": 2,
        "filter_steps": 2,
        "ratios": [0.5, 1],
    },
    "sweep": [
        {"classifier": "probe", "arms": ["real", "duplicate", "lora", "synth_only"]},
        {"classifier": "resnet18", "init": "scratch", "arms": ["real"], "ratios": [1]},
    ],
}

SHIPPED = ["quickstart", "baselines", "pilot", "rounds", "study", "shots", "by_image", "paper"]


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
    stages = {"cells"} if name == "baselines" else set(grid.STAGES)  # real images alone
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
    """A link in the place of results/mine/<name> is not followed."""
    monkeypatch.setattr(commands, "ROOT", tmp_path)
    (tmp_path / "results" / "mine").mkdir(parents=True)
    (tmp_path / "results" / "mine" / "g").symlink_to(tmp_path)
    path = file({"name": "g", "defaults": {}, "sweep": [{"arms": ["real"]}]})
    assert main(["grid", str(path), "--gather"]) == 1
    assert "is a link to" in capsys.readouterr().err
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


def test_no_table_loses_cells_unasked(tmp_path, few):
    (tmp_path / "tables").mkdir()
    few[0].to_csv(tmp_path / "tables" / "cells.csv", index=False)
    with pytest.raises(StudyError, match=f"has {len(few[0])} cells .* --replace"):
        publish.tables([], tmp_path)
    with pytest.raises(StudyError, match="nothing to publish"):
        publish.tables([], tmp_path, replace=True)


def test_a_grid_ends_with_its_answer_and_the_next_command(few, monkeypatch):
    monkeypatch.setattr(summary, "read_results", lambda folder: few)
    [line] = summary.answer(Path("out"))
    table = contrasts.against(resampling.resample(*few), "duplicate").set_index("arm")
    row = table.loc["lora_filtered" if "lora_filtered" in table.index else "lora"]
    assert f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}], 10 draws" in line
    assert "p = " in line and "06_paper" in summary.following(few[0], Path("x.yaml"))[0]
    once = few[0][few[0]["draw"] == 0]
    assert "illustrate and test nothing" in summary.following(once, Path("x.yaml"))[0]
    assert len(summary.results(Path("out"), few[0])) > 4


@pytest.mark.slow
def test_a_small_grid_ends_with_its_answer_and_loses_no_table(file, tmp_path, capsys):
    path, out = file({**SMALL, "sweep": [{"arms": ["real", "duplicate"]}]}), tmp_path / "out"
    command = ["grid", str(path), "--out", str(out)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "all          1 of 1 done" in said and "illustrate and test nothing" in said
    assert said.splitlines()[-1].startswith("Next: ") and "dashboard" not in said
    assert len(pd.read_csv(out / "tables" / "cells.csv")) == 3
    before = {path: path.read_bytes() for path in (out / "tables").iterdir()}
    part = file({**SMALL, "sweep": [{"arms": ["real"]}]})
    for more in ([], ["--add"]):
        assert main(["grid", str(part), "--out", str(out), *more]) == 1
        assert "--replace" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before
    assert main(["grid", str(part), "--out", str(out), "--replace"]) == 0
    assert len(pd.read_csv(out / "tables" / "cells.csv")) == 1


@pytest.mark.slow
def test_the_chain_on_real_cells(file, tmp_path, capsys, monkeypatch):
    """Notebooks 02-06 through papermill: everything once, then nothing; a damaged result is made
    again, to the same bytes."""
    path, out = file(SMALL), tmp_path / "out"
    assert main(["grid", str(path), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert (
        "all          5 of 5 done" in said
        and "illustrate and test nothing" in said
        and "Next: " in said.splitlines()[-1]
        and "cells    2 notebooks run, 0 were done" in said
    )
    cells = pd.read_csv(out / "tables" / "cells.csv")
    assert len(cells) == 1 + 3 * 2 + 1 and set(cells["arm"]) == {
        "real",
        "duplicate",
        "lora",
        "synth_only",
    }
    drawn = list((out / "figures").rglob("*.png"))
    assert {"arms.png", "curve.png"} <= {png.name for png in drawn}
    assert all(png.with_suffix(".csv").exists() for png in drawn)
    assert not list(out.rglob("*.pdf")) and list((out / "figures" / "details").glob("*.md"))

    left, kept = publish.missing(grid.nodes(grid.read(path)[1]), out)
    assert left == [] and kept == {
        *cells["cell"],
        *pd.read_csv(out / "tables" / "pools.csv")["report"],
    }
    assert main(["grid", str(path), "--dry-run"]) == 0
    assert "to run  " not in capsys.readouterr().out
    assert main(["status", str(path)]) == 0
    assert "all          5 of 5 done, 0 running, 0 failed, 0 left" in capsys.readouterr().out
    before = {
        name: (out / "tables" / name).read_bytes() for name in ("scores.parquet", "pools.csv")
    }
    lora = cells[(cells["arm"] == "lora") & (cells["ratio"] == 1)]["cell"].iloc[0]
    (store.root() / "cell" / lora / "scores.parquet").write_bytes(b"harmed")
    with pytest.warns(UserWarning, match="damaged"):
        assert main(["grid", str(path), "--out", str(out)]) == 0
    assert "cells    1 notebooks run, 1 were done" in capsys.readouterr().out
    assert {name: (out / "tables" / name).read_bytes() for name in before} == before
    after = pd.read_csv(out / "tables" / "cells.csv")
    pd.testing.assert_frame_equal(
        after.drop(columns="train_seconds"), cells.drop(columns="train_seconds")
    )

    remake = ["remake", str(path), lora[:12], "--tables", str(out / "tables")]
    assert main(remake) == 0
    assert "was in the store already" in capsys.readouterr().out
    monkeypatch.setenv("FSL_STORE", str(tmp_path / "store"))
    assert main(remake) == 0
    said = capsys.readouterr().out
    assert (
        "lora at 1x" in said
        and "all          3 of 3 done" in said
        and "differ by at most" in said
        and "made in" in said
    )
    assert (
        float(said.split("at most ")[1].split()[0]) < 1e-3
        and len(list((tmp_path / "store" / "cell").iterdir())) == 1
    )
    for start, words in (
        ("x", "0 cells begin with 'x'"),
        ("", f"{len(cells)} cells begin with ''"),
    ):
        assert main([*remake[:2], start, *remake[3:]]) == 1
        assert words in capsys.readouterr().err
    other = file({**SMALL, "defaults": SMALL["defaults"] | {"adapter_steps": 3}})
    assert main(["remake", str(other), *remake[2:]]) == 1
    assert f"makes cell {lora[:12]}" in capsys.readouterr().err


@pytest.mark.slow
def test_what_stands_in_the_tables_is_kept_and_not_made_again(file, tmp_path, capsys, monkeypatch):
    """As after a move to another machine: the tables are there, the store is empty."""
    path, out = (
        file({**SMALL, "sweep": [{"arms": ["real", "duplicate"]}, SMALL["sweep"][1]]}),
        tmp_path / "out",
    )
    assert main(["grid", str(path), "--out", str(out)]) == 0
    names = ("cells.csv", "scores.parquet")
    cells, scores = (
        pd.read_csv(out / "tables" / "cells.csv"),
        pd.read_parquet(out / "tables" / "scores.parquet"),
    )
    before = [(out / "tables" / name).read_bytes() for name in names]
    monkeypatch.setenv("FSL_STORE", str(tmp_path / "store"))
    capsys.readouterr()
    assert main(["grid", str(path), "--out", str(out), "--add"]) == 0
    assert (
        "4 cells and reports stand in" in capsys.readouterr().out
        and [(out / "tables" / name).read_bytes() for name in names] == before
    )

    gone = cells["classifier"] == "resnet18"
    cells[~gone].to_csv(out / "tables" / "cells.csv", index=False)
    scores[scores["cell"].isin(cells["cell"][~gone])].to_parquet(
        out / "tables" / "scores.parquet", index=False
    )
    assert main(["grid", str(path), "--out", str(out), "--add"]) == 0
    said = capsys.readouterr().out
    assert "3 cells and reports stand in" in said and "1 notebooks run, 0 were done" in said
    pd.testing.assert_frame_equal(
        pd.read_csv(out / "tables" / "cells.csv").drop(columns="train_seconds"),
        cells.drop(columns="train_seconds"),
    )
    assert (out / "tables" / "scores.parquet").read_bytes() == before[1]

    part = file({**SMALL, "sweep": SMALL["sweep"][1:]})
    capsys.readouterr()
    assert main(["grid", str(part), "--out", str(out), "--add", "--dry-run"]) == 0
    assert "1 cells and reports stand in" in capsys.readouterr().out


def test_pools_are_shown_for_the_least_draw_of_each():
    names = [
        f"kid_elpv_draw{draw}_seed0_mini_{mode}.png"
        for mode in ("noise", "inpaint")
        for draw in (3, 2, 10)
    ]
    assert publish.first_draws([*names, "curve_elpv.png"]) == {names[1], names[4], "curve_elpv.png"}


def test_every_notebook_parameter_is_in_the_table():
    for notebook in [*grid.STAGES.values(), "06_paper_figures"]:
        assert set(notebooks.declared(notebook)) <= set(params.TABLE)
