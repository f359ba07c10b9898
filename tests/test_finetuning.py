import dataclasses
import itertools
import signal
from collections import deque

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from fsl_utils import Interrupted, StudyError, store
from fsl_utils.data.datasets import registry
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.generator import adapter, batches, finetuning, gradients, mini, mini_weights
from fsl_utils.generator import settings as tuning
from fsl_utils.generator.adapter import AdapterRequest


@pytest.fixture
def store_at(tmp_path, monkeypatch, elpv):
    """Go over to another store, which holds the decoded images alone."""
    elpv.images(64)
    shared = store.root() / "images"

    def go(name):
        monkeypatch.setenv("FSL_STORE", str(tmp_path / name))
        (tmp_path / name).mkdir()
        (tmp_path / name / "images").symlink_to(shared)

    return go


@pytest.fixture
def own_store(store_at):
    store_at("store")


SMALL = {"batch": 4, "rank": 4}  # seconds matter more here than quality


def finish(steps):
    return deque(steps, maxlen=1).pop()


def predict(backbone, row):
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 16, 16, 16, generator=generator)
    with torch.no_grad():
        return backbone.predict(latents, torch.tensor([500, 100]), torch.full((2,), row))


def test_a_fresh_adapter_changes_nothing_and_names_its_row(backbone):
    before = predict(backbone, 1)
    adapted = adapter.attach(backbone, 1)
    adapted.denoiser.eval()
    torch.testing.assert_close(predict(adapted, 1), before)
    torch.testing.assert_close(
        predict(adapted, mini.RARE), before
    )  # the rare class begins as the common one


def test_training_lowers_the_loss_and_leaves_the_base_untouched(own_store, task):
    base = mini_weights.load()
    rare = base.encode(task.images(64)[task.draw.shots])
    row = torch.full((len(rare),), mini.RARE)
    request = AdapterRequest.new(task, 12, **SMALL)
    last = finish(finetuning.train(request))
    tuned = last.backbone.denoiser.eval()
    fresh = mini_weights.load()
    kept = {
        k.replace("base_model.model.", "")
        .replace(".base_layer", "")
        .replace(".original_module", ""): v
        for k, v in tuned.state_dict().items()
        if "lora_" not in k and "modules_to_save" not in k
    }
    assert set(kept) == set(fresh.denoiser.state_dict())
    assert all(torch.equal(kept[k], v) for k, v in fresh.denoiser.state_dict().items())

    folder = request.find()
    loaded = adapter.load(mini_weights.load(), folder)
    assert set(loaded.denoiser.state_dict()) == set(
        fresh.denoiser.state_dict()
    )  # the adapter is in the weights
    torch.testing.assert_close(predict(loaded, mini.RARE), predict(last.backbone, mini.RARE))
    with torch.no_grad():
        start = adapter.attach(base, 1)
        start.denoiser.eval()
        before, after = (
            b.loss(rare, row, torch.Generator().manual_seed(5)).mean() for b in (start, loaded)
        )
    assert after < before
    assert not list(finetuning.train(request))  # it is there: nothing to do


def test_an_interrupted_run_resumes_to_the_same_adapter(store_at, task):
    request = AdapterRequest.new(task, 4, **SMALL, check_every=2)
    store_at("whole")
    finish(finetuning.train(request))
    whole = (request.find() / "adapter_model.safetensors").read_bytes()
    store_at("broken")
    list(itertools.islice(finetuning.train(request), 3))  # killed in the third step
    rest = list(finetuning.train(request))
    assert [step.number for step in rest] == [3, 4] and len(rest[-1].losses) == 4
    folder = request.find()
    assert (folder / "adapter_model.safetensors").read_bytes() == whole
    assert len((folder / "loss.csv").read_text().split()) == 5
    assert store.manifest(folder)["kept_step"] == 4


def test_ctrl_c_keeps_the_step_that_was_reached(store_at, task, capsys):
    request = AdapterRequest.new(task, 4, **SMALL, check_every=2)
    store_at("whole")
    finish(finetuning.train(request))
    whole = (request.find() / "adapter_model.safetensors").read_bytes()
    store_at("broken")
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match=r"step 3 of 4 is kept; run the same cell .* from there"):
        for step in finetuning.train(request):
            if step.number == 3:
                signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert [step.number for step in finetuning.train(request)] == [4]
    assert "going on from step 3 of 4" in capsys.readouterr().out
    assert (request.find() / "adapter_model.safetensors").read_bytes() == whole
    assert not list((store.root() / "work").iterdir())


@pytest.mark.parametrize("began", [signal.default_int_handler, signal.SIG_IGN])
def test_a_second_ctrl_c_stops_at_once(own_store, task, began):
    before = signal.signal(signal.SIGINT, began)
    try:
        _twice(task)
        assert signal.getsignal(signal.SIGINT) is began
    finally:
        signal.signal(signal.SIGINT, before)


def _twice(task):
    request = AdapterRequest.new(task, 4, **SMALL, check_every=2)
    with pytest.raises(KeyboardInterrupt) as stopped:
        for step in finetuning.train(request):
            if step.number == 3:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
    assert not isinstance(stopped.value, Interrupted)
    assert [step.number for step in finetuning.train(request)] == [3, 4]


def test_a_damaged_checkpoint_starts_anew(own_store, task):
    request = AdapterRequest.new(task, 2, **SMALL)
    path = store.work_folder("adapter", request.params()) / "checkpoint.safetensors"
    path.write_bytes(b"\x00" * 20)
    assert [step.number for step in finetuning.train(request)] == [1, 2]


def test_nan_loss_stops_with_advice(own_store, monkeypatch, task):
    monkeypatch.setattr(
        mini.Mini, "loss", lambda *a: torch.tensor([float("nan")], requires_grad=True)
    )
    with pytest.raises(StudyError, match="loss is nan at step 0: lower learning_rate"):
        finish(finetuning.train(AdapterRequest.new(task, 2)))


def test_an_adapter_for_another_base_is_refused(own_store, task):
    request = AdapterRequest.new(task, 1, **SMALL)
    finish(finetuning.train(request))
    folder = request.find()
    other = mini_weights.load()
    other.hash = "f" * 64
    with pytest.raises(StudyError, match="ffffffffffff"):
        adapter.load(other, folder)


@pytest.fixture
def stored(own_store, task):
    """Folders of two finished adapters, of rank 4 and of rank 8."""
    folders = []
    for rank in (4, 8):
        request = AdapterRequest.new(task, 1, rank=rank, batch=1)
        finish(finetuning.train(request))
        folders.append(request.find())
    return folders


def test_a_damaged_adapter_or_one_of_another_rank_is_refused(stored):
    four, eight = (folder / "adapter_model.safetensors" for folder in stored)
    whole = four.read_bytes()
    four.write_bytes(eight.read_bytes())
    with pytest.raises(StudyError, match="rank 8, its manifest says 4"):
        adapter.load(mini_weights.load(), stored[0])
    four.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StudyError, match="does not fit mini"):
        adapter.load(mini_weights.load(), stored[0])
    save_file(dict(list(load_file(eight).items())[:-2]), eight)
    with pytest.raises(StudyError, match="missing adapter keys"):
        adapter.load(mini_weights.load(), stored[1])
    four.write_bytes(whole)
    adapter.load(mini_weights.load(), stored[0])


def change(monkeypatch, **fields):
    """ELPV with other facts of its data set."""
    changed = dataclasses.replace(registry.get("elpv"), **fields)
    monkeypatch.setitem(registry.DATA_SETS, "elpv", changed)


def test_settings_are_checked_and_part_of_the_key(monkeypatch, task):
    change(monkeypatch, finetuning={"rank": 8})
    assert tuning.of("elpv").rank == 8 and tuning.of("folder") == tuning.FineTuning()
    assert tuning.of("elpv", rank=2, zoom=2).rank == 2
    assert isinstance(tuning.of("elpv", zoom=2).zoom, float)  # 2 and 2.0 are one key
    keys = {
        AdapterRequest.new(task, 5, **changed).key
        for changed in ({}, {"rank": 8}, {"rank": 2}, {"defect": 5})
    }
    assert len(keys) == 3
    for changed, words in (
        ({"rnak": 4}, "unknown setting 'rnak'"),
        ({"rank": 0}, "rank is 0"),
        ({"rank": 2.5}, "rank is 2.5"),
        ({"prior": 1}, "less than 1"),
        ({"zoom": 0.5}, "greater than or equal to 1"),
        ({"turn": float("nan")}, "turn is nan"),
        ({"batch": True}, "batch is True"),
    ):
        with pytest.raises(StudyError, match=words):
            tuning.of("elpv", **changed)


def test_no_shot_is_an_error(own_store, task):
    with pytest.raises(StudyError, match="no shot"):
        none = dataclasses.replace(task.draw, shots=task.draw.shots[:0])
        finish(finetuning.train(AdapterRequest.new(FewShotTask(task.domain, none), 1)))


def test_out_of_memory_halves_the_batch_with_equal_gradients(own_store, monkeypatch, capsys, task):
    monkeypatch.setitem(mini.UNET, "dropout", 0.0)  # dropout alone is drawn anew
    plain, fits = mini.Mini.loss, 6

    def tight(self, *given):
        loss = plain(self, *given)
        if len(loss) > fits:
            raise MemoryError
        return loss

    monkeypatch.setattr(mini.Mini, "loss", tight)
    found = []
    for limit in (6, 2):
        fits = limit
        first = next(finetuning.train(AdapterRequest.new(task, 2, batch=6, rank=4)))
        found.append(
            {
                n: p.grad.clone()
                for n, p in first.backbone.denoiser.named_parameters()
                if p.requires_grad
            }
        )
    assert "batch of 6 in 4 parts" in capsys.readouterr().out
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-3, atol=1e-6)
    assert max(gradient.abs().max() for gradient in found[0].values()) > 1e-3
    fits = 0
    with pytest.raises(StudyError, match="single image"):
        next(finetuning.train(AdapterRequest.new(task, 1, seed=1, batch=2)))


def test_no_other_error_is_taken_for_a_lack_of_memory(own_store, monkeypatch, task):
    def broken(*given):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(mini.Mini, "loss", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        next(finetuning.train(AdapterRequest.new(task, 1)))


def test_the_weight_of_a_defect(backbone):
    masks = torch.zeros(2, 1, 64, 64, dtype=torch.uint8)
    masks[0, :, 8:12, 20:22] = 255  # half of the latent place (2, 5)
    weight = batches.weights(masks, torch.zeros(2, 16, 16, 16), 9.0)
    assert weight.shape == (2, 1, 16, 16) and torch.equal(weight[1], torch.ones(1, 16, 16))
    assert float(weight[0].mean()) == pytest.approx(1) and float(
        weight[0, 0, 2, 5] / weight[0, 0, 0, 0]
    ) == pytest.approx(5)

    clean, row = (
        torch.randn(3, 16, 16, 16, generator=torch.Generator().manual_seed(0)),
        torch.tensor([1, 2, 3]),
    )
    one, other = torch.rand(2, 3, 1, 16, 16, generator=torch.Generator().manual_seed(1))

    def loss(*given):
        with torch.no_grad():
            return backbone.loss(clean, row, torch.Generator().manual_seed(2), *given)

    torch.testing.assert_close(loss(torch.ones_like(one)), loss())
    torch.testing.assert_close(loss(one + other), loss(one) + loss(other))
    torch.testing.assert_close(loss(one, slice(1, 3)), loss(one)[1:])


def test_masks_move_with_their_shots_and_common_images_have_none(tmp_path, monkeypatch, task):
    pixels, paths = task.images(64)[task.draw.shots], {}
    for path, image in zip(task.domain.table["path"].iloc[task.draw.shots], pixels):
        paths[path] = tmp_path / f"{len(paths)}.png"
        Image.fromarray(np.where(image[0] < 70, 255, 0).astype(np.uint8)).save(paths[path])
    change(monkeypatch, mask_path=paths.get)
    request = AdapterRequest.new(task, 1, defect=4, turn=5, zoom=1.5, prior=0.5)
    seen = batches.Batches(request, mini_weights.load())
    assert np.array_equal(seen.masks > 0, pixels < 70)
    both, condition, _ = seen.augmented(3)
    images, moved = both[:, :-1], both[:, -1:]
    assert images.shape == moved.shape == (16, 1, 64, 64) and moved[8:].max() == 0
    assert set(condition[:8].tolist()) <= {mini.RARE, mini.NULL} and set(
        condition[8:].tolist()
    ) <= {1, mini.NULL}
    agree = (images[:8] < 70) == (moved[:8] > 127)
    assert agree.float().mean() > 0.95 and (moved[:8] > 127).float().mean() > 0.02
    assert batches.masks(AdapterRequest.new(task, 1), 64).max() == 0  # no setting asks for them


def test_mini_refuses_other_sizes(own_store, task):
    with pytest.raises(StudyError, match="image_size is 128"):
        finish(finetuning.train(AdapterRequest.new(task, 1, image_size=128)))


def test_rate_warms_up_and_ends_near_zero():
    rates = np.array([gradients.learning_rate(s, 200, 2e-3) for s in range(200)])
    assert (
        rates[0] < rates[19] and rates.argmax() in range(18, 22) and rates[-1] < 0.001 * rates.max()
    )
