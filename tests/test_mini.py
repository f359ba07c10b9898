import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fsl_utils import StudyError
from fsl_utils.data import partitions
from fsl_utils.generator import mini, mini_weights


def test_encode_and_decode_are_inverse(backbone, elpv, draw):
    images = elpv.images(64)[draw.shots]
    latents = backbone.encode(images)
    assert latents.shape == (40, 16, 16, 16) and np.array_equal(backbone.decode(latents), images)


def test_bands_of_base_images_have_unit_variance(backbone, elpv):
    latents = backbone.encode(elpv.images(64)[elpv.rows("base", 0)])
    spread = latents.std(dim=(0, 2, 3))
    assert spread.min() > 0.5 and spread.max() < 2  # scales are those of three domains together


def test_the_loss_is_that_of_rectified_flow(backbone):
    """A network that returns v (Salimans & Ho 2022) has no loss; any other has flow's: |u - (noise
    - clean)|^2, u = (sigma - alpha) z + (alpha + sigma) v.
    """
    clean = torch.randn(64, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    error = torch.randn(clean.shape, generator=torch.Generator().manual_seed(2))
    flow, levels = [], []

    def predict(latents, timesteps, condition):
        signal = backbone.scheduler.alphas_cumprod[timesteps][:, None, None, None]
        alpha, sigma = signal.sqrt(), (1 - signal).sqrt()
        torch.testing.assert_close(latents, alpha * clean + sigma * noise)
        v = alpha * noise - sigma * clean + scale * error
        flow[:] = [(sigma - alpha) * latents + (alpha + sigma) * v - (noise - clean)]
        levels.append((sigma / alpha).flatten())
        return v

    backbone.predict = predict
    condition = torch.zeros(64, dtype=torch.long)
    scale = 0.0
    loss = backbone.loss(clean, condition, torch.Generator().manual_seed(1))
    assert loss.shape == (64,) and loss.max() < 1e-10
    scale = 0.3
    loss = backbone.loss(clean, condition, torch.Generator().manual_seed(1))
    band = backbone.scales.sqrt() / backbone.scales.sqrt().mean()
    torch.testing.assert_close(
        loss, (flow[0].square().mean(dim=(2, 3)) * band).mean(dim=1), rtol=1e-4, atol=1e-5
    )
    for seed in range(1, 20):
        scale, noise = 0.0, torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
        backbone.loss(clean, condition, torch.Generator().manual_seed(seed))
    logs = torch.cat(levels).log()  # of 21 x 64 levels: standard normal
    assert abs(logs.mean()) < 0.1 and abs(logs.std() - 1) < 0.1


def test_shipped_weights_beat_the_trivial_prediction_on_development_images(backbone, elpv):
    """Predicting no signal at all gives the loss 1 or more; common images of other groups lie far
    below it.
    """
    rows = elpv.rows("development", 0)[:64]
    loss = backbone.loss(
        backbone.encode(elpv.images(64)[rows]),
        torch.full((64,), mini.condition("elpv")),
        torch.Generator().manual_seed(0),
    )
    assert loss.mean() < 0.7


def test_every_image_that_the_shipped_weights_saw_is_base(backbone):
    for name, files in backbone.about["files"].items():
        partition = partitions.shipped(name).set_index("file")["partition"]
        assert files and set(partition[files]) == {"base"}


def test_save_and_load_round_trip(tmp_path):
    model = mini.create(torch.ones(16), seed=3)
    mini_weights.save(model, tmp_path / "m.safetensors", {"note": "x"})
    again = mini_weights.load(tmp_path / "m.safetensors")
    assert again.about == {"note": "x"} and len(again.hash) == 64
    for a, b in zip(model.denoiser.parameters(), again.denoiser.parameters()):
        assert torch.equal(a.half().float(), b)


def test_missing_and_damaged_weights_are_named(tmp_path):
    path = tmp_path / "m.safetensors"
    with pytest.raises(StudyError, match="m.safetensors.*missing"):
        mini_weights.load(path)
    mini_weights.save(mini.create(torch.ones(16), 0), path, {})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StudyError, match="m.safetensors"):
        mini_weights.load(path)
    mini_weights.save(mini.create(torch.ones(16), 0), path, {})
    tensors = load_file(path)
    save_file({n: t * float("nan") for n, t in tensors.items()}, path, metadata={"about": "{}"})
    with pytest.raises(StudyError, match=r"m.safetensors.*values that are no numbers"):
        mini_weights.load(path)
    tensors.pop("conv_in.weight")
    save_file(tensors, path, metadata={"about": "{}"})
    with pytest.raises(StudyError, match="m.safetensors"):
        mini_weights.load(path)
