"""Whether a device multiplies in bfloat16 by itself. Where it does not, bfloat16 is many times
slower than float32: a step of `mini128` took 8 times as long on a CPU with AVX2 alone.
"""

import torch


def bfloat16(device: str = "cpu") -> bool:
    """Whether the device multiplies in bfloat16 by itself."""
    capable = ("avx512_bf16", "amx_bf16")
    return device == "cuda" or any(torch.cpu.get_capabilities().get(name) for name in capable)
