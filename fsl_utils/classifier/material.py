"""What the cells of one run share: images of the domain and of pools, each fetched when first needed."""

import numpy as np
import pandas as pd
import torch

from fsl_utils.classifier import classifiers, features, filters, plan
from fsl_utils.data import augmentation
from fsl_utils.data.datasets import registry
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.generator import sampling


class Material:
    """Images, uint8 [N, C, S, S], or where the classifier takes these their features, [N, D]."""

    def __init__(self, task: FewShotTask, p, planned: list[plan.CellRequest], device: str):
        self.task, self.device = task, device
        self.size, self.channels, self.seed = p.classifier_size, p.classifier_channels, p.seed
        self.features = classifiers.get(p.classifier).features
        self.pools, self.screen = plan.pools(task, p), plan.screen(task, p)
        self.most = {
            kind: max((cell.n for cell in planned if kind in cell.pools), default=0)
            for kind in self.pools
        }
        self.largest = round(max(p.ratios) * task.n_real)
        beside = {part for cell in planned for part in cell.source.partitions}
        tested = {"test"} if p.evaluate_on != "validation" else set()
        self.partitions = ("development", *sorted(beside | tested))
        self.evaluated = task.draw.validation  # positions of the images that are scored
        if p.evaluate_on != "validation":
            self.evaluated = np.union1d(task.draw.choosing, task.domain.rows("test"))
        self._fetched = {}

    @property
    def flips(self) -> str:
        """Axes along which an image of the domain may be mirrored."""
        return registry.get(self.task.domain.name).flips

    def real(self) -> np.ndarray:
        """The domain's, in table order; features are NaN outside the partitions that are needed."""
        domain = self.task.domain
        if not self.features:
            return domain.images(self.image_size)
        return self._once(
            "real",
            lambda: features.of_domain(domain, self.image_size, self.partitions, self.device),
        )

    def pool(self, kind: str, n: int) -> np.ndarray:
        """The first n of a pool."""
        return self._once(kind, lambda: self._of_pool(kind, self.most[kind]))[:n]

    def verdicts(self, n: int) -> pd.DataFrame:
        """The filter's verdicts on the rare pool up to the image with which n are kept."""
        return self._once(
            f"verdicts {n}",
            lambda: pd.concat(
                filters.until(self.pools["rare"], n, self.screen, self.device), ignore_index=True
            ),
        )

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
        """What `make(n)` makes for the largest ratio; `source`: what determines it beside n, seed and size."""

        def fetch():
            images = make(self.largest)
            if not self.features:
                return images
            asked = {"n": len(images), "seed": self.seed, "image_size": self.image_size}
            return features.extract(images, source | asked, self.device, progress=False)

        return self._once(name, fetch)

    def augmented(self, n: int) -> np.ndarray:
        """n strongly augmented copies of the shots; the first n of a larger set are the same."""
        source = self.task.params()
        source["strong"] = source.pop("data")

        def make(most):
            generator = torch.Generator().manual_seed(self.seed)
            shots = torch.from_numpy(self.task.images(self.image_size)[self.task.draw.shots])
            rounds = range(-(-most // len(shots)))
            copies = [augmentation.Strong().images(shots, generator) for _ in rounds]
            return torch.cat(copies)[:most].numpy()

        return self.made("augmented", source, make)[:n]

    def _of_pool(self, kind: str, n: int) -> np.ndarray:
        pool = self.pools[kind]
        images = sampling.images_of(pool, n, self.device)
        if not self.features:
            return images
        return features.of_pool(images, pool.key, sampling.CHUNK, self.device)

    def _once(self, name: str, fetch) -> np.ndarray:
        if name not in self._fetched:
            self._fetched[name] = fetch()
        return self._fetched[name]
