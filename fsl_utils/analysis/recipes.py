"""Ways to use the same pools: what each changes beside the recipe it starts from."""

import itertools

import pandas as pd

from fsl_utils.analysis import contrasts
from fsl_utils.analysis.resampling import Resampled

# Question -> pairs (arm, control). The rival of an arm is as dear as it and lacks its idea.
QUESTIONS = {
    "contrastive": [
        ("contrastive", "synth_both"),
        ("contrastive", "contrastive_real"),
        ("contrastive_real", "real"),
    ],
    "synthesis": [("synth_both", "real_base"), ("synth_both", "lora_base"), ("lora", "base_synth")],
    "grow": [("grow", "lora"), ("grow", "grow_any")],
    "anneal": [("anneal", "lora")],
    "covering": [("lora_covering", "lora")],
}


def verdicts(studies: list[Resampled]) -> pd.DataFrame:
    """One family a `question`, over all studies, at the largest ratio. Pairs that were not run are
    left out. Columns as of `contrasts.contrast`, and those of a family.
    """
    families = []
    for question, pairs in QUESTIONS.items():
        rows = []
        for study, (arm, control) in itertools.product(studies, pairs):
            key, rival = (study.at(name, largest(study)) for name in (arm, control))
            if key and rival:
                rows.append(contrasts.contrast(study, key, rival))
        families.append(contrasts.family(rows).assign(question=question))
    return pd.concat(families, ignore_index=True)


def gains(studies: list[Resampled]) -> pd.DataFrame:
    """Every arm at the largest ratio minus `real`, one family a study. Columns as of
    `contrasts.against`."""
    families = [contrasts.against(study, "real", largest(study)) for study in studies]
    return pd.concat(families, ignore_index=True)


def largest(study: Resampled) -> float:
    """The largest ratio that was run."""
    return max(ratio for _, ratio in study.replicates)
