"""Ways of training on the same images: what each changes beside the recipe it starts from."""

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
    "grow": [("grow", "lora"), ("grow", "grow_any")],
    "anneal": [("anneal", "lora")],
}


def verdicts(studies: list[Resampled]) -> pd.DataFrame:
    """One family a study and `question`; pairs that were not run are left out.

    Columns as of `contrasts.contrast`, and those of a family.
    """
    families = []
    for study in studies:
        for question, pairs in QUESTIONS.items():
            keys = [[study.at(arm, contrasts.PRIMARY[1]) for arm in pair] for pair in pairs]
            rows = [contrasts.contrast(study, a, b) for a, b in keys if a and b]
            families.append(contrasts.family(rows).assign(question=question))
    return pd.concat(families, ignore_index=True)
