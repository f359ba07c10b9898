"""What choosing the ratio on validation would take, in one draw, and what it is worth over many."""

import pandas as pd
from matplotlib.figure import Figure

from fsl_utils.analysis import adaptive, contrasts
from fsl_utils.analysis.resampling import REAL
from fsl_utils.figures import style, table, words

_AGAINST_FREE = "ensemble minus free ensemble"
_ROW = {rule: f"{rule}: {what}" for rule, what in adaptive.RULES.items()}


def ratio(rows: pd.DataFrame) -> Figure:
    """One draw, validation score minus the best that was tried, with its standard error.

    rows: of `adaptive.of_draw`. Filled: tried; ringed: taken. What reaches zero is within one
    standard error.
    """
    figure, axes = style.small_multiples([""], 1.7)
    axis = axes[0]
    for arm, part in rows.groupby("arm", sort=False):
        colour, marker, _ = style.arm_style(arm)
        axis.errorbar(
            part["ratio"], -part["behind"], part["error"], **style.line(arm), elinewidth=0.7
        )
        for tried, some in part.groupby("tried"):
            face = colour if tried else "white"
            label = arm if tried else None
            look = {"color": colour, "markerfacecolor": face, "label": label, "zorder": 3}
            axis.plot(some["ratio"], -some["behind"], marker, **look)
    taken = rows[rows["chosen"]]
    ring = {"markerfacecolor": "none", "markeredgecolor": style.RED, "markersize": 10}
    axis.plot(taken["ratio"], -taken["behind"], "o", **ring, zorder=4)
    axis.axhline(0, color="0.3", linewidth=0.7)
    style.ratio_axis(axis, rows["ratio"])
    style.ylabel(axes, f"{words.metric(rows.iloc[0])} minus the best tried")
    title = "images added per shot (filled: tried; ringed: taken;\nbars: one standard error)"
    style.legend(figure, *style.handles(axes), title)
    style.head(figure, words.studies(rows)[0])
    return figure


def taken(rows: pd.DataFrame) -> str:
    """What `adaptive` takes in a draw and why, in a sentence. rows: of `adaptive.of_draw`."""
    tried = rows[rows["tried"]]
    best = tried.loc[tried["behind"].idxmin()]
    chosen = rows[rows["chosen"]].iloc[0]
    gap = (
        f"{table.number(chosen['behind'], '')}, standard error {table.number(chosen['error'], '')}"
    )
    if chosen["ratio"] == 0:
        sentence = "`adaptive` stays with the real shots alone: "
        sentence += (
            "no ratio that it tried is better on validation"
            if best["arm"] == "real"
            else f"the best that it tried, {_code(best)}, is no more than one standard error above "
            f"them ({gap})"
        )
    elif chosen.name == best.name:
        sentence = f"`adaptive` takes {_code(chosen)}: no smaller ratio is within one standard "
        sentence += "error of it"
    else:
        sentence = f"`adaptive` takes {_code(chosen)}: the smallest ratio within one standard "
        sentence += f"error of the best that it tried, {_code(best)} (behind by {gap})"
    keys = [list(zip(part["arm"], part["ratio"])) for part in (tried, rows)]
    cost = [f"{adaptive.images(part):g}" for part in keys]
    return (
        f"{sentence}. It would have trained {len(tried)} of {len(rows)} classifiers and sampled "
        f"{cost[0]} of {cost[1]} images per shot. {rows['n_rare'].iloc[0]} rare images of "
        "validation choose."
    )


def _code(row) -> str:
    return f"`{words.arm(row)}`"


def rules(rows: pd.DataFrame) -> table.Table:
    """Every rule against `real`, a row a rule, a column a study. rows: of `adaptive.replay`."""
    shared, studies = words.studies(rows)
    cells, bold = {}, {}
    for title, part in studies:
        name = ", ".join(title.split("\n")) or words.task(part.iloc[0])
        records = part.to_dict("records")
        index = [_rule(row) for row in records]
        texts = [table.interval(row) + _cost(row) for row in records]
        cells[name] = pd.Series(texts, index)
        bold[name] = pd.Series(part["verdict"].isin(contrasts.SHOWN).to_numpy(), index)
    frame = pd.DataFrame(cells)
    order = [row for row in (*_ROW.values(), _AGAINST_FREE) if row in frame.index]
    foot = (
        f"{words.metric(rows.iloc[0])} minus real on images that did not choose (the worst draw; "
        f"classifiers trained; images sampled per shot). {'; '.join(shared)}. {table.FOOT}"
    )
    return table.headed("rule", frame.reindex(order), pd.DataFrame(bold), foot)


def _rule(row: dict) -> str:
    return _ROW[row["arm"]] if row["control"] == REAL[0] else _AGAINST_FREE


def _cost(row: dict) -> str:
    if row["control"] != REAL[0]:
        return ""
    cost = f"{row['cells_trained']:.1f}; {row['images_sampled']:.1f}"
    return f" ({table.number(row['worst'])}; {cost})"


def headline(rows: pd.DataFrame) -> str:
    """What `adaptive` gains and misses, and what an ensemble does. rows: of `adaptive.replay`."""
    one = rows[rows["control"] == REAL[0]]
    ours, mean = (one[one["arm"] == rule] for rule in ("adaptive", "ensemble"))
    return (
        f"`adaptive` changes {words.metric(rows.iloc[0])} by {_range(ours['difference'])} against "
        f"`real`, with {_range(ours['share_of_images'], '.0%')} of the sweep's images and "
        f"{_range(ours['share_of_cells'], '.0%')} of its classifiers; the best ratio in hindsight "
        f"is {_range(ours['short'])} above it. The ensemble at 4x changes it by "
        f"{_range(mean['difference'])}."
    )


def _range(values: pd.Series, form: str = "") -> str:
    low, high = (f"{v:{form}}" if form else table.number(v) for v in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"
