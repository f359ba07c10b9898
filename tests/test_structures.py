"""What drawn defects look like, and how a mask is told: thin marks apart from wide ones."""

import numpy as np
import torch

from fsl_utils.generator import structures


def test_a_crack_is_thin_and_a_dead_area_is_wide():
    masks = torch.zeros(2, 1, 64, 64, dtype=torch.uint8)
    masks[0, 0, 10, 5:60] = 255
    masks[0, 0, 11, 5:60] = 255
    masks[1, 0, 20:40, 30:50] = 255
    thin, wide = structures.channels(masks).unbind(1)
    assert thin[0].sum() == 110 and wide[0].sum() == 0
    assert wide[1].sum() == 400 and thin[1].sum() == 0
    both = structures.channels(masks.amax(dim=0, keepdim=True))
    assert both.shape == (1, 2, 64, 64)
    assert torch.equal(both.sum(dim=1)[0] > 0, masks.amax(dim=0)[0] > 0)


def test_a_wide_mark_at_the_edge_stays_wide():
    masks = torch.zeros(1, 1, 32, 32, dtype=torch.uint8)
    masks[..., :10, :] = 255
    assert structures.channels(masks)[0, 1].sum() == 320


def test_drawn_defects_are_dark_and_lie_where_the_mask_says():
    image = np.full((128, 128), 200, np.uint8)
    for seed in range(40):
        out, mask = structures.draw(image, np.random.default_rng(seed))
        again, _ = structures.draw(image, np.random.default_rng(seed))
        assert np.array_equal(out, again) and set(np.unique(mask)) <= {0, 255}
        assert (out <= image).all()
        change = 200 - out.astype(int)
        # Outside the mask a pixel is covered by less than a quarter, so loses less than that.
        assert change[mask == 0].max(initial=0) <= 200 * 0.25 * 0.95 + 1
        if (mask > 0).any():
            assert change[mask > 0].min() >= 0.25 * 0.25 * 200 - 1


def test_lines_and_blots_are_both_drawn():
    told = torch.from_numpy(
        np.stack([structures.mask(128, np.random.default_rng(i)) for i in range(60)])
    )
    thin, wide = structures.channels(told[:, None]).unbind(1)
    assert (thin.sum(dim=(1, 2)) > 20).float().mean() > 0.6
    assert 0.2 < (wide.sum(dim=(1, 2)) > 50).float().mean() < 0.7
