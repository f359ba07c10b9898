"""What the cells say, and with what certainty.

Everything here works from two files alone, `cells.csv` (one row a cell) and `scores.parquet` (one
row a cell and image). A *study* is the set of cells that may be averaged: one task, protocol, size,
shots, classifier and, for arms with a pool, one backbone, mode and base. Seeds are averaged within
a draw; draws are the unit of every test and, with test groups, of every interval.
"""

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.stats import norm, spearmanr, t

from . import StudyError, domains, metrics

TASK = ["domain", "rare_class", "protocol", "image_size", "n_real", "classifier", "init", "evaluated_on"]
POOL = ["backbone", "mode", "base"]  # empty base: the arm has no pool, and its backbone and mode mean nothing
NAMES = ["cell", *TASK, *POOL, "pool", "draw", "seed", "arm", "ratio"]
SHARES = ["prevalence", "pr_auc", "pr_auc_balanced", "auroc", "f1", "recall", "precision", "threshold",
          "f1_at_threshold", "recall_at_threshold", "precision_at_threshold", "f1_all_positive"]
COUNTS = ["n_test", "n_test_rare", "n_test_groups"]
COLUMNS = [*NAMES, *COUNTS, *SHARES, "train_seconds"]
METRICS = ["pr_auc", "pr_auc_balanced", "auroc", "f1", "recall", "precision",
           "f1_at_threshold", "recall_at_threshold", "precision_at_threshold"]
SCORES = ["cell", "image", "group", "partition", "label", "score"]
# `choosing`: the few validation images that thresholds and ratios may be chosen by.
SCORED_ON = {"validation": ("choosing", "validation"), "test": ("test",)}

MIN_DRAWS = 10  # below: an illustration, and no test
MIN_GROUPS = 10  # groups with rare images, below which an interval over groups says little
LEVEL = 0.95
REPLICATES = 1000
PRIMARY = ("lora_filtered", 4.0)  # against `real` and against `duplicate` at the same ratio; named before any run
CONTROLS = ("duplicate", "real", "balanced", "focal", "augment", "crt", "paste")  # what costs nothing


# -- Reading ------------------------------------------------------------------------------------------

def read(tables: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The cells (columns COLUMNS) and their per-image scores (columns SCORES) of a results folder.

    Raises StudyError where a file is missing or its values are impossible, doubled, or contradict
    each other: a table edited by hand is noticed, because every metric is computed again from the scores.
    """
    tables = Path(tables)
    paths = [tables / "cells.csv", tables / "scores.parquet"]
    for path in paths:
        if not path.is_file():
            raise StudyError(f"{path} is not there: run `make study` (or the sweep notebooks) to make the tables")
    try:
        cells = pd.read_csv(paths[0], dtype=str, keep_default_na=False)
        scores = pd.read_parquet(paths[1])
    except (ValueError, OSError) as error:  # pandas' and pyarrow's errors are ValueErrors
        raise StudyError(f"{tables}: a table cannot be read ({str(error).splitlines()[0]}); make it again") from error
    cells, scores = _checked_cells(cells, paths[0]), _checked_scores(scores, paths[1])
    _check_agreement(cells, scores, paths)
    return cells, scores


def _checked_cells(cells: pd.DataFrame, path: Path) -> pd.DataFrame:
    _check_columns(cells, COLUMNS, path)
    if cells.empty:
        raise StudyError(f"{path} has no rows: run the sweep first")
    cells = cells[COLUMNS].copy()
    for name in ["image_size", "n_real", "draw", "seed", "ratio", *COUNTS, *SHARES, "train_seconds"]:
        try:
            cells[name] = [float(text or "nan") for text in cells[name]]  # exact: a threshold is one of the scores
        except ValueError as error:
            raise StudyError(f"{path}: column {name} holds something that is no number ({error}); make the table again") from error
    whole = ["image_size", "n_real", "draw", "seed", *COUNTS]
    chosen = [name for name in SHARES if "threshold" in name]  # empty where no threshold was chosen
    rules = {
        "cell": cells["cell"].str.fullmatch("[0-9a-f]{64}"),
        "base": cells["base"].str.fullmatch("([0-9a-f]{12})?"),
        "protocol": cells["protocol"].isin(["group", "image"]),
        "evaluated_on": cells["evaluated_on"].isin(list(SCORED_ON)),
        "ratio": (cells["ratio"] >= 0) & np.isfinite(cells["ratio"]),
        **{name: cells[name].notna() & (cells[name] >= 0) & (cells[name] % 1 == 0) for name in whole},
        **{name: cells[name].between(0, 1) | (cells[name].isna() & (name in chosen)) for name in SHARES},
    }
    for name, valid in rules.items():
        if not valid.all():
            row = int(np.flatnonzero(~valid.to_numpy(bool))[0])
            raise StudyError(f"{path}, line {row + 2}: {name} is {cells[name].iloc[row]!r}, which cannot be; make the table again")
    cells = cells.astype({name: int for name in whole}).astype({"ratio": float})
    cells.loc[cells["base"] == "", POOL] = ""
    for what, columns in (("the same key", ["cell"]), ("the same settings", [*TASK, *POOL, "draw", "seed", "arm", "ratio"])):
        double = cells.duplicated(columns, keep=False)
        if double.any():
            first, second = cells.index[double][:2] if what == "the same key" else cells[double].sort_values(columns).index[:2]
            raise StudyError(f"{path}: lines {first + 2} and {second + 2} have {what} ({_words(cells.loc[first, columns])}): keep one of the two")
    return cells


def _checked_scores(scores: pd.DataFrame, path: Path) -> pd.DataFrame:
    _check_columns(scores, SCORES, path)
    known = {name for parts in SCORED_ON.values() for name in parts}
    rules = {
        "score": scores["score"].between(0, 1), "label": scores["label"].isin([0, 1]),
        "partition": scores["partition"].isin(known),
    }
    for name, valid in rules.items():
        if not valid.all():
            row = scores[~valid].iloc[0]
            raise StudyError(
                f"{path}: {int((~valid).sum())} rows have an impossible {name} (first: {row[name]} for image {row['image']} "
                f"of cell {str(row['cell'])[:12]}); make that cell again"
            )
    if scores.duplicated(["cell", "image"]).any():
        row = scores[scores.duplicated(["cell", "image"])].iloc[0]
        raise StudyError(f"{path}: image {row['image']} is scored twice in cell {row['cell'][:12]}; make the table again")
    return scores[SCORES]


def _check_columns(frame: pd.DataFrame, columns: list[str], path: Path) -> None:
    missing, unknown = [c for c in columns if c not in frame], [c for c in frame if c not in columns]
    if missing or unknown:
        raise StudyError(f"{path}: columns missing: {missing or 'none'}; unknown: {unknown or 'none'}; make the table again")


def _check_agreement(cells: pd.DataFrame, scores: pd.DataFrame, paths: list[Path]) -> None:
    """Every cell has scores, every score a cell, and the metrics are those of the scores."""
    known, scored = set(cells["cell"]), set(scores["cell"].unique())
    for only, here, there in ((known - scored, *paths), (scored - known, *paths[::-1])):
        if only:
            raise StudyError(f"{len(only)} cells of {here.name} are not in {there} (first: {min(only)[:12]}): the two files are of different runs")
    images = Images(scores)
    for row in cells.itertuples():
        labels, values, groups = images.evaluated(row.cell, row.evaluated_on)
        if labels.min(initial=1) or not labels.max(initial=0):
            raise StudyError(f"{paths[1]}: cell {row.cell[:12]} is evaluated on {row.evaluated_on} but has no images of both classes there")
        found = {"n_test": len(labels), "n_test_rare": labels.sum(), "n_test_groups": len(np.unique(groups)), "prevalence": labels.mean()}
        ones = np.ones((images.n_groups, 1))
        found |= {m: weighted(m, labels, values, groups, ones, row.threshold)[0] for m in METRICS}
        for name, value in found.items():
            told = getattr(row, name)
            if not (abs(told - value) < 1e-6 or (np.isnan(told) and np.isnan(value))):
                raise StudyError(
                    f"{paths[0]}: {name} of cell {row.cell[:12]} is {told:.6g}, but its scores give {value:.6g}: "
                    "one of the two was changed by hand; make the cell again"
                )


class Images:
    """Per-image scores as arrays, by cell. Groups are numbered over all cells: the same group, the same number."""

    def __init__(self, scores: pd.DataFrame):
        cell, self.names = pd.factorize(scores["cell"])
        self.groups, self.group_names = pd.factorize(scores["group"], sort=True)
        self.n_groups = len(self.group_names)
        self.labels, self.scores = scores["label"].to_numpy(int), scores["score"].to_numpy(float)
        self.partition = scores["partition"].to_numpy(object)
        order = np.argsort(cell, kind="stable")
        self.rows = dict(zip(self.names, np.split(order, np.flatnonzero(np.diff(cell[order])) + 1)))

    def of(self, cell: str, partitions: tuple[str, ...]) -> np.ndarray:
        """Row numbers of a cell's images in these partitions."""
        rows = self.rows[cell]
        return rows[np.isin(self.partition[rows], partitions)]

    def evaluated(self, cell: str, on: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Labels, scores and group numbers, each [N], of the images that a cell is evaluated on."""
        rows = self.of(cell, SCORED_ON[on])
        return self.labels[rows], self.scores[rows], self.groups[rows]


def studies(cells: pd.DataFrame) -> list[pd.DataFrame]:
    """Split the cells into studies: the sets within which averages mean something.

    Cells without a pool belong to every study of their task.
    """
    found = []
    for _, task in cells.groupby(TASK, sort=True):
        plain, pooled = task[task["base"] == ""], task[task["base"] != ""]
        pools = [part for _, part in pooled.groupby(POOL, sort=True)] or [pooled]
        found += [pd.concat([plain, part]).sort_values(["arm", "ratio", "draw", "seed"]) for part in pools]
    return found


def slug(where: dict) -> str:
    """A study's name for files: its setting (of `setting`), joined by '_'."""
    parts = [where["domain"], where["rare_class"], f"n{where['n_real']}", f"{where['image_size']}px", where["classifier"], where["init"],
             where["backbone"], where["mode"], where["evaluated_on"], "by_image" if where["protocol"] == "image" else ""]
    return "_".join(str(part).replace(" ", "-") for part in parts if part)


def setting(cells: pd.DataFrame) -> dict:
    """The one task and pool setting of a study. Raises StudyError where cells differ: they are never averaged in silence."""
    if cells.empty:
        raise StudyError("no cells are left: nothing in the tables fits what was asked for")
    pooled = cells[cells["base"] != ""]
    found = {}
    for name in [*TASK, *POOL]:
        values = sorted((pooled if name in POOL else cells)[name].unique())
        if len(values) > 1:
            raise StudyError(
                f"cells of different {name} ({', '.join(map(str, values[:4]))}) are never averaged: "
                f"keep one, as in cells[cells['{name}'] == {values[0]!r}], or split them with stats.studies"
            )
        found[name] = values[0] if values else ""
    return found


# -- Weighted metrics -----------------------------------------------------------------------------------

def weighted(metric: str, labels, scores, groups, weights, threshold: float = math.nan) -> np.ndarray:
    """A metric under many sets of weights at once: [B].

    labels [N] 0/1, scores [N], groups [N] in 0..G-1, weights [G, B]: column b gives every image of
    group g the weight weights[g, b], as scikit-learn's sample_weight does. For weights by image let
    groups be 0..N-1. NaN where a class has no weight, and for the metrics at a threshold that is NaN.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, float)
    if metric in ("pr_auc", "pr_auc_balanced", "auroc"):
        rare, hits, false, tied, rest = _steps(labels, scores, groups, weights)
        n_rare, n_common = hits[-1], false[-1] + rest
        with np.errstate(invalid="ignore", divide="ignore"):
            if metric == "auroc":
                return 1 - (rare * (false - tied / 2)).sum(0) / (n_rare * n_common)
            if metric == "pr_auc_balanced":
                false *= n_rare / n_common
            false += hits  # now all that is called rare
            return (rare * hits / np.maximum(false, np.finfo(float).tiny, out=false)).sum(0) / n_rare
    cut = threshold if metric.endswith("_at_threshold") else 0.5
    if np.isnan(cut):
        return np.full(weights.shape[1], np.nan)
    called = scores >= cut
    hits, misses, false = (_sums(part, groups, weights) for part in ((labels == 1) & called, (labels == 1) & ~called, (labels == 0) & called))
    with np.errstate(invalid="ignore", divide="ignore"):
        match metric.removesuffix("_at_threshold"):
            case "recall":
                return hits / (hits + misses)
            case "precision":
                return np.divide(hits, hits + false, out=np.zeros_like(hits), where=hits + false > 0)
            case "f1":
                return 2 * hits / (2 * hits + misses + false)
    raise StudyError(f"unknown metric '{metric}': known are {', '.join(METRICS)}")


def _sums(part: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Total weight [B] of the images marked in `part` [N]."""
    return np.bincount(groups[part], minlength=len(weights)) @ weights


def _steps(labels, scores, groups, weights) -> tuple[np.ndarray, ...]:
    """The steps of the ranking: one a score that a rare image has, from high to low (K of them).

    Between two steps no metric changes, so common images need no step of their own. Weights, of the
    rare images of each step [K, B]; of the rare and of the common images down to and with it
    [K, B] each; of the common images tied with it [K, B]; of the common images below the last [B].
    """
    steps, at = np.unique(-scores[labels == 1], return_inverse=True)
    common = -scores[labels == 0]
    step = np.searchsorted(steps, common)
    tied = np.append(steps, np.inf)[step] == common

    def sums(step, groups):
        counts = sparse.csr_array((np.ones(len(step)), (step, groups)), shape=(len(steps) + 1, len(weights)))
        return counts @ weights

    rare, false = sums(at, groups[labels == 1])[:-1], sums(step, groups[labels == 0])
    return rare, _running(rare.copy()), _running(false[:-1]), sums(step[tied], groups[labels == 0][tied])[:-1], false[-1]


def _running(sums: np.ndarray) -> np.ndarray:
    """Running sums down the rows, in place; row by row, because cumsum over axis 0 is ten times slower."""
    for k in range(1, len(sums)):
        sums[k] += sums[k - 1]
    return sums


# -- Resampling -------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Resampled:
    """One study, one metric. Draws are the columns of `points`, and in that order the rows of each `replicates`.

    points: index (arm, ratio), one column a draw, mean over seeds; NaN where a draw has no such cell.
    replicates: (arm, ratio) -> [D, B], the same under B resamplings of the groups, one and the same for all.
    cells: (arm, ratio) -> {draw: keys}. rare_groups: the fewest groups with rare images that any cell is scored on.
    """

    setting: dict
    metric: str
    points: pd.DataFrame
    replicates: dict
    cells: dict
    seeds: int
    rare_groups: int

    def at(self, arm: str, ratio: float) -> tuple[str, float] | None:
        """The arm at this ratio, or at 0 where a ratio has no meaning for it; None where it was not run."""
        return next((key for key in ((arm, float(ratio)), (arm, 0.0)) if key in self.replicates), None)

    @property
    def arms(self) -> list[str]:
        """The arms that were run, controls first."""
        run = list(dict.fromkeys(arm for arm, _ in self.replicates))
        return sorted(run, key=lambda arm: (CONTROLS.index(arm) if arm in CONTROLS else len(CONTROLS), arm))


def resample(cells: pd.DataFrame, scores: pd.DataFrame, metric: str = "pr_auc", replicates: int = REPLICATES) -> Resampled:
    """Compute `metric` of one study's cells under resampled groups.

    Groups get exponential weights (the Bayesian bootstrap, Rubin 1981): as a bootstrap that draws
    whole groups, but no resample loses its rare images, however few groups hold them. A group has
    the same weights in all cells, so that contrasts are paired and a test set that all draws share
    is not mistaken for many.
    """
    if metric not in METRICS:
        raise StudyError(f"unknown metric '{metric}': known are {', '.join(METRICS)}")
    where = setting(cells)
    images = Images(scores[scores["cell"].isin(cells["cell"])])
    weights = np.random.default_rng(0).exponential(size=(images.n_groups, replicates))
    weights = np.hstack([np.ones((images.n_groups, 1)), weights])  # column 0: as observed
    draws = np.sort(cells["draw"].unique())
    points, resampled, keys, rare_groups = {}, {}, {}, []
    values = defaultdict(lambda: defaultdict(list))  # (arm, ratio) -> draw -> one [B] a seed
    for row in cells.itertuples():
        labels, score, groups = images.evaluated(row.cell, row.evaluated_on)
        rare_groups.append(len(np.unique(groups[labels == 1])))
        value = weighted(metric, labels, score, groups, weights, row.threshold)
        if np.isfinite(value[0]):  # else no threshold was chosen
            values[row.arm, row.ratio][row.draw].append(value)
    for key, by_draw in sorted(values.items()):
        missing = np.full(replicates + 1, np.nan)
        table = np.stack([np.mean(by_draw[draw], axis=0) if draw in by_draw else missing for draw in draws])
        points[key], resampled[key] = table[:, 0], table[:, 1:]
    for (arm, ratio, draw), same in cells.sort_values("seed").groupby(["arm", "ratio", "draw"])["cell"]:
        keys.setdefault((arm, ratio), {})[int(draw)] = list(same)
    if not points:
        raise StudyError(f"no cell has a {metric}: no threshold was chosen in this study")
    frame = pd.DataFrame.from_dict(points, orient="index", columns=draws)
    frame.index = pd.MultiIndex.from_tuples(frame.index, names=["arm", "ratio"])
    return Resampled(where, metric, frame, resampled, keys, cells["seed"].nunique(), min(rare_groups))


def over_draws(values: np.ndarray) -> np.ndarray:
    """The outer bootstrap: from [D, B] to [B], each the mean over D draws taken with replacement."""
    return np.einsum("db,db->b", _draw_shares(*values.shape), values)


@cache
def _draw_shares(draws: int, replicates: int) -> np.ndarray:
    return np.random.default_rng([1, draws]).multinomial(draws, np.full(draws, 1 / draws), size=replicates).T / draws


def interval(replicates: np.ndarray, n: int) -> tuple[float, float]:
    """Expanded percentile interval (Hesterberg, The American Statistician 2015, section 5.2).

    replicates [B], n: units that were resampled. Plain percentiles are too narrow with few units:
    the tail is moved to where Student's t and the factor sqrt(n / (n - 1)) put it.
    """
    if n < 2:
        return math.nan, math.nan
    tail = norm.cdf(-math.sqrt(n / (n - 1)) * t.ppf((1 + LEVEL) / 2, n - 1))
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return float(low), float(high)


def sign_flip(differences, limit: int = 16, samples: int = 20_000) -> float:
    """Two-sided p of the mean of paired differences [D] under random signs.

    All 2^D signs up to D = limit, beyond it `samples` random ones, the observed among them. The
    smallest p is 2 / 2^D. It assumes draws exchangeable given the data set: draws share
    images, so the test speaks of this data set and not of others.
    """
    differences = np.asarray(differences, float)
    n = len(differences)
    if n == 0 or not np.isfinite(differences).all():
        raise StudyError(f"a sign-flip test needs finite differences, one a draw; got {differences.tolist()[:5]}")
    if n <= limit:
        signs = np.array(list(product((1, -1), repeat=n - 1)), float).reshape(2 ** (n - 1), n - 1)
        signs = np.column_stack([np.ones(len(signs)), signs])  # the other half mirrors this one
    else:
        signs = np.random.default_rng(2).choice((-1.0, 1.0), size=(samples, n))
        signs[0] = 1
    observed = abs(differences.sum())
    slack = 1e-12 * np.abs(differences).sum()  # sums in another order differ in the last digits
    return float((np.abs(signs @ differences) >= observed - slack).mean())


def holm(p) -> np.ndarray:
    """Holm's adjusted p values of one family, [M]. NaN (not tested) stays and does not count."""
    p = np.asarray(p, float)
    adjusted, order = np.full(len(p), np.nan), np.argsort(p)
    order = order[~np.isnan(p[order])]
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return adjusted


def draws_needed(differences, effect: float = 0.05) -> int:
    """Draws that show a mean difference of `effect` with 80 % power at the 5 % level: (2.8 s / effect)^2.

    differences: of a pilot on validation, one a draw; s is their standard deviation. At least MIN_DRAWS.
    """
    differences = np.asarray(differences, float)
    if len(differences) < 2:
        raise StudyError(f"the pilot has {len(differences)} draw: 2 or more are needed to estimate a spread")
    return max(MIN_DRAWS, math.ceil((2.8 * differences.std(ddof=1) / effect) ** 2))


# -- Tables: tidy, one row a point or contrast, each naming the cells behind it -----------------------------

def cautions(study: Resampled, draws: int | None = None) -> str:
    """What a reader must know before believing a number of this study; '' where there is nothing."""
    draws = study.points.shape[1] if draws is None else draws
    said = []
    if draws < MIN_DRAWS:
        said.append(f"illustration: {draws} draw{'s' * (draws != 1)}")
    if draws == 1:
        said.append("interval from test groups alone")
    if study.rare_groups < MIN_GROUPS:
        said.append(f"only {study.rare_groups} groups with rare images")
    if study.setting["evaluated_on"] == "validation":
        said.append("preliminary: on validation")
    if study.setting["protocol"] == "image":
        said.append("split by image: leaks by design")
    return "; ".join(said)


def _row(study: Resampled, *keys: tuple[str, float]) -> tuple[np.ndarray, dict]:
    """The draws (as positions) that all these (arm, ratio) share, and the columns common to all tables."""
    shared = study.points.loc[list(keys)].notna().all().to_numpy()
    draws = study.points.columns[shared]
    names = [cell[:12] for key in keys for draw in draws for cell in study.cells[key][draw]]
    columns = {
        "n_draws": len(draws), "n_seeds": study.seeds, "metric": study.metric,
        **{name: study.setting[name] for name in [*TASK, *POOL]},
        "caution": cautions(study, len(draws)), "cells": ";".join(names),
    }
    return np.flatnonzero(shared), columns


def _interval(study: Resampled, values: np.ndarray) -> tuple[float, float]:
    """Interval of the mean over draws of values [D, B]; with one draw, from its groups alone."""
    draws = len(values)
    return interval(over_draws(values), draws if draws > 1 else study.rare_groups) if draws else (math.nan, math.nan)


def curve(study: Resampled) -> pd.DataFrame:
    """Every arm and ratio: mean over draws, with its interval (low, high)."""
    rows = []
    for arm, ratio in study.replicates:
        draws, columns = _row(study, (arm, ratio))
        low, high = _interval(study, study.replicates[arm, ratio][draws])
        mean = study.points.loc[(arm, ratio)].iloc[draws].mean()
        rows.append({"arm": arm, "ratio": ratio, "mean": mean, "low": low, "high": high, **columns})
    return pd.DataFrame(rows)


def contrast(study: Resampled, arm: tuple[str, float], control: tuple[str, float]) -> dict:
    """One paired contrast: arm minus control over the draws that have both. `p` is NaN below MIN_DRAWS draws."""
    draws, columns = _row(study, arm, control)
    difference = (study.points.loc[arm] - study.points.loc[control]).iloc[draws]
    low, high = _interval(study, study.replicates[arm][draws] - study.replicates[control][draws])
    p = sign_flip(difference) if len(draws) >= MIN_DRAWS else math.nan
    return {
        "arm": arm[0], "ratio": arm[1], "control": control[0], "control_ratio": control[1],
        "difference": difference.mean(), "low": low, "high": high, "p": p, **columns,
    }


def _family(rows: list[dict]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    return frame.assign(p_holm=holm(frame["p"])) if len(frame) else frame


def against(study: Resampled, control: str, ratio: float = PRIMARY[1]) -> pd.DataFrame:
    """One family: every other arm at `ratio` against a control at `ratio` (0 where a ratio has no meaning).

    `p_holm` is adjusted over the arms. Empty where the control was not run.
    """
    baseline = study.at(control, ratio)
    keys = [study.at(arm, ratio) for arm in study.arms if arm != control]
    return _family([contrast(study, key, baseline) for key in keys if key] if baseline else [])


def ratios_against(study: Resampled, arm: str, control: str) -> pd.DataFrame:
    """One family: every ratio of an arm against a control at the same ratio (0 where a ratio has no meaning)."""
    keys = [key for key in study.replicates if key[0] == arm and study.at(control, key[1])]
    return _family([contrast(study, key, study.at(control, key[1])) for key in keys])


def gains(study: Resampled, control: str) -> pd.DataFrame:
    """`ratios_against` of every arm that was run at a ratio: one family an arm. Empty where the control was not run."""
    arms = dict.fromkeys(arm for arm, ratio in study.replicates if ratio > 0 and arm != control)
    return pd.concat([pd.DataFrame(), *(ratios_against(study, arm, control) for arm in arms)], ignore_index=True)


def forest(study: Resampled, ratio: float = PRIMARY[1]) -> pd.DataFrame:
    """Every arm against every control at `ratio`, Holm within each control; `beats_controls`: better than each of them."""
    families = [family for control in CONTROLS if len(family := against(study, control, ratio))]
    if not families:
        return pd.DataFrame()
    frame = pd.concat(families, ignore_index=True)
    better = (frame["p_holm"] < 1 - LEVEL) & (frame["difference"] > 0)
    return frame.assign(beats_controls=better.groupby(frame["arm"]).transform("all"))


FAMILY = ["protocol", "classifier", "init", "evaluated_on"]


def primary(found: list[Resampled]) -> pd.DataFrame:
    """The primary contrast, one row a study: PRIMARY against `real` and against `duplicate` at the same ratio.

    The larger of the two p counts (better than both: an intersection-union test). Holm over all rows with
    the same FAMILY: one a domain as designed; further modes or shot numbers make the family larger. A domain's
    secondary rare classes are left out. `verdict` says in words what follows.
    """
    rows = []
    for study in found:
        where = study.setting
        if study.metric != "pr_auc":
            raise StudyError(f"the primary contrast is in pr_auc, but a study was resampled for {study.metric}")
        known = domains.SHEETS[where["domain"]].rare if where["domain"] in domains.SHEETS else ()
        if known and where["rare_class"] != known[0]:
            continue
        row = {**{name: where[name] for name in [*TASK, *POOL]}, "p": math.nan, "n_draws": 0, "caution": "", "cells": "", "verdict": "not run"}
        keys = {control: study.at(control, PRIMARY[1]) for control in ("real", "duplicate")}
        if PRIMARY in study.replicates and None not in keys.values():
            both = {control: contrast(study, PRIMARY, key) for control, key in keys.items()}
            for control, one in both.items():
                row |= {f"{name}_{control}": one[name] for name in ("difference", "low", "high", "p")}
            differences = [one["difference"] for one in both.values()]
            row |= {
                "p": np.max([one["p"] for one in both.values()]), "n_draws": min(one["n_draws"] for one in both.values()),
                "verdict": "better than both" if min(differences) > 0 else "worse than both" if max(differences) < 0 else "better than one alone",
                "caution": both["real"]["caution"], "cells": ";".join(one["cells"] for one in both.values()),
            }
        rows.append(row)
    if not rows:
        return pd.DataFrame()
    frame = pd.DataFrame(rows)
    frame["p_holm"] = frame.groupby(FAMILY)["p"].transform(holm)
    open_ = (frame["n_draws"] > 0) & ~(frame["p_holm"] < 1 - LEVEL)
    verdict = frame["verdict"].mask(open_, "no evidence either way").mask(open_ & frame["p"].isna(), "too few draws to test")
    return frame.assign(verdict=verdict)


def slopes(study: Resampled, arm: tuple[str, float], control: tuple[str, float]) -> pd.DataFrame:
    """The value of every draw under a control and under an arm: columns pair, draw, arm, ratio, value."""
    draws, columns = _row(study, control, arm)
    pair = " to ".join(f"{name} {ratio:g}x" if ratio else name for name, ratio in (control, arm))
    return pd.DataFrame([
        {"pair": pair, "draw": int(draw), "arm": key[0], "ratio": key[1], "value": study.points.loc[key, draw],
         **columns, "cells": ";".join(cell[:12] for cell in study.cells[key][draw])}
        for key in (control, arm) for draw in study.points.columns[draws]
    ])


def exchange_rate(study: Resampled, arm: str) -> pd.DataFrame:
    """How many more real rare images an arm is worth, by ratio: columns ratio, images, low, high, beyond.

    The curve of `real` and `real_more` over the number of real images, made monotone (isotonic
    regression) and interpolated in log(n), is read backwards at the arm's mean, in every resample anew.
    The result lies between 0 and the most real images that were tried: `beyond` says '>=' or '<=' where
    the arm's mean lies outside. Empty where `real_more` was not run.
    """
    tried = [key for key in [("real", 0.0), *((a, r) for a, r in study.replicates if a == "real_more")] if key in study.replicates]
    if len(tried) < 2 or tried[0][0] != "real":
        return pd.DataFrame()
    n_real = study.setting["n_real"]
    amounts = n_real * (1 + np.array([ratio for _, ratio in tried]))

    def worth(levels, value):
        first = np.concatenate([[True], np.diff(levels) > 0])  # where the curve is flat, the fewest images that reach it
        return max(0.0, math.exp(np.interp(value, levels[first], np.log(amounts[first]))) - n_real)

    rows = []
    for key in [k for k in study.replicates if k[0] == arm]:
        draws, columns = _row(study, key, *tried)
        if not len(draws):
            continue
        means = study.points.loc[[*tried, key]].iloc[:, draws].mean(axis=1).to_numpy()
        resampled = np.stack([over_draws(study.replicates[k][draws]) for k in (*tried, key)], axis=1)
        levels = monotone(np.vstack([means, resampled])[:, :-1])
        observed, *worths = map(worth, levels, [means[-1], *resampled[:, -1]])
        low, high = interval(worths, len(draws) if len(draws) > 1 else study.rare_groups)
        beyond = ">=" if means[-1] >= levels[0, -1] else "<=" if means[-1] <= levels[0, 0] else ""
        rows.append({"arm": arm, "ratio": key[1], "images": observed, "low": low, "high": high,
                     "beyond": beyond, "most": float(amounts[-1] - n_real), **columns})
    return pd.DataFrame(rows)


def monotone(values: np.ndarray) -> np.ndarray:
    """Isotonic regression of each row of values [B, K], by its min-max formula (Robertson, Wright, Dykstra 1988, 1.4)."""
    sums = np.cumsum(np.pad(values, ((0, 0), (1, 0))), axis=1)
    k = values.shape[1]
    mean = {(i, j): (sums[:, j + 1] - sums[:, i]) / (j + 1 - i) for i in range(k) for j in range(i, k)}
    return np.stack([np.max([np.min([mean[i, j] for j in range(at, k)], axis=0) for i in range(at + 1)], axis=0) for at in range(k)], axis=1)


def pr_curves(cells: pd.DataFrame, scores: pd.DataFrame, keys: list[tuple[str, float]], replicates: int = 300) -> pd.DataFrame:
    """Precision over recall, mean over draws with a pointwise band: columns arm, ratio, recall, precision, low, high.

    At each recall stands the precision at the highest threshold that reaches it, not interpolated.
    """
    study = resample(cells, scores, replicates=1)  # for its draws, cells and cautions
    images = Images(scores[scores["cell"].isin(cells["cell"])])
    weights = np.random.default_rng(0).exponential(size=(images.n_groups, replicates))
    weights = np.hstack([np.ones((images.n_groups, 1)), weights])
    grid = np.linspace(0.02, 1, 50)
    tables = []
    for key in keys:
        draws, columns = _row(study, key)
        values = np.empty((len(draws), len(grid), replicates + 1))
        for i, draw in enumerate(study.points.columns[draws]):
            names = study.cells[key][draw]
            values[i] = np.mean([_precision_at(grid, *images.evaluated(cell, study.setting["evaluated_on"]), weights) for cell in names], axis=0)
        bounds = [_interval(study, values[:, g, 1:]) for g in range(len(grid))]
        tables.append(pd.DataFrame({
            "arm": key[0], "ratio": key[1], "recall": grid, "precision": values[:, :, 0].mean(0),
            "low": [b[0] for b in bounds], "high": [b[1] for b in bounds], **columns,
        }))
    return pd.concat(tables, ignore_index=True)


def _precision_at(grid: np.ndarray, labels, scores, groups, weights) -> np.ndarray:
    """Precision [len(grid), B] where recall first reaches each value of `grid`."""
    _, hits, false, _, _ = _steps(labels, scores, groups, weights)
    recall = hits / hits[-1]
    step = np.stack([(recall < value - 1e-9).sum(0) for value in grid]).clip(max=len(recall) - 1)
    return np.take_along_axis(hits / (hits + false), step, 0)


def choose_ratio(by_ratio: dict) -> float:
    """The ratio with the highest validation PR-AUC; of equals the smallest. by_ratio: ratio -> (labels [N], scores [N])."""
    if not by_ratio:
        raise StudyError("there is no ratio to choose from: run the arm at some ratios first")
    return max(sorted(by_ratio), key=lambda ratio: metrics.score(*by_ratio[ratio], None)["pr_auc"])


def regret(cells: pd.DataFrame, scores: pd.DataFrame, arm: str, metric: str = "pr_auc") -> pd.DataFrame:
    """What choosing the ratio by validation costs against the best fixed ratio, one row a draw and seed.

    The ratio is chosen by `choose_ratio` on the `choosing` images of one (draw, seed) and valued in the
    other seeds of that draw, on images that did not choose. The fixed ratio is the best on average in the
    other draws. Columns: chosen, value, fixed, fixed_value, regret (positive: the fixed ratio is better),
    `honest`: False where there was no second seed and no other image, so that the value flatters the choice.
    `regret_summary` sums it up. Ratio 0 is `real`. Raises StudyError for fewer than 2 draws.
    """
    where = setting(cells)
    ours = cells[(cells["arm"] == arm) | (cells["arm"] == "real")]
    images = Images(scores[scores["cell"].isin(ours["cell"])])
    ones = np.ones((images.n_groups, 1))
    marked = bool((images.partition == "choosing").any())
    value_on = SCORED_ON["test"] if where["evaluated_on"] == "test" else ("validation",)
    apart = where["evaluated_on"] == "test" or marked  # are the images that value others than those that choose?
    chosen_by, values = {}, {}
    for row in ours.itertuples():
        rows = images.of(row.cell, ("choosing",) if marked else ("validation",))
        chosen_by[row.draw, row.seed, row.ratio] = images.labels[rows], images.scores[rows]
        rows = images.of(row.cell, value_on)
        values[row.draw, row.seed, row.ratio] = weighted(metric, images.labels[rows], images.scores[rows], images.groups[rows], ones, row.threshold)[0]
    value = pd.Series(values).unstack()  # index (draw, seed), columns ratio
    value = value.dropna()
    draws = value.index.get_level_values(0)
    if draws.nunique() < 2 or value.shape[1] < 2:
        raise StudyError(f"regret of {arm} needs 2 draws and 2 ratios in common; there are {draws.nunique()} and {value.shape[1]}")
    rows = []
    for draw, seed in value.index:
        others = value[(draws == draw) & (value.index.get_level_values(1) != seed)]
        chosen = choose_ratio({ratio: chosen_by[draw, seed, ratio] for ratio in value.columns})
        fixed = value[draws != draw].groupby(level=0).mean().mean().idxmax()
        valued = others.mean() if len(others) else value.loc[(draw, seed)]
        keys = ours[ours["draw"].eq(draw) & ours["ratio"].isin([chosen, fixed])]["cell"]
        rows.append({"arm": arm, "metric": metric, "draw": draw, "seed": seed, "chosen": chosen, "value": valued[chosen],
                     "fixed": fixed, "fixed_value": valued[fixed], "regret": valued[fixed] - valued[chosen],
                     "honest": apart or len(others) > 0, **{name: where[name] for name in TASK}, "cells": ";".join(k[:12] for k in keys)})
    return pd.DataFrame(rows)


def regret_summary(table: pd.DataFrame) -> dict:
    """Mean regret with its interval over draws, the share of draws where validation chose the fixed ratio."""
    by_draw = table.groupby("draw")["regret"].mean().to_numpy()
    low, high = interval(over_draws(np.repeat(by_draw[:, None], REPLICATES, 1)), len(by_draw))
    return {"arm": table["arm"].iloc[0], "regret": by_draw.mean(), "low": low, "high": high, "n_draws": len(by_draw),
            "agrees": float((table["chosen"] == table["fixed"]).mean()), "honest": bool(table["honest"].all())}


def pool_gains(cells: pd.DataFrame, pools: pd.DataFrame, metric: str = "pr_auc", control: str = "duplicate") -> pd.DataFrame:
    """Gain of every pool's classifier over the control of the same task, draw, seed and ratio, beside the pool's qualities.

    pools: one row a pool, with a column `pool` and numbers. One row a (pool, arm, ratio), seeds averaged.
    """
    if "pool" not in pools or pools["pool"].duplicated().any():
        raise StudyError("pools.csv: it needs a column `pool` with each pool once; make the pool reports again")
    on = [*TASK, "draw", "seed", "ratio"]
    base = cells.loc[cells["arm"] == control, [*on, metric, "cell"]]
    joined = cells[cells["pool"] != ""].merge(base, on=on, suffixes=("", "_control")).merge(pools, on="pool", suffixes=("", "_pool"))
    joined["gain"] = joined[metric] - joined[f"{metric}_control"]
    joined["cells"] = joined["cell"].str[:12] + ";" + joined["cell_control"].str[:12]
    qualities = [c for c in pools.select_dtypes("number") if c not in cells]
    same = [*TASK, *POOL, "pool", "arm", "ratio", "draw"]
    return joined.groupby(same, as_index=False).agg({"gain": "mean", **{q: "first" for q in qualities}, "cells": ";".join})


def correlation(gains: pd.DataFrame, quality: str) -> dict:
    """Spearman's correlation of a pool quality with the gain; the interval resamples draws, whose pools share shots."""
    gains = gains.dropna(subset=[quality, "gain"])
    parts = [part[[quality, "gain"]].to_numpy() for _, part in gains.groupby(["domain", "draw"])]
    if len(gains) < 4 or gains[quality].nunique() < 2:
        return {"rho": math.nan, "low": math.nan, "high": math.nan, "n_pools": len(gains), "n_draws": len(parts)}
    picks = np.random.default_rng(3).integers(len(parts), size=(REPLICATES, len(parts)))
    resampled = [np.concatenate([parts[i] for i in pick]) for pick in picks] if len(parts) > 1 else []
    rhos = np.array([spearmanr(*both.T).statistic for both in resampled if np.ptp(both, axis=0).all()])
    low, high = interval(rhos, len(parts)) if len(rhos) else (math.nan, math.nan)
    return {"rho": spearmanr(gains[quality], gains["gain"]).statistic, "low": low, "high": high, "n_pools": len(gains), "n_draws": len(parts)}


def ratio_table(cells: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Arm by ratio at a glance: PR-AUC with its interval, recall and F1 at .5, draws, and what to beware of.

    Columns that differ between studies stand in front; each study has its own rows.
    """
    tables = []
    for one in studies(cells):
        table = curve(resample(one, scores)).rename(columns={"mean": "pr_auc"})
        plain = one.groupby(["arm", "ratio", "draw"])[["recall", "f1"]].mean().groupby(["arm", "ratio"]).mean().reset_index()
        tables.append(table.merge(plain, on=["arm", "ratio"]))
    table = pd.concat(tables, ignore_index=True)
    differ = [name for name in [*TASK, *POOL] if table[name].nunique() > 1]
    return table[[*differ, "arm", "ratio", "pr_auc", "low", "high", "recall", "f1", "n_draws", "caution"]]


SUMMARISED = ("pr_auc", "auroc", "f1_at_threshold", "recall_at_threshold")


def summary(cells: pd.DataFrame, scores: pd.DataFrame, ratio: float = PRIMARY[1]) -> pd.DataFrame:
    """What a paper's table shows of one study, at one ratio: columns arm, ratio, quantity, value, low, high, p_holm, beats_controls.

    Quantities are the metrics SUMMARISED and the PR-AUC differences 'vs duplicate' and 'vs real'.
    Metrics that the study lacks are left out.
    """
    have = [metric for metric in SUMMARISED if cells[metric].notna().any()]
    made = {metric: resample(cells, scores, metric) for metric in have}
    keys = [made["pr_auc"].at(arm, ratio) for arm in made["pr_auc"].arms]
    parts = []
    for metric, study in made.items():
        table = curve(study).set_index(["arm", "ratio"])
        parts.append(table.loc[[key for key in keys if key in table.index]].reset_index().rename(columns={"mean": "value"}).assign(quantity=metric))
    compared = forest(made["pr_auc"], ratio)
    if len(compared):
        compared = compared[compared["control"].isin(["duplicate", "real"])]
        parts.append(compared.rename(columns={"difference": "value"}).assign(quantity="vs " + compared["control"]))
    table = pd.concat(parts, ignore_index=True)
    columns = ["arm", "ratio", "quantity", "value", "low", "high", "p_holm", "beats_controls", "n_draws", "metric", *TASK, *POOL, "caution", "cells"]
    return table.reindex(columns=columns)


def worst(scores: pd.DataFrame, cell: str, count: int = 8) -> pd.DataFrame:
    """The `count` images a cell is most wrong about: common ones scored high, rare ones scored low."""
    ours = scores[scores["cell"] == cell]
    error = (ours["score"] - ours["label"]).abs()
    return ours.assign(error=error, cells=cell[:12]).nlargest(count, "error")


def _words(row: pd.Series) -> str:
    return ", ".join(f"{name} {value}" for name, value in row.items() if value != "")
