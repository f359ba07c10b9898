"""Parameters that no column of cells.csv tells, found before a grid runs for hours on them."""

from fsl_utils import StudyError
from fsl_utils.classifier import arms, classifiers
from fsl_utils.params import shown

OF_TASKS = ("folder", "common_class", "group_pattern", "view")
OF_POOLS = ("strength", "guidance", "steps", "autoguidance")
OF_ADAPTERS = ("preset", "diversity", "adapter_steps", "gate")
OF_FILTERS = ("filter_steps",)
OF_TRAINING = ("classifier_steps",)
# Columns of cells.csv, as parameters; `cells`, which has them too, would import torch here.
TOLD = (
    *("domain", "rare_class", "protocol", "image_size", "classifier_size", "classifier_channels"),
    *("n_real", "draw", "fold", "seed", "classifier", "init", "evaluate_on"),
)
TOLD_OF_IMAGES = ("backbone", "mode", "synthetic_weight")  # that are not real


def check(runs: list[dict]) -> None:
    """Raises StudyError where two runs of a grid have an arm and ratio that differ in a parameter
    without a column: tables could not be read, and their mean would be of two things.
    """
    seen: dict[tuple, dict] = {}
    for run in runs:
        classifier = classifiers.get(run["classifier"])
        for name, ratio in classifier.planned(run["arms"], run["ratios"]):
            told, untold = _names(arms.get(name).source, classifier)
            row = (name, ratio, *(run[column] for column in told))
            rest = {column: run[column] for column in untold}
            before = seen.setdefault(row, rest)
            if before != rest:
                column = next(column for column in untold if before[column] != rest[column])
                raise StudyError(
                    f"{name} at {ratio:g}x of {run['domain']}, draw {run['draw']}, is there with "
                    f"{column} {shown(before[column])} and {shown(rest[column])}, which no column "
                    "of its tables tells apart: make it two grid files, each with its own --out"
                )


def _names(source, classifier) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Of what determines a cell, the parameters that tables tell and those that they do not."""
    told = TOLD + (TOLD_OF_IMAGES if source.makes else ())
    parts = {
        OF_TASKS: True,
        OF_POOLS: bool(source.pools),
        OF_ADAPTERS: source.tuned,
        OF_FILTERS: source.screened,
        OF_TRAINING: classifier.stepped,
    }
    return told, tuple(name for names, matters in parts.items() if matters for name in names)
