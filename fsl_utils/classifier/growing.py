"""Made images that join the training when validation stalls.

After Deliberate Practice (Askari-Hemmat et al. 2025, arXiv 2502.15588), which joins those of which
the classifier is least sure. There they are sampled anew; here they wait in a pool.
"""

import numpy as np

from fsl_utils.classifier.arms import GROWTH


class Growth:
    """Which images are in use: the real ones at first.

    made: which images are not real, bool [N]. rule: `unsure` takes those whose score is nearest to
    one half, `any` takes them at random, as its rival.
    """

    def __init__(self, made: np.ndarray, rule: str, seed: int):
        self.in_use = ~np.asarray(made, bool)
        self.rule, self.rng = rule, np.random.default_rng(seed)
        self.lowest = np.inf
        self.at_once = -(-int(np.sum(made)) // GROWTH["parts"])

    @property
    def waiting(self) -> np.ndarray:
        """Positions of the images that are not in use."""
        return np.flatnonzero(~self.in_use)

    def look(self, loss: float, scores: np.ndarray) -> None:
        """Where the validation loss is no lower than ever before, the next part joins.

        scores: of the waiting images, float [len(waiting)] in 0..1.
        """
        if loss >= self.lowest:
            doubt = np.abs(scores - 0.5) if self.rule == "unsure" else self.rng.random(len(scores))
            self.in_use[self.waiting[np.argsort(doubt, kind="stable")[: self.at_once]]] = True
        self.lowest = min(self.lowest, loss)
