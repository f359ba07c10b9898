"""The filter: rules in their order, thresholds from the draw alone, prefixes, shortfall, the
store."""

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from spoiled import Spoiled

from fsl_utils import store
from fsl_utils.classifier import filters, models
from fsl_utils.classifier.filters import FilterRequest
from fsl_utils.data import domains
from fsl_utils.data.images import resize
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.generator import backbones, copies, sampling
from fsl_utils.generator.sampling import PoolRequest

SHIPPED = backbones.pretrained("mini", domains.load("elpv"))


def test_neighbour_distance_is_scikit_learns():
    rng = np.random.default_rng(0)
    x, real = rng.normal(size=(9, 6)), rng.normal(size=(20, 6))
    expected = NearestNeighbors(n_neighbors=5).fit(real).kneighbors(x)[0][:, 4]
    np.testing.assert_allclose(filters.neighbour_distance(x, real, 5), expected)
    np.testing.assert_allclose(
        filters.neighbour_distance(x, real[:3], 5),
        NearestNeighbors(n_neighbors=3).fit(real[:3]).kneighbors(x)[0][:, 2],
    )


def test_an_image_falls_to_the_first_rule_that_it_breaks(monkeypatch):
    inner = np.array([[0.0], [0.0], [0.0], [9.0], [9.0], [9.0], [0.0]])
    scores = np.array([0.9, 0.5, 0.1, 0.9, 0.1, 0.1, 0.1])
    copied = np.array([False, False, False, False, False, True, True])
    monkeypatch.setattr(filters, "_look", lambda *_: (inner, scores))
    used = filters.Filter(None, np.zeros((6, 1)), score=0.5, distance=3.0)
    table = filters.judge(
        np.zeros((7, 1, 8, 8), np.uint8),
        used,
        pd.DataFrame({"copied": copied, "distance": np.arange(7) / 10}),
    )
    assert table["reason"].tolist() == [
        "",
        "",
        "common",
        "off_manifold",
        "common",
        "copied",
        "copied",
    ]
    assert table["score"].tolist() == scores.tolist() and table["distance"].tolist() == [
        0,
        0,
        0,
        9,
        9,
        9,
        0,
    ]
    assert filters.counts(table) == {"kept": 2, "copied": 2, "common": 2, "off_manifold": 1}


def judged(reasons, monkeypatch):
    table = pd.DataFrame({"number": np.arange(len(reasons)), "reason": reasons})
    looked = []

    def verdicts(pool, n, *rest):
        for begin in range(0, n, 4):
            looked.append(begin)
            yield table[begin : min(begin + 4, n)]

    monkeypatch.setattr(filters, "verdicts", verdicts)
    return looked


@given(
    st.lists(st.sampled_from(["", "", "copied", "common"]), min_size=40, max_size=40),
    st.integers(1, 10),
    st.integers(1, 10),
)
def test_what_a_small_set_keeps_is_the_beginning_of_a_larger_one(reasons, a, b):
    with pytest.MonkeyPatch.context() as patch:
        judged(reasons, patch)
        small, large = (pd.concat(filters.until({}, 2 * n, None)) for n in sorted((a, b)))
    kept = [t.loc[t["reason"] == "", "number"].tolist() for t in (small, large)]
    assert kept[0] == kept[1][: len(kept[0])]
    for table, numbers, n in zip((small, large), kept, sorted((a, b))):
        assert table["number"].tolist() == list(range(len(table))) and len(table) <= 4 * n
        assert len(numbers) == 2 * n or len(table) == 4 * n  # enough, or twice as many looked at
        assert not len(numbers) > 2 * n and (len(numbers) < 2 * n or table["reason"].iloc[-1] == "")


def test_no_further_image_is_made_than_needed(monkeypatch):
    looked = judged([""] * 3 + ["copied"] + [""] * 36, monkeypatch)
    table = pd.concat(filters.until({}, 5, None))
    assert looked == [0, 4] and len(table) == 6


@pytest.fixture(scope="module")
def small(elpv, draw):
    """A few dozen images of elpv as a domain of their own, and the draw on them."""
    parts = {
        "shots": draw.shots[:6],
        "more": draw.more[:2],
        "common": draw.common[:20],
        "validation": draw.validation[:30],
    }
    rows = np.unique(
        np.concatenate([*parts.values(), elpv.rows("base", 0)[:5], elpv.rows("test")[:4]])
    )
    moved = {name: np.searchsorted(rows, value) for name, value in parts.items()}
    table = elpv.table.iloc[rows].reset_index(drop=True)
    moved |= {"labels": draw.labels[rows], "groups": draw.groups[rows]}
    return FewShotTask(dataclasses.replace(elpv, table=table), dataclasses.replace(draw, **moved))


def test_thresholds_come_from_training_images_and_the_choosing_part_alone(
    small, own_store, monkeypatch
):
    domain, draw = small.domain, small.draw
    wanted = FilterRequest(small, 64, seed=0, steps=2)
    seeds, plain = [], models.train_resnet
    monkeypatch.setattr(
        models,
        "train_resnet",
        lambda *args, **named: seeds.append(named["seed"]) or plain(*args, **named),
    )
    used = filters.train(wanted)
    assert seeds[0] not in range(100_000)  # the seeds of cells are 1000 seed + draw
    again = filters.train(wanted)  # from the store
    assert (
        len(seeds) == 1
        and (again.score, again.distance) == (used.score, used.distance)
        and np.array_equal(again.real, used.real)
    )

    assert draw.labels[draw.choosing].sum() <= len(draw.shots) // 2
    chosen = domain.images(64)[draw.choosing]
    scores = models.score_resnet(used.model, chosen)
    assert used.score == pytest.approx(np.median(scores[draw.labels[draw.choosing] == 0]), rel=1e-4)
    features = models.score_resnet(used.model, chosen, penultimate=True)
    assert used.distance == pytest.approx(
        np.quantile(filters.neighbour_distance(features, used.real, 5), 0.99), rel=1e-5
    )
    assert len(used.real) == len(draw.shots) + len(draw.common)

    folder = wanted.place
    limits = (folder / "limits.json").read_bytes()
    shutil.rmtree(folder)
    seen = np.concatenate([draw.shots, draw.common, draw.choosing])
    filters.train(dataclasses.replace(wanted, task=FewShotTask(Spoiled(domain, seen), draw)))
    assert (folder / "limits.json").read_bytes() == limits


def test_the_network_sees_no_more_than_64_pixels(small, own_store, monkeypatch):
    seen, plain = [], models.train_resnet
    monkeypatch.setattr(
        models,
        "train_resnet",
        lambda images, *args, **named: seen.append(images.shape) or plain(images, *args, **named),
    )
    used = filters.train(FilterRequest(small, 128, seed=0, steps=2))
    assert seen[0][-2:] == (64, 64)
    images = small.images(128)[small.draw.validation]
    nearest = pd.DataFrame({"copied": False, "distance": np.zeros(len(images))})
    verdict = filters.judge(images, used, nearest)
    assert verdict.equals(filters.judge(resize(images, 64), used, nearest))
    keys = [FilterRequest(small, size, seed=0, steps=2).params() for size in (64, 128)]
    assert "pixels" not in keys[0] and keys[1]["pixels"] == 64


def test_verdicts_are_kept_by_chunk_and_made_again_where_damaged(small, own_store, monkeypatch):
    domain, draw = small.domain, small.draw
    images = np.concatenate(
        [
            domain.images(64)[draw.shots],
            domain.images(64)[draw.more],
            np.full((4, 1, 64, 64), 7, np.uint8),
        ]
    )
    monkeypatch.setattr(sampling, "CHUNK", 4)
    monkeypatch.setattr(
        sampling, "chunks", lambda pool, n, *_: (images[i : min(i + 4, n)] for i in range(0, n, 4))
    )
    pool, wanted = PoolRequest(small, SHIPPED), FilterRequest(small, 64, seed=0, steps=1)
    first = pd.concat(filters.verdicts(pool, 6, wanted))
    assert (
        first["number"].tolist() == list(range(6)) and (first["reason"] == "copied").all()
    )  # the shots themselves

    calls, plain = [], filters.judge
    monkeypatch.setattr(
        filters, "judge", lambda part, *rest: calls.append(len(part)) or plain(part, *rest)
    )
    table = pd.concat(filters.verdicts(pool, 12, wanted), ignore_index=True)
    assert calls == [4] and table[:6].equals(
        first.reset_index(drop=True)
    )  # the second chunk was judged whole
    asked = {"pool": pool.key, "chunk": 1, "filter": wanted.key}
    path = store.place("verdicts", asked) / "verdicts.parquet"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.warns(UserWarning, match="damaged"):
        assert pd.concat(filters.verdicts(pool, 12, wanted), ignore_index=True).equals(table)


def test_an_inpainted_image_is_no_copy_of_its_own_source(small):
    domain, draw = small.domain, small.draw
    rule = copies.rule(small, 64, unseen=draw.common)
    pool = PoolRequest(small, SHIPPED, mode="inpaint")
    images = domain.images(64)[sampling.sources(pool, range(8))]
    assert copies.judge(images, rule).rate == 1
    allowed = copies.judge(images, rule, sampling.resembled(pool, range(8), rule.rows))
    assert allowed.rate < 0.5
    shots = domain.images(64)[draw.shots]
    assert (
        copies.judge(shots, rule, sampling.resembled(pool, range(len(shots)), rule.rows))
        .nearest["copied"]
        .mean()
        > 0.5
    )
