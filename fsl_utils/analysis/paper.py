"""The table of arXiv 2605.11898 beside the same of whatever cells there are, leaks and all.

Reported figures stand in results/paper_reported.csv. They are second hand, from summaries (one of
which gives another F1 of tiles, .20 to .60 or .70); the paper's other ratios were not at hand. It
split by image, in five folds, and called an image rare at .5.
"""

import itertools

import pandas as pd

from fsl_utils import ROOT
from fsl_utils.analysis import claims, contrasts
from fsl_utils.analysis.resampling import REAL, resample
from fsl_utils.analysis.tables import POOL_COLUMNS, TASK_COLUMNS, setting, split_studies

REPORTED = ROOT / "results" / "paper_reported.csv"
RATIOS = (0.0, 0.5, 1.0, 2.0, 4.0, 10.0, 20.0)
ARMS = ("real", "lora", "synth_only")
PAPER_VALUES = ("f1", "pr_auc", "recall")  # at .5
VALUES = (*PAPER_VALUES, "f1_at_threshold")
PAPER = "paper"
# What grids/paper_protocol.yaml asks: each stands in the table, run or not.
ASKED = list(itertools.product(("image", "group"), ("resnet18", "finetuned")))
# Claims of `claims` that part a threshold from a ranking.
PARTED = {
    "F1 at .5 rises": "F1 at .5",
    "recall at .5 rises": "recall at .5",
    "F1 rises, each with its threshold from validation": "F1, each with its own threshold",
    "PR-AUC rises": "PR-AUC",
}
TASK = ["domain", "rare_class"]
ROW = ["source", *TASK_COLUMNS, *POOL_COLUMNS]  # a line of the table


def reported() -> pd.DataFrame:
    """What the paper reports, a row a task and ratio: columns ROW, arm, ratio, VALUES, n_draws."""
    rows = pd.read_csv(REPORTED)
    arms = rows["ratio"].map(lambda ratio: "lora" if ratio else "real")
    words = {"protocol": "image", "classifier": "resnet18", "init": "imagenet"}
    return rows.assign(source=PAPER, arm=arms, evaluated_on="fold", **words)


def table(cells: pd.DataFrame) -> pd.DataFrame:
    """The paper's rows, then ours: a row a study, arm and ratio, mean over draws.

    cells: of any studies. A setting that ASKED names and no cell has is one row without an arm.
    Columns ROW, arm, ratio, VALUES, n_draws.
    """
    paper = reported()
    tasks = paper[TASK].drop_duplicates()
    ours = cells[cells["arm"].isin(ARMS) & (cells["synthetic_weight"] == 0)].merge(tasks, on=TASK)
    measured = pd.concat([pd.DataFrame(columns=TASK_COLUMNS), *map(_levels, split_studies(ours))])
    asked = tasks.merge(pd.DataFrame(ASKED, columns=["protocol", "classifier"]), how="cross")
    run = pd.MultiIndex.from_frame(measured[asked.columns])
    missing = asked[~pd.MultiIndex.from_frame(asked).isin(run)]
    rows = pd.concat([paper, measured.assign(source="here"), missing.assign(source="here")])
    rank = {name: place for place, name in enumerate([PAPER, "here", "image", "group", *ARMS])}
    order = rows.assign(
        task=rows["rare_class"].map({name: i for i, name in enumerate(tasks["rare_class"])}),
        **{name: rows[name].map(rank) for name in ("source", "protocol", "arm")},
    )
    keys = ["task", "source", "protocol", "classifier", "init", "evaluated_on", "n_real"]
    order = order.reset_index(drop=True).sort_values([*keys, "arm", "ratio"]).index
    return rows.iloc[order][[*ROW, "arm", "ratio", *VALUES, "n_draws"]].reset_index(drop=True)


def _levels(study: pd.DataFrame) -> pd.DataFrame:
    """A row an arm and ratio of one study: seeds and folds are averaged within a draw."""
    by_draw = study.groupby(["arm", "ratio", "draw"])[list(VALUES)].mean()
    by = by_draw.groupby(["arm", "ratio"])
    return by.mean().assign(n_draws=by.size(), **setting(study)).reset_index()


def parted(cells: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """What the move from 0x to 4x changes, by metric: contrasts of `claims`, a row a study.

    Of the paper's two data sets, whatever the rare class: F1 at .5 that rises where F1 at its own
    threshold and PR-AUC do not is the threshold's doing. Empty where nothing has both ratios.
    """
    theirs = cells["domain"].isin(reported()["domain"])
    found = claims.paper_claims(cells[theirs & cells["arm"].isin(ARMS)], scores)
    if found.empty:
        return found
    found = found[found["claim"].isin(PARTED)]
    return found.assign(quantity=found["claim"].map(PARTED)).reset_index(drop=True)


def added(cells: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """What each arm adds to `real` on outer folds of the paper's tasks, by split.

    Columns as of `contrasts.gains`, and `control_level`, the PR-AUC of `real`. One family an arm of
    a study. Empty where no fold was run with `real`.
    """
    tasks = reported()[TASK].drop_duplicates()
    folds = cells[cells["evaluated_on"] == "fold"].merge(tasks, on=TASK)
    families = [pd.DataFrame()]
    for part in split_studies(folds) if len(folds) else []:
        study = resample(part, scores)
        if REAL in study.replicates:
            level = study.points.loc[REAL].mean()
            families.append(contrasts.gains(study, "real").assign(control_level=level))
    return pd.concat(families, ignore_index=True)
