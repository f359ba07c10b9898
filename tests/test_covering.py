import numpy as np
from scipy.spatial.distance import cdist

from fsl_utils.classifier import arms, covering
from fsl_utils.study import grid

RNG = np.random.default_rng(0)
SHOTS = RNG.normal(size=(8, 32))


def around(shot, n):
    return SHOTS[shot] * RNG.uniform(0.5, 2, (n, 1)) + 0.1 * RNG.normal(size=(n, 32))


def test_every_shot_has_its_like_though_the_pool_is_of_one_alone():
    """120 candidates like shot 0, and one like each of the others, in any order."""
    likes = np.repeat(range(8), [113, 1, 1, 1, 1, 1, 1, 1])
    order = RNG.permutation(len(likes))
    pool = np.concatenate([around(shot, int((likes == shot).sum())) for shot in range(8)])[order]
    chosen = covering.choose(SHOTS, pool, 8)
    assert list(likes[order][chosen]) == list(range(8))


def test_shots_take_turns_and_no_image_is_taken_twice():
    pool = RNG.normal(size=(40, 32))
    chosen = covering.choose(SHOTS, pool, 40)
    assert sorted(chosen) == list(range(40))
    near = cdist(SHOTS, pool, "cosine")
    assert list(chosen[:8]) == list(_greedy(near, 8)) and chosen[0] == near[0].argmin()
    assert np.array_equal(covering.choose(SHOTS, pool, 20), chosen[:20])


def _greedy(distance, n):
    left = set(range(distance.shape[1]))
    for turn in range(n):
        best = min(left, key=lambda j: distance[turn % len(distance)][j])
        left.remove(best)
        yield best


def test_what_is_kept_covers_better_than_the_first_of_the_pool():
    pool = np.concatenate([around(shot, 20) for shot in (0, 0, 1, 2, 3, 4, 5, 6, 7)])
    pool = pool[RNG.permutation(len(pool))]
    kept, first = pool[covering.choose(SHOTS, pool, 16)], pool[:16]
    reach = [cdist(SHOTS, images, "cosine").min(axis=1).mean() for images in (kept, first)]
    assert reach[0] < reach[1]


def test_a_grid_samples_as_many_as_it_looks_at(tmp_path):
    source = arms.get("lora_covering").source
    assert source.candidates(40) == 40 * covering.CANDIDATES
    assert arms.get("lora").source.candidates(40) == 40
    file = tmp_path / "grid.yaml"
    text = "{name: g, defaults: {n_real: 10, ratios: [1]}, sweep: [{arms: [lora, lora_covering]}]}"
    file.write_text(text)
    (pool,) = [node for node in grid.nodes(grid.read(file)[1]) if node.stage == "pool"]
    assert pool.values["n_images"] == 10 * covering.CANDIDATES
