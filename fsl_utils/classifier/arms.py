"""The arms of the study: what a classifier is trained on, in one table. A new arm is one entry."""

from dataclasses import asdict, dataclass

from fsl_utils import StudyError
from fsl_utils.classifier import sources
from fsl_utils.classifier.sources import ImageSource


@dataclass(frozen=True)
class Arm:
    """source: of the training images. sampling: natural or balanced. augmentation: light or strong.
    loss: bce or focal. refit: the head is fitted again on balanced real images. anneal: made images
    leave in the course of the training, and the end is on real ones alone (cf. RoentGen-v2,
    2508.16783).
    """

    source: ImageSource
    sampling: str = "natural"
    augmentation: str = "light"
    loss: str = "bce"
    refit: bool = False
    anneal: bool = False

    @property
    def plain(self) -> bool:
        """Whether each image counts as it comes, in one fit of one loss."""
        return self.sampling == "natural" and self.loss == "bce" and not self.refit

    def params(self) -> dict:
        """What determines its training, as part of a cell's key."""
        recipe = asdict(self) | {"images": self.source.name}
        del recipe["source"]
        return recipe

    def ratios(self, ratios: list[float], classifier) -> list[float]:
        """The ratios at which a classifier is run: all, or 0 alone where a ratio has no meaning."""
        # Classifiers of frozen features are given so many augmented copies.
        copies = classifier.copies and self.augmentation == "strong"
        if not self.source.scales and not copies:
            return [0.0]
        # At 0x these arms are `real`; a cell of its own would be the same again.
        return [float(r) for r in ratios if r > 0]


REAL = ImageSource("real")
LORA = sources.FromPools("lora", "rare")

ARMS = {
    "real": Arm(REAL),
    "duplicate": Arm(sources.Repeated("duplicate")),
    "balanced": Arm(REAL, sampling="balanced"),
    "focal": Arm(REAL, loss="focal"),
    "augment": Arm(REAL, augmentation="strong"),
    "base_synth": Arm(sources.FromPools("base_synth", "base")),
    "paste": Arm(sources.Pasted("paste")),
    "lora": Arm(LORA),
    "lora_filtered": Arm(sources.Filtered("lora_filtered", "rare")),
    "lora_augment": Arm(LORA, augmentation="strong"),
    "synth_only": Arm(sources.FromPools("synth_only", "rare", shots=False)),
    "synth_common": Arm(sources.FromPools("synth_common", common_pool="common")),
    "synth_both": Arm(sources.FromPools("synth_both", "rare", "common")),
    "real_base": Arm(sources.FromPools("real_base", base_common=True)),
    "lora_base": Arm(sources.FromPools("lora_base", "rare", base_common=True)),
    "anneal": Arm(LORA, anneal=True),
    "calibrated": Arm(sources.Calibrated("calibrated")),
    "crt": Arm(REAL, refit=True),
    "lora_crt": Arm(LORA, refit=True),
    "real_more": Arm(sources.FurtherReal("real_more")),
}


def get(name: str) -> Arm:
    """An arm by name. Raises StudyError where there is none."""
    if name not in ARMS:
        raise StudyError(f"unknown arm '{name}': known are {', '.join(ARMS)}")
    return ARMS[name]
