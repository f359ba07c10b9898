"""Simulated studies with the structure of the real ones: unequal groups, draws that share images.

A population is a domain table with groups, and hidden qualities of its images. Draws are those of
`partitions.draw`. A cell's score of an image is the logistic of: the image's own difficulty, its
group's, the label times the strength of the classifier, and noise. The strength is that of the arm
plus the mean quality of the draw's shots for that arm, so that draws which share shots are
alike.
"""

import hashlib
import itertools

import numpy as np
import pandas as pd
from scipy.special import expit

from fsl_utils import metrics
from fsl_utils.analysis import tables
from fsl_utils.data import partitions

ARMS = {
    ("real", 0.0): 0.0,
    ("balanced", 0.0): 0.15,
    ("focal", 0.0): 0.0,
    ("augment", 0.0): 0.2,
    ("crt", 0.0): 0.2,
    **{("duplicate", r): 0.1 for r in (0.5, 1.0, 2.0, 4.0, 10.0, 20.0)},
    **{("real_more", r): 0.6 * np.log1p(r) for r in (0.5, 1.0, 2.0)},
    **{
        (arm, r): gain * np.log1p(r) - 0.008 * r**1.5
        for arm, gain in (
            ("base_synth", -0.2),
            ("lora", 0.25),
            ("lora_filtered", 0.4),
            ("lora_augment", 0.42),
            ("synth_both", 0.25),
        )
        for r in (0.5, 1.0, 2.0, 4.0, 10.0, 20.0)
    },
    ("synth_only", 4.0): -0.5,
    ("lora_crt", 4.0): 0.45,
}
SOME = {
    key: gain
    for key, gain in ARMS.items()
    if key[0] in ("real", "augment", "lora")
    or key
    in (
        ("duplicate", 1.0),
        ("duplicate", 4.0),
        ("real_more", 1.0),
        ("real_more", 2.0),
        ("base_synth", 4.0),
        ("lora_filtered", 4.0),
    )
}
FEW = {
    ("real", 0.0): 0.0,
    ("duplicate", 4.0): 0.0,
    ("lora_filtered", 4.0): 0.0,
    ("lora_filtered", 10.0): 0.0,
}
POOLED = (
    "base_synth",
    "lora",
    "lora_filtered",
    "lora_augment",
    "synth_only",
    "synth_both",
    "lora_crt",
)


def population(seed: int = 0, groups: int = 45, mean_size: float = 18) -> pd.DataFrame:
    """A domain table of one task, with the hidden `difficulty` of its images."""
    rng = np.random.default_rng(seed)
    sizes = np.maximum(3, rng.lognormal(np.log(mean_size), 0.7, groups)).astype(int)
    share = rng.beta(0.7, 1.6, groups)
    group = np.repeat(np.arange(groups), sizes)
    label = (rng.random(len(group)) < share[group]).astype(int)
    names = np.array([f"group{g:02d}" for g in range(groups)])[group]
    table = pd.DataFrame(
        {
            "image": [f"image{i:05d}.png" for i in range(len(group))],
            "label": label,
            "group": names,
            "stratum": pd.cut(
                share[group], [-1, 0.15, 0.45, 1], labels=["low", "middle", "high"]
            ).astype(str),
            "difficulty": rng.normal(0, 0.6, len(group)) + rng.normal(0, 0.4, groups)[group],
        }
    )
    return table.assign(
        partition=partitions.assign(table, pd.Series(dtype=str), 0.0, f"simulated {seed}")
    )


def strengths(
    arms: dict,
    draws: list,
    images: int,
    rng: np.random.Generator,
    spread: float = 2.0,
    base: float = 1.5,
) -> dict:
    """Strength of the classifier for every (arm, ratio): [draws].

    An arm's mean over all these draws is what `arms` says.
    """
    # A good shot is good for all arms, and for some more than for others.
    together = rng.normal(0, spread, images)
    strength = {}
    for key, gain in arms.items():
        quality = together + rng.normal(0, spread / 2, images)
        value = np.array([quality[draw.shots].mean() for draw in draws])
        strength[key] = base + gain + value - value.mean()
    return strength


def scores_of(
    table: pd.DataFrame, rows: np.ndarray, strength: float, rng: np.random.Generator
) -> np.ndarray:
    """Scores [len(rows)] of one cell on the images `rows`."""
    label, difficulty = table["label"].to_numpy()[rows], table["difficulty"].to_numpy()[rows]
    return expit(strength * (label - 0.5) - 1 + difficulty + rng.normal(0, 0.4, len(rows)))


def study(
    domain: str = "elpv",
    draws: int = 10,
    seeds: int = 1,
    arms: dict = ARMS,
    n_real: int = 20,
    evaluated_on: str = "test",
    seed: int = 0,
    **setting,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cells and scores of a whole study, as they stand in the tables."""
    rng = np.random.default_rng([seed, len(domain)])
    table = population(seed + len(domain))
    splits = {"": table}
    if evaluated_on == "fold":
        splits = {str(fold): partitions.outer_fold(table, fold) for fold in range(5)}
    cells, scores = [], []
    for fold, split in splits.items():
        made = [partitions.draw(split, number, n_real) for number in range(draws)]
        strength = strengths(arms, made, len(table), rng)
        for (arm, ratio), draw, s in itertools.product(arms, made, range(seeds)):
            settings = {
                "domain": domain,
                "rare_class": "defective",
                "protocol": "group",
                "image_size": 64,
                "n_real": n_real,
                "classifier": "probe",
                "classifier_size": 64,
                "classifier_channels": 1,
                "synthetic_weight": 0.0,
                "init": "imagenet",
                "evaluated_on": evaluated_on,
                **_pool(arm, f"pool {domain} {fold}{draw.number}"),
                "draw": draw.number,
                "fold": fold,
                "seed": s,
                "arm": arm,
                "ratio": ratio,
                **setting,
            }
            frame = _scored(split, draw, evaluated_on, strength[arm, ratio][draw.number], rng)
            scores.append(frame.assign(cell=hexed(str(settings))))
            cells.append(
                {"cell": hexed(str(settings)), **settings, **_measured(frame, evaluated_on)}
            )
    return pd.DataFrame(cells)[tables.CELL_COLUMNS], pd.concat(scores, ignore_index=True)


def _pool(arm: str, name: str) -> dict:
    if arm not in POOLED:
        return {"backbone": "", "mode": "", "base": "", "pool": ""}
    return {"backbone": "mini", "mode": "text", "base": "0123456789ab", "pool": hexed(name)}


def _scored(table, draw, evaluated_on: str, strength: float, rng) -> pd.DataFrame:
    """The rows of scores.parquet of one cell."""
    parts = {
        "choosing": draw.choosing,
        "validation": np.setdiff1d(draw.validation, draw.choosing),
    }
    if evaluated_on != "validation":
        test = np.flatnonzero(table["partition"] == "test")
        parts = {"choosing": draw.choosing, "test": test}
    rows = np.concatenate(list(parts.values()))
    return table.iloc[rows][["image", "group", "label"]].assign(
        partition=np.repeat(list(parts), [len(r) for r in parts.values()]),
        score=scores_of(table, rows, strength, rng),
    )


def _measured(frame: pd.DataFrame, evaluated_on: str) -> dict:
    """The metric columns of one cell."""
    chosen = frame[frame["partition"] == "choosing"]
    scored = frame[frame["partition"].isin(tables.SCORED_ON[evaluated_on])]
    threshold = metrics.choose_threshold(chosen["label"], chosen["score"])
    return {
        "n_test_groups": scored["group"].nunique(),
        **metrics.score(scored["label"], scored["score"], threshold),
        "train_seconds": 1.5,
    }


def write(folder, cells: pd.DataFrame, scores: pd.DataFrame):
    """Write the two files of a tables folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    cells.to_csv(folder / "cells.csv", index=False)
    scores.to_parquet(folder / "scores.parquet", index=False)
    return folder


def hexed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
