import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from fsl_utils import StudyError, generate, lora, mini, store


@pytest.fixture
def small(own_store, monkeypatch):
    monkeypatch.setattr(generate, "CHUNK", 4)


def test_a_small_pool_is_the_beginning_of_a_large_one(small, elpv, draw):
    wanted = generate.request(None, elpv, draw, steps=3)
    four = generate.pool(wanted, 4, elpv, draw, 64)
    six = generate.pool(wanted, 6, elpv, draw, 64)
    assert four.shape == (4, 1, 64, 64) and six.shape == (6, 1, 64, 64) and four.dtype == np.uint8
    assert np.array_equal(six[:4], four)
    assert len({image.tobytes() for image in six}) == 6


def test_a_killed_pool_keeps_its_chunks(small, monkeypatch, elpv, draw):
    wanted = generate.request(None, elpv, draw, steps=2)
    next(generate.chunks(wanted, 8, elpv, draw, 64))
    calls, plain = [], generate.sample
    monkeypatch.setattr(generate, "sample", lambda b, w, numbers, *rest: calls.append(list(numbers)) or plain(b, w, numbers, *rest))
    generate.pool(wanted, 8, elpv, draw, 64)
    assert calls == [[4, 5, 6, 7]]


def test_batch_and_threads_change_rounding_at_most(small, backbone, elpv, draw):
    wanted = generate.request(None, elpv, draw, steps=10)
    together = generate.sample(backbone, wanted, range(4), elpv, draw)
    alone = np.concatenate([generate.sample(backbone, wanted, [i], elpv, draw) for i in range(4)])
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    other = generate.sample(backbone, wanted, range(4), elpv, draw)
    torch.set_num_threads(threads)
    for images in (alone, other):
        assert np.abs(images.astype(int) - together).max() <= 1
    assert np.array_equal(generate.sample(backbone, wanted, range(4), elpv, draw), together)


def test_sampling_is_what_the_diffusers_solver_does(backbone, elpv, draw):
    wanted = generate.request(None, elpv, draw, steps=5, guidance=2.0, seed=7)
    solver = DPMSolverMultistepScheduler(prediction_type="v_prediction", beta_schedule="squaredcos_cap_v2", timestep_spacing="trailing")
    solver.set_timesteps(5)
    latents = torch.randn(1, 16, 16, 16, generator=torch.Generator().manual_seed(generate.image_seed(7, 3)))
    with torch.no_grad():
        for t in solver.timesteps:
            rows = torch.tensor([mini.CONDITIONS["elpv"], mini.NULL])
            both = backbone.denoiser(torch.cat([latents] * 2), t, class_labels=rows).sample
            latents = solver.step(2 * both[:1] - both[1:], t, latents).prev_sample
    ours = generate.sample(backbone, wanted, [3], elpv, draw)
    assert np.abs(ours.astype(int) - backbone.decode(latents)).max() <= 1


def test_image_to_image_keeps_more_of_its_source_at_lower_strength(backbone, elpv, draw):
    def distance(strength):
        wanted = generate.request(None, elpv, draw, mode="from_shot", strength=strength, steps=10)
        made = generate.sample(backbone, wanted, range(6), elpv, draw).astype(float)
        shots = elpv.images(64)[draw.shots].astype(float)
        return np.mean([np.abs(shots - image).mean(axis=(1, 2, 3)).min() for image in made])

    near, far = distance(0.1), distance(0.9)
    assert near < 0.5 * far


def test_out_of_memory_halves_the_batch(monkeypatch, capsys, backbone, elpv, draw):
    wanted = generate.request(None, elpv, draw, steps=1)
    plain = generate._sample_batch

    def tight(backbone, wanted, numbers, *rest):
        if len(numbers) > 2:
            raise MemoryError
        return plain(backbone, wanted, numbers, *rest)

    monkeypatch.setattr(generate, "CHUNK", 4)
    expected = generate.sample(backbone, wanted, range(4), elpv, draw)
    monkeypatch.setattr(generate, "_sample_batch", tight)
    assert np.abs(generate.sample(backbone, wanted, range(4), elpv, draw).astype(int) - expected).max() <= 1
    assert "batches of 2" in capsys.readouterr().out


def test_bad_requests(own_store, elpv, draw):
    with pytest.raises(StudyError, match="unknown mode 'magic'"):
        generate.request(None, elpv, draw, mode="magic")
    with pytest.raises(StudyError, match="strength is 0"):
        generate.request(None, elpv, draw, strength=0)
    with pytest.raises(StudyError, match="adapter is missing"):
        generate.pool(generate.request(lora.request(elpv, draw, 64, 0, 5), elpv, draw), 1, elpv, draw, 64)


def test_a_damaged_chunk_is_made_again(small, elpv, draw):
    wanted = generate.request(None, elpv, draw, steps=2)
    first = generate.pool(wanted, 4, elpv, draw, 64)
    path = store.place("pool", {**wanted, "chunk": 0}) / "images.npz"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.warns(UserWarning, match="damaged"):
        assert np.array_equal(generate.pool(wanted, 4, elpv, draw, 64), first)
