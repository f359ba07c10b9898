"""Whole grids, from the file to tables that lose nothing."""

from pathlib import Path

import pandas as pd
import pytest
from test_grid import file  # noqa: F401

from fsl_utils import StudyError, store
from fsl_utils.__main__ import main
from fsl_utils.analysis import contrasts, resampling
from fsl_utils.study import grid, publish, summary

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


def small(seed, **changed):
    """A grid of its own for a test: the store is one for all, and they run in any order."""
    return SMALL | {"defaults": SMALL["defaults"] | {"seed": seed}} | changed


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
    path, out = file(small(1, sweep=[{"arms": ["real", "duplicate"]}])), tmp_path / "out"
    command = ["grid", str(path), "--out", str(out)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "all          1 of 1 done" in said and "illustrate and test nothing" in said
    assert said.splitlines()[-1].startswith("Next: ") and "dashboard" not in said
    assert len(pd.read_csv(out / "tables" / "cells.csv")) == 3
    before = {path: path.read_bytes() for path in (out / "tables").iterdir()}
    part = file(small(1, sweep=[{"arms": ["real"]}]))
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
        file(small(2, sweep=[{"arms": ["real", "duplicate"]}, SMALL["sweep"][1]])),
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

    part = file(small(2, sweep=SMALL["sweep"][1:]))
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
