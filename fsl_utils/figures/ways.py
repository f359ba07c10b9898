"""The second study as a page: what the pilot chose, what the lockbox says. rows: of
`analysis.ways`.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fsl_utils.analysis import resampling
from fsl_utils.analysis.ways import HARM, NEW, Way, key_of
from fsl_utils.figures import results, style, table, words

QUESTIONS = {
    "commons": "synthetic common images against real ones",
    "harmless": "a small weight does no harm",
    "pixels": "128 pixels against 64",
}


def words_of(name: str, ratio: float) -> str:
    """'whitened, lora 4x, weight .2'; generators other than NEW are named."""
    way = Way.of(name)
    parts = [way.classifier, words.arm({"arm": way.arm, "ratio": ratio})]
    parts += [f"weight {table.number(way.weight, '').rstrip('0')}"] * bool(way.weight)
    return ", ".join([*parts, *[way.backbone] * (way.backbone not in ("", NEW))])


def choices(rows: pd.DataFrame) -> table.Table:
    """What the pilot chose. rows: of `ways.choose`."""
    cells = pd.DataFrame(
        {
            "shots": f"{row['n_real']}",
            "role": row["role"],
            "way": words_of(*key_of(row)),
            "PR-AUC on validation": table.number(row["level"], ""),
            "pilot's draws": f"{row['n_draws']}",
            "draws needed": f"{row['draws']}",
        }
        for row in rows.to_dict("records")
    )
    return table.unmarked(cells)


def differences(rows: pd.DataFrame) -> table.Table:
    """Way minus control, a row each, the verdict first."""
    cells = []
    for row in rows.to_dict("records"):
        held = {}
        if "held" in rows and row["held"] in (True, False):
            held = {f"lower end above {HARM:g}": "yes" if row["held"] else "no"}
        cells.append(
            {
                "verdict": row["verdict"],
                "shots": f"{row['n_real']}",
                "way": words_of(row["arm"], row["ratio"]),
                "minus": words_of(row["control"], row["control_ratio"]),
                "levels": f"{table.number(row['level'], '')}, "
                f"{table.number(row['control_level'], '')}",
                "difference": table.interval(row),
                "draws": f"{row['n_draws']}",
                "above zero in": f"{row['share_above']:.0%}",
                resampling.P_LABELS["p_holm"]: table.number(row["p_holm"], ""),
                **held,
            }
        )
    return table.marked(pd.DataFrame(cells), {"difference": rows})


def figure(rows: pd.DataFrame) -> Figure:
    """Every way minus the chosen free one, a panel a number of shots, a colour a classifier.

    rows: of `ways.against`, of all numbers of shots. Free ways stand below synthetic ones.
    """
    ways = [Way.of(name) for name in rows["arm"]]
    told = [words_of(name, ratio) for name, ratio in zip(rows["arm"], rows["ratio"])]
    rows = rows.assign(
        classifier=[way.classifier for way in ways],
        label=[text.split(", ", 1)[1] for text in told],
        made=[way.backbone != "" for way in ways],
    )
    labels = list(rows.sort_values(["made", "label"])["label"].unique())
    classifiers = sorted(rows["classifier"].unique())
    looks = results.classifier_looks(classifiers)
    shifts = style.beside(len(classifiers), -0.25 if len(classifiers) > 1 else 0)
    parts = list(rows.groupby("n_real"))
    titles = [
        f"{n} shots, minus {words_of(part['control'].iloc[0], part['control_ratio'].iloc[0])}"
        for n, part in parts
    ]
    shown, axes = style.small_multiples(
        titles, 0.05 * len(classifiers) * len(labels) + 0.4, columns=2, sharex=True, sharey=True
    )
    for axis, (_, part) in zip(axes, parts):
        axis.axvline(0, color="0.6", linewidth=0.8)
        for row in part.to_dict("records"):
            place = labels.index(row["label"]) + shifts[classifiers.index(row["classifier"])]
            results.difference(axis, row, place, *looks[row["classifier"]])
    axes[0].set_yticks(np.arange(len(labels)), labels)
    results.classifier_legend(shown, looks, f"difference in PR-AUC\n({words.FILLED})")
    whole = rows[rows["n_draws"] == rows["n_draws"].max()]  # `real_more` lacks images in some draws
    style.head(shown, words.studies(whole, together=("classifier", "init", "n_real"))[0])
    return shown


def page(title: str, caution: str, chosen, primary, conditions, secondary, added) -> str:
    """The whole page in Markdown. added: of `ways.added`, of all numbers of shots."""
    parts = [f"# {title}", caution, "## What the pilot chose", choices(chosen).markdown()]
    parts += ["## Primary contrasts", differences(primary).markdown()]
    if len(conditions):
        parts += ["What a way with synthetic common images must be, too:"]
        parts += [differences(conditions).markdown()]
    for question, title in QUESTIONS.items():
        part = secondary[secondary["question"] == question] if len(secondary) else secondary
        if len(part):
            parts += [f"## Secondary: {title}", differences(part).markdown()]
    parts += ["## Every way minus the chosen free one: exploration", "![every way](ways.png)"]
    for n_real, part in added.groupby("n_real"):
        parts += [f"## What each adds to its own classifier, {n_real} shots: exploration"]
        parts += [differences(part).markdown()]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"
