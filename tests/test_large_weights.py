"""Where the weights of a large backbone come from, and what is said when they do not."""

import dataclasses
import errno
import json
import shutil
from types import SimpleNamespace
from unittest.mock import MagicMock

import huggingface_hub
import pytest
import tiny
import torch
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from fsl_utils import StudyError, store
from fsl_utils.generator import backbones, hub, mini_weights, pipelines, settings

CELLS = SimpleNamespace(name="elpv", rare_class="defective", common_class="functional", channels=1)
LARGE = list(hub.CARDS)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A tiny sd15 in the place that FSL_SD15 names."""
    folder = tiny.sd15(tmp_path / "sd15")
    monkeypatch.setenv("FSL_SD15", str(folder))
    return folder


@pytest.fixture
def answering(monkeypatch, tmp_path):
    """A hub with an empty cache that answers as told: with an error, or with a folder."""
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *a, **k: None)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1e12))

    def answer(what):
        def download(**asked):
            assert asked["revision"] and not any(
                p.endswith((".bin", ".ckpt", ".pt", ".py")) for p in asked["allow_patterns"]
            )
            if isinstance(what, Exception):
                raise what
            return str(what)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)

    return answer


def http(kind):
    return kind("the hub says no", response=MagicMock())


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize(
    "error, said",
    [
        (
            http(GatedRepoError),
            r"is gated: accept its licence .* at https://huggingface.co/.*hf auth login",
        ),
        (
            http(RevisionNotFoundError),
            r"commit [0-9a-f]{40} has gone from .*take another in fsl_utils.generator.hub.CARDS",
        ),
        (http(RepositoryNotFoundError), r"is not on the hub, or needs `hf auth login`"),
        (
            LocalEntryNotFoundError("offline"),
            r"are not here and the hub cannot be reached: "
            r"`hf download \S+ --revision [0-9a-f]{40}`",
        ),
        (OfflineModeIsEnabled("offline"), r"are not here and the hub cannot be reached"),
        (http(HfHubHTTPError), r"fetching .* failed \(the hub says no\): run it again"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            r"disk full while fetching .*set HF_HOME to a larger disk",
        ),
    ],
)
def test_every_fault_of_a_download_is_one_line_with_a_way_out(answering, name, error, said):
    answering(error)
    with pytest.raises(StudyError, match=said) as caught:
        hub.weights(name)
    text, card = str(caught.value), hub.CARDS[name]
    assert "\n" not in text
    if not isinstance(error, RevisionNotFoundError):
        assert (
            f"{card.disk:g} GB of disk and {card.memory:g} GB of GPU memory; "
            f"smaller: backbone='{card.smaller}'" in text
        )


def test_a_download_that_broke_off_is_noticed(answering, weights, monkeypatch):
    monkeypatch.delenv("FSL_SD15")
    answering(weights)
    assert hub.weights("sd15") == weights
    (weights / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(
        StudyError,
        match=r"unet/\*.safetensors is missing, the download broke off: run `hf download",
    ):
        hub.weights("sd15")


def test_every_shard_must_be_there(weights):
    unet = weights / "unet"
    (unet / "diffusion_pytorch_model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})
    )
    (unet / "one.safetensors").write_bytes(b"x")
    (unet / "two.safetensors").write_bytes(b"")
    assert hub.missing(weights, ("unet", "vae")) == "unet/two.safetensors"
    assert hub.missing(weights, ("vae",)) is None


def test_no_room_is_said_before_the_download(monkeypatch):
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *a, **k: None)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=3e9))
    with pytest.raises(
        StudyError,
        match="flux2-dev takes 113 GB of disk, but 3 GB are free in .*backbone='flux2-klein-4b'",
    ):
        hub.weights("flux2-dev")


def test_a_local_folder_must_hold_the_pipeline(monkeypatch, tmp_path):
    monkeypatch.setenv("FSL_FLUX2_DEV", str(tmp_path))
    with pytest.raises(
        StudyError,
        match="FSL_FLUX2_DEV=.*model_index.json is missing; it must be a folder of a Flux2Pipeline",
    ):
        hub.weights("flux2-dev")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_damaged_weights_are_refused(own_store, weights, part):
    path = next((weights / part).glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(
        StudyError, match="not the whole weights of a StableDiffusionPipeline .*download it again"
    ):
        backbones.pretrained("sd15", CELLS, 64).open()


def test_pickled_weights_are_not_read(own_store, weights):
    path = next((weights / "unet").glob("*.safetensors"))
    torch.save({"weight": torch.zeros(1)}, weights / "unet" / "diffusion_pytorch_model.bin")
    path.unlink()
    with pytest.raises(StudyError, match=r"unet/\*.safetensors is missing"):
        backbones.pretrained("sd15", CELLS, 64).open()
    with pytest.raises(StudyError, match="not the whole weights"):
        pipelines.load(backbones.pretrained("sd15", CELLS), weights)


def test_identity_follows_the_weights(own_store, weights, monkeypatch):
    one = backbones.identity("sd15")
    assert one == backbones.identity("sd15") and backbones.identity("sd15", "nf4") == f"{one}+nf4"
    config = weights / "unet" / "config.json"
    config.write_text(config.read_text() + " ")
    assert backbones.identity("sd15") != one
    monkeypatch.delenv("FSL_SD15")
    assert backbones.identity("sd15") == hub.CARDS["sd15"].revision
    assert backbones.identity("mini") == store.sha256(mini_weights.in_use())


def test_revisions_are_commits_and_smaller_ones_lead_to_mini():
    for name, card in hub.CARDS.items():
        assert len(card.revision) == 40 and int(card.revision, 16)
        while name != "mini":
            name = hub.CARDS[name].smaller
    needs = [(c.disk, c.memory) for c in hub.CARDS.values()]
    assert needs == sorted(needs)


def test_what_this_machine_could_run(answering, monkeypatch):
    monkeypatch.setattr(hub, "gpu_memory", lambda: 24.0)
    here = hub.feasible()["here"]
    assert (
        here["mini"] == "yes" and here["sd15"] == here["flux2-klein-4b"] == "yes, after a download"
    )
    assert here["flux2-dev"] == "needs a GPU of 32 GB (this machine: 24 GB)"


def test_settings_and_presets():
    assert settings.of("elpv") == settings.FineTuning()
    plain, paper = (settings.of("elpv", "flux2-klein-4b", preset) for preset in ("", "paper"))
    assert paper == dataclasses.replace(plain, **settings.PAPER) != plain
    assert settings.of("elpv", "flux2-dev") == paper
    with pytest.raises(StudyError, match="unknown backbone 'sdxl': known are mini, mini128, sd15"):
        settings.of("elpv", "sdxl")
    with pytest.raises(StudyError, match="unknown preset 'fast'"):
        settings.of("elpv", "sd15", "fast")
    with pytest.raises(StudyError, match="preset 'paper' is for FLUX.2"):
        settings.of("elpv", "mini", "paper")


def test_out_of_memory_while_loading_advises_by_numbers(weights, monkeypatch):
    def full(*a, **k):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(pipelines, "load", full)
    with pytest.raises(
        StudyError,
        match="out of memory: sd15 needs about 10 GB at one image a time, "
        "this device has 0 GB.*backbone='mini'",
    ):
        backbones.pretrained("sd15", CELLS, 64).open()
