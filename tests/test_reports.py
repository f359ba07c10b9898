"""PSNR, KID, AUROC and pairs against closed forms, scikit-learn and brute force; a report of a pool
that copies.
"""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics.pairwise import polynomial_kernel

from fsl_utils import StudyError, store
from fsl_utils.classifier import filters
from fsl_utils.classifier.filters import FilterRequest
from fsl_utils.data import domains, partitions
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.generator import backbones, copies, sampling
from fsl_utils.generator.adapter import AdapterRequest
from fsl_utils.generator.sampling import PoolRequest
from fsl_utils.pools import distances, measures, reports
from fsl_utils.pools.reports import ReportRequest

ENET = distances.measure("enet_distance")
SHIPPED = backbones.pretrained("mini", domains.load("elpv"))


def noise_images(seed, n):
    return np.random.default_rng(seed).integers(0, 256, (n, 1, 64, 64), dtype=np.uint8)


def test_psnr_of_a_known_error():
    a = np.full((3, 1, 8, 8), 100, np.uint8)
    b = a.copy()
    b[1] += 5  # mean squared error 25
    b[2, 0, 0, 0] = 0  # one pixel of 64 off by 100
    expected = [
        10 * np.log10(255**2 * 12),
        10 * np.log10(255**2 / 25),
        10 * np.log10(255**2 / (100**2 / 64)),
    ]
    np.testing.assert_allclose(measures.psnr(a, b), expected)
    np.testing.assert_array_equal(measures.psnr(a, b), measures.psnr(b, a))  # uint8 does not wrap


def test_kid_agrees_with_brute_force():
    rng = np.random.default_rng(0)
    x, y = rng.random((7, 20)), rng.random((5, 20)) + 0.3

    def k(u, v):
        return polynomial_kernel(u[None], v[None], degree=3, gamma=1 / 20, coef0=1).item()

    def mean(pairs):
        return np.mean([k(u, v) for u, v in pairs])

    xx = mean([(u, v) for i, u in enumerate(x) for j, v in enumerate(x) if i != j])
    yy = mean([(u, v) for i, u in enumerate(y) for j, v in enumerate(y) if i != j])
    assert measures.kid(x, y, 0)[0] == pytest.approx(
        xx + yy - 2 * mean([(u, v) for u in x for v in y]), rel=1e-9
    )


def test_kid_is_unbiased():
    """Its mean over samples of two normal distributions is the closed form of the squared
    discrepancy.
    """
    d, shift = 4, np.ones(4)

    def k(
        m,
        n,
        # E (x.y / d + 1)^3 for x ~ N(m, 1), y ~ N(n, 1): the moments of x.y, by taking x given y
        # first
    ):
        mn, mm, nn = m @ n, m @ m, n @ n
        first, second, third = mn, d + mm + nn + mn**2, mn**3 + 3 * mn * mm + 3 * mn * (nn + d + 2)
        return 1 + 3 * first / d + 3 * second / d**2 + third / d**3

    rng = np.random.default_rng(1)
    for mean in (0 * shift, shift):
        found = np.array(
            [
                measures.kid(rng.normal(size=(12, d)), rng.normal(size=(20, d)) + mean, 0)[0]
                for _ in range(150)
            ]
        )
        expected = k(0 * shift, 0 * shift) + k(mean, mean) - 2 * k(0 * shift, mean)
        assert abs(found.mean() - expected) < 4 * found.std() / 150**0.5


def test_a_random_half_is_told_apart_by_chance_and_another_distribution_surely():
    rng = np.random.default_rng(2)
    real, groups = rng.normal(size=(150, 8)), np.repeat(np.arange(15), 10)
    by_chance = [
        measures.told_apart(rng.normal(size=(100, 8)), None, real, groups, seed)
        for seed in range(8)
    ]
    assert abs(np.mean(by_chance) - 0.5) < 0.06
    assert measures.told_apart(rng.normal(size=(100, 8)) + 2, None, real, groups, 0) > 0.95
    assert np.isnan(measures.told_apart(real, None, real, np.zeros(150), 0))


def test_what_names_a_group_or_a_source_does_not_tell_real_from_synthetic():
    """Features say which source an image has, nothing else: a split by image would tell all
    apart."""
    rng = np.random.default_rng(3)
    origins = rng.normal(size=(40, 64))
    real, made = origins[:20].repeat(10, axis=0), origins[20:].repeat(10, axis=0)
    which = np.repeat(np.arange(20), 10)
    assert measures.told_apart(made, None, real, np.arange(200), 0) > 0.9
    assert measures.told_apart(made, which, real, which, 0) < 0.75


def test_pairs_are_of_their_kind_and_measured_right():
    synthetic, real = noise_images(0, 5), noise_images(1, 6)
    groups, names = np.array([0, 0, 0, 1, 1, 2]), np.array(list("abcdef"))
    frame = measures.pairs(ENET, synthetic, real, groups, names, seed=0)
    assert list(frame.columns) == ["kind", "measure", "value", "image_a", "image_b"]
    assert set(frame["measure"]) == {"enet_distance", "PSNR"}
    of = {
        **{f"synthetic {i}": ("synthetic", synthetic[i]) for i in range(5)},
        **{n: (g, real[i]) for i, (n, g) in enumerate(zip(names, groups))},
    }
    net, seen = ENET, {}
    for row in frame.itertuples():
        (a, first), (b, second) = of[row.image_a], of[row.image_b]
        kinds = {
            "synthetic-synthetic": a == b == "synthetic",
            "synthetic-real": a == "synthetic" != b,
            "real-real within group": "synthetic" not in (a, b) and a == b,
            "real-real across groups": "synthetic" not in (a, b) and a != b,
        }
        assert kinds[row.kind], row
        seen.setdefault((row.kind, row.measure), set()).add(frozenset((row.image_a, row.image_b)))
        expected = (
            measures.psnr(first[None], second[None])
            if row.measure == "PSNR"
            else distances.between(net.embed(first[None]), net.embed(second[None]))
        )
        assert row.value == pytest.approx(expected.item(), rel=1e-3)
    # few images: every pair there is, once
    counts = {kind: len(seen[kind, "PSNR"]) for kind in measures.KINDS}
    assert counts == {
        "synthetic-synthetic": 10,
        "real-real within group": 4,
        "real-real across groups": 11,
        "synthetic-real": 30,
    }
    assert len(frame) == 2 * sum(counts.values())
    assert frame.equals(measures.pairs(ENET, synthetic, real, groups, names, seed=0))


def test_pairs_are_at_most_500_of_a_kind_and_change_with_the_seed(monkeypatch):
    monkeypatch.setattr(measures, "PAIRS", 7)
    synthetic, real = noise_images(0, 6), noise_images(1, 6)
    drawn = [
        measures.pairs(ENET, synthetic, real, np.arange(6), np.array(list("abcdef")), seed)
        for seed in (0, 1)
    ]
    for frame in drawn:
        sizes = frame.groupby("kind").size().to_dict()
        assert sizes == {
            "synthetic-synthetic": 14,
            "real-real across groups": 14,
            "synthetic-real": 14,
        }  # each image its own group
    assert not drawn[0].equals(drawn[1])


@pytest.fixture(scope="module")
def small(elpv, draw):
    """A few dozen images of elpv as a domain of their own, and the draw on them."""
    rng = np.random.default_rng(0)
    parts = {
        "shots": draw.shots[:6],
        "more": draw.more[:12],
        "common": draw.common[:5],
        "validation": draw.validation[:20],
    }
    rows = np.unique(
        np.concatenate([*parts.values(), rng.choice(elpv.rows("base", 0), 20, replace=False)])
    )
    moved = {name: np.searchsorted(rows, value) for name, value in parts.items()}
    moved |= {"labels": draw.labels[rows], "groups": draw.groups[rows]}
    domain = dataclasses.replace(elpv, table=elpv.table.iloc[rows].reset_index(drop=True))
    return FewShotTask(domain, dataclasses.replace(draw, **moved))


def test_report_of_a_pool_of_copies(small, monkeypatch, own_store):
    domain, draw = small.domain, small.draw
    shots = domain.images(64)[draw.shots]
    copied = np.concatenate(
        [
            shots,
            np.clip(
                shots.astype(int) + np.random.default_rng(0).integers(-6, 7, shots.shape), 0, 255
            ).astype(np.uint8),
        ]
    )
    pool, base = PoolRequest.of(AdapterRequest.new(small, 1)), PoolRequest(small, SHIPPED)
    painted, calls = {pool.key: copied, base.key: noise_images(0, 10)}, []

    def images_of(pool, n, *rest):
        calls.append(pool)
        return painted[pool.key][:n]

    monkeypatch.setattr(sampling, "images_of", images_of)
    request = ReportRequest(pool, 12, 64, base)
    row = reports.report(request)
    assert row["copy_rate"] >= 10 / 12 and 0 <= row["copy_false_alarm"] <= 0.5
    assert row["kid"] < row["kid_base"] and row["kid_real"] < row["kid_base"]
    assert row["measure"] == "enet_distance" and row["pool"] == pool.key
    assert (row["n_images"], row["n_real"], row["n_unseen"]) == (
        12,
        6,
        len(copies.held_out(small)),
    )
    missing = {
        "strength",
        "distance_real_within",
        "psnr_real_within",
        "rejected_copied",
        "rejected_common",
        "rejected_off_manifold",
    }
    assert row["strength"] is None and not {k for k, v in row.items() if v is None} - missing

    assert reports.report(request) == row and calls == [pool, base]  # asked twice, made once
    pairs, nearest, unseen = reports.details(row)
    assert set(unseen["image"]) <= set(domain.table["image"].iloc[copies.held_out(small)])
    for kind, column in (
        ("synthetic-synthetic", "synthetic_synthetic"),
        ("real-real across groups", "real_across"),
        ("synthetic-real", "synthetic_real"),
    ):
        for measure, word in (("enet_distance", "distance"), ("PSNR", "psnr")):
            mine = pairs[(pairs["kind"] == kind) & (pairs["measure"] == measure)]
            assert row[f"{word}_{column}"] == pytest.approx(mine["value"].mean())
    assert nearest["copied"].mean() == row["copy_rate"]
    folder = own_store / "report" / row["report"]
    assert store.damage(folder) is None and json.loads((folder / "report.json").read_text()) == row

    monkeypatch.setattr(
        filters,
        "verdicts",
        lambda wanted, n, *rest: iter(
            [pd.DataFrame({"reason": ["copied"] * 8 + ["common"] * (n - 9) + [""]})]
        ),
    )
    screen = FilterRequest(small, 64, 0, 1)
    screened = reports.report(dataclasses.replace(request, screen=screen))
    assert [screened[f"rejected_{rule}"] for rule in filters.RULES] == [8, 3, 0] and screened[
        "report"
    ] != row["report"]


def test_called_rare_against_a_probe_of_all_training_images():
    """Two clusters: the pool is half rare, the held-out rare images all rare; validation images
    train nothing.
    """
    rng = np.random.default_rng(4)
    labels = np.repeat([1, 0], [60, 140])
    real = rng.normal(size=(200, 10)) + labels[:, None] * 4
    draw = partitions.Draw(
        0,
        np.arange(10),
        np.arange(60, 160),
        np.arange(10, 40),
        np.concatenate([np.arange(40, 60), np.arange(160, 200)]),
        labels,
        np.array([f"part{i % 20}" for i in range(200)]),
    )
    made = np.concatenate([rng.normal(size=(30, 10)) + 4, rng.normal(size=(30, 10))])
    assert measures.called_rare(made, real, draw) == (
        pytest.approx(0.5, abs=0.05),
        pytest.approx(1, abs=0.05),
    )
    swapped = real.copy()
    swapped[draw.validation] = real[draw.validation][::-1]
    assert measures.called_rare(made, swapped, draw)[0] == measures.called_rare(made, real, draw)[0]


def test_a_report_of_one_image_is_refused(small):
    with pytest.raises(StudyError, match="n_images is 1"):
        ReportRequest(PoolRequest(small, SHIPPED), 1, 64)
