"""The few-shot task: a domain and one draw on it, which travel together."""

from dataclasses import dataclass

import numpy as np

from fsl_utils.data import domains, partitions


@dataclass(frozen=True, eq=False)
class FewShotTask:
    """What a generator and a classifier may learn from. Two tasks are equal only if they are the
    same object.
    """

    domain: domains.Domain
    draw: partitions.Draw

    @property
    def n_real(self) -> int:
        """Number of shots."""
        return len(self.draw.shots)

    @property
    def training(self) -> np.ndarray:
        """Positions of the real training images: the shots, then the common ones."""
        return np.concatenate([self.draw.shots, self.draw.common])

    def images(self, size: int) -> np.ndarray:
        """All images of the domain, uint8 [N, C, size, size]."""
        return self.domain.images(size)

    def params(self) -> dict:
        """What determines the draw's images, as part of a key."""
        return {"data": self.domain.data_hash, "draw": self.draw.number, "n_real": self.n_real}


def of(p) -> FewShotTask:
    """The task that a notebook's parameters name. Raises StudyError where data, groups or shots do
    not suffice.
    """
    domain = domains.load(
        p.domain,
        p.rare_class,
        p.protocol,
        folder=p.folder,
        common_class=p.common_class,
        group_pattern=p.group_pattern,
        view=p.view,
        fold=getattr(p, "fold", -1),  # notebook 01 looks at no fold
        open_sealed=getattr(p, "open_sealed", False),
    )
    return FewShotTask(domain, partitions.draw(domain.table, p.draw, p.n_real))
