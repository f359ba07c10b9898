"""The large backbones, tried on tiny random models of the very same classes: what they paint is
what diffusers' pipelines paint.
"""

import shutil
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import tiny
import torch
from diffusers import DPMSolverMultistepScheduler
from PIL import Image
from safetensors import safe_open

from fsl_utils import StudyError
from fsl_utils.data import images
from fsl_utils.generator import adapter, backbones, hub, large, mini, pipelines, sampling
from fsl_utils.generator.sampling import PoolRequest

NAMES = {"sd15": tiny.sd15, "flux2-klein-4b": tiny.flux2_klein_4b, "flux2-dev": tiny.flux2_dev}
CELLS = SimpleNamespace(name="elpv", rare_class="defective", common_class="functional", channels=1)
LORA = dict(rank=4, alpha=2.0, dropout=0.1)
RARE = torch.full((2,), mini.RARE)


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("weights")
    return {name: make(root / name) for name, make in NAMES.items()}


@pytest.fixture(params=NAMES)
def name(request, folders, monkeypatch):
    monkeypatch.setenv(hub.variable(request.param), str(folders[request.param]))
    return request.param


def opened(name, domain=CELLS) -> large.Large:
    return backbones.pretrained(name, domain, 64).open()


def with_dtype(name, folder, dtype, channels=3) -> large.Large:
    pretrained = backbones.Pretrained(name, name, backbones.prompts(CELLS), channels)
    return pipelines.load(pretrained, folder, dtype=dtype)


def pool(guidance=2.0, steps=3, size=None, images=None, **how) -> PoolRequest:
    """A pool of the rare class, of which the adapter is attached already."""
    task = SimpleNamespace(domain=CELLS, images=images, draw=SimpleNamespace(number=0))
    spec = backbones.Pretrained("sd15", "x", image_size=size)
    return PoolRequest(task, spec, "attached", guidance=guidance, steps=steps, **how)


def paint(backbone, **asked) -> np.ndarray:
    """Images 0 and 1 of a pool, at the backbone's own size."""
    return sampling.sample(backbone, pool(**asked), range(2))


def plain_pipeline(name, folder, dtype):
    """The pipeline as anybody opens it."""
    pipe = getattr(diffusers, hub.CARDS[name].pipeline).from_pretrained(
        folder, dtype=dtype, use_safetensors=True
    )
    pipe.set_progress_bar_config(disable=True)
    if name == "sd15":
        pipe.scheduler = DPMSolverMultistepScheduler.from_config(
            pipe.scheduler.config, timestep_spacing="trailing"
        )
    return pipe


def their_images(pipe, noise, guidance=2.0, steps=3, **given) -> np.ndarray:
    made = pipe(
        prompt=["a photo of a defective solar cell"] * len(noise),
        latents=noise.clone(),
        num_inference_steps=steps,
        guidance_scale=guidance,
        height=tiny.SIZE,
        width=tiny.SIZE,
        output_type="np",
        **given,
    ).images
    return np.moveaxis((made * 255).round().astype(np.uint8), -1, 1)


def noise_for(backbone) -> torch.Tensor:
    """What images 0 and 1 of a pool start from."""
    seeds = [sampling.image_seed(0, 0, i) for i in range(2)]
    return torch.stack(
        [
            torch.randn(backbone.latent_shape, generator=torch.Generator().manual_seed(s))
            for s in seeds
        ]
    ).to(backbone.embeddings)


def any_latents(backbone, seed) -> torch.Tensor:
    return torch.randn(2, *backbone.latent_shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_images_are_those_of_the_pipeline(name, folders, dtype):
    backbone = with_dtype(name, folders[name], dtype)
    noise = noise_for(backbone)
    ours, theirs = paint(backbone), their_images(plain_pipeline(name, folders[name], dtype), noise)
    assert ours.shape == theirs.shape == (2, 3, 64, 64) and ours.std() > 10
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    assert not np.array_equal(ours, paint(backbone, guidance=1.0))  # guidance does something


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_an_adapter_opens_in_plain_diffusers_and_paints_the_same(name, folders, dtype, tmp_path):
    tuned = with_dtype(name, folders[name], dtype)
    noise, before = noise_for(tuned), paint(tuned)
    adapter.attach(tuned, 1, **LORA)
    assert np.array_equal(paint(tuned), before)  # a fresh adapter changes nothing
    trained = {n: p for n, p in tuned.denoiser.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in n and p.dtype == torch.float32 for n, p in trained.items())
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in trained.values():
            parameter.add_(0.6 * torch.randn_like(parameter))
    tuned.save_adapter(tmp_path)
    reopened = with_dtype(name, folders[name], dtype)
    reopened.load_adapter(tmp_path)
    pipe = plain_pipeline(name, folders[name], dtype)
    pipe.load_lora_weights(tmp_path)
    ours = paint(reopened)
    assert np.abs(ours.astype(int) - their_images(pipe, noise)).max() <= 1
    assert np.abs(ours.astype(int) - before).mean() > 1
    if dtype == torch.float32:
        tuned.denoiser.eval()
        assert np.abs(ours.astype(int) - paint(tuned)).max() <= 1


def test_a_few_steps_lower_the_loss_and_leave_the_weights_alone(name):
    backbone = opened(name)
    frozen = {n: p.clone() for n, p in backbone.denoiser.named_parameters()}
    torch.manual_seed(0)
    adapter.attach(backbone, 1, **LORA)
    clean = backbone.encode(
        np.random.default_rng(0).integers(0, 256, (2, 1, 64, 64), dtype=np.uint8)
    )
    trained = [p for p in backbone.denoiser.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-2)

    def loss():
        with torch.no_grad():
            return (
                backbone.loss(
                    clean.repeat(8, 1, 1, 1), RARE.repeat(8), torch.Generator().manual_seed(99)
                )
                .mean()
                .item()
            )

    before = loss()
    backbone.denoiser.train()
    for step in range(10):
        optimiser.zero_grad()
        backbone.loss(clean, RARE, torch.Generator().manual_seed(step)).mean().backward()
        optimiser.step()
    backbone.denoiser.eval()
    assert loss() < before
    assert all(
        torch.equal(p, frozen[n.replace(".base_layer", "")])
        for n, p in backbone.denoiser.named_parameters()
        if "lora_" not in n
    )


def test_loss_by_parts_and_weights(name):
    backbone = opened(name)
    clean, generator = backbone.encode(np.full((2, 1, 64, 64), 90, np.uint8)), torch.Generator()
    whole = backbone.loss(clean, RARE, generator.manual_seed(1))
    parts = torch.cat(
        [
            backbone.loss(clean, RARE, generator.manual_seed(1), None, slice(i, i + 1))
            for i in range(2)
        ]
    )
    torch.testing.assert_close(parts, whole)
    half = torch.zeros(2, 1, *backbone.latent_shape[1:])
    half[..., ::2] = 2
    other = 2 - half
    sides = [backbone.loss(clean, RARE, generator.manual_seed(1), w) for w in (half, other)]
    torch.testing.assert_close((sides[0] + sides[1]) / 2, whole)
    assert not torch.allclose(*sides)


def test_noising_ends_in_image_and_noise(name):
    """What image-to-image and inpainting start from: the solver's noising agrees with the schedule,
    and its last level is the image.
    """
    backbone = opened(name)
    clean, noise = any_latents(backbone, 1), any_latents(backbone, 2)
    solver = backbone.solver(8)
    solver.set_begin_index(5)
    late = solver.add_noise(clean, noise, solver.timesteps[5:6].repeat(2))
    solver = backbone.solver(8)
    solver.set_begin_index(0)
    first = solver.add_noise(clean, noise, solver.timesteps[:1].repeat(2))
    assert (late - clean).abs().mean() < (first - clean).abs().mean()
    assert (first - noise).abs().mean() < 0.1
    halfway = backbone.scheduler.add_noise(clean, noise, torch.tensor([500, 500]))
    assert (halfway - clean).abs().mean() > 0.1 and (halfway - noise).abs().mean() > 0.1


def test_image_to_image_is_that_of_diffusers(folders, monkeypatch):
    """Stable Diffusion's own image-to-image pipeline, from the same source and noise."""
    backbone = with_dtype("sd15", folders["sd15"], torch.float32)
    pixels = np.random.default_rng(1).integers(0, 256, (2, 3, 64, 64), dtype=np.uint8)
    monkeypatch.setattr(sampling, "sources", lambda *a: np.arange(2))
    ours = paint(backbone, mode="from_shot", strength=0.5, steps=4, images=lambda size: pixels)
    pipe = diffusers.StableDiffusionImg2ImgPipeline(
        **plain_pipeline("sd15", folders["sd15"], torch.float32).components,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(sampling.image_seed(0, 0, i)) for i in range(2)]
    theirs = pipe(
        ["a photo of a defective solar cell"] * 2,
        image=backbone.encode(pixels),
        strength=0.5,
        num_inference_steps=4,
        guidance_scale=2.0,
        generator=generators,
        output_type="np",
    ).images
    assert (
        np.abs(ours.astype(int) - np.moveaxis((theirs * 255).round().astype(int), -1, 1)).max() <= 1
    )


def test_images_leave_at_the_size_of_the_study(folders):
    """Painted at 64 pixels, asked for at 32: resized as `images.to_array` resizes a real image."""
    backbone = with_dtype("sd15", folders["sd15"], torch.float32, channels=1)
    large_ones, small = paint(backbone), paint(backbone, size=32)
    assert small.shape == (2, 1, 32, 32)
    assert np.array_equal(small[0], images.to_array(Image.fromarray(large_ones[0, 0]), 32))


def test_grey_stays_grey_and_colour_stays_colour(name, folders):
    colour = with_dtype(name, folders[name], torch.float32, channels=3)
    rgb, grey = paint(colour), paint(with_dtype(name, folders[name], torch.float32, channels=1))
    assert grey.shape == (2, 1, 64, 64)
    luminance = rgb.astype(float).transpose(0, 2, 3, 1) @ [0.299, 0.587, 0.114]
    assert np.abs(grey[:, 0] - luminance).max() <= 1
    pixels = np.random.default_rng(0).integers(0, 256, (2, 1, 64, 64), dtype=np.uint8)
    torch.testing.assert_close(colour.encode(pixels), colour.encode(np.repeat(pixels, 3, axis=1)))


def test_rows_stand_for_prompts(name):
    backbone = opened(name)
    null, common, rare = backbone.embeddings
    rows = backbone.rows(torch.tensor([mini.NULL, mini.RARE, mini.OTHER, mini.condition("elpv")]))
    for found, wanted in zip(rows, (null, rare, common, common)):
        assert torch.equal(found, wanted)
    assert not torch.equal(common, rare) and not torch.equal(null, common)


def test_prompts_name_the_classes():
    tiles = SimpleNamespace(name="magnetic_tile", rare_class="any_defect", common_class="free")
    assert backbones.prompts(tiles) == (
        "",
        "a photo of a magnetic tile free of defects",
        "a photo of a magnetic tile with any defect",
    )
    assert backbones.prompts(
        SimpleNamespace(name="folder", rare_class="deep_scratch", common_class="good")
    )[1:] == ("a photo of good", "a photo of deep scratch")


def test_the_text_encoder_is_needed_once(name, folders, own_store, tmp_path, monkeypatch):
    first = opened(name)
    assert first.pipe.text_encoder is None
    copy = shutil.copytree(folders[name], tmp_path / "weights")
    for path in (copy / "text_encoder").glob("*.safetensors"):
        path.write_bytes(b"no weights any more")
    monkeypatch.setattr(backbones, "identity", lambda *a: first.hash)
    monkeypatch.setenv(hub.variable(name), str(copy))
    assert torch.equal(opened(name).embeddings, first.embeddings)


def test_an_adapter_of_another_family_is_refused(folders, tmp_path):
    stable = with_dtype("sd15", folders["sd15"], torch.float32)
    adapter.attach(stable, 1, **LORA)
    stable.save_adapter(tmp_path)
    with safe_open(tmp_path / stable.adapter_file, "pt") as file:
        names = file.keys()
        assert all(name.startswith("unet.") for name in names)
    with pytest.raises(ValueError, match="no matrix of this denoiser"):
        with_dtype("flux2-klein-4b", folders["flux2-klein-4b"], torch.float32).load_adapter(
            tmp_path
        )


def test_four_bits_need_a_gpu(name):
    with pytest.raises(StudyError, match="4-bit weights need a CUDA device .device is 'cpu'."):
        backbones.pretrained(name, CELLS, 64, "nf4").open()
