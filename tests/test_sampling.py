import dataclasses

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from spoiled import Spoiled

from fsl_utils import StudyError, store
from fsl_utils.data import domains
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.generator import backbones, guidance, mini, mini_weights, regions, sampling
from fsl_utils.generator.adapter import AdapterRequest, attach
from fsl_utils.generator.sampling import PoolRequest

SHIPPED = backbones.pretrained("mini", domains.load("elpv"))


@pytest.fixture
def small(own_store, monkeypatch):
    monkeypatch.setattr(sampling, "CHUNK", 4)


def test_a_small_pool_is_the_beginning_of_a_large_one(small, task):
    wanted = PoolRequest(task, SHIPPED, steps=3)
    four = sampling.images_of(wanted, 4)
    six = sampling.images_of(wanted, 6)
    assert four.shape == (4, 1, 64, 64) and six.shape == (6, 1, 64, 64) and four.dtype == np.uint8
    assert np.array_equal(six[:4], four)
    assert len({image.tobytes() for image in six}) == 6


def test_a_killed_pool_keeps_its_chunks(small, monkeypatch, task):
    wanted = PoolRequest(task, SHIPPED, steps=2)
    next(sampling.chunks(wanted, 8))
    calls, plain = [], sampling.sample
    monkeypatch.setattr(
        sampling,
        "sample",
        lambda b, w, numbers, *rest: calls.append(list(numbers)) or plain(b, w, numbers, *rest),
    )
    sampling.images_of(wanted, 8)
    assert calls == [[4, 5, 6, 7]]


def test_batch_and_threads_change_rounding_at_most(small, backbone, task):
    wanted = PoolRequest(task, SHIPPED, steps=10)
    together = sampling.sample(backbone, wanted, range(4))
    alone = np.concatenate([sampling.sample(backbone, wanted, [i]) for i in range(4)])
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    other = sampling.sample(backbone, wanted, range(4))
    torch.set_num_threads(threads)
    for images in (alone, other):
        assert np.abs(images.astype(int) - together).max() <= 1
    assert np.array_equal(sampling.sample(backbone, wanted, range(4)), together)


def test_sampling_is_what_the_diffusers_solver_does(backbone, task):
    wanted = PoolRequest(task, SHIPPED, steps=5, guidance=2.0, seed=7)
    solver = DPMSolverMultistepScheduler(
        prediction_type="v_prediction",
        beta_schedule="squaredcos_cap_v2",
        timestep_spacing="trailing",
    )
    solver.set_timesteps(5)
    latents = torch.randn(
        1, 16, 16, 16, generator=torch.Generator().manual_seed(sampling.image_seed(0, 7, 3))
    )
    with torch.no_grad():
        for t in solver.timesteps:
            rows = torch.tensor([mini.condition("elpv"), mini.NULL])
            both = backbone.denoiser(torch.cat([latents] * 2), t, class_labels=rows).sample
            latents = solver.step(2 * both[:1] - both[1:], t, latents).prev_sample
    ours = sampling.sample(backbone, wanted, [3])
    assert np.abs(ours.astype(int) - backbone.decode(latents)).max() <= 1


def test_a_gate_leaves_the_first_steps_to_the_backbone_alone(task, own_store):
    """An adapter of zeros changes nothing; one that is not changes the later steps alone."""
    adapter = AdapterRequest.new(task, steps=1)
    wanted = PoolRequest.of(adapter, steps=6)
    assert wanted.params() == dataclasses.replace(wanted, gate=0).params()
    alone = sampling.sample(SHIPPED.open(), PoolRequest.alone(adapter, steps=6), range(3))
    fresh, tuned = (attach(SHIPPED.open(), mini.condition("elpv")) for _ in range(2))
    with torch.no_grad():
        for name, parameter in tuned.denoiser.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.02, generator=torch.Generator().manual_seed(0))
    gates = [
        sampling.sample(tuned, dataclasses.replace(wanted, gate=g), range(3)) for g in (0, 2, 5)
    ]
    away = [np.abs(made.astype(int) - alone).mean() for made in gates]
    assert away[0] > away[1] > away[2] > 0
    same = sampling.sample(fresh, dataclasses.replace(wanted, gate=3), range(3))
    assert np.abs(same.astype(int) - alone).max() <= 1
    with pytest.raises(StudyError, match="gate is 6 of 6 steps"):
        dataclasses.replace(wanted, gate=6)


def test_image_to_image_keeps_more_of_its_source_at_lower_strength(backbone, task):
    def distance(strength):
        wanted = PoolRequest(task, SHIPPED, mode="from_shot", strength=strength, steps=10)
        made = sampling.sample(backbone, wanted, range(6)).astype(float)
        shots = task.images(64)[task.draw.shots].astype(float)
        return np.mean([np.abs(shots - image).mean(axis=(1, 2, 3)).min() for image in made])

    near, far = distance(0.1), distance(0.9)
    assert near < 0.5 * far


@pytest.mark.parametrize("mode", ["from_shot", "from_common", "inpaint"])
def test_sources_are_training_images_of_the_draw_and_nothing_else_is_seen(mode, backbone, task):
    wanted = PoolRequest(task, SHIPPED, mode=mode, strength=0.3, steps=3)
    rows = task.draw.shots if mode == "from_shot" else task.draw.common
    assert (
        set(sampling.sources(wanted, range(300))) <= set(rows)
        and len(set(sampling.sources(wanted, range(300)))) > 20
    )
    made = sampling.sample(backbone, wanted, range(2))
    for seen, same in ((rows, True), ([], False)):
        other = dataclasses.replace(wanted, task=FewShotTask(Spoiled(task.domain, seen), task.draw))
        assert np.array_equal(sampling.sample(backbone, other, range(2)), made) is same


def test_inpainting_keeps_what_lies_outside_the_region_bit_for_bit(backbone, task):
    wanted = PoolRequest(task, SHIPPED, mode="inpaint", strength=0.9, steps=4, guidance=1.5)
    with torch.inference_mode():
        source = task.images(64)[sampling.sources(wanted, range(3))]
        weight = regions.of_pool(backbone, wanted, range(3), backbone.encode(source))
        alone = regions.of_pool(backbone, wanted, [2], backbone.encode(source[2:]))
    made = sampling.sample(backbone, wanted, range(3))
    assert (
        np.array_equal(made[weight == 0], source[weight == 0]) and 0.2 < (weight == 0).mean() < 0.8
    )
    inside = np.abs(made.astype(int) - source)[weight == 1]
    assert inside.mean() > 3 and (inside > 0).mean() > 0.5
    assert np.array_equal(alone, weight[2:])  # the region of an image does not depend on its batch
    assert np.abs(sampling.sample(backbone, wanted, [2]).astype(int) - made[2:]).max() <= 1


def test_inpainting_shows_the_network_the_source_noised_to_each_level(task, monkeypatch):
    """RePaint: outside the region every step begins with sqrt(a) source + sqrt(1 - a) noise, a from
    the schedule.
    """

    class Spy(mini.Mini):
        def predict(self, latents, timesteps, condition):
            seen.append((latents.clone(), int(timesteps[0])))
            return torch.ones_like(latents)

    seen, loaded = [], mini_weights.load()
    spy = Spy(**{f.name: getattr(loaded, f.name) for f in dataclasses.fields(loaded)})
    kept = np.ones((1, 1, 64, 64), np.float32)
    kept[..., :, :32] = 0
    monkeypatch.setattr(regions, "of_pool", lambda *_: kept)
    wanted = PoolRequest(task, SHIPPED, mode="inpaint", strength=0.8, steps=5)
    sampling.sample(spy, wanted, [4])
    clean = spy.encode(task.images(64)[sampling.sources(wanted, [4])])
    noise = torch.randn(
        clean.shape[1:], generator=torch.Generator().manual_seed(sampling.image_seed(0, 0, 4))
    )
    assert len(seen) == 4
    for latents, t in seen:
        a = spy.scheduler.alphas_cumprod[t]
        expected = a.sqrt() * clean + (1 - a).sqrt() * noise
        torch.testing.assert_close(latents[..., :8], expected[..., :8], rtol=1e-3, atol=1e-3)
    assert (seen[-1][0] - expected)[..., 8:].abs().mean() > 0.1


def test_guidance_in_one_pass_is_guidance_in_two(backbone):
    latents, t = (
        torch.randn(3, 16, 16, 16, generator=torch.Generator().manual_seed(0)),
        torch.full((3,), 400),
    )
    row, null = torch.full((3,), mini.condition("elpv")), torch.full((3,), mini.NULL)
    with torch.inference_mode():
        ours = guidance.by_conditions(backbone, latents, t, row, 2.5)
        with_it, without = backbone.predict(latents, t, row), backbone.predict(latents, t, null)
        torch.testing.assert_close(ours, without + 2.5 * (with_it - without), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(guidance.by_conditions(backbone, latents, t, row, 1.0), with_it)


def test_an_image_may_resemble_the_group_of_its_source_unless_that_is_a_shot(task):
    rows = np.concatenate([task.draw.shots, task.draw.common])
    for mode in ("noise", "from_shot"):
        assert sampling.resembled(PoolRequest(task, SHIPPED, mode=mode), range(5), rows) is None
    wanted = PoolRequest(task, SHIPPED, mode="inpaint")
    found = sampling.resembled(wanted, range(5), rows)
    for i, source in enumerate(sampling.sources(wanted, range(5))):
        assert (
            set(task.draw.groups[rows[found[i]]]) == {task.draw.groups[source]}
            and source in rows[found[i]]
        )


def test_out_of_memory_halves_the_batch(monkeypatch, capsys, backbone, task):
    wanted = PoolRequest(task, SHIPPED, steps=1)
    plain = sampling._sample_batch

    def tight(backbone, base, wanted, numbers):
        if len(numbers) > 2:
            raise MemoryError
        return plain(backbone, base, wanted, numbers)

    monkeypatch.setattr(sampling, "CHUNK", 4)
    expected = sampling.sample(backbone, wanted, range(4))
    monkeypatch.setattr(sampling, "_sample_batch", tight)
    assert np.abs(sampling.sample(backbone, wanted, range(4)).astype(int) - expected).max() <= 1
    assert "batches of 2" in capsys.readouterr().out


def test_bad_requests(own_store, task):
    with pytest.raises(StudyError, match="unknown mode 'magic'"):
        PoolRequest(task, SHIPPED, mode="magic")
    with pytest.raises(StudyError, match="strength is 0"):
        PoolRequest(task, SHIPPED, strength=0)
    with pytest.raises(StudyError, match="strength is 1.01"):
        PoolRequest(task, SHIPPED, mode="inpaint", strength=1.01)
    with pytest.raises(StudyError, match="adapter is missing"):
        sampling.images_of(PoolRequest.of(AdapterRequest.new(task, 5)), 1)


def test_a_damaged_chunk_is_made_again(small, task):
    wanted = PoolRequest(task, SHIPPED, steps=2)
    first = sampling.images_of(wanted, 4)
    path = store.place("pool", {**wanted.params(), "chunk": 0}) / "images.npz"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.warns(UserWarning, match="damaged"):
        assert np.array_equal(sampling.images_of(wanted, 4), first)
