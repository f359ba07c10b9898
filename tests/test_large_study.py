"""The large backbones through the study's own path (fine-tune, sample, notebooks 02-05), with tiny
random models of their classes.
"""

import importlib.util
import itertools
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_finetuning import own_store, store_at  # noqa: F401
from test_large import folders, plain_pipeline  # noqa: F401
from test_notebooks import SMALL, _declared, run

from fsl_utils import ROOT, params
from fsl_utils.classifier import plan
from fsl_utils.data import images
from fsl_utils.generator import (
    backbones,
    batches,
    finetuning,
    hub,
    large,
    mini,
    sampling,
)
from fsl_utils.generator.adapter import AdapterRequest
from fsl_utils.generator.sampling import PoolRequest

TINY = dict(batch=2, rank=2, prior=0.5, views=2, learning_rate=1e-2)


FAMILIES = ["sd15", "flux2-klein-4b"]


SHORT = dict(steps=3, guidance=2.0)


@pytest.fixture
def weights(folders, monkeypatch):
    for name, folder in folders.items():
        monkeypatch.setenv(hub.variable(name), str(folder))


def tiny(task, name, steps=2, seed=0, size=64, **changed) -> AdapterRequest:
    """The request of an adapter of a tiny backbone."""
    return AdapterRequest.new(task, steps, seed, size, name, **TINY | changed)


def tuned(*given, **changed) -> AdapterRequest:
    """Fine-tune a tiny backbone."""
    request = tiny(*given, **changed)
    for _ in finetuning.train(request):
        pass
    return request


def test_an_adapter_is_made_once_and_its_pool_is_what_plain_diffusers_paints(
    own_store, weights, folders, task
):
    for name in FAMILIES:
        adapter = tuned(task, name, dropout=0.2)
        assert not list(finetuning.train(adapter))
        folder = adapter.find()
        assert {p.name for p in folder.iterdir()} == {
            "pytorch_lora_weights.safetensors",
            "loss.csv",
            "manifest.json",
        }
        ours = sampling.sample(
            sampling.open_backbone(wanted := PoolRequest.of(adapter, **SHORT)), wanted, range(2)
        )
        pipe = plain_pipeline(name, folders[name], torch.float32)
        pipe.load_lora_weights(folder)
        shape = adapter.backbone.open().latent_shape
        noise = torch.stack(
            [
                torch.randn(
                    shape, generator=torch.Generator().manual_seed(sampling.image_seed(0, 0, i))
                )
                for i in range(2)
            ]
        )
        theirs = pipe(
            prompt=[adapter.backbone.prompts[2]] * 2,
            latents=noise,
            num_inference_steps=3,
            guidance_scale=2.0,
            height=64,
            width=64,
        ).images
        theirs = np.stack([images.to_array(image.convert("L"), 64) for image in theirs])
        assert ours.shape == (2, 1, 64, 64) and np.abs(ours.astype(int) - theirs).max() <= 1
        alone = PoolRequest.alone(adapter, **SHORT)
        assert alone.params()["adapter"] is None and alone.key != wanted.key
        assert not np.array_equal(
            sampling.sample(sampling.open_backbone(alone), alone, range(2)), ours
        )


@pytest.mark.parametrize("name", FAMILIES)
def test_training_lowers_the_loss(own_store, weights, task, name):
    adapter = tuned(task, name, steps=12, prior=0.0, no_condition=0.0)
    before, after = (
        adapter.backbone.open(),
        sampling.open_backbone(PoolRequest.of(adapter)),
    )
    rare, row = before.encode(task.images(64)[task.draw.shots[:8]]), torch.full((8,), mini.RARE)

    def loss(backbone):
        with torch.no_grad():
            return backbone.loss(rare, row, torch.Generator().manual_seed(5)).mean()

    assert loss(after) < loss(before)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_killed_run_resumes_to_the_same_adapter(store_at, weights, task, name):
    changed = TINY | {"check_every": 2, "dropout": 0.1}
    files = []
    for where in ("whole", "broken"):
        store_at(where)
        if where == "broken":
            list(
                itertools.islice(finetuning.train(tiny(task, name, 4, **changed)), 3)
            )  # killed in the third step
            assert [step.number for step in finetuning.train(tiny(task, name, 4, **changed))] == [
                3,
                4,
            ]
        files.append(tuned(task, name, 4, **changed).find() / "pytorch_lora_weights.safetensors")
    one, other = map(load_file, files)
    assert one and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.skipif(
    not importlib.util.find_spec("bitsandbytes"), reason="NOT RUN: bitsandbytes is not installed"
)
def test_the_eight_bit_optimiser_resumes_too(store_at, weights, task):
    changed = TINY | {
        "check_every": 2,
        "optimiser": "adamw8bit",
        "rank": 64,
    }  # its state has 8 bits from 4,096 numbers on
    files = []
    for where in ("whole", "broken"):
        store_at(where)
        if where == "broken":
            list(itertools.islice(finetuning.train(tiny(task, "sd15", 4, **changed)), 3))
        files.append(tuned(task, "sd15", 4, **changed).find() / "pytorch_lora_weights.safetensors")
    one, other = map(load_file, files)
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_images_are_encoded_once(own_store, weights, monkeypatch, task):
    """Of 6 steps with 2 images, no (image, view) is encoded twice, and every step gets the latents
    of its own images.
    """
    request = tiny(task, "sd15", 6, views=1, shift=0, no_condition=0.0)
    backbone, pixels = request.backbone.open(), task.images(64)
    seen, plain = [], large.Large.encode
    monkeypatch.setattr(
        large.Large, "encode", lambda self, batch: seen.append(len(batch)) or plain(self, batch)
    )
    batch = batches.EncodedBatches(request, backbone, range(6))
    assert sum(seen) == len(batch.views) <= 12
    for step in range(6):
        keys = batch.keys(step)[0]
        clean, cover, condition, *_ = batch(step)
        assert (
            clean.shape == (2, 4, 8, 8)
            and cover.shape == (2, 1, 8, 8)
            and condition.tolist() == [mini.RARE, 1]
        )
        for (row, _), latents in zip(keys, clean):
            mirrored = [
                pixels[row][None][..., ::v, ::h].copy() for v in (1, -1) for h in (1, -1)
            ]  # what ELPV's flips may make of it
            assert (
                min((plain(backbone, image)[0] - latents).abs().max() for image in mirrored) < 1e-4
            )


@pytest.mark.parametrize("mode", ["from_shot", "from_common", "inpaint"])
@pytest.mark.parametrize("name", FAMILIES)
def test_sources_are_kept_the_more_the_lower_the_strength(own_store, weights, task, name, mode):
    adapter = tuned(task, name)
    found = []
    for strength in (0.2, 1.0):
        wanted = PoolRequest.of(adapter, mode=mode, strength=strength, steps=4)
        backbone = sampling.open_backbone(wanted)
        made = sampling.sample(backbone, wanted, range(2)).astype(int)
        source = task.images(64)[sampling.sources(wanted, range(2))]
        base = backbone.decode(
            backbone.encode(source)
        )  # a random autoencoder: what the source becomes without a step
        found.append(np.abs(made - base).mean() if mode != "inpaint" else (made == source).mean())
    if mode == "inpaint":
        assert min(found) > 0.3  # outside the region the source's own pixels
    else:
        assert found[0] < found[1]


def test_a_small_pool_is_the_beginning_of_a_large_one(own_store, weights, monkeypatch, task):
    monkeypatch.setattr(sampling, "CHUNK", 3)
    wanted = PoolRequest.of(tuned(task, "sd15", size=32), steps=2)
    two, five = sampling.images_of(wanted, 2), sampling.images_of(wanted, 5)
    assert (
        five.shape == (5, 1, 32, 32)
        and np.array_equal(five[:2], two)
        and len({i.tobytes() for i in five}) == 5
    )


def test_cells_know_their_backbone(weights, task):
    p = SimpleNamespace(
        **{name: params.default(name) for name in params.TABLE}
        | {"backbone": "sd15", "arms": ["real", "lora"], "ratios": [1.0]}
    )
    real, synthetic = [cell.params() for cell in plan.cells(task, p)]
    assert (
        "backbone" not in real
        and synthetic["backbone"] == "sd15"
        and synthetic["base"] == backbones.identity("sd15")
    )
    p.preset, p.backbone = "paper", "flux2-klein-4b"
    assert [cell.params() for cell in plan.cells(task, p)][1]["base"].endswith("+nf4")


@pytest.mark.slow
@pytest.mark.parametrize(
    "stem", ["02_lora_finetuning", "03_generation", "04_classifier_sweep", "05_diversity_analysis"]
)
def test_notebooks_run_with_a_large_backbone(weights, tmp_path, stem):
    given = {name: value for name, value in SMALL.items() if name in _declared(stem)} | {
        "backbone": "sd15"
    }
    if stem.startswith("04"):
        given |= {"arms": ["real", "lora"], "ratios": [1.0]}
    run(stem, tmp_path, **given)


@pytest.mark.slow
def test_two_processes_tune_the_adapter_of_one(tmp_path, weights, task):
    """Two processes of a CPU, launched as `accelerate launch` does on GPUs: it is the adapter
    that one tunes, up to rounding.
    """
    command = [
        "-m",
        "fsl_utils",
        "tune",
        "-p",
        "backbone",
        "sd15",
        "-p",
        "adapter_steps",
        "3",
        "-p",
        "n_real",
        "40",
    ]
    found = []
    for where, n, launcher in (
        ("one", 1, []),
        ("two", 2, ["-m", "torch.distributed.run", "--nproc_per_node", "2"]),
    ):
        environment = os.environ | {"FSL_STORE": str(tmp_path / where), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, *launcher, *command],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert f"by {n} process(es): {tmp_path / where}" in done.stdout
        found.append(
            load_file(
                next((tmp_path / where / "adapter").glob("*/pytorch_lora_weights.safetensors"))
            )
        )
    for key, value in found[0].items():
        torch.testing.assert_close(found[1][key], value, rtol=1e-2, atol=1e-4)
