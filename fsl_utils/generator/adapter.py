"""The adapter: LoRA matrices (Hu et al. 2021) of a backbone and, for mini, the embedding of the
rare class.
"""

import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from peft import LoraConfig
from safetensors import SafetensorError, safe_open

from fsl_utils import StudyError, store
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.generator import backbones, settings
from fsl_utils.request import Request


@dataclass(frozen=True)
class AdapterRequest(Request):
    """All that determines an adapter."""

    stage: ClassVar[str] = "adapter"
    task: FewShotTask
    image_size: int
    seed: int
    steps: int
    backbone: backbones.Pretrained
    settings: settings.FineTuning

    @classmethod
    def new(
        cls,
        task,
        steps: int,
        seed: int = 0,
        image_size: int = 64,
        backbone: str = "mini",
        **changed,
    ):
        """With the settings of the task's domain and the backbone but for those in `changed` (see
        `settings.of`).
        """
        found = settings.of(task.domain.name, backbone, **changed)
        pretrained = backbones.pretrained(backbone, task.domain, image_size, found.quantise)
        return cls(task, image_size, seed, steps, pretrained, found)

    @classmethod
    def of(cls, task: FewShotTask, p):
        """The adapter that a notebook's parameters name."""
        changed = dict(preset=p.preset, diversity=p.diversity)
        return cls.new(task, p.adapter_steps, p.seed, p.image_size, p.backbone, **changed)

    def params(self) -> dict:
        """Its key in the store is the hash of this."""
        domain = self.task.domain
        return {
            "backbone": self.backbone.name,
            **self.backbone.params(),
            **self.task.params(),
            "domain": domain.name,
            "rare_class": domain.rare_class,
            "protocol": domain.protocol,
            "image_size": self.image_size,
            "seed": self.seed,
            "steps": self.steps,
            **self._settings(),
        }

    def _settings(self) -> dict:
        """Those that make a difference: adapters without `diversity` are older than it."""
        tuning = asdict(self.settings)
        if not tuning["diversity"]:
            del tuning["diversity"]
        return tuning


def attach(backbone, condition: int, rank: int = 64, alpha: float = 64.0, dropout: float = 0.0):
    """The backbone with a fresh adapter: output unchanged; with mini the rare class begins as the
    row `condition`.
    """
    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=backbone.lora_targets
    )
    return backbone.attach(config, condition)


def load(backbone, folder: Path):
    """The backbone with a stored adapter, in eval mode. Raises StudyError where the two do not fit,
    or the file is damaged.
    """
    made = store.manifest(folder)["params"]
    if made["base"] != backbone.hash:
        raise StudyError(
            f"{folder}: this adapter is for {made['backbone']} with the base {made['base'][:12]}, "
            f"not for {backbone.name} with {backbone.hash[:12]}; fine-tune again with notebook 02"
        )
    try:
        ranks = _ranks(folder / backbone.adapter_file)
        if ranks != {made["rank"]}:
            raise StudyError(
                f"{folder}: the adapter's matrices have rank {', '.join(map(str, sorted(ranks)))}, "
                f"its manifest says {made['rank']}; remove it and fine-tune again"
            )
        with warnings.catch_warnings():
            # Else they would stay random.
            warnings.filterwarnings("error", message=".*missing adapter keys.*")
            return backbone.load_adapter(folder)
    except (SafetensorError, RuntimeError, ValueError, OSError, UserWarning) as error:
        raise StudyError(
            f"{folder}: the adapter does not fit {backbone.name} ({str(error).splitlines()[0]}); "
            "remove it and fine-tune again"
        ) from error


def _ranks(path: Path) -> set[int]:
    with safe_open(path, "pt") as file:
        keys = file.keys()
        names = [name for name in keys if name.endswith("lora_A.weight")]
        return {file.get_slice(name).get_shape()[0] for name in names}
