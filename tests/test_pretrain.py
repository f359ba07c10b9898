import dataclasses
import itertools
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fsl_utils import Interrupted, StudyError
from fsl_utils.data import partitions
from fsl_utils.generator import backbones, base_images, mini, mini_weights, pretrain


def test_base_images_are_common_and_from_base_groups(elpv):
    base = base_images.BaseImages([elpv])
    images, condition, held_out, files = base.images, base.condition, base.held_out, base.files
    assert images.shape == (len(condition), 1, 64, 64) and set(condition) == {
        mini.condition("elpv")
    }
    table = elpv.table.set_index("image").loc[files["elpv"]]
    assert set(table["partition"]) == {"base"} and set(table["label"]) == {0}
    assert 0 < held_out.mean() < 0.35
    assert not set(table["group"][held_out]) & set(table["group"][~held_out])


def test_a_killed_run_resumes_to_the_same_weights(elpv, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    rows = list(pretrain.run([elpv], 4, whole, checkpoint_every=2))
    assert [r["step"] for r in rows] == [1, 2, 3, 4] and [("held_out" in r) for r in rows] == [
        False,
        True,
        False,
        True,
    ]
    list(
        itertools.islice(pretrain.run([elpv], 4, broken, checkpoint_every=2), 3)
    )  # killed in the third step
    assert not (broken / "mini.safetensors").exists()
    assert [r["step"] for r in pretrain.run([elpv], 4, broken, checkpoint_every=2)] == [3, 4]
    a, b = (load_file(folder / "mini.safetensors") for folder in (whole, broken))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert (whole / "loss.csv").read_text() == (broken / "loss.csv").read_text()
    assert mini_weights.load(whole / "mini.safetensors").about["steps"] == 4


def test_ctrl_c_keeps_the_step_that_was_reached(elpv, tmp_path):
    with pytest.raises(Interrupted, match="step 3 of 4 is kept"):
        for row in pretrain.run([elpv], 4, tmp_path, checkpoint_every=2):
            if row["step"] == 3:
                signal.raise_signal(signal.SIGINT)
    [row] = pretrain.run([elpv], 4, tmp_path, checkpoint_every=2)
    assert row["step"] == 4 and len((tmp_path / "loss.csv").read_text().split()) == 3


def test_a_loss_that_is_no_number_stops_with_advice(elpv, tmp_path, monkeypatch):
    bad = torch.tensor([float("nan")], requires_grad=True)
    monkeypatch.setattr(mini.Mini, "loss", lambda *given: bad)
    with pytest.raises(StudyError, match="loss is nan at step 0.*LEARNING_RATE"):
        next(pretrain.run([elpv], 4, tmp_path))


def test_continued_from_given_weights(elpv, tmp_path):
    for _ in pretrain.run([elpv], 1, tmp_path, start=mini_weights.FOLDER / "mini.safetensors"):
        pass
    before, after = (
        mini_weights.load(mini_weights.FOLDER / "mini.safetensors"),
        mini_weights.load(tmp_path / "mini.safetensors"),
    )
    assert torch.equal(before.scales, after.scales) and after.about["start"] == before.hash
    moved = max(
        (a - b).abs().max()
        for a, b in zip(before.denoiser.parameters(), after.denoiser.parameters())
    )
    assert 0 < moved < 0.01


def test_rate_warms_up_holds_and_decays():
    rates = np.array([pretrain.learning_rate(s, 5000) for s in range(5000)])
    assert rates[0] < rates[50] < rates[100] == rates[3000] == pretrain.LEARNING_RATE
    assert rates[-1] < 0.02 * pretrain.LEARNING_RATE and (np.diff(rates[3500:]) <= 0).all()


def test_a_domain_without_base_images_is_refused(elpv, tmp_path):
    none = dataclasses.replace(elpv, table=elpv.table.assign(partition="development"))
    with pytest.raises(StudyError, match="no base image.*--from draw"):
        next(pretrain.run([none], 1, tmp_path))


def test_a_draws_common_training_images_stand_in_for_base_images(elpv):
    mixed = dataclasses.replace(elpv, table=elpv.table.assign(partition="development"))
    draw = partitions.draw(mixed.table, 3, 40)
    files = base_images.BaseImages([mixed], draw=3).files["elpv"]
    assert files == mixed.table["image"].iloc[draw.common].tolist()
    assert not set(files) & set(mixed.table["image"].iloc[draw.validation])


def test_weights_that_saw_test_images_are_refused(elpv, tmp_path, monkeypatch):
    test = elpv.table["image"][elpv.table["partition"] == "test"].tolist()
    model = mini.create(torch.ones(16), 0)
    for files, fits in (([], True), (test[:2], False)):
        path = tmp_path / f"{fits}.safetensors"
        mini_weights.save(model, path, {"files": {"elpv": files}})
        monkeypatch.setenv("FSL_MINI", str(path))
        if fits:
            assert backbones.pretrained("mini", elpv).name == "mini"
            continue
        with pytest.raises(StudyError, match="saw 2 images of the test partition.*unset FSL_MINI"):
            backbones.pretrained("mini", elpv)
    path.write_bytes(b"damaged")
    with pytest.raises(StudyError, match="not the weights of this mini"):
        backbones.pretrained("mini", elpv)
