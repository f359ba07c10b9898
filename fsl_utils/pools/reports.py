"""How good a pool is: how far its images lie from one another and from real ones, how near their
distribution is to that of unseen real rare images, how many are copies, how easily they are told
apart.
"""

import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from fsl_utils import StudyError, store
from fsl_utils.classifier import features, filters, judge, plan, probe
from fsl_utils.classifier.filters import FilterRequest
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.generator import copies, sampling
from fsl_utils.generator.sampling import PoolRequest
from fsl_utils.pools import distances, measures
from fsl_utils.request import Request

MOST_BASE = 200  # images of the backbone alone that its KID is estimated from


@dataclass(frozen=True)
class ReportRequest(Request):
    """All that determines a report on the first n images of a pool.

    base: of the backbone alone, for `kid_base`. screen: a filter, for `rejected_*`. measure: a name
    of `distances.MEASURES`.
    """

    stage: ClassVar[str] = "report"
    pool: PoolRequest
    n: int
    image_size: int
    base: PoolRequest | None = None
    screen: FilterRequest | None = None
    measure: str = "enet_distance"

    def __post_init__(self):
        if self.n < 2:
            raise StudyError(f"n_images is {self.n}: a report needs at least 2 images")

    @classmethod
    def of(cls, task: FewShotTask, p):
        """The report that a notebook's parameters name."""
        pools = plan.pools(task, p)
        screen = plan.screen(task, p)
        return cls(pools["rare"], p.n_images, p.image_size, pools["base"], screen, p.measure)

    def params(self) -> dict:
        """Its key in the store is the hash of this."""
        task = self.pool.task
        return {
            **task.params(),
            "pool": self.pool.key,
            "n_images": self.n,
            "base": self.base.key if self.base else None,
            "rare_class": task.domain.rare_class,
            "protocol": task.domain.protocol,
            "image_size": self.image_size,
            "measure": self.measure,
            "judge": judge.VIEW.params(),
            "probe": probe.SETTINGS,
            "filter": self.screen.key if self.screen else None,
        }


def report(request: ReportRequest, device: str = "cpu") -> dict:
    """One row of pools.csv for the first n images of a pool, through the store.

    Real images are the draw's rare development images;
    KID, copies and AUROC hold the pool against those that neither adapter nor backbone saw
    (`copies.held_out`), and `kid_real` holds the shots against them. Columns: what was asked;
    `measure`, the name of the distance; mean distances and PSNR (dB) by kind of pair; kid,
    kid_real, kid_base with `_spread`; copy_rate beside copy_false_alarm; auroc_synthetic (.5: not
    to be told from real); called_rare, the share of the pool that a probe trained on all real
    training images (shots, more, common) calls rare, beside called_rare_real, that of the rare
    validation images; rejected_copied, rejected_common, rejected_off_manifold, how many the filter
    would drop by each rule. What cannot be computed is None. Raises StudyError where the weights of
    the measure cannot be had.
    """

    def build(folder):
        pool, n = request.pool, request.n
        synthetic = sampling.images_of(pool, n, device)
        tables = {"pairs": _pairs(request, synthetic, device)}
        rule = copies.rule(pool.task, request.image_size)
        verdicts = copies.judge(synthetic, rule, sampling.resembled(pool, range(n), rule.rows))
        tables |= {"nearest": verdicts.nearest, "unseen": verdicts.unseen}
        for name, table in tables.items():
            table.to_parquet(folder / f"{name}.parquet", index=False)
        domain, size = pool.task.domain, request.image_size
        real = features.of_domain(domain, size, ("development",), device, judge.VIEW)
        made = features.of_pool(synthetic, pool.key, sampling.CHUNK, device, judge.VIEW)
        row = {
            **_asked(request),
            **_distances(tables["pairs"]),
            **_kids(request, made, real, device),
            "copy_rate": verdicts.rate,
            "copy_false_alarm": verdicts.false_alarm,
            "copy_threshold": verdicts.threshold,
            **_told(request, made, real),
            **_rejected(request, device),
        }
        row = {name: None if isinstance(v, float) and np.isnan(v) else v for name, v in row.items()}
        store.write_text(folder / "report.json", json.dumps(row, indent=1, allow_nan=False))

    return json.loads((request.make(build, device=device) / "report.json").read_text())


def _asked(request: ReportRequest) -> dict:
    """The columns that say what was asked."""
    pool, domain = request.pool, request.pool.task.domain
    unseen = copies.held_out(pool.task)
    return {
        "report": request.key,
        "pool": pool.key,
        "domain": domain.name,
        "rare_class": domain.rare_class,
        "protocol": domain.protocol,
        "image_size": request.image_size,
        "n_real": pool.task.n_real,
        "draw": pool.task.draw.number,
        "seed": pool.seed,
        "mode": pool.mode,
        "strength": None if pool.mode == "noise" else pool.strength,
        "guidance": pool.guidance,
        "steps": pool.steps,
        "gate": pool.gate,
        "autoguidance": pool.autoguidance,
        "n_images": request.n,
        "n_unseen": len(unseen),
        "n_unseen_groups": int(domain.table["group"].iloc[unseen].nunique()),
        "measure": request.measure,
    }


def _pairs(request: ReportRequest, synthetic: np.ndarray, device: str) -> pd.DataFrame:
    """`pairs` of the pool with the draw's rare development images."""
    task = request.pool.task
    rare = np.concatenate([task.draw.shots, copies.held_out(task)])
    table, real = task.domain.table.iloc[rare], task.images(request.image_size)[rare]
    measure = distances.measure(request.measure)
    groups, names = table["group"].to_numpy(), table["image"].to_numpy()
    return measures.pairs(measure, synthetic, real, groups, names, request.pool.seed, device)


def _distances(pairs: pd.DataFrame) -> dict:
    """Mean distance and PSNR of every kind of pair."""
    row = {}
    for measure, part in pairs.groupby("measure", sort=False):
        means = part.groupby("kind")["value"].mean().reindex(measures.KINDS)
        word = "psnr" if measure == "PSNR" else "distance"
        row |= {f"{word}_{_word(kind)}": value for kind, value in means.items()}
    return row


def _kids(request: ReportRequest, made: np.ndarray, real: np.ndarray, device: str) -> dict:
    """KID of the pool, of the shots and of the backbone alone against the unseen real images."""
    draw, unseen = request.pool.task.draw, copies.held_out(request.pool.task)
    compared = {"kid": made, "kid_real": real[draw.shots]}
    if base := request.base:
        without = sampling.images_of(base, min(request.n, MOST_BASE), device)
        compared["kid_base"] = features.of_pool(
            without, base.key, sampling.CHUNK, device, judge.VIEW
        )
    row = {}
    for name, sample in compared.items():
        row[name], row[f"{name}_spread"] = measures.kid(sample, real[unseen], request.pool.seed)
    return row


def _told(request: ReportRequest, made: np.ndarray, real: np.ndarray) -> dict:
    """Whether the pool can be told from real images, and how much of it is called rare."""
    pool, draw = request.pool, request.pool.task.draw
    unseen, sources = copies.held_out(pool.task), sampling.sources(pool, range(request.n))
    auroc = measures.told_apart(made, sources, real[unseen], draw.groups[unseen], pool.seed)
    rare, rare_real = measures.called_rare(made, real, draw)
    return {"auroc_synthetic": auroc, "called_rare": rare, "called_rare_real": rare_real}


def _rejected(request: ReportRequest, device: str) -> dict:
    """How many images the filter would drop by each rule; None without a filter."""
    judged = {}
    if request.screen:
        verdicts = filters.verdicts(request.pool, request.n, request.screen, device)
        judged = filters.counts(pd.concat(verdicts))
    return {f"rejected_{rule}": judged.get(rule) for rule in filters.RULES}


def details(row: dict) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The tables behind a row of `report`: pairs (see `pairs`), nearest and unseen (see
    `copies.Verdicts`).
    """
    folder = store.root() / "report" / row["report"]
    return tuple(
        pd.read_parquet(folder / f"{name}.parquet") for name in ("pairs", "nearest", "unseen")
    )


def _word(kind: str) -> str:
    """'real-real within group' -> 'real_within', 'synthetic-real' -> 'synthetic_real'."""
    return (
        kind.replace("real-real", "real")
        .removesuffix(" group")
        .removesuffix(" groups")
        .replace("-", "_")
        .replace(" ", "_")
    )
