"""Which cells the parameters of notebook 04 ask for, and the pools and the filter that they draw on."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from fsl_utils import StudyError
from fsl_utils.classifier import arms, models
from fsl_utils.classifier.filters import FilterRequest
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.generator import regions
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
    pools: dict[str, PoolRequest] = field(default_factory=dict)
    screen: FilterRequest | None = None

    @property
    def n(self) -> int:
        """Images added to the shots."""
        return round(self.ratio * self.task.n_real)

    def params(self) -> dict:
        """Its key in the store is the hash of this."""
        domain, arm = self.task.domain, arms.get(self.arm)
        params = {
            **self.task.params(),
            "domain": domain.name,
            "rare_class": domain.rare_class,
            "protocol": domain.protocol,
            "image_size": self.image_size,
            "seed": self.seed,
            "arm": self.arm,
            "recipe": vars(arm),
            "ratio": self.ratio,
            "classifier": self.classifier,
            "init": self.init,
            "evaluate_on": self.evaluate_on,
            "pools": {kind: pool.key for kind, pool in self.pools.items()},
            "settings": self.settings,
        }
        for pool in list(self.pools.values())[:1]:
            params |= {
                "backbone": pool.backbone.name,
                "mode": pool.mode,
                "base": pool.backbone.base,
            }
        if self.screen:
            params["filter"] = self.screen.key
        if arm.images == "paste":
            params["paste"] = regions.SETTINGS
        return params


def pools(task: FewShotTask, p) -> dict[str, PoolRequest]:
    """The pools that arms may draw on: rare and common (from the adapter) and base (without it).

    An adapter that saw no common image (`prior` 0) has moved them all the same: then common ones come from the backbone alone."""
    adapter = AdapterRequest.of(task, p)
    how = dict(mode=p.mode, strength=p.strength, guidance=p.guidance, steps=p.steps, seed=p.seed)
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
    """All cells of a notebook's parameters, arm by arm. What cannot be (see `left_out`) is not among them."""
    if p.classifier == "probe" and p.init != "imagenet":
        raise StudyError(
            f"init is '{p.init}', but the probe has ImageNet features alone: set init='imagenet'"
        )
    sources = pools(task, p)
    resnet = {**models.RESNET, "steps": p.classifier_steps}
    planned = []
    for name, ratio in _asked(p):
        if _why_not(name, ratio, task, p):
            continue
        images = arms.get(name).images
        planned.append(
            CellRequest(
                task,
                name,
                ratio,
                p.image_size,
                p.seed,
                p.classifier,
                p.init,
                p.evaluate_on,
                settings=models.PROBE if p.classifier == "probe" else resnet,
                pools={kind: sources[kind] for kind in arms.POOLS.get(images, ())},
                screen=screen(task, p) if images == "lora_filtered" else None,
            )
        )
    return planned


def left_out(task: FewShotTask, p) -> list[str]:
    """The arms and ratios of a notebook's parameters that `cells` leaves out, each with the reason, one line each."""
    whys = [(name, ratio, _why_not(name, ratio, task, p)) for name, ratio in _asked(p)]
    return [f"{name} at {ratio:g}x is left out: {why}" for name, ratio, why in whys if why]


def _asked(p) -> Iterator[tuple[str, float]]:
    for name in p.arms:
        for ratio in arms.ratios_of(name, p.ratios, p.classifier):
            yield name, ratio


def _why_not(name: str, ratio: float, task: FewShotTask, p) -> str:
    """Why there is no cell of an arm at a ratio, '' where there is."""
    images, n, more = arms.get(name).images, round(ratio * task.n_real), task.draw.more
    if p.classifier == "probe" and name in arms.NOT_FOR_PROBE:
        return "the probe knows no such recipe"
    if images == "real_more" and n > len(more):
        return f"it needs {n} further rare images, but draw {task.draw.number} has {len(more)}"
    if images == "paste" and not regions.has_masks(task.domain):
        return f"{task.domain.name} has no pixel masks to cut a defect out by"
    return ""
