import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fsl_utils import StudyError, mini, partitions


def test_haar_is_orthonormal_and_two_levels_deep():
    matrix = mini.haar_matrix()
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(16))
    assert torch.equal(matrix[0], torch.full((16,), 0.25))  # the coarsest band is four times the block's mean


def test_encode_and_decode_are_inverse(backbone, elpv, draw):
    images = elpv.images(64)[draw.shots]
    latents = backbone.encode(images)
    assert latents.shape == (40, 16, 16, 16) and np.array_equal(backbone.decode(latents), images)


def test_bands_of_base_images_have_unit_variance(backbone, elpv):
    latents = backbone.encode(elpv.images(64)[elpv.rows("base", 0)])
    spread = latents.std(dim=(0, 2, 3))
    assert 0.5 < spread.min() and spread.max() < 2  # scales are those of three domains together


def test_the_target_is_v(backbone):
    """loss is zero for a network that returns sqrt(a) noise - sqrt(1 - a) clean (Salimans & Ho 2022)."""
    clean = torch.randn(3, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(clean.shape, generator=generator)
    t = torch.randint(0, 1000, (3,), generator=generator)
    a = backbone.scheduler.alphas_cumprod[t][:, None, None, None]

    def perfect(latents, timesteps, condition):
        torch.testing.assert_close(latents, a.sqrt() * clean + (1 - a).sqrt() * noise)
        return a.sqrt() * noise - (1 - a).sqrt() * clean

    backbone.predict = perfect
    loss = backbone.loss(clean, torch.zeros(3, dtype=torch.long), torch.Generator().manual_seed(1))
    assert loss.shape == (3,) and loss.max() < 1e-10


def test_shipped_weights_beat_the_trivial_prediction_on_development_images(backbone, elpv):
    """Predicting no signal at all gives the loss 1 or more; common images of other groups lie far below it."""
    rows = elpv.rows("development", 0)[:64]
    loss = backbone.loss(backbone.encode(elpv.images(64)[rows]), torch.full((64,), mini.CONDITIONS["elpv"]), torch.Generator().manual_seed(0))
    assert loss.mean() < 0.7


def test_every_image_that_the_shipped_weights_saw_is_base(backbone):
    for name, files in backbone.about["files"].items():
        partition = partitions.shipped(name).set_index("file")["partition"]
        assert files and set(partition[files]) == {"base"}


def test_save_and_load_round_trip(tmp_path):
    model = mini.create(torch.ones(16), seed=3)
    mini.save(model, tmp_path / "m.safetensors", {"note": "x"})
    again = mini.load(tmp_path / "m.safetensors")
    assert again.about == {"note": "x"} and len(again.hash) == 64
    for a, b in zip(model.denoiser.parameters(), again.denoiser.parameters()):
        assert torch.equal(a.half().float(), b)


def test_missing_and_damaged_weights_are_named(tmp_path):
    path = tmp_path / "m.safetensors"
    with pytest.raises(StudyError, match="m.safetensors.*missing"):
        mini.load(path)
    mini.save(mini.create(torch.ones(16), 0), path, {})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StudyError, match="m.safetensors"):
        mini.load(path)
    mini.save(mini.create(torch.ones(16), 0), path, {})
    tensors = load_file(path)
    tensors.pop("conv_in.weight")
    save_file(tensors, path, metadata={"about": "{}"})
    with pytest.raises(StudyError, match="m.safetensors"):
        mini.load(path)
