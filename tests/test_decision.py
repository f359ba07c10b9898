"""A decision on made features with a known truth: what is chosen, said and left unsaid."""

from types import SimpleNamespace

import numpy as np
import pytest

from fsl_utils import StudyError
from fsl_utils.classifier import probe
from fsl_utils.decision import candidates, evidence, folds, recommendation, room
from fsl_utils.decision.candidates import Candidate, beside, linear, training


def plain(seen, rows):
    return linear(probe.fit(training(seen, "pooled", rows), C=1.0))  # its choice is not the point


PLAIN = Candidate("probe", candidates.REAL.title, "real", "pooled", plain)
WAYS = [PLAIN, candidates.get("whitened")]


class Made:
    """Images of groups, each a vector of features: what `seen.Seen` is, without a network."""

    def __init__(self, name, groups, strength, each=3, dimensions=20, rare_share=1.0):
        rng = np.random.default_rng(7)
        n = groups * each
        self.groups = np.repeat(np.arange(groups), each)
        self.labels = (np.arange(n) % each == 0).astype(int)
        self.labels[self.groups >= rare_share * groups] = 0
        self.key = {"data": f"made {name}"}
        self.x = (
            rng.normal(size=(n, dimensions))
            + 0.7 * rng.normal(size=(groups, 1, dimensions))[self.groups, 0]
        )
        self.x[self.labels == 1, :3] += strength
        self.fresh = rng.normal(size=(400, dimensions))
        self.fresh[:, :3] += strength

    def of(self, takes):
        return self.x

    @property
    def counts(self):
        rare = self.labels == 1
        return {
            "rare_class": "scratch",
            "common_class": "good",
            "rare": int(rare.sum()),
            "rare_groups": len(set(self.groups[rare])),
        }


def oracle(seen, rows):
    """As if a generator painted perfect rare images."""
    real = training(seen, "pooled", rows)
    return linear(probe.fit(beside(real, seen.fresh, np.ones(len(seen.fresh), int)), C=1.0))


def useless(seen, rows):
    """As if it painted the shots again."""
    real = training(seen, "pooled", rows)
    rare = real.inputs[real.labels == 1]
    return linear(probe.fit(beside(real, rare, np.ones(len(rare), int)), C=1.0))


def painted(make):
    return Candidate(
        "lora",
        "painted",
        "synthetic",
        "pooled",
        make,
        {"made": make.__name__},
        nested=False,
        repeated=False,
    )


def decide(seen, ways=WAYS, repeats=2):
    fold = folds.assign(seen.labels, seen.groups, repeats)
    every = [*ways, *room.curve(seen.labels, fold, PLAIN)]
    *_, found = evidence.gather(seen, every, fold)
    return recommendation.of(found, list(ways), seen.counts), found


@pytest.fixture(scope="module")
def strong():
    return decide(Made("strong", 20, 4.0), [*WAYS, painted(useless)])


@pytest.fixture(scope="module")
def noise():
    return decide(Made("noise", 20, 0.0), [*WAYS, painted(useless)])


def test_folds_hold_whole_groups_with_rare_images_each():
    seen = Made("folds", 23, 1.0, rare_share=0.5)
    fold = folds.assign(seen.labels, seen.groups, 3)
    assert fold.shape == (3, len(seen.labels)) and fold.max() == 4
    for each in fold:
        assert all(len(set(each[seen.groups == group])) == 1 for group in range(23))
        rare = np.bincount(each[seen.labels == 1], minlength=5)
        assert rare.max() - rare.min() <= 1
    assert (fold[0] != fold[1]).any()


def test_every_image_is_scored_by_what_never_saw_its_group():
    """A candidate that answers with the share of its training rows in the image's group."""

    class Nosy(Candidate):
        def scores(self, seen, rows, scored):
            assert not set(seen.groups[rows]) & set(seen.groups[scored])
            return np.full(len(scored), 0.5)

    nosy = Nosy("nosy", "", "real", "pooled", None)
    _, found = decide_evidence([nosy])
    assert np.isfinite(found.outer["nosy"]).all()
    for repeat, fold in enumerate(found.fold):
        for k in range(5):
            missing = np.isnan(found.inner["nosy"][repeat, k])
            assert (missing == (fold == k)).all()


def decide_evidence(ways):
    seen = Made("nosy", 12, 1.0)
    fold = folds.assign(seen.labels, seen.groups, 2)
    *_, found = evidence.gather(seen, ways, fold)
    return seen, found


def test_a_strong_difference_needs_real_images_alone(strong):
    answer, _ = strong
    assert answer.verdict == "take" and answer.chosen == "probe"
    assert answer.score["value"] > 0.95 and answer.no_skill < 0.45
    text = " ".join(answer.sentences)
    assert "Take a logistic regression on frozen features of your real images" in text
    assert "20 images of scratch in 20 groups" in text
    assert "add nothing that you could notice" in text and "little to gain" in text


def test_no_difference_is_said_and_synthesis_is_not_recommended(noise):
    answer, _ = noise
    assert answer.verdict == "no skill" and answer.chosen != "lora"
    assert "better than guessing" in answer.sentences[0]
    assert answer.score["low"] < answer.no_skill < answer.score["high"]
    assert not any("take them" in sentence for sentence in answer.sentences)


def test_synthesis_is_recommended_where_its_interval_says_so():
    answer, _ = decide(Made("weak", 24, 1.1), [PLAIN, painted(oracle)])
    assert answer.chosen == "lora" and any("take them" in each for each in answer.sentences)


def test_six_groups_cannot_tell():
    answer, _ = decide(Made("six", 6, 4.0))
    assert answer.verdict == "cannot tell" and answer.chosen == "probe"
    assert "because you have 6 groups" in answer.sentences[0]


def test_five_rare_images_give_an_answer_that_says_how_few():
    answer, _ = decide(Made("five", 25, 4.0, rare_share=0.2))
    assert answer.verdict == "cannot tell"
    assert "5 images of scratch in 5 groups" in answer.sentences[0]


def test_three_groups_are_no_ground_for_anything():
    seen = Made("three", 3, 4.0)
    assert folds.number(seen.labels, seen.groups) == 0
    answer = recommendation.none(seen.counts)
    assert answer.verdict == "cannot tell" and answer.chosen == ""
    assert "3 groups with scratch (3 images)" in answer.sentences[0]


def test_what_is_chosen_is_not_what_is_scored():
    """Of twenty ways without skill the best looks good; the procedure does not."""

    def guess(number):
        def scores(seen, rows, scored):
            rng = np.random.default_rng(number)
            return rng.random(len(seen.labels))[scored]

        way = SimpleNamespace(
            name=f"guess {number}",
            kind="free",
            nested=True,
            repeated=True,
            scores=scores,
            params=lambda: {"guess": number},
        )
        return way

    seen = Made("guesses", 14, 0.0)
    fold = folds.assign(seen.labels, seen.groups, 2)
    *_, found = evidence.gather(seen, [guess(i) for i in range(20)], fold)
    best = max(found.levels[name][:, 0].mean() for name in found.outer)
    values, chosen = evidence.procedure(found, "guess 0")
    assert values[:, 0].mean() < best - 0.03 and len(chosen) == 2 and len(chosen[0]) == 5


def test_the_simplest_within_one_standard_error():
    def values(level):
        return np.append(level, np.random.default_rng(0).normal(level, 0.05, 200))[None]

    plain, near, far = values(0.80), values(0.84), values(0.90)
    assert evidence.simplest({"plain": plain, "near": near}) == "plain"
    assert evidence.simplest({"near": near, "plain": plain}) == "near"
    assert evidence.simplest({"plain": plain, "near": near, "far": far}) == "far"


def test_a_way_that_cannot_be_fitted_is_left_out_with_its_reason():
    def broken(seen, rows):
        raise StudyError("it lacks a thing")

    way = Candidate("broken", "broken", "free", "pooled", broken)
    answer, found = decide(Made("broken", 12, 4.0), [PLAIN, way])
    assert found.left_out == {"broken": "it lacks a thing"} == answer.left_out
    assert [row["name"] for row in answer.table] == ["probe"]


def test_the_threshold_comes_with_what_to_expect(strong):
    answer, _ = strong
    threshold = answer.threshold
    assert 0 < threshold["value"] < 1
    for metric in ("precision", "recall"):
        assert threshold[metric]["low"] <= threshold[metric]["value"] <= threshold[metric]["high"]


def test_a_second_run_fits_nothing(strong, monkeypatch):
    monkeypatch.setattr(probe, "fit", None)
    answer, _ = decide(Made("strong", 20, 4.0), [*WAYS, painted(useless)])
    assert answer.params() == strong[0].params()


def test_no_time_goes_to_a_generator_where_nothing_could_be_seen(strong):
    assert "would add less" in recommendation.nothing_to_gain(strong[1], WAYS)
    _, six = decide(Made("six", 6, 4.0))
    assert "6 groups could not show" in recommendation.nothing_to_gain(six, WAYS)


def test_as_many_real_images_as_could_be_painted_say_whether_to_paint(strong, monkeypatch):
    found = strong[1]
    most = room.PAINTED * found.labels.sum()  # which bring 1 here
    monkeypatch.setattr(room, "gain", lambda _, n: {"further": n, "high": n / most})
    monkeypatch.setattr(room, "detectable", lambda *_: 0.9)
    assert recommendation.nothing_to_gain(found, WAYS) == ""
    monkeypatch.setattr(room, "detectable", lambda *_: 1.1)
    assert "would add less" in recommendation.nothing_to_gain(found, WAYS)


def test_a_level_without_error_is_not_called_certain(strong):
    answer, found = strong
    assert answer.score["value"] == 1 and answer.score["low"] == 1 - 3 / found.rare_groups


def test_groups_that_cannot_be_held_out_twice_are_an_error():
    seen = Made("three", 3, 4.0)
    with pytest.raises(StudyError, match="at least 4 groups"):
        folds.assign(seen.labels, seen.groups, 2)
