"""DDPM-PA's losses: how images of a batch differ stays what it is for the backbone alone."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy

from fsl_utils import StudyError, params
from fsl_utils.classifier import plan
from fsl_utils.generator import adapter, diversity, finetuning, mini, settings
from fsl_utils.generator.adapter import AdapterRequest
from fsl_utils.generator.mini128 import Mini128
from fsl_utils.study import grid
from fsl_utils.study.runs import RunRequest

COMMON = mini.condition("elpv")


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def by_hand(found, source):
    def likeness(images, i):
        flat = images.flatten(1).double().numpy()
        unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
        return softmax(np.delete(unit @ unit[i], i))

    n = range(len(found))
    return np.mean([entropy(likeness(found, i), likeness(source, i)) for i in n])


def test_pairs_are_compared_by_the_divergence_of_their_cosines():
    found, source = noise(6, 3, 4, 4), noise(6, 3, 4, 4, seed=1)
    assert diversity.pairwise(found, source).item() == pytest.approx(by_hand(found, source), 1e-4)
    # Brightness and contrast of an image are not its likeness.
    scaled = source * torch.arange(1, 7)[:, None, None, None]
    assert diversity.pairwise(scaled, source).item() == pytest.approx(0, abs=1e-6)
    assert diversity.pairwise(found[:2], source[:2]).item() == 0  # two have no choice
    # All images alike: what few shots make of an adapter.
    alike = found[:1] + 0.01 * noise(6, 3, 4, 4, seed=2)
    near = source[:1] + 0.9 * (source - source[:1])
    assert diversity.pairwise(alike, source) > 5 * diversity.pairwise(near, source) > 0


@pytest.mark.parametrize("kind", [mini.Mini, Mini128])
def test_denoised_is_what_the_loss_is_of(kind):
    """The loss again, from the predicted clean latents and the noise of the same generator."""
    scales = torch.ones(kind.latent_shape[0])
    model = mini.create(scales, 0, kind)
    model.denoiser.eval()
    clean, rows = noise(4, *kind.latent_shape), torch.full((4,), COMMON)
    part = slice(1, 4)
    with torch.no_grad():
        loss = model.loss(clean, rows, torch.Generator().manual_seed(3), None, part)
        found = model.denoised(clean, rows, torch.Generator().manual_seed(3), part)
    generator = torch.Generator().manual_seed(3)
    torch.randn(clean.shape, generator=generator)
    level = torch.randn(4, generator=generator)[part]
    # Noise over signal; flow's velocity differs from x by the noise level.
    s = (level.exp() / (1 + level.exp()) if kind is mini.Mini else level.sigmoid()).double()
    if kind is mini.Mini:  # its timesteps are steps of a schedule
        signal = model.scheduler.alphas_cumprod
        t = torch.searchsorted((1 / signal - 1).sqrt(), level.exp()).clamp(max=999)
        sigma = (1 - signal[t]).sqrt()
        s = (sigma / (signal[t].sqrt() + sigma)).double()
    error = ((found - clean[part]).double() / s[:, None, None, None]).square()
    torch.testing.assert_close(loss.double(), model.mean_error(error), rtol=1e-3, atol=1e-5)


def test_a_fresh_adapter_keeps_all_pairs_and_a_moved_one_does_not(backbone):
    adapted = adapter.attach(backbone, COMMON)
    clean, rows = noise(5, *backbone.latent_shape), torch.full((5,), mini.RARE)
    conditions = rows, torch.full((5,), COMMON)

    def kept():
        adapted.denoiser.eval()
        with torch.no_grad():
            return diversity.loss(adapted, clean, conditions, torch.Generator().manual_seed(0))

    before = copy.deepcopy(adapted.denoiser.state_dict())
    fresh = kept()
    found = adapted.denoised(clean, rows, torch.Generator().manual_seed(0))[:, 1:]
    detail = diversity.DETAIL * (found - clean[:, 1:]).square().mean()
    # In training mode again, dropout is in what the adapter itself predicts.
    assert adapted.denoiser.training
    assert fresh.item() == pytest.approx(detail.item(), rel=0.2)
    moved = {n: t + 0.05 * torch.randn_like(t) if "lora_B" in n else t for n, t in before.items()}
    adapted.denoiser.load_state_dict(moved)
    assert kept() > fresh


def test_the_setting_is_part_of_the_key_where_it_is_used_and_learns_something_else(task):
    plain, same, other = (
        AdapterRequest.new(task, 2, batch=4, rank=4, **changed)
        for changed in ({}, {"diversity": 0.0}, {"diversity": 1.0})
    )
    assert plain.key == same.key != other.key
    losses = {}
    for request in (plain, other):
        losses[request.key] = next(finetuning.train(request)).loss
    assert losses[other.key] > losses[plain.key]


def test_a_large_backbone_has_no_such_setting():
    with pytest.raises(StudyError, match="diversity is 0.5: it is for mini and mini128"):
        settings.of("elpv", "sd15", diversity=0.5)


def test_a_notebook_and_a_grid_set_it_by_one_parameter(task, tmp_path):
    defaults = {name: params.default(name) for name in params.TABLE}
    plain, kept = (SimpleNamespace(**defaults | {"diversity": d}) for d in (0.0, 3.0))
    assert AdapterRequest.of(task, kept).settings.diversity == 3.0
    assert plan.pools(task, kept)["rare"].key != plan.pools(task, plain)["rare"].key
    assert plan.pools(task, kept)["base"].key == plan.pools(task, plain)["base"].key
    file = tmp_path / "grid.yaml"
    file.write_text("{name: g, defaults: {diversity: 3.0}, sweep: [{arms: [real, lora]}]}")
    nodes = grid.nodes(grid.read(file)[1])
    assert {node.stage for node in nodes if node.values["diversity"] == 3.0} == set(grid.STAGES)
    assert all(RunRequest.of(node).tuning.diversity == 3.0 for node in nodes)
    file.write_text("{name: g, defaults: {diversity: 3.0, backbone: sd15}, sweep: [{}]}")
    with pytest.raises(StudyError, match="set diversity=0"):
        grid.read(file)
