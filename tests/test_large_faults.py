"""The large backbones: what does not fit, is damaged or takes too much memory is said."""

import sys

import pytest
import torch
from test_finetuning import own_store, store_at  # noqa: F401
from test_large import folders  # noqa: F401
from test_large_study import tuned, weights  # noqa: F401

from fsl_utils import StudyError
from fsl_utils.__main__ import main
from fsl_utils.generator import backbones, large, settings
from fsl_utils.generator.adapter import load


def test_without_bitsandbytes_the_eight_bit_optimiser_is_an_error(
    own_store, weights, monkeypatch, task
):
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(StudyError, match="'adamw8bit' needs bitsandbytes: pip install"):
        tuned(task, "sd15", optimiser="adamw8bit")


def test_an_adapter_of_another_backbone_is_refused(own_store, weights, task):
    adapter = tuned(task, "sd15")
    folder = adapter.find()
    for other in ("flux2-klein-4b", "mini"):
        with pytest.raises(
            StudyError,
            match=f"this adapter is for sd15 with the base {adapter.backbone.base[:12]}, "
            f"not for {other} with",
        ):
            load(backbones.pretrained(other, task.domain).open(), folder)


def test_a_damaged_adapter_is_refused(own_store, weights, task):
    folder = tuned(task, "sd15").find()
    path = folder / "pytorch_lora_weights.safetensors"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(StudyError, match="does not fit sd15"):
        load(backbones.pretrained("sd15", task.domain).open(), folder)


def test_bad_sizes_and_settings(own_store, weights, task):
    with pytest.raises(StudyError, match="image_size is 128, but sd15 paints 64 pixels"):
        tuned(task, "sd15", size=128)
    for changed, words in (
        ({"optimiser": "sgd"}, "optimiser is 'sgd': input should be 'adamw' or 'adamw8bit'"),
        ({"dropout": 1.0}, "dropout is 1.0.*less than 1"),
        ({"views": 0}, "views is 0"),
        ({"quantise": 4}, "quantise is 4: input should be '' or 'nf4'"),
    ):
        with pytest.raises(StudyError, match=words):
            settings.of("elpv", "sd15", **changed)
    with pytest.raises(StudyError, match="unknown setting 'views' of fine-tuning mini"):
        settings.of("elpv", views=2)


def test_out_of_memory_is_taken_in_parts_then_explained(
    own_store, weights, monkeypatch, capsys, task
):
    plain, fits = large.Diffusion.loss, 1

    def tight(self, *given):
        loss = plain(self, *given)
        if len(loss) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return loss

    monkeypatch.setattr(large.Diffusion, "loss", tight)
    tuned(task, "sd15", steps=1)
    assert "batch of 2 in 2 parts" in capsys.readouterr().out
    fits = 0
    with pytest.raises(StudyError, match="out of memory: sd15 needs about 10 GB"):
        tuned(task, "sd15", steps=1, seed=1)


def test_tune_refuses_an_unknown_parameter(capsys):
    assert main(["tune", "-p", "backbne", "sd15"]) == 1
    assert "unknown parameter 'backbne': did you mean backbone?" in capsys.readouterr().err
