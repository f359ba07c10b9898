"""Measures of a pool against real images: distances of pairs, KID, what classifiers say of it."""

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fsl_utils import StudyError
from fsl_utils.classifier import probe
from fsl_utils.classifier.training import TrainingSet
from fsl_utils.data import partitions
from fsl_utils.pools import distances

PAIRS = 500  # at most, of each kind
KINDS = (
    "synthetic-synthetic",
    "real-real within group",
    "real-real across groups",
    "synthetic-real",
)
SUBSETS = 100
FOLDS = 5


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
    share, share_real = (float((fitted.score(x) > 0.5).mean()) for x in (made, real[validation]))
    return share, share_real


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
