"""The arms of the study: what a classifier is trained on, in one table. A new arm is one entry."""

from dataclasses import asdict, dataclass

from fsl_utils import StudyError
from fsl_utils.classifier import sources
from fsl_utils.classifier.sources import ImageSource


@dataclass(frozen=True)
class Arm:
    """source: of the training images. sampling: natural or balanced. augmentation: light or strong.
    loss: bce, focal or contrastive (`contrastive.loss` beside bce). refit: the head is fitted again
    on balanced real images. anneal: made images leave in the course of the training, and the end is
    on real ones alone (cf. RoentGen-v2, 2508.16783). grow: made images join when validation stalls
    (`growing`), those of which the classifier is least sure (unsure) or at random (any). title:
    what it is, in one line for notebooks.
    """

    source: ImageSource
    sampling: str = "natural"
    augmentation: str = "light"
    loss: str = "bce"
    refit: bool = False
    anneal: bool = False
    grow: str = ""
    title: str = ""

    @property
    def plain(self) -> bool:
        """Whether each image counts as it comes, in one fit of one loss."""
        return self.sampling == "natural" and self.loss == "bce" and not self.refit

    def params(self) -> dict:
        """What determines its training, as part of a cell's key."""
        recipe = asdict(self) | {"images": self.source.name}
        del recipe["source"], recipe["title"]
        if not self.grow:
            del recipe["grow"]  # an arm that does not grow has the key that it had before
        more = (CONTRASTIVE if self.loss == "contrastive" else {}) | (GROWTH if self.grow else {})
        return recipe | more

    def ratios(self, ratios: list[float], classifier) -> list[float]:
        """The ratios at which a classifier is run: all, or 0 alone where a ratio has no meaning."""
        # Classifiers of frozen features are given so many augmented copies.
        copies = classifier.copies and self.augmentation == "strong"
        if not self.source.scales and not copies:
            return [0.0]
        # At 0x these arms are `real`; a cell of its own would be the same again.
        return [float(r) for r in ratios if r > 0]


# Of the contrastive loss: its share beside the cross-entropy's 1, and its paper's temperature.
CONTRASTIVE = {"contrast": 0.5, "temperature": 0.1}
# Of growth: steps between two looks at validation, and the parts in which the made images join.
GROWTH = {"every": 10, "parts": 4}

REAL = ImageSource("real")
LORA = sources.FromPools("lora", "rare")
BOTH = sources.FromPools("synth_both", "rare", "common")

# What costs nothing first, more real images last: the order in which notebooks show them.
ARMS = {
    "real": Arm(REAL, title="the shots alone"),
    "duplicate": Arm(sources.Repeated("duplicate"), title="the shots, repeated"),
    "balanced": Arm(REAL, sampling="balanced", title="the shots, in every batch as many as common"),
    "focal": Arm(REAL, loss="focal", title="the shots, with a loss that looks at hard images"),
    "contrastive_real": Arm(
        REAL,
        loss="contrastive",
        title="the shots, with a loss that draws images of a class together",
    ),
    "augment": Arm(REAL, augmentation="strong", title="the shots, with strong augmentation"),
    "crt": Arm(REAL, refit=True, title="the shots, the head trained again on balanced images"),
    "calibrated": Arm(
        sources.Calibrated("calibrated"), title="the shots, with features sampled around theirs"
    ),
    "real_base": Arm(
        sources.FromPools("real_base", base_common=True),
        title="the shots, with further real common images",
    ),
    "paste": Arm(sources.Pasted("paste"), title="the shots' defects, pasted on common images"),
    "base_synth": Arm(
        sources.FromPools("base_synth", "base"),
        title="synthetic images of the backbone alone, without an adapter, beside the shots",
    ),
    "lora": Arm(LORA, title="synthetic rare images beside the shots"),
    "lora_filtered": Arm(
        sources.Filtered("lora_filtered", "rare"),
        title="synthetic rare images that the filter keeps, beside the shots",
    ),
    "lora_covering": Arm(
        sources.Covering("lora_covering", "rare"),
        title="of four times as many synthetic rare images those nearest to each shot",
    ),
    "lora_augment": Arm(LORA, augmentation="strong", title="as lora, with strong augmentation"),
    "lora_crt": Arm(LORA, refit=True, title="as lora, then the head again on balanced real images"),
    "lora_base": Arm(
        sources.FromPools("lora_base", "rare", base_common=True),
        title="as lora, with as many further real common images",
    ),
    "anneal": Arm(LORA, anneal=True, title="as lora, ending on real images alone"),
    "grow": Arm(
        LORA, grow="unsure", title="as lora, the images it doubts joining where validation stalls"
    ),
    "grow_any": Arm(LORA, grow="any", title="as grow, the images joining at random"),
    "synth_only": Arm(
        sources.FromPools("synth_only", "rare", shots=False),
        title="synthetic rare images in place of the shots",
    ),
    "synth_common": Arm(
        sources.FromPools("synth_common", common_pool="common"),
        title="synthetic common images beside the real ones",
    ),
    "synth_both": Arm(BOTH, title="synthetic images of both classes beside the real ones"),
    "contrastive": Arm(
        BOTH,
        loss="contrastive",
        title="as synth_both, with a loss that draws a class's real and synthetic together",
    ),
    "adaptive": Arm(
        sources.Chosen("adaptive", "rare", "common"),
        title="lora or synth_both, at the ratio up to this that validation chooses",
    ),
    "real_more": Arm(
        sources.FurtherReal("real_more"), title="further real rare images: the ceiling"
    ),
}


def get(name: str) -> Arm:
    """An arm by name. Raises StudyError where there is none."""
    if name not in ARMS:
        raise StudyError(f"unknown arm '{name}': known are {', '.join(ARMS)}")
    return ARMS[name]
