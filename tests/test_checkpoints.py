"""A checkpoint comes back bit for bit, or not at all."""

import os
import random

import pytest
import torch

from fsl_utils.generator import checkpoints


def trained(steps: int):
    """Two parameters after some steps of AdamW, one of them in another memory layout."""
    torch.manual_seed(0)
    shapes = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last), torch.randn(5)
    tensors = {f"p{i}": torch.nn.Parameter(tensor) for i, tensor in enumerate(shapes)}
    optimiser = torch.optim.AdamW(tensors.values())
    for _ in range(steps):
        sum((tensor**2).sum() for tensor in tensors.values()).backward()
        optimiser.step()
        optimiser.zero_grad()
    return tensors, optimiser


def same(one, other) -> bool:
    (a, left), (b, right) = one, other
    states = [(left.state[a[name]], right.state[b[name]]) for name in a]
    return all(torch.equal(a[name], b[name]) for name in a) and all(
        torch.equal(x[key], y[key]) for x, y in states for key in ("step", "exp_avg", "exp_avg_sq")
    )


@pytest.fixture
def path(tmp_path):
    checkpoints.save(tmp_path / "c.safetensors", 3, *trained(3), {"losses": [0.5, 0.25]})
    return tmp_path / "c.safetensors"


def test_what_was_saved_comes_back(path):
    fresh = trained(0)
    assert checkpoints.resume(path, *fresh) == {"losses": [0.5, 0.25]}
    assert same(fresh, trained(3))
    assert fresh[0]["p0"].is_contiguous(memory_format=torch.channels_last)


def test_a_flipped_bit_is_noticed_or_harmless(path):
    whole = path.read_bytes()
    noticed = 0
    for place in random.Random(0).sample(range(8 * len(whole)), 300):
        harmed = bytearray(whole)
        harmed[place // 8] ^= 1 << place % 8
        path.write_bytes(harmed)
        fresh = trained(0)
        facts = checkpoints.resume(path, *fresh)
        noticed += facts is None
        assert facts is None or (facts == {"losses": [0.5, 0.25]} and same(fresh, trained(3)))
        assert facts is not None or torch.equal(fresh[0]["p1"], trained(0)[0]["p1"])
    assert noticed > 250


def test_none_a_cut_one_and_a_fifo_are_no_checkpoint(path):
    whole = path.read_bytes()
    for cut in (0, 7, 100, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert checkpoints.resume(path, *trained(0)) is None
    path.unlink()
    assert checkpoints.resume(path, *trained(0)) is None
    os.mkfifo(path)
    assert checkpoints.resume(path, *trained(0)) is None
