"""Notebook 06 on simulated studies, in this process: its figures are legible, its files whole."""

import json

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import simulate
from legible import faults

from fsl_utils import ROOT
from fsl_utils.analysis import pool_gains, resampling
from fsl_utils.figures import pools, sheets, style

matplotlib.use("Agg")
SHORT = {("real", 0.0): 0.0, ("duplicate", 4.0): 0.1}
LONG = SHORT | {
    ("augment", 0.0): 0.2,
    ("duplicate", 1.0): 0.1,
    ("real_more", 1.0): 0.4,
    ("real_more", 2.0): 0.7,
    ("base_synth", 4.0): -0.3,
    ("lora_filtered", 4.0): 0.5,
    **{("lora", ratio): 0.2 * ratio**0.3 for ratio in (0.5, 1.0, 4.0, 20.0)},
}
NASTY = "<b>$x$|../../裂"


def tables(folder):
    """Studies of several tasks, classifiers, shots and splits; one has a harmful name."""
    few = SHORT | {("lora", 4.0): 0.3, ("lora_filtered", 4.0): 0.4, ("real_more", 4.0): 0.6}
    studies = [
        simulate.study(arms=LONG, draws=10),
        simulate.study(
            arms=SHORT | {("lora", 4.0): 0.4}, draws=1, classifier="resnet18", init="scratch"
        ),
        simulate.study(arms=few, draws=3, n_real=10),
        simulate.study("magnetic_tile", arms=few, draws=2, rare_class="any_defect"),
        simulate.study("chestxray14", arms=few, draws=2, rare_class="Pneumothorax"),
        simulate.study("folder", arms=few, draws=2, rare_class=NASTY, evaluated_on="validation"),
        simulate.study("tiles", arms=few, draws=2, protocol="image", image_size=128),
    ]
    cells, scores = (pd.concat(part, ignore_index=True) for part in zip(*studies))
    simulate.write(folder, cells, scores)
    reports = pd.DataFrame({"pool": cells["pool"].loc[lambda pool: pool != ""].unique()})
    random = np.random.default_rng(0)
    for name in pools.QUALITY_NAMES:
        reports[name] = random.uniform(0.001, 0.02, len(reports))
    reports.to_csv(folder / "pools.csv", index=False)


def forget_resamples():
    """What is kept of 20,000 resamples, or of fewer, is no other test's."""
    for kept in (resampling._draw_shares, resampling._sign_flip):
        kept.cache_clear()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The notebook's names after all its cells, its folder, the faults of each figure it saved."""
    place = tmp_path_factory.mktemp("notebook")
    tables(place / "tables")
    given = {"tables": str(place / "tables"), "figures": str(place / "out" / "figures")}
    notebook = json.loads((ROOT / "notebooks" / "06_paper_figures.ipynb").read_text())
    sources = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    injected = "# Parameters\n" + "\n".join(f"{name} = {value!r}" for name, value in given.items())
    space, drawn, save = {"In": [sources[0], injected]}, {}, style.save
    with pytest.MonkeyPatch.context() as patch, plt.rc_context():

        def keep(figure, path, *rest):
            drawn[str(path.relative_to(place / "out" / "figures"))] = faults(figure)
            return save(figure, path, *rest)

        patch.setattr(style, "save", keep)
        patch.setattr(sheets, "errors", lambda *_: "a sheet")  # simulated images have no pixels
        for module in (resampling, pool_gains):  # intervals are tested elsewhere
            patch.setattr(module, "RESAMPLES", 200)
        forget_resamples()
        patch.chdir(ROOT / "notebooks")
        for source in (sources[0], injected, *sources[1:]):
            exec(source, space)
        yield space, place, drawn
    forget_resamples()
    plt.close("all")


def test_every_figure_is_legible(run):
    _, _, drawn = run
    kinds = {name.rpartition("/")[2] for name in drawn}
    assert kinds == {
        "arms",
        "curve",
        "forest",
        "overview",
        "pools",
        "precision_over_recall",
        "ratios",
        "shots",
        "slopes",
        "worth",
    }
    assert {name: found for name, found in drawn.items() if found} == {}


def test_nothing_is_written_outside_and_no_figure_stays_open(run):
    _, place, _ = run
    assert sorted(path.name for path in place.iterdir()) == ["out", "tables"]
    assert [path.name for path in (place / "out").iterdir()] == ["figures"]
    folders = [path for path in (place / "out" / "figures").rglob("*") if path.is_dir()]
    assert max(len(path.relative_to(place / "out" / "figures").parts) for path in folders) == 2
    assert len(plt.get_fignums()) < 20


def test_names_are_escaped_wherever_they_stand(run):
    _, place, _ = run
    pages = list((place / "out").rglob("*.md"))
    assert any("&lt;b&gt;" in page.read_text() for page in pages)
    assert not any("<b>" in page.read_text() for page in pages)
