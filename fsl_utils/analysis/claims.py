"""What arXiv 2605.11898 claims of its synthetic images, each beside what was measured here."""

import pandas as pd

from fsl_utils.analysis import contrasts, resampling
from fsl_utils.analysis.resampling import REAL
from fsl_utils.analysis.tables import split_studies

LORA = ("lora", 4.0)
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


_WORDS = {"better": "holds", "worse": "does not"}  # of `contrasts.verdict`; the others as they are
SHOWN = tuple(_WORDS.values())  # verdicts that are bold in a table and filled in a figure


def paper_claims(cells: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """One row a claim and study that ran what it speaks of, with p after Holm and verdict.

    Holm over the studies of one claim, within one protocol, classifier and partition. `holds`
    (`does not`): the difference is above (below) zero by `contrasts.verdict`.
    """
    rows = []
    for part in split_studies(cells):
        run = list(zip(part["arm"], part["ratio"]))
        fitting = [claim for claim in CLAIMS if set(run).issuperset(claim[2])]
        mentioned = part[[key in MENTIONED for key in run]]
        resampled = {
            metric: resampling.resample(mentioned, scores, metric)
            for metric in {metric for _, metric, _ in fitting}
        }
        rows += [
            {"claim": claim, **contrasts.combination(resampled[metric], weights)}
            for claim, metric, weights in fitting
        ]
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    family = table.groupby(["claim", *contrasts.FAMILY])
    table["p_holm"] = family["p"].transform(resampling.holm)
    table["verdict"] = pd.Series(contrasts.verdict(table)).replace(_WORDS)
    rank = {claim: place for place, (claim, _, _) in enumerate(CLAIMS)}
    return table.sort_values(
        "claim", key=lambda names: names.map(rank), kind="stable", ignore_index=True
    )
