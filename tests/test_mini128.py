import dataclasses

import numpy as np
import pytest
import torch

from fsl_utils import StudyError
from fsl_utils.data import partitions
from fsl_utils.data.datasets import registry
from fsl_utils.generator import backbones, mini, mini128, mini_weights
from fsl_utils.generator.mini128 import Mini128


@pytest.fixture(scope="module")
def untrained():
    return mini.create(torch.linspace(2, 0.02, 64), 0, Mini128)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_encode_and_decode_are_inverse(untrained):
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 128, 128), dtype=np.uint8)
    latents = untrained.encode(images)
    assert latents.shape == (3, *untrained.latent_shape)
    assert np.array_equal(untrained.decode(latents), images)


def test_the_loss_is_that_of_flows_velocity(untrained):
    """Of a prediction x' it is |(x' - x) / s|^2, since the velocity n - x is (z - x) / s."""
    clean, error = noise(16, 64, 16, 16), noise(16, 64, 16, 16, seed=2)
    levels = []

    class Fixed(Mini128):
        def predict(self, latents, timesteps, condition):
            s = (timesteps / mini128.TIMES)[:, None, None, None]
            levels.append(s.flatten())
            z = (1 - s) * clean + s * noise(16, 64, 16, 16, seed=1)
            torch.testing.assert_close(latents, z)
            return clean + scale * s * error

    model = Fixed(untrained.denoiser, untrained.scales, "", {})
    for scale in (0.0, 0.5):
        generator = torch.Generator().manual_seed(1)
        loss = model.loss(clean, torch.zeros(16, dtype=torch.long), generator)
        band = model.scales.sqrt() / model.scales.sqrt().mean()
        expected = ((scale * error).square().mean(dim=(2, 3)) * band).mean(dim=1)
        torch.testing.assert_close(loss, expected, rtol=1e-3, atol=1e-6)
    assert levels[0].min() > 0 and levels[0].max() < 1


@pytest.mark.parametrize("spread", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("s", [0.01, 0.3, 0.5, 0.9, 0.99])
def test_a_network_of_zeros_is_the_best_linear_denoiser(s, spread):
    """Of independent x and n: E[x | z] = z cov(x, z) / var(z)."""
    x, n = spread * noise(200_000), noise(200_000, seed=1)
    z = (1 - s) * x + s * n
    given = torch.tensor(s), torch.tensor(spread)
    skip, out, into = map(float, mini128._preconditioning(*given))
    assert skip == pytest.approx(float((x * z).mean() / z.square().mean()), rel=0.02, abs=0.01)
    # What the network sees and what is left for it have unit variance at every noise level.
    assert float((into * z).std()) == pytest.approx(1, abs=0.01)
    assert float(((x - skip * z) / out).std()) == pytest.approx(1, abs=0.01)


def test_coarse_bands_stay_the_larger_ones():
    """Divided by the root of their spread, bands have that spread's root, and mean power 1."""
    images = np.random.default_rng(0).normal(0, 1, (8, 1, 128, 128)).cumsum(-1).cumsum(-2)
    images = np.clip(128 + images, 0, 255).astype(np.uint8)
    model = mini.create(mini.band_scales(images, Mini128), 0, Mini128)
    latents = model.encode(images)
    spread = latents.std(dim=(0, 2, 3))
    torch.testing.assert_close(model.spread.flatten(), spread, rtol=1e-3, atol=1e-4)
    assert float(spread.square().mean()) == pytest.approx(1, rel=1e-3)
    assert spread[0] > 5 * spread[-1]


def test_the_solver_recovers_what_a_perfect_network_predicts(untrained):
    clean, latents = noise(2, 64, 16, 16), noise(2, 64, 16, 16, seed=1)
    solver = untrained.solver(8)
    for t in solver.timesteps:
        latents = solver.step(clean, t, latents).prev_sample
    torch.testing.assert_close(latents, clean, rtol=0, atol=1e-4)


def test_solvers_spend_their_steps_near_noise_and_training_levels_are_even(untrained):
    s = np.linspace(1, 1 / mini128.TIMES, 11)[:10]
    shifted = mini128.SHIFT * s / (1 + (mini128.SHIFT - 1) * s)  # SD3's equation 23
    found = untrained.solver(10).timesteps.numpy() / mini128.TIMES
    assert np.abs(found - shifted).max() < 0.01 and (found > 0.5).sum() == 9
    even = untrained.scheduler.timesteps.numpy() / mini128.TIMES
    assert np.abs(np.diff(even) + 1 / mini128.TIMES).max() < 0.002


def test_noised_sources_lie_on_flows_path(untrained):
    clean, n = noise(1, 64, 16, 16), noise(1, 64, 16, 16, seed=1)
    solver = untrained.solver(10)
    t = solver.timesteps[4:5]
    s = float(t) / mini128.TIMES
    torch.testing.assert_close(
        solver.add_noise(clean, n, t), (1 - s) * clean + s * n, rtol=0, atol=0.01
    )


@torch.no_grad()
def test_masks_change_the_prediction_and_guidance_takes_them_twice(untrained):
    masks = torch.zeros(2, 1, 128, 128, dtype=torch.uint8)
    latents, t = noise(2, 64, 16, 16), torch.full((2,), 500)
    row = torch.full((2,), mini.RARE)
    plain = untrained.predict(latents, t, row)
    torch.testing.assert_close(untrained.told(masks).predict(latents, t, row), plain)
    masks[1, 0, 30:34] = 255
    told = untrained.told(masks)
    one = told.predict(latents, t, row)
    torch.testing.assert_close(one[0], plain[0])
    assert not torch.allclose(one[1], plain[1], atol=1e-4)
    twice = told.predict(latents.repeat(2, 1, 1, 1), t.repeat(2), row.repeat(2))
    torch.testing.assert_close(twice, one.repeat(2, 1, 1, 1), rtol=1e-4, atol=1e-5)


def test_mini_knows_no_row_of_a_later_domain(backbone):
    rows = torch.tensor([mini.NULL, 3, mini.RARE, registry.get("pv_cracks").condition])
    assert backbone.rows(rows).tolist() == [0, 3, mini.RARE, mini.OTHER]


def test_save_and_load_round_trip(untrained, tmp_path):
    path = tmp_path / "mini128.safetensors"
    mini_weights.save(untrained, path, {"note": "x"})
    again = mini_weights.load(path, kind=Mini128)
    assert again.about == {"note": "x"} and again.name == "mini128"
    with pytest.raises(StudyError, match="not the weights of this mini "):
        mini_weights.load(path)


def test_another_size_is_refused(untrained):
    with pytest.raises(StudyError, match="paints 128 pixels"):
        backbones.check_size(untrained, 64)


@pytest.mark.skipif(not mini_weights.in_use(Mini128).is_file(), reason="no weights of mini128")
def test_every_image_that_the_shipped_weights_saw_is_base():
    about = mini_weights.load(kind=Mini128).about
    assert set(about["domains"]) <= set(about["files"])
    for name in about["domains"]:
        partition = partitions.shipped(name).set_index("file")["partition"]
        assert about["files"][name] and set(partition[about["files"][name]]) == {"base"}


def test_parts_of_a_batch_add_up_to_it(untrained):
    masks = torch.zeros(4, 1, 128, 128, dtype=torch.uint8)
    masks[2, 0, 10:12] = 255
    told = dataclasses.replace(untrained).told(masks)
    clean, row = noise(4, 64, 16, 16), torch.full((4,), mini.RARE)

    @torch.no_grad()
    def loss(part):
        return told.loss(clean, row, torch.Generator().manual_seed(3), part=part)

    whole = loss(slice(None))
    torch.testing.assert_close(torch.cat([loss(slice(0, 2)), loss(slice(2, 4))]), whole)
