"""How good a pool is: how far its images lie from one another and from real ones, how near their
distribution is to that of unseen real rare images, how many are copies, how easily they are told
apart.
"""

import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fsl_utils import StudyError, store
from fsl_utils.classifier import features, filters, judge, plan, probe
from fsl_utils.classifier.filters import FilterRequest
from fsl_utils.classifier.training import TrainingSet
from fsl_utils.data import partitions
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.generator import copies, sampling
from fsl_utils.generator.sampling import PoolRequest
from fsl_utils.pools import distances
from fsl_utils.request import Request

PAIRS = 500  # at most, of each kind
KINDS = (
    "synthetic-synthetic",
    "real-real within group",
    "real-real across groups",
    "synthetic-real",
)
SUBSETS = 100
FOLDS = 5
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
    return pairs(measure, synthetic, real, groups, names, request.pool.seed, device)


def _distances(pairs: pd.DataFrame) -> dict:
    """Mean distance and PSNR of every kind of pair."""
    row = {}
    for measure, part in pairs.groupby("measure", sort=False):
        means = part.groupby("kind")["value"].mean().reindex(KINDS)
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
        row[name], row[f"{name}_spread"] = kid(sample, real[unseen], request.pool.seed)
    return row


def _told(request: ReportRequest, made: np.ndarray, real: np.ndarray) -> dict:
    """Whether the pool can be told from real images, and how much of it is called rare."""
    pool, draw = request.pool, request.pool.task.draw
    unseen, sources = copies.held_out(pool.task), sampling.sources(pool, range(request.n))
    auroc = told_apart(made, sources, real[unseen], draw.groups[unseen], pool.seed)
    rare, rare_real = called_rare(made, real, draw)
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


def pairs(
    measure: distances.Measure,
    synthetic: np.ndarray,
    real: np.ndarray,
    groups: np.ndarray,
    names: np.ndarray,
    seed: int,
    device: str = "cpu",
) -> pd.DataFrame:
    """Distance and PSNR of random pairs of images, at most 500 of each kind: kind, measure, value,
    image_a, image_b.

    synthetic, real: uint8 [N or M, C, H, W]; groups, names: those of the real images, [M]. A
    synthetic image is named by its number in the pool. A pair is drawn once, never an image with
    itself.
    """
    images = np.concatenate([synthetic, real])
    vectors = measure.embed(images, device)
    titles = np.concatenate([[f"synthetic {i}" for i in range(len(synthetic))], names]).astype(
        object
    )
    n = len(synthetic)
    frames = []
    for kind, (a, b) in zip(KINDS, _candidates(n, groups)):
        rng = partitions.generator("pairs", kind, seed)
        chosen = np.sort(rng.choice(len(a), min(PAIRS, len(a)), replace=False))
        a, b = a[chosen], b[chosen]
        for name, values in (
            (measure.name, distances.between(vectors[a], vectors[b])),
            ("PSNR", psnr(images[a], images[b])),
        ):
            frames.append(
                pd.DataFrame(
                    {
                        "kind": kind,
                        "measure": name,
                        "value": values.astype(float),
                        "image_a": titles[a],
                        "image_b": titles[b],
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def _candidates(n: int, groups: np.ndarray):
    """All pairs of each kind in the order of KINDS, as positions in [synthetic, real]."""
    yield np.triu_indices(n, 1)
    a, b = np.triu_indices(len(groups), 1)
    same = groups[a] == groups[b]
    yield n + a[same], n + b[same]
    yield n + a[~same], n + b[~same]
    a, b = np.indices((n, len(groups))).reshape(2, -1)
    yield a, n + b


def psnr(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in dB of image i of `a` to image i of `b`, uint8 [N, C, H, W]:
    float64 [N].

    10 log10(255^2 / mean squared error); an error below 1/12, that of rounding to 8 bits, counts as
    1/12 (58.9 dB), so that two equal images do not make a mean infinite.
    """
    error = np.square(a.astype(float) - b).mean(axis=(1, 2, 3))
    return 10 * np.log10(255**2 / np.maximum(error, 1 / 12))


def kid(x: np.ndarray, y: np.ndarray, seed: int) -> tuple[float, float]:
    """Kernel distance of two sets of features, [n, d] and [m, d]: its value, and its spread over
    subsets.

    The unbiased squared maximum mean discrepancy of Binkowski et al. 2018 (Demystifying MMD GANs)
    with their kernel (x.y / d + 1)^3, here over EfficientNet-Lite2 features: not comparable to KID
    over Inception. Value: from all images; it may be negative. Spread: standard deviation over 100
    random halves of both sets, larger than the value's own error. Raises StudyError where a set has
    fewer than 2 images.
    """
    if min(len(x), len(y)) < 2:
        raise StudyError(f"KID of {len(x)} and {len(y)} images: at least 2 of each are needed")
    both = np.concatenate([x, y]).astype(np.float64)
    kernel = (both @ both.T / both.shape[1] + 1) ** 3
    n, rng = len(x), partitions.generator("kid", seed)
    value = _mmd2(kernel, np.arange(n), np.arange(n, len(both)))
    halves = [
        (
            rng.choice(n, max(2, n // 2), replace=False),
            n + rng.choice(len(y), max(2, len(y) // 2), replace=False),
        )
        for _ in range(SUBSETS)
    ]
    return value, float(np.std([_mmd2(kernel, a, b) for a, b in halves]))


def _mmd2(kernel: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased MMD^2 (Gretton et al. 2012, equation 3) of the samples at positions a and b."""

    def within(i):
        block = kernel[np.ix_(i, i)]
        return (block.sum() - np.trace(block)) / (len(i) * (len(i) - 1))

    return float(within(a) + within(b) - 2 * kernel[np.ix_(a, b)].mean())


def called_rare(made: np.ndarray, real: np.ndarray, draw) -> tuple[float, float]:
    """Share of synthetic images (features [N, D]) that a probe calls rare, and that share of the
    draw's rare validation images.

    The probe is trained on every real training image of the draw, which no classifier of the study
    sees; real: features of the domain.
    """
    training = np.concatenate([draw.shots, draw.more, draw.common])
    validation = draw.validation[draw.labels[draw.validation] == 1]
    fitted = probe.fit(TrainingSet(real[training], draw.labels[training], draw.groups[training]))
    return tuple(float((fitted.score(x) > 0.5).mean()) for x in (made, real[validation]))


def told_apart(
    synthetic: np.ndarray,
    sources: np.ndarray | None,
    real: np.ndarray,
    groups: np.ndarray,
    seed: int,
) -> float:
    """AUROC of a classifier that tells synthetic from real by their features, [N, d] and [M, d].

    Logistic regression on standardised features, scored on images it was not fitted to: neither a
    real group, [M], nor the synthetic images made from one source, [N], are on both sides. sources
    None: each synthetic image by itself. About .5 where nothing tells them apart. NaN for a single
    group or source.
    """
    made_from = pd.factorize(np.arange(len(synthetic)) if sources is None else sources)[0]
    taken_in = pd.factorize(groups)[0]
    folds = min(FOLDS, made_from.max() + 1, taken_in.max() + 1)
    if folds < 2:
        return float("nan")
    x, y = np.concatenate([synthetic, real]), np.repeat([1, 0], [len(synthetic), len(real)])
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.003, class_weight="balanced", max_iter=1000)
    )
    split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    group = np.concatenate([made_from, made_from.max() + 1 + taken_in])
    return float(
        roc_auc_score(
            y, cross_val_predict(model, x, y, groups=group, cv=split, method="decision_function")
        )
    )
