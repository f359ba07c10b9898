"""Cells: one trained classifier each, scored on real images, kept in the store."""

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from fsl_utils import StudyError, metrics, params, store
from fsl_utils.classifier import arms, features, filters, models, plan
from fsl_utils.data import augmentation
from fsl_utils.data.datasets import sheets
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.generator import regions, sampling

KEY_COLUMNS = [
    "domain",
    "rare_class",
    "protocol",
    "image_size",
    "n_real",
    "draw",
    "seed",
    "backbone",
    "mode",
    "arm",
    "ratio",
    "classifier",
    "init",
]
COLUMNS = [
    "cell",
    *KEY_COLUMNS,
    "evaluated_on",
    "n_test",
    "n_test_rare",
    "n_test_groups",
    "prevalence",
    "pr_auc",
    "pr_auc_balanced",
    "auroc",
    "f1",
    "recall",
    "precision",
    "threshold",
    "f1_at_threshold",
    "recall_at_threshold",
    "precision_at_threshold",
    "f1_all_positive",
    "train_seconds",
    "base",
    "pool",
]

TEXTS = ("cell", "image", "group", "partition")  # columns of scores.parquet that repeat a few words


def run(task: FewShotTask, p) -> Iterator[dict]:
    """Train and score every planned cell that is not in the store; yields each as a row of cells.csv."""
    planned = plan.cells(task, p)
    device = params.device(p.device)
    evaluated = {
        "validation": task.draw.validation,
        "test": np.union1d(task.draw.choosing, task.domain.rows("test")),
    }[p.evaluate_on]
    material = _Material(task, p, planned, device)
    for cell in planned:
        yield row(
            cell.make(lambda out: _build(out, cell, evaluated, material, device), device=device)
        )


def row(folder: Path) -> dict:
    """A finished cell as a row of cells.csv."""
    facts = store.manifest(folder)
    cell, result = facts["params"], facts["metrics"]
    values = {
        "cell": facts["key"],
        **{k: cell.get(k, "") for k in KEY_COLUMNS},
        "evaluated_on": cell["evaluate_on"],
        **result,
        "train_seconds": facts["train_seconds"],
        "base": cell.get("base", "")[:12],
        "pool": cell["pools"].get("rare") or cell["pools"].get("base", ""),
    }
    return {name: values[name] for name in COLUMNS}


class _Material:
    """What the cells of one run share: pools, features and images, each fetched when first needed."""

    def __init__(self, task: FewShotTask, p, planned: list[plan.CellRequest], device: str):
        self.task, self.p, self.device = task, p, device
        self.sources = plan.pools(task, p)
        self.most = {
            kind: max((cell.n for cell in planned if kind in cell.pools), default=0)
            for kind in self.sources
        }
        self.kept = {}

    def _once(self, name, make):
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]

    def images(self) -> np.ndarray:
        return self.task.images(self.p.image_size)

    def pool(self, kind: str) -> np.ndarray:
        return self._once(
            f"pool {kind}",
            lambda: sampling.images_of(self.sources[kind], self.most[kind], self.device),
        )

    def features(self) -> np.ndarray:
        needed = ("development", "test") if self.p.evaluate_on == "test" else ("development",)
        return self._once(
            "features",
            lambda: features.of_domain(self.task.domain, self.p.image_size, needed, self.device),
        )

    def pool_features(self, kind: str) -> np.ndarray:
        key = self.sources[kind].key
        return self._once(
            f"features {kind}",
            lambda: features.of_pool(self.pool(kind), key, sampling.CHUNK, self.device),
        )

    def filtered(self, n: int) -> pd.DataFrame:
        """Verdicts on the rare pool up to the image with which n are kept."""
        screen = plan.screen(self.task, self.p)
        return self._once(
            f"verdicts {n}",
            lambda: pd.concat(
                filters.until(self.sources["rare"], n, screen, self.device),
                ignore_index=True,
            ),
        )

    def pasted(self) -> np.ndarray:
        n = round(max(self.p.ratios) * self.task.n_real)
        return self._once(
            "pasted",
            lambda: regions.paste(self.task, self.p.image_size, self.p.seed, range(n)),
        )

    def pasted_features(self) -> np.ndarray:
        source = {
            "paste": regions.SETTINGS,
            **self.task.params(),
            "n": len(self.pasted()),
            "seed": self.p.seed,
            "image_size": self.p.image_size,
        }
        return self._once(
            "features pasted",
            lambda: features.extract(self.pasted(), source, self.device, progress=False),
        )

    def made(self, images: str, n: int, as_features: bool) -> np.ndarray:
        """The first n rare images that were made for `images` of an arm, or their features; fewer where the filter keeps fewer."""
        if images == "paste":
            return (self.pasted_features() if as_features else self.pasted())[:n]
        kind = arms.POOLS[images][0]
        if images != "lora_filtered":
            return (self.pool_features(kind) if as_features else self.pool(kind))[:n]
        table = self.filtered(n)
        chunks = -(-len(table) // sampling.CHUNK)
        looked_at = sampling.images_of(self.sources[kind], chunks * sampling.CHUNK, self.device)
        if as_features:
            looked_at = features.of_pool(
                looked_at, self.sources[kind].key, sampling.CHUNK, self.device
            )
        return looked_at[table["number"][table["reason"] == ""]]

    def augmented_features(self, n: int) -> np.ndarray:
        """Features of n strongly augmented copies of the shots; the first n of a larger set are the same."""

        def make():
            generator = torch.Generator().manual_seed(self.p.seed)
            shots = torch.from_numpy(self.images()[self.task.draw.shots])
            most = round(max(self.p.ratios) * len(shots))
            copies = torch.cat(
                [
                    augmentation.Strong().images(shots, generator)
                    for _ in range(-(-most // len(shots)))
                ]
            )[:most]
            source = {
                "strong": self.task.domain.data_hash,
                "draw": self.task.draw.number,
                "n_real": len(shots),
                "n": most,
                "seed": self.p.seed,
                "image_size": self.p.image_size,
            }
            return features.extract(copies.numpy(), source, self.device, progress=False)

        return self._once("augmented", make)[:n]


def _build(
    folder: Path, cell: plan.CellRequest, evaluated: np.ndarray, material: _Material, device: str
) -> dict:
    """Train one classifier, score it, write scores.parquet; returns the facts for the manifest."""
    domain, draw = cell.task.domain, cell.task.draw
    arm, mix = arms.get(cell.arm), arms.mix(cell.arm, cell.ratio, draw)
    probe, facts = cell.classifier == "probe", {}
    balanced_real = cell.task.training
    made = material.made(arm.images, mix.synthetic, probe) if mix.synthetic else None
    made_common = (
        (material.pool_features if probe else material.pool)("common")
        if mix.synthetic_common
        else None
    )
    if arm.images == "lora_filtered" and mix.synthetic:
        facts["filtered"] = {
            "wanted": mix.synthetic,
            **filters.counts(material.filtered(mix.synthetic)),
        }
        mix = dataclasses.replace(mix, synthetic=len(made))
    if probe:
        real = material.features()
        x, y = mix.gather(real, made, made_common), mix.labels
        if arm.augmentation == "strong" and cell.ratio:
            copies = material.augmented_features(cell.n)
            x, y = np.concatenate([x, copies]), np.concatenate([y, np.ones(len(copies), int)])
        begin = time.perf_counter()
        scores = models.score_probe(models.fit_probe(x, y, real[balanced_real]), real[evaluated])
        seconds = time.perf_counter() - begin
    else:
        images = material.images()
        x = mix.gather(images, made, made_common)
        begin = time.perf_counter()
        steps = models.train_resnet(
            torch.from_numpy(x),
            torch.from_numpy(mix.labels),
            arm,
            steps=cell.settings["steps"],
            seed=cell.seed * 1000 + draw.number,
            init=cell.init,
            flips=sheets.SHEETS[domain.name].flips,
            device=device,
        )
        for last in steps:
            pass
        model = last["model"]
        if arm.refit:  # cRT, Kang et al. 2020: the head again, on balanced real images alone
            inner = {
                rows: models.score_resnet(model, images[which], device, penultimate=True)
                for rows, which in (("train", balanced_real), ("scored", evaluated))
            }
            fitted = models.fit_probe(inner["train"], draw.labels[balanced_real], inner["train"])
            scores = models.score_probe(fitted, inner["scored"])
        else:
            scores = models.score_resnet(model, images[evaluated], device)
        seconds = time.perf_counter() - begin

    labels, table = draw.labels[evaluated], domain.table.iloc[evaluated]
    choosing = np.isin(evaluated, draw.choosing)
    threshold = metrics.choose_threshold(labels[choosing], scores[choosing])
    scored = (
        table["partition"].to_numpy() == "test"
        if cell.evaluate_on == "test"
        else np.ones(len(evaluated), bool)
    )
    frame = pd.DataFrame(
        {"image": table["image"], "group": table["group"], "label": labels, "score": scores}
    )
    # 'choosing' is the part of validation that thresholds may see.
    frame.insert(
        2,
        "partition",
        np.where(
            table["partition"] == "test", "test", np.where(choosing, "choosing", "validation")
        ),
    )
    frame.to_parquet(folder / "scores.parquet", index=False)
    result = metrics.score(labels[scored], scores[scored], threshold)
    result["n_test_groups"] = int(table["group"][scored].nunique())
    return {
        "metrics": {k: _plain(v) for k, v in result.items()},
        "train_seconds": round(seconds, 3),
        **facts,
    }


def _plain(value):
    return value.item() if isinstance(value, np.generic) else value


def gather(
    keys: list[str], tables: Path, kept: tuple[pd.DataFrame, pd.DataFrame] | None = None
) -> pd.DataFrame:
    """Write cells.csv and scores.parquet of finished cells into `tables`; returns the cells.

    kept: rows of both tables that are taken over as they are. Rows are sorted by what was asked, not by when it was done.
    """
    rows, scores = [], []
    for key in sorted(set(keys)):
        folder = store.root() / "cell" / key
        fault = store.damage(folder)
        if fault:
            raise StudyError(f"cell {key[:12]}: {fault}; run the grid again to make it anew")
        rows.append(row(folder))
        scores.append(pd.read_parquet(folder / "scores.parquet").assign(cell=key))
    cells = pd.DataFrame(rows, columns=COLUMNS)
    if kept is not None:
        cells, scores = (
            pd.concat([kept[0][COLUMNS], cells]) if rows else kept[0][COLUMNS],
            [kept[1].astype(dict.fromkeys(TEXTS, str)), *scores],
        )
    cells = cells.sort_values([*KEY_COLUMNS, "evaluated_on", "cell"]).reset_index(drop=True)
    rank = {key: i for i, key in enumerate(cells["cell"])}
    frame = pd.concat(scores, ignore_index=True)[
        ["cell", "image", "group", "partition", "label", "score"]
    ]
    frame = (
        frame.assign(rank=frame["cell"].map(rank))
        .sort_values(["rank", "image"], kind="stable")
        .drop(columns="rank")
        .reset_index(drop=True)
    )
    for text in TEXTS:
        frame[text] = frame[text].astype("category")
    store.write_whole(
        tables / "cells.csv",
        lambda partial: cells.to_csv(partial, index=False, lineterminator="\n"),
    )
    store.write_whole(
        tables / "scores.parquet", lambda partial: frame.to_parquet(partial, index=False)
    )
    return cells
