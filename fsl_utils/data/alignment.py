"""Pairs of images laid over each other: how far one is stretched and moved against the other."""

import numpy as np

LIMIT = 0.15  # of half a side: what a picture may be stretched or moved by
_CROPPED = 0.97  # of half a side: pixels beyond it were interpolated across the border


def warped(images: np.ndarray, place: np.ndarray) -> np.ndarray:
    """float32 images [P, C, S, S] at the pixels that `place` names, bilinear; 0 outside.

    place: float32 [P, 4], stretch in x and y beside 1, then shift in x and y, in half sides.
    """
    x, y = (_positions(place[:, i], place[:, 2 + i], images.shape[-1]) for i in (0, 1))
    return _weights(y)[:, None] @ images @ _weights(x)[:, None].transpose(0, 1, 3, 2)


def overlap(place: np.ndarray, size: int) -> np.ndarray:
    """Which pixels [P, S, S] of the first image the second one holds, bool."""
    x, y = (_positions(place[:, i], place[:, 2 + i], size) for i in (0, 1))
    inside_x, inside_y = (np.abs((at + 0.5) / size * 2 - 1) <= _CROPPED for at in (x, y))
    return inside_y[:, :, None] & inside_x[:, None, :]


def aligned(fixed: np.ndarray, moved: np.ndarray, place: np.ndarray, iterations: int) -> np.ndarray:
    """Where `moved` looks like `fixed`, from `place` on; float32 images [P, S, S] -> [P, 4].

    Gauss-Newton on the squared difference after the best gain and offset (Baker and Matthews,
    IJCV 56(3), 2004, section 4.1), damped.
    """
    pairs, size, _ = moved.shape
    slopes = [np.zeros_like(moved), np.zeros_like(moved)]
    slopes[0][:, :, 1:-1] = (moved[:, :, 2:] - moved[:, :, :-2]) * (size / 4)
    slopes[1][:, 1:-1] = (moved[:, 2:] - moved[:, :-2]) * (size / 4)
    stack = np.stack([moved, *slopes], axis=1)
    centres = ((np.arange(size, dtype=np.float32) + 0.5) / size) * 2 - 1
    target = fixed.reshape(pairs, -1, 1)
    for _ in range(iterations):
        image, dx, dy = warped(stack, place).transpose(1, 0, 2, 3)
        columns = [dx * centres, dy * centres[:, None], dx, dy, image, np.ones_like(image)]
        jacobian = np.stack(columns, axis=1).reshape(pairs, 6, -1)
        normal = jacobian @ jacobian.transpose(0, 2, 1)
        damping = 1e-3 * (1 + np.einsum("pii->pi", normal))
        normal += damping[:, :, None] * np.eye(6, dtype=np.float32)
        step = np.linalg.solve(normal, jacobian @ target)[:, :, 0]
        gain = step[:, 4:5]
        gain = np.where(np.abs(gain) < 0.2, 0.2, gain)
        place = (place + (step[:, :4] / gain).clip(-0.05, 0.05)).clip(-LIMIT, LIMIT)
    return place


def _positions(stretch: np.ndarray, shift: np.ndarray, size: int) -> np.ndarray:
    """Where the pixels of a row lie in the other image, [P, S], in its pixels."""
    centres = ((np.arange(size, dtype=np.float32) + 0.5) / size) * 2 - 1
    return ((1 + stretch[:, None]) * centres + shift[:, None] + 1) / 2 * size - 0.5


def _weights(positions: np.ndarray) -> np.ndarray:
    """Weights of linear interpolation at positions [P, S]: [P, S, S]."""
    pixels = np.arange(positions.shape[1], dtype=np.float32)
    return np.maximum(0, 1 - np.abs(positions[:, :, None] - pixels)).astype(np.float32)
