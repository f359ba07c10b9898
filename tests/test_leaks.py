"""The audit finds leaks that are put there, and none where there is none."""

import time

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.metrics import recall_score
from sklearn.neighbors import KNeighborsClassifier

from fsl_utils.data import domains, leaks, partitions


def scene(n_groups=60, per_group=5, noise=0.05, seed=0):
    """Images of `n_groups` objects, `per_group` noisy shots of each in its own light; table and
    uint8 [N, 1, 32, 32].
    """
    rng = np.random.default_rng(seed)
    objects = gaussian_filter(rng.standard_normal((n_groups, 32, 32)), (0, 2, 2))
    objects /= objects.std(axis=(1, 2), keepdims=True)
    shots = np.repeat(objects, per_group, axis=0) + noise * rng.standard_normal(
        (n_groups * per_group, 32, 32)
    )
    gain = rng.uniform(10, 30, (len(shots), 1, 1))
    pixels = np.clip(128 + gain * shots + rng.uniform(-30, 30, gain.shape), 0, 255).astype(
        np.uint8
    )[:, None]
    group = np.repeat([f"g{i:02d}" for i in range(n_groups)], per_group)
    table = pd.DataFrame(
        {
            "image": [f"i{i:04d}" for i in range(len(group))],
            "group": group,
            "stratum": "s",
            "label": np.repeat(np.arange(n_groups) % 4 == 0, per_group).astype(int),
        }
    )
    table["partition"] = partitions.assign(table, pd.Series(dtype=str), 0.0, "scene")
    return table, pixels


def test_identity_is_exact():
    table, _ = scene()
    draw = partitions.draw(table, 0, 10)
    assert leaks.split_groups(table).empty and leaks.split_groups(table, draw).empty
    assert leaks.siblings(table) == 0
    moved = table.assign(
        partition=table["partition"].where(
            table.index != table.index[table["partition"] == "test"][0], "development"
        )
    )
    found = leaks.split_groups(moved)
    assert list(found["group"]) == [table["group"][table["partition"] == "test"].iloc[0]]
    assert found["sides"][0] == "development, test" and found["images"][0] == 5


def test_a_draw_that_splits_a_group_is_found():
    table, _ = scene()
    draw = partitions.draw(table, 0, 10)
    shots = np.append(draw.shots, draw.validation[0])
    broken = partitions.Draw(
        0, shots, draw.common, draw.more, draw.validation[1:], draw.labels, draw.groups
    )
    found = leaks.split_groups(table, broken)
    assert (
        list(found["group"]) == [table["group"][draw.validation[0]]]
        and found["sides"][0] == "training, validation"
    )


def test_siblings_counts_what_it_says():
    table, _ = scene()
    leaky = partitions.by_image(table, "scene")
    development = set(table["group"][leaky["partition"] == "development"])
    test = leaky[(leaky["partition"] == "test") & (leaky["label"] == 1)]
    assert leaks.siblings(leaky) == pytest.approx(
        np.mean([g in development for g in test["whole_group"]])
    )
    assert leaks.siblings(leaky) > 0.9


def test_similarity_is_blind_to_light_and_finds_known_pairs():
    table, pixels = scene()
    vectors = leaks.fingerprints(pixels)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    darker = (pixels // 2 + 20).astype(np.uint8)
    assert ((vectors * leaks.fingerprints(darker)).sum(axis=1) > 0.97).all()

    clean = leaks.similar(table, pixels, 1e-3)
    leaky = leaks.similar(partitions.by_image(table, "scene"), pixels, 1e-3)
    assert clean.hit_rate > 0.95 and clean.false_alarm_rate <= 1e-3
    assert leaky.pairs["same_group"].mean() > 0.9 and leaky.flagged > 10 * max(clean.flagged, 1)


def test_rates_and_flags_agree_with_the_pairs_counted_one_by_one():
    table, pixels = scene(20, 3, noise=0.8)
    result = leaks.similar(table, pixels, 0.01)
    c = leaks.fingerprints(pixels) @ leaks.fingerprints(pixels).T
    group, partition = table["group"].to_numpy(), table["partition"].to_numpy()
    i, j = np.triu_indices(len(table), 1)
    same, within = group[i] == group[j], partition[i] == partition[j]
    above = c[i, j] >= result.threshold
    assert result.hit_rate == pytest.approx(above[same & within].mean(), abs=1e-3)
    assert result.false_alarm_rate == pytest.approx(above[~same & within].mean(), abs=1e-3)
    assert result.flagged == above[~within].sum() and result.crossing == (~within).sum()
    assert result.known_pairs == (same & within).sum()


def test_a_twin_across_the_boundary_tops_the_list():
    table, pixels = scene(noise=0.5)
    test, development = (
        np.flatnonzero(table["partition"] == p)[0] for p in ("test", "development")
    )
    pixels[test] = pixels[development]
    top = leaks.similar(table, pixels).pairs.iloc[0]
    assert (top["image"], top["other"]) == (
        table["image"][test],
        table["image"][development],
    ) and top["similarity"] > 0.999


@pytest.mark.parametrize("where", ["across", "within"])
def test_identical_pairs_are_named_and_do_not_move_the_threshold(where):
    table, pixels = scene(30, 3, noise=0.5)
    plain = leaks.similar(table, pixels)
    test, other = np.flatnonzero(table["partition"] == "test")[[0, -1]]
    twin = np.flatnonzero(table["partition"] == "development")[0] if where == "across" else other
    changed = pixels.copy()
    changed[twin] = changed[test]
    result = leaks.similar(table, changed)
    assert result.threshold == pytest.approx(plain.threshold, abs=0.15)
    assert result.identical == (where == "across")
    names = f"{table['image'][test]} = {table['image'][twin]}"
    assert (names in str(result)) == (where == "across")
    assert "nan" not in str(result) and result.flagged <= plain.flagged + 5


def test_without_groups_the_audit_says_that_it_cannot_judge():
    table, pixels = scene(20, 2)
    names = [f"part{i // 2:03d}_{i % 2}.png" for i in range(40)]
    result = leaks.similar(table.assign(image=names, group=names), pixels)
    assert "cannot be judged: every image is its own group" in str(result)
    assert "would make 20 groups of 40 images" in str(result)


def test_nearest_neighbour_is_scikit_learns():
    table, pixels = scene(noise=0.5)
    for t in (table, partitions.by_image(table, "scene")):
        found = leaks.nearest_neighbour(t, pixels)
        vectors, train, test = (
            leaks.fingerprints(pixels),
            (t["partition"] == "development").to_numpy(),
            (t["partition"] == "test").to_numpy(),
        )
        guess = (
            KNeighborsClassifier(1, algorithm="brute")
            .fit(vectors[train], t["label"][train])
            .predict(vectors[test])
        )
        assert found["recall"] == pytest.approx(recall_score(t["label"][test], guess))
        assert found["false_alarms"] == pytest.approx(guess[t["label"][test] == 0].mean())
    assert found["auroc"] > 0.99


def test_ten_thousand_images_take_less_than_a_minute():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (10_000, 1, 64, 64), dtype=np.uint8)
    table = pd.DataFrame(
        {
            "image": [f"i{i}" for i in range(10_000)],
            "group": [f"g{i // 4}" for i in range(10_000)],
            "partition": np.where(np.arange(10_000) // 4 % 3 == 0, "test", "development"),
        }
    )
    start = time.process_time()
    leaks.similar(table, pixels)
    assert time.process_time() - start < 60


def test_cracks_leak_by_image_and_not_by_tile(data):
    by_tile, by_image = (domains.load("magnetic_tile", "crack", p) for p in ("group", "image"))
    assert leaks.siblings(by_tile.table) == 0 and leaks.split_groups(by_tile.table).empty
    assert leaks.siblings(by_image.table) > 0.95
    apart, leaky = (leaks.nearest_neighbour(d.table, d.images(64)) for d in (by_tile, by_image))
    assert leaky["auroc"] > 0.95 and apart["auroc"] < 0.7
