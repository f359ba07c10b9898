"""Drawn defects and their masks: dark lines and blots on common images, so that a backbone knows
what a mask means before it sees the first shot (cf. DRAEM, Zavrtanik et al. 2021).
"""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw

CHANNELS = 2  # thin marks, wide marks
WIDE = 5  # pixels of 128: what a square of this side fits into is wide
MARKED = 32  # grey level from which a pixel of a mask counts
FINE = 2  # drawn so many times larger, then averaged

LINE, BLOT = (0.15, 0.75), (0.05, 0.6)  # the share of the grey level that stays


def channels(masks: torch.Tensor) -> torch.Tensor:
    """Masks, uint8 [N, 1, S, S] -> thin and wide marks, float32 [N, 2, S, S] of 0 and 1.

    Wide is what a morphological opening leaves; thin the rest: a crack, and not a dead area.
    """
    marked = (masks >= MARKED).float()
    edge = WIDE // 2
    eroded = -F.max_pool2d(-F.pad(marked, (edge,) * 4, value=1.0), WIDE, 1)
    wide = F.max_pool2d(eroded, WIDE, 1, edge) * marked
    return torch.cat([marked - wide, wide], dim=1)


def draw(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A grey image, uint8 [S, S], with lines or a blot or both drawn on, and its mask, 0 or 255."""
    marks = shapes(image.shape[-1], rng)
    out = image.astype(np.float32)
    for cover, (low, high) in zip(marks, (LINE, BLOT)):
        out *= 1 - cover * (1 - rng.uniform(low, high))
    mask = np.where(marks.max(axis=0) >= 0.25, 255, 0)
    return np.rint(out).astype(np.uint8), mask.astype(np.uint8)


def mask(size: int, rng: np.random.Generator) -> np.ndarray:
    """A mask of drawn shapes, uint8 [size, size], 0 or 255."""
    return np.where(shapes(size, rng).max(axis=0) >= 0.25, 255, 0).astype(np.uint8)


def shapes(size: int, rng: np.random.Generator) -> np.ndarray:
    """How far lines and blots cover each pixel, float32 [2, size, size] in 0..1; one of them at
    least is there.
    """
    kind = rng.choice(["line", "blot", "both"], p=[0.6, 0.15, 0.25])
    lines = rng.integers(1, 4) if kind != "blot" else 0
    blots = rng.integers(1, 3) if kind != "line" else 0
    return np.stack(
        [
            _painted(size, [_line(size, rng) for _ in range(lines)]),
            _painted(size, [_blot(size, rng) for _ in range(blots)]),
        ]
    )


def _painted(size: int, drawn: list) -> np.ndarray:
    canvas = Image.new("L", (size * FINE, size * FINE))
    pen = ImageDraw.Draw(canvas)
    for points, width in drawn:
        points = [tuple(point) for point in (points * FINE).tolist()]
        if width:
            pen.line(points, fill=255, width=max(1, round(width * FINE)), joint="curve")
        else:
            pen.polygon(points, fill=255)
    return np.asarray(canvas.resize((size, size), Image.Resampling.BOX), np.float32) / 255


def _line(size: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Points [K, 2] of a line that wanders, and its width: 1 to 2 pixels of 128."""
    steps = rng.integers(3, 10)
    bend = np.cumsum(rng.normal(0, 0.35, steps)) + rng.uniform(0, 2 * np.pi)
    length = size * rng.uniform(0.15, 1.1) / steps
    path = np.cumsum(np.stack([np.cos(bend), np.sin(bend)], 1) * length, axis=0)
    start = rng.uniform(0, size, 2) - path.mean(axis=0)
    return path + start, rng.uniform(1, 2) * size / 128


def _blot(size: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Corners [K, 2] of a polygon around a centre."""
    corners = rng.integers(4, 10)
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radius = size * rng.uniform(0.04, 0.35) * rng.uniform(0.5, 1.2, corners)
    around = np.stack([np.cos(angle), np.sin(angle) * rng.uniform(0.3, 1)], 1) * radius[:, None]
    return rng.uniform(0, size, 2) + around, 0.0
