"""The copy check of fine-tuning: what it counts, and what a run does that begins to copy."""

import signal

import numpy as np
import pytest
import torch
from scipy.stats import binom
from test_finetuning import finish, own_store, predict, store_at  # noqa: F401

from fsl_utils import Interrupted, StudyError, store
from fsl_utils.generator import adapter, copies, finetuning, mini, mini_weights, sampling
from fsl_utils.generator.adapter import AdapterRequest


def checks_that_find(monkeypatch, *copied):
    found = iter(copied)
    monkeypatch.setattr(
        finetuning, "count_copies", lambda *given: {"copied": next(found), "of": 50, "allowed": 4}
    )


STOPPED = {"check_every": 2, "check_from": 2, "batch": 2, "rank": 2}


def test_a_run_that_begins_to_copy_keeps_its_last_state_that_passed(
    store_at, monkeypatch, capsys, task
):
    monkeypatch.setattr(copies, "rule", lambda *given, **named: "a rule")
    request = AdapterRequest.new(task, 7, **STOPPED)
    store_at("whole")
    checks_that_find(monkeypatch, 0, 4, 5)
    good, steps = None, []
    for step in finetuning.train(request):
        steps.append(step.number)
        if step.number == 4:
            good = {
                n: p.detach().clone()
                for n, p in step.backbone.denoiser.named_parameters()
                if p.requires_grad
            }
    assert steps == [1, 2, 3, 4, 5, 6] and "step 4 is kept" in capsys.readouterr().out
    kept = {n: p for n, p in step.backbone.denoiser.named_parameters() if p.requires_grad}
    assert all(torch.equal(kept[n], good[n]) for n in good)
    folder = request.find()
    facts = store.manifest(folder)
    assert (
        facts["kept_step"] == 4
        and [c["copied"] for c in facts["checks"]] == [0, 4, 5]
        and facts["checks"][-1]["step"] == 6
    )
    rows = predict(adapter.load(mini_weights.load(), folder), mini.RARE)
    step.backbone.denoiser.eval()
    torch.testing.assert_close(rows, predict(step.backbone, mini.RARE))

    store_at("broken")
    checks_that_find(monkeypatch, 0, 4)
    with pytest.raises(Interrupted, match="step 5 of 7"):  # no check has seen that step
        for step in finetuning.train(request):
            if step.number == 5:
                signal.raise_signal(signal.SIGINT)
    checks_that_find(monkeypatch, 5)
    finish(finetuning.train(request))
    again = request.find()
    assert store.manifest(again)["checks"] == facts["checks"]
    assert (again / "adapter_model.safetensors").read_bytes() == (
        folder / "adapter_model.safetensors"
    ).read_bytes()


def test_copies_at_the_first_check_are_an_error(own_store, monkeypatch, task):
    monkeypatch.setattr(copies, "rule", lambda *given, **named: "a rule")
    checks_that_find(monkeypatch, 30)
    with pytest.raises(
        StudyError,
        match="30 of 50 images are copies at step 2 already .4 may seem so.: train on more shots",
    ):
        finish(finetuning.train(AdapterRequest.new(task, 4, **STOPPED)))


def test_the_check_tells_copies_from_images_that_nothing_saw(monkeypatch, task, backbone):
    request, draw = AdapterRequest.new(task, 400), task.draw
    rule = copies.rule(task, 64, unseen=draw.common)
    fresh = draw.validation[draw.labels[draw.validation] == 1][:50]
    adapted = adapter.attach(backbone, 1)
    found = {}
    for name, rows in (("shots", np.resize(draw.shots, 50)), ("fresh", fresh)):
        monkeypatch.setattr(sampling, "sample", lambda *given, rows=rows: task.images(64)[rows])
        found[name] = finetuning.count_copies(adapted, request, rule)
    assert (
        found["shots"]["copied"] == 50
        and found["fresh"]["copied"] <= found["fresh"]["allowed"] < 25
    )
    # over all four looks an honest generator is stopped with a chance of at most ALARM
    assert (
        4 * binom.sf(found["fresh"]["allowed"], 50, max(copies.QUANTILE, rule.false_alarm))
        <= finetuning.ALARM
    )
