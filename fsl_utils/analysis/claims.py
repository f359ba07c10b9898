"""What arXiv 2605.11898 claims of its synthetic images, and what must hold for them to be the reason, beside what was measured here."""

import pandas as pd

from fsl_utils.analysis import contrasts, resampling
from fsl_utils.analysis.tables import split_studies

REAL, LORA = ("real", 0.0), ("lora", 4.0)
MORE = {LORA: 1, REAL: -1}  # 4x against the real shots alone

# (claim, metric, weights): the claim says that the weighted sum is above zero.
CLAIMS = [
    ("F1 at .5 rises", "f1", MORE),
    ("recall at .5 rises", "recall", MORE),
    ("F1 rises, each with its threshold from validation", "f1_at_threshold", MORE),
    ("PR-AUC rises", "pr_auc", MORE),
    ("moderate is best: 4x over .5x, F1 at .5", "f1", {LORA: 1, ("lora", 0.5): -1}),
    ("moderate is best: 4x over 20x, F1 at .5", "f1", {LORA: 1, ("lora", 20.0): -1}),
    (
        "the adapter is the reason: 4x over as many images of the backbone alone, PR-AUC",
        "pr_auc",
        {LORA: 1, ("base_synth", 4.0): -1},
    ),
    (
        "returns diminish: 0 to 4x adds more than 4x to 20x, F1 at .5",
        "f1",
        {LORA: 2, REAL: -1, ("lora", 20.0): -1},
    ),
]
MENTIONED = {key for _, _, weights in CLAIMS for key in weights}


def verdicts(cells: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """One row a claim and study that ran what it speaks of: difference, its interval, p, p_holm and verdict.

    Holm over the studies of one claim, within one protocol, classifier and partition. `holds` (`does not`): p_holm is below .05
    and the whole interval, over draws and test groups, above (below) zero.
    """
    rows = []
    for part in split_studies(cells):
        run = list(zip(part["arm"], part["ratio"]))
        fitting = [claim for claim in CLAIMS if set(run).issuperset(claim[2])]
        spoken_of = part[[key in MENTIONED for key in run]]
        found = {
            metric: resampling.resample(spoken_of, scores, metric)
            for metric in dict.fromkeys(metric for _, metric, _ in fitting)
        }
        rows += [
            {"claim": claim, **contrasts.combination(found[metric], weights)}
            for claim, metric, weights in fitting
        ]
    frame = pd.DataFrame(rows)
    if frame.empty:
        return frame
    for _, family in frame.groupby(["claim", *contrasts.FAMILY]):
        frame.loc[family.index, "p_holm"] = resampling.holm(family["p"])
    frame["verdict"] = "cannot tell"
    shown = frame["p_holm"] < 1 - resampling.LEVEL
    frame.loc[shown & (frame["low"] > 0), "verdict"] = "holds"
    frame.loc[shown & (frame["high"] < 0), "verdict"] = "does not"
    order = [claim for claim, _, _ in CLAIMS]
    return frame.sort_values(
        "claim", key=lambda names: names.map(order.index), kind="stable"
    ).reset_index(drop=True)
