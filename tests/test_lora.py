import itertools

import numpy as np
import pytest
import torch

from fsl_utils import StudyError, lora, mini, store


def finish(steps):
    for last in steps:
        pass
    return last


def predict(backbone, row):
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 16, 16, 16, generator=generator)
    with torch.no_grad():
        return backbone.predict(latents, torch.tensor([500, 100]), torch.full((2,), row))


def test_a_fresh_adapter_changes_nothing_and_names_its_row(backbone):
    before = predict(backbone, 1)
    adapted = lora.attach(backbone, 1)
    adapted.denoiser.eval()
    torch.testing.assert_close(predict(adapted, 1), before)
    torch.testing.assert_close(predict(adapted, mini.RARE), before)  # the rare class begins as the common one


def test_training_lowers_the_loss_and_leaves_the_base_untouched(own_store, elpv, draw):
    base = mini.load()
    rare = base.encode(elpv.images(64)[draw.shots])
    row = torch.full((len(rare),), mini.RARE)
    last = finish(lora.train(elpv, draw, 64, seed=0, steps=12))
    tuned = last["backbone"].denoiser.eval()
    fresh = mini.load()
    kept = {k.replace("base_model.model.", "").replace(".base_layer", "").replace(".original_module", ""): v
            for k, v in tuned.state_dict().items() if "lora_" not in k and "modules_to_save" not in k}
    assert set(kept) == set(fresh.denoiser.state_dict())
    assert all(torch.equal(kept[k], v) for k, v in fresh.denoiser.state_dict().items())

    folder = store.find("adapter", lora.request(elpv, draw, 64, 0, 12))
    loaded = lora.load(mini.load(), folder)
    torch.testing.assert_close(predict(loaded, mini.RARE), predict(last["backbone"], mini.RARE))
    with torch.no_grad():
        start = lora.attach(base, 1)
        start.denoiser.eval()
        before, after = (b.loss(rare, row, torch.Generator().manual_seed(5)).mean() for b in (start, loaded))
    assert after < before
    assert not list(lora.train(elpv, draw, 64, 0, 12))  # it is there: nothing to do
    assert not list(lora.train(elpv, draw, 64, 0, 12))


def test_an_interrupted_run_resumes_to_the_same_adapter(tmp_path, monkeypatch, elpv, draw):
    elpv.images(64)
    monkeypatch.setattr(lora, "CHECKPOINT_EVERY", 2)
    wanted = lora.request(elpv, draw, 64, 0, 4)
    monkeypatch.setenv("FSL_STORE", str(tmp_path / "whole"))
    finish(lora.train(elpv, draw, 64, 0, 4))
    whole = (store.find("adapter", wanted) / "adapter_model.safetensors").read_bytes()
    monkeypatch.setenv("FSL_STORE", str(tmp_path / "broken"))
    list(itertools.islice(lora.train(elpv, draw, 64, 0, 4), 3))  # killed in the third step
    rest = list(lora.train(elpv, draw, 64, 0, 4))
    assert [r["step"] for r in rest] == [3, 4]
    folder = store.find("adapter", wanted)
    assert (folder / "adapter_model.safetensors").read_bytes() == whole
    assert len((folder / "loss.csv").read_text().split()) == 5


def test_a_damaged_checkpoint_starts_anew(own_store, elpv, draw):
    path = store.work_folder("adapter", lora.request(elpv, draw, 64, 0, 2)) / "checkpoint.safetensors"
    path.write_bytes(b"\x00" * 20)
    assert [r["step"] for r in lora.train(elpv, draw, 64, 0, 2)] == [1, 2]


def test_nan_loss_stops_with_advice(own_store, monkeypatch, elpv, draw):
    monkeypatch.setattr(mini.Mini, "loss", lambda *a: torch.tensor([float("nan")], requires_grad=True))
    with pytest.raises(StudyError, match="loss is nan at step 0: lower learning_rate"):
        finish(lora.train(elpv, draw, 64, 0, 2))


def test_an_adapter_for_another_base_is_refused(own_store, elpv, draw):
    finish(lora.train(elpv, draw, 64, 0, 1))
    folder = store.find("adapter", lora.request(elpv, draw, 64, 0, 1))
    other = mini.load()
    other.hash = "f" * 64
    with pytest.raises(StudyError, match="ffffffffffff"):
        lora.load(other, folder)


def test_mini_refuses_other_sizes(own_store, elpv, draw):
    with pytest.raises(StudyError, match="image_size is 128"):
        finish(lora.train(elpv, draw, 128, 0, 1))


def test_rate_warms_up_and_ends_near_zero():
    rates = np.array([lora.learning_rate(s, 200) for s in range(200)])
    assert rates[0] < rates[19] and rates.argmax() in range(18, 22) and rates[-1] < 0.001 * rates.max()
