"""The first study beside a second run of its tasks, on simulated tables with planted gains."""

import numpy as np
import pandas as pd
import pytest
import simulate
from sklearn.metrics import average_precision_score

from fsl_utils import StudyError
from fsl_utils.analysis import reanalysis
from fsl_utils.study import reanalysis as command

REAL, LORA = ("real", 0.0), ("lora", 4.0)
BRITTLE, SOUND = {REAL: 0.0, LORA: 0.8}, {REAL: 1.2, LORA: 1.2, ("paste", 4.0): 1.2}
FIRST, PUBLISHED = reanalysis.FIRST, reanalysis.PUBLISHED


@pytest.fixture(scope="module")
def tables():
    first = simulate.study(arms=BRITTLE | {("lora", 1.0): 0.0}, draws=12)
    today = [of_today(frame) for frame in simulate.study(arms=SOUND, draws=10)]
    old = simulate.study(arms=BRITTLE, draws=10, classifier=FIRST)
    return first, tuple(pd.concat(parts, ignore_index=True) for parts in zip(today, old))


def of_today(frame):
    """The same cells with other keys: another version of the probe made them."""
    keys = {key: simulate.hexed(f"again {key}") for key in frame["cell"].unique()}
    return frame.assign(cell=frame["cell"].map(keys))


@pytest.fixture(scope="module")
def both(tables):
    return reanalysis.together(*tables)


def mean(cells, classifier, arm):
    part = cells[(cells["classifier"] == classifier) & (cells["arm"] == arm)]
    return part["pr_auc"].mean()


def test_only_what_both_have_is_compared(both):
    cells, scores = both
    assert set(cells["classifier"]) == {PUBLISHED, FIRST, "probe"}
    assert set(cells["draw"]) == set(range(10)) and set(cells["ratio"]) == {0.0, 4.0}
    assert set(scores["cell"]) == set(cells["cell"])


def test_a_gain_that_mends_the_first_probe_is_a_repair(both):
    cells, scores = both
    rows = reanalysis.repairs(cells, scores).set_index("arm")
    assert set(rows.index) == {"real", "lora"}  # the first probe had no `paste`
    lacked = mean(cells, "probe", "real") - mean(cells, FIRST, "real")
    assert rows.loc["real", "difference"] == pytest.approx(lacked)
    gains = [mean(cells, name, "lora") - mean(cells, name, "real") for name in (FIRST, "probe")]
    assert rows.loc["lora", "difference"] == pytest.approx(gains[0] - gains[1])
    assert (rows["verdict"] == "better").all() and (rows["n_draws"] == 10).all()


def test_gains_are_over_real_of_the_same_classifier(both):
    cells, scores = both
    rows = reanalysis.gains(reanalysis.studies(cells, scores))
    for row in rows.to_dict("records"):
        level = mean(cells, row["classifier"], "real")
        assert row["control_level"] == pytest.approx(level)
        gained = mean(cells, row["classifier"], row["arm"]) - level
        assert row["difference"] == pytest.approx(gained)
    assert dict(rows.groupby("classifier").size()) == {"probe": 2, FIRST: 1, PUBLISHED: 1}


def test_an_ensemble_is_the_mean_score_of_its_members():
    names = {key for members in reanalysis.ENSEMBLES.values() for key in members}
    cells, scores = simulate.study(arms=dict.fromkeys(sorted(names), 0.5), draws=10)
    rows = reanalysis.ensembles(cells, scores).set_index(["arm", "control"])
    assert list(rows.index) == [
        *(("ensemble", "real"), ("free ensemble", "real"), ("ensemble", "free ensemble"))
    ]
    found = {}
    for name, members in (*reanalysis.ENSEMBLES.items(), ("real", [REAL])):
        taken = cells[[key in members for key in zip(cells["arm"], cells["ratio"])]]
        tested = scores[scores["partition"] == "test"].merge(taken[["cell", "draw"]])
        mean = tested.groupby(["draw", "image", "label"], as_index=False)["score"].mean()
        found[name] = [
            average_precision_score(part["label"], part["score"])
            for _, part in mean.groupby("draw")
        ]
    for (arm, control), row in rows.iterrows():
        apart = np.mean(found[arm]) - np.mean(found[control])
        assert row["difference"] == pytest.approx(apart)


def test_tables_that_share_no_draw_are_refused(tables):
    other = simulate.study(arms=SOUND, draws=2, domain="tiles", classifier=FIRST)
    with pytest.raises(StudyError, match="share no task and draw"):
        reanalysis.together(tables[0], other)
    cells, scores = tables[1]
    today = cells[cells["classifier"] == "probe"]
    with pytest.raises(StudyError, match="no cell of probe_first"):
        reanalysis.together(tables[0], (today, scores))


def test_the_page_says_what_went(tables, tmp_path):
    folders = [simulate.write(tmp_path / n, *t) for n, t in zip(("first", "again"), tables)]
    text = command.write(folders, tmp_path / "out")
    assert (tmp_path / "out" / "out.md").read_text() == text
    row = next(line for line in text.splitlines() if line.startswith("| paste 4x"))
    assert row.split(" | ")[1:3] == ["", ""] and row.split(" | ")[3] != ""
    written = pd.read_csv(tmp_path / "out" / "repairs.csv")
    assert written["cells"].str.count(";").gt(0).all()
    for name in ("gains", "draws"):
        assert (tmp_path / "out" / f"{name}.png").stat().st_size > 5000
    with pytest.raises(StudyError, match="first study's tables"):
        command.write(folders[:1], tmp_path / "out")
