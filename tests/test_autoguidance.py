"""Guidance away from earlier weights: its formula, what it leaves alone, what it refuses."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from safetensors import safe_open

from fsl_utils import StudyError, store
from fsl_utils.data.datasets import registry
from fsl_utils.generator import backbones, mini, mini_weights, sampling
from fsl_utils.generator.adapter import AdapterRequest, attach
from fsl_utils.generator.mini128 import Mini128
from fsl_utils.generator.sampling import PoolRequest


@pytest.fixture
def wanted(task):
    return PoolRequest(task, backbones.pretrained("mini128", task.domain), steps=4)


@pytest.fixture
def adapted(task, own_store):
    """A pool of an adapter that changes something, its backbone, and the folder that it lies in."""
    request = AdapterRequest.new(task, 1, image_size=128, backbone="mini128")
    backbone = attach(request.backbone.open(), mini.condition("elpv"))
    with torch.no_grad():
        for name, parameter in backbone.denoiser.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.02, generator=torch.Generator().manual_seed(0))
    request.place.mkdir(parents=True)
    backbone.save_adapter(request.place)
    return PoolRequest.of(request, steps=4), request.backbone.open(), request.place


def by_hand(good, worse, pool: PoolRequest, weight: float) -> np.ndarray:
    """Image 3 of a pool of mini128: SD3's shifted flow, solved on worse + w (good - worse)."""
    solver = DPMSolverMultistepScheduler(
        prediction_type="sample", use_flow_sigmas=True, flow_shift=6.0
    )
    solver.set_timesteps(pool.steps)
    seed = sampling.image_seed(pool.task.draw.number, pool.seed, 3)
    latents = torch.randn(1, 64, 16, 16, generator=torch.Generator().manual_seed(seed))
    row = torch.tensor([pool.condition])
    with torch.no_grad():
        for t in solver.timesteps:
            clean = [model.predict(latents, t.expand(1), row) for model in (good, worse)]
            latents = solver.step(clean[1] + weight * (clean[0] - clean[1]), t, latents).prev_sample
    return good.decode(latents)


@pytest.mark.parametrize("weight", [1.5, 3.0])
def test_the_prediction_is_drawn_away_from_the_earlier_one(wanted, weight):
    good = wanted.backbone.open()
    worse = mini_weights.load(mini_weights.EARLIER["mini128"], kind=Mini128)
    guided = dataclasses.replace(wanted, autoguidance=weight)
    ours = sampling.sample(good, guided, [3])
    assert np.abs(ours.astype(int) - by_hand(good, worse, guided, weight)).max() <= 1
    plain = sampling.sample(good, wanted, [3])
    assert np.abs(ours.astype(int) - plain).mean() > 1


def test_the_earlier_weights_take_the_adapter_too(adapted):
    pool, good, folder = adapted
    worse = mini_weights.load(mini_weights.EARLIER["mini128"], kind=Mini128).load_adapter(folder)
    good = good.load_adapter(folder)
    guided = dataclasses.replace(pool, autoguidance=2.0)
    ours = sampling.sample(good, guided, [3])
    assert np.abs(ours.astype(int) - by_hand(good, worse, guided, 2.0)).max() <= 1


def test_a_weight_of_one_is_a_pool_as_ever(wanted):
    assert "autoguidance" not in wanted.params()
    keys = {dataclasses.replace(wanted, autoguidance=w).key for w in (1.0, 1.5, 2.0)}
    assert len(keys) == 3


def test_weights_that_are_as_good_guide_nowhere(wanted, monkeypatch):
    monkeypatch.setitem(mini_weights.EARLIER, "mini128", mini_weights.in_use(Mini128))
    good = wanted.backbone.open()
    guided = sampling.sample(good, dataclasses.replace(wanted, autoguidance=3.0), range(2))
    plain = sampling.sample(good, wanted, range(2))
    assert np.abs(guided.astype(int) - plain).max() <= 1


@pytest.mark.parametrize("name", ["mini", "mini128"])
def test_earlier_weights_saw_no_more_than_those_in_use(name):
    def about(path):
        with safe_open(path, "pt") as file:
            return json.loads(file.metadata()["about"])

    now, path = about(mini_weights.FOLDER / f"{name}.safetensors"), mini_weights.EARLIER[name]
    before = about(path)["files"]
    assert now["start"] == store.sha256(path)  # the training went on from them
    domains = [domain for domain in before if domain in registry.DATA_SETS]
    assert len(domains) >= 3
    assert all(set(before[domain]) <= set(now["files"][domain]) for domain in domains)


def test_earlier_weights_that_saw_test_images_are_refused(wanted, task, tmp_path, monkeypatch):
    test = task.domain.table["image"][task.domain.table["partition"] == "test"].tolist()
    path = tmp_path / "earlier.safetensors"
    mini_weights.save(wanted.backbone.open(), path, {"files": {"elpv": test[:2]}})
    monkeypatch.setitem(mini_weights.EARLIER, "mini128", path)
    with pytest.raises(StudyError, match="saw 2 images of the test partition.*autoguidance=1"):
        dataclasses.replace(wanted, autoguidance=2.0)


def test_it_is_refused_where_it_means_nothing(wanted, task, tmp_path, monkeypatch):
    large = PoolRequest(task, backbones.pretrained("sd15", task.domain))
    with pytest.raises(StudyError, match=r"for mini and mini128, not for sd15, .*autoguidance=1"):
        dataclasses.replace(large, autoguidance=2.0)
    with pytest.raises(StudyError, match=r"autoguidance is 2.0 and gate 2: take one"):
        dataclasses.replace(wanted, autoguidance=2.0, gate=2)
    own = wanted.backbone.open()
    own.scales = own.scales * 1.5
    mini_weights.save(own, tmp_path / "own.safetensors", {"files": {}})
    monkeypatch.setenv("FSL_MINI128", str(tmp_path / "own.safetensors"))
    with pytest.raises(StudyError, match=r"own.safetensors: its bands are not scaled as"):
        mini_weights.earlier(mini_weights.load(kind=Mini128))
