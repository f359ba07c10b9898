"""What the cells of one run share: images of the domain and of pools, each fetched when first
needed.
"""

import copy
import time

import numpy as np
import pandas as pd
import torch

from fsl_utils.classifier import features, filters, plan
from fsl_utils.classifier.features import View
from fsl_utils.data import augmentation, images
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.generator import sampling


class Material:
    """Images, uint8 [N, C, S, S], or through a view (see `through`) their features, [N, D] or [N,
    C, p, p].

    Real and made images pass through one chain: they come to `size` pixels and `channels` by the
    same resize.
    """

    def __init__(self, task: FewShotTask, p, planned: list[plan.CellRequest], device: str):
        self.task, self.device = task, device
        self.size, self.channels, self.seed = p.classifier_size, p.classifier_channels, p.seed
        self.pools, self.screen = plan.pools(task, p), plan.screen(task, p)
        self.most = {
            kind: max((cell.looked for cell in planned if kind in cell.pools), default=0)
            for kind in self.pools
        }
        self.largest = round(max(p.ratios) * task.n_real)
        beside = {part for cell in planned for part in cell.source.partitions}
        tested = {"test"} if p.evaluate_on != "validation" else set()
        self.partitions = ("development", *sorted(beside | tested))
        self.evaluated = task.draw.validation  # positions of the images that are scored
        if p.evaluate_on != "validation":
            self.evaluated = np.union1d(task.draw.choosing, task.domain.rows("test"))
        self.view: View | None = None
        self._fetched: dict = {}
        self.spent = {"fetching": 0.0}  # seconds, which are not a classifier's own

    def through(self, view: View | None) -> "Material":
        """The same images through a view."""
        seen = copy.copy(self)  # what was fetched is shared
        seen.view = view
        return seen

    @property
    def flips(self) -> str:
        """Axes along which an image of the domain may be mirrored."""
        return self.task.domain.data_set.flips

    def real(self) -> np.ndarray:
        """The domain's, in table order; features are NaN outside the partitions that are needed."""
        return self._once("real", self._real)

    def pool(self, kind: str, n: int) -> np.ndarray:
        """The first n of a pool."""
        return self._once(kind, lambda: self._of_pool(kind, self.most[kind]))[:n]

    def verdicts(self, n: int) -> pd.DataFrame:
        """The filter's verdicts on the rare pool up to the image with which n are kept."""
        until = filters.until(self.pools["rare"], n, self.screen, self.device)
        return self._once(f"verdicts {n}", lambda: pd.concat(until, ignore_index=True))

    def counts(self, n: int) -> dict[str, int]:
        """How many of these were kept, and how many fell to each rule."""
        return filters.counts(self.verdicts(n))

    def kept(self, n: int) -> np.ndarray:
        """The first n of the rare pool that the filter keeps; there may be fewer."""
        table = self.verdicts(n)
        chunks = -(-len(table) // sampling.CHUNK)
        kept = table["number"][table["reason"] == ""]
        return self._of_pool("rare", chunks * sampling.CHUNK)[kept]

    def made(self, name: str, source: dict, make) -> np.ndarray:
        """What `make(n)` makes for the largest ratio; `source`: what determines it beside n, seed
        and size.
        """

        def fetch():
            made = make(self.largest)
            asked = {"n": len(made), "seed": self.seed, "image_size": self.size}
            return self._seen(made, source | asked)

        return self._once(name, fetch)

    def augmented(self, n: int, label: int) -> np.ndarray:
        """n strongly augmented copies of the shots (label 1) or of as many common images (0).

        The first n of a larger set are the same.
        """
        source = self.task.params() | {"strong": label, "channels": self.channels}
        rows = self.task.draw.shots if label else self.task.draw.common

        def make(most):
            generator = torch.Generator().manual_seed(self.seed)
            pixels = self.task.domain.images(self.size, self.channels)
            chosen = torch.from_numpy(pixels[rows[np.arange(most) % len(rows)]])
            return augmentation.Strong().images(chosen, generator).numpy()

        return self.made(f"augmented {label}", source, make)[:n]

    def _real(self) -> np.ndarray:
        domain = self.task.domain
        if self.view is None:
            return domain.images(self.size, self.channels)
        # A moved image trains and is never scored.
        parts = tuple(n for n in self.partitions if not (n == "test" and self.view.variant))
        return features.of_domain(domain, self.size, parts, self.device, self.view, self.channels)

    def _of_pool(self, kind: str, n: int) -> np.ndarray:
        pool = self.pools[kind]
        pieces = sampling.chunks(pool, n, self.device)
        seen = [
            self._seen(
                images.resize(piece, self.size),
                {"pool": pool.key, "chunk": i, "n": len(piece), "image_size": self.size},
            )
            for i, piece in enumerate(pieces)
        ]
        return np.concatenate(seen)

    def _seen(self, pixels: np.ndarray, source: dict) -> np.ndarray:
        """Images through the view in the variant, by the store; `source` says what determines
        them.
        """
        if pixels.shape[1] != self.channels:
            pixels = np.repeat(pixels[:, :1], self.channels, axis=1)
        if self.view is None:
            return pixels
        return features.extract(pixels, source, self.device, progress=False, view=self.view)

    def _once(self, name: str, fetch) -> np.ndarray:
        key = (name, self.view)
        if key not in self._fetched:
            begin = time.perf_counter()
            self._fetched[key] = fetch()
            self.spent["fetching"] += time.perf_counter() - begin
        return self._fetched[key]
