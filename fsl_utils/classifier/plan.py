"""Which cells the parameters of notebook 04 ask for, and the pools and the filter that they draw
on.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar

from fsl_utils.classifier import arms, classifiers
from fsl_utils.classifier.filters import FilterRequest
from fsl_utils.classifier.sources import ImageSource
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.generator.adapter import AdapterRequest
from fsl_utils.generator.sampling import PoolRequest
from fsl_utils.request import Request


@dataclass(frozen=True)
class CellRequest(Request):
    """All that determines a cell. pools, screen: those that its arm takes images of."""

    stage: ClassVar[str] = "cell"
    task: FewShotTask
    arm: str
    ratio: float
    image_size: int
    seed: int
    classifier: str
    init: str
    evaluate_on: str
    settings: dict
    size: int = 64  # pixels of what the classifier sees, real and made
    channels: int = 1  # 1: grey, 3: RGB
    fold: int = -1  # the outer fold that is test
    # Share of a class's loss that its made images carry; 0: as many as they are.
    synthetic_weight: float = 0.0
    pools: dict[str, PoolRequest] = field(default_factory=dict)
    screen: FilterRequest | None = None

    @property
    def recipe(self) -> arms.Arm:
        """Its arm."""
        return arms.get(self.arm)

    @property
    def source(self) -> ImageSource:
        """Of its arm's training images."""
        return self.recipe.source

    @property
    def n(self) -> int:
        """Images added to the shots."""
        return round(self.ratio * self.task.n_real)

    @property
    def looked(self) -> int:
        """Images of each of its pools that it looks at."""
        return self.source.candidates(self.n)

    def at(self, arm: str, ratio: float) -> "CellRequest":
        """The same cell of another arm, whose pools are among its own, at another ratio."""
        source = arms.get(arm).source
        pools = {kind: self.pools[kind] for kind in source.pools}
        weight = self.synthetic_weight if source.makes else 0.0
        return replace(self, arm=arm, ratio=ratio, pools=pools, synthetic_weight=weight)

    def params(self) -> dict:
        """Its key in the store is the hash of this."""
        params = {
            **self.task.params(),
            "domain": self.task.domain.name,
            "rare_class": self.task.domain.rare_class,
            "protocol": self.task.domain.protocol,
            "image_size": self.image_size,
            "classifier_size": self.size,
            "classifier_channels": self.channels,
            "synthetic_weight": self.synthetic_weight,
            "fold": "" if self.fold < 0 else self.fold,
            "seed": self.seed,
            "arm": self.arm,
            "recipe": self.recipe.params(),
            "ratio": self.ratio,
            "classifier": self.classifier,
            "init": self.init,
            "evaluate_on": self.evaluate_on,
            "pools": {kind: pool.key for kind, pool in self.pools.items()},
            "settings": self.settings,
            **self.source.params(),
        }
        for pool in list(self.pools.values())[:1]:
            backbone = pool.backbone
            params |= {"backbone": backbone.name, "mode": pool.mode, "base": backbone.base}
        return params | ({"filter": self.screen.key} if self.screen else {})


def pools(task: FewShotTask, p) -> dict[str, PoolRequest]:
    """The pools that arms may draw on: rare and common (from the adapter) and base (without it).

    An adapter that saw no common image (`prior` 0) has moved them all the same: then common ones
    come from the backbone alone.
    """
    adapter = AdapterRequest.of(task, p)
    names = ("mode", "strength", "guidance", "steps", "gate", "autoguidance", "seed")
    how = {name: getattr(p, name) for name in names}
    common = PoolRequest.of if adapter.settings.prior else PoolRequest.alone
    return {
        "rare": PoolRequest.of(adapter, **how),
        "common": common(adapter, common=True, **how),
        "base": PoolRequest.alone(adapter, **how),
    }


def screen(task: FewShotTask, p) -> FilterRequest:
    """The filter that `lora_filtered` uses."""
    return FilterRequest(task, p.image_size, p.seed, p.filter_steps)


def cells(task: FewShotTask, p) -> list[CellRequest]:
    """All cells of a notebook's parameters, arm by arm. What cannot be (see `left_out`) is not
    among them.
    """
    task.domain.need_open(p.evaluate_on)
    classifier, available = classifiers.get(p.classifier), pools(task, p)
    classifier.check(p.init)
    return [
        CellRequest(
            task,
            name,
            ratio,
            p.image_size,
            p.seed,
            p.classifier,
            p.init,
            p.evaluate_on,
            classifier.settings(p.classifier_steps),
            size=p.classifier_size,
            channels=p.classifier_channels,
            fold=p.fold,
            synthetic_weight=p.synthetic_weight if arms.get(name).source.makes else 0.0,
            pools={kind: available[kind] for kind in arms.get(name).source.pools},
            screen=screen(task, p) if arms.get(name).source.screened else None,
        )
        for name, ratio in classifier.pairs(p.arms, p.ratios)
        if not why_not(name, ratio, task, p)
    ]


def left_out(task: FewShotTask, p) -> list[str]:
    """The arms and ratios of a notebook's parameters that `cells` leaves out, each with the reason,
    one line each.
    """
    pairs = classifiers.get(p.classifier).pairs(p.arms, p.ratios)
    whys = [(name, ratio, why_not(name, ratio, task, p)) for name, ratio in pairs]
    return [f"{name} at {ratio:g}x is left out: {why}" for name, ratio, why in whys if why]


def why_not(name: str, ratio: float, task: FewShotTask, p) -> str:
    """Why there is no cell of an arm at a ratio, '' where there is."""
    arm = arms.get(name)
    n = round(ratio * task.n_real)
    return classifiers.get(p.classifier).why_not(arm) or arm.source.why_not(task, n)
