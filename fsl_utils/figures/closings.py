"""What a run of notebooks 01, 02, 03 and 05 says, in a sentence or two of Markdown made from its
numbers, each with its uncertainty.
"""

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from fsl_utils.figures.table import number


def share(count: int, of: int) -> str:
    """'84 % [78, 88]': a share with its Wilson interval, 95 %."""
    low, high = binomtest(count, of).proportion_ci(method="wilson")
    return f"{count / of:.0%} [{100 * low:.0f}, {100 * high:.0f}]".replace("%", " %")


def leak(table: pd.DataFrame) -> str:
    """What a split by image gives away. table: of `summary.leak_table`."""
    told = {
        split: f"{number(row['1-nearest-neighbour AUROC'], '')} "
        f"[{number(row['low'], '')}, {number(row['high'], '')}]"
        for split, row in table.iterrows()
    }
    return (
        f"The rule that learns nothing has an AUROC of {told['by image']} where images are split, "
        f"and of {told['by group']} where groups are; .5 is chance. Brackets hold 95 % over test "
        "groups."
    )


def adapter(loss: pd.Series, record: dict) -> str:
    """How the loss went, and whether the kept adapter copies.

    loss: of every step. record: the adapter's manifest, with `checks` and `kept_step`.
    """
    quarter = max(1, len(loss) // 4)
    first, last = (_mean(part) for part in (loss[:quarter], loss[-quarter:]))
    sentence = f"The loss went from {first} in the first quarter of the steps to {last} in the last"
    kept = [check for check in record["checks"] if check["step"] <= record["kept_step"]]
    if not kept:
        return f"{sentence} (mean and its error). It was too short for a check of copies."
    check = kept[-1]
    return (
        f"{sentence} (mean and its error). At step {check['step']} "
        f"{share(check['copied'], check['of'])} of {check['of']} painted images count as copies; "
        f"the rule's own false alarms explain up to {check['allowed']:g} of them."
    )


def _mean(values: pd.Series) -> str:
    error = values.std() / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return f"{number(values.mean(), '')} ± {number(error, '')}".removesuffix(" ± ")


def pool(counts: dict[str, int]) -> str:
    """What the filter keeps of a pool. counts: of `filters.counts`."""
    of = sum(counts.values())
    fell = ", ".join(f"{n} {rule}" for rule, n in counts.items() if n and rule != "kept")
    return (
        f"Of {of} synthetic images the filter keeps {share(counts['kept'], of)} and drops "
        f"{fell or 'none'}. Brackets hold 95 % over further images of this adapter."
    )


def report(row: dict) -> str:
    """How near a pool is to unseen real rare images. row: of `reports.report`."""
    kids = {
        what: f"{number(row[name], '')} ± {number(row[f'{name}_spread'], '')}"
        for what, name in (("the pool", "kid"), ("the shots", "kid_real"), ("backbone", "kid_base"))
    }
    copied = share(round(row["copy_rate"] * row["n_images"]), row["n_images"])
    alarms, told = row["copy_false_alarm"], row["auroc_synthetic"]
    beside = (
        "" if alarms is None else f", beside {alarms:.1%} of unseen real ones".replace("%", " %")
    )
    apart = (
        "" if told is None else f" Real and synthetic are told apart with AUROC {number(told, '')}."
    )
    return (
        f"KID to unseen real rare images is {kids['the pool']}; of the shots it is "
        f"{kids['the shots']}, of the backbone alone {kids['backbone']}. Copied: {copied} of the "
        f"synthetic images{beside}.{apart}"
    )
