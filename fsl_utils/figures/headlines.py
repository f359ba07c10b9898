"""What a table says, in one sentence of Markdown made from its numbers: notebook 06's headlines."""

import pandas as pd

from fsl_utils.analysis import contrasts, resampling
from fsl_utils.figures import table as tables
from fsl_utils.figures import words


def primary(rows: pd.DataFrame) -> str:
    """The primary contrast: how many tasks say what, and the first of them in numbers."""
    arm, ratio = contrasts.PRIMARY
    counts = rows["verdict"].value_counts()
    told = ", ".join(f"{verdict} in {n}" for verdict, n in counts.items())
    sentence = (
        f"`{arm}` at {ratio:g}x against `real` and `duplicate`, of {len(rows)} tasks and "
        f"classifiers: {told}."
    )
    few = int(rows["n_draws"].max())
    if (rows["verdict"] == "not tested").all():
        sentence += f" {few} draw{'s' * (few != 1)} illustrate; {resampling.MIN_DRAWS} are tested."
    return sentence


def shown(rows: pd.DataFrame) -> str:
    """Which differences are shown, and how many are not. rows: contrasts with a verdict."""
    studies = rows[["domain", "rare_class", "classifier"]].drop_duplicates()
    parts = []
    for verdict in contrasts.SHOWN:
        found = rows[rows["verdict"] == verdict]
        names = [_named(row, len(studies) > 1) for row in found.to_dict("records")]
        if names:
            parts.append(f"{verdict}: {_listed(names)}")
    rest = len(rows) - rows["verdict"].isin(contrasts.SHOWN).sum()
    tested = (rows["verdict"] != "not tested").sum()
    if not tested:
        return f"Nothing is tested: fewer than {resampling.MIN_DRAWS} draws are an illustration."
    if not parts:
        return f"None of {len(rows)} differences is shown."
    return f"Of {len(rows)} differences {'; '.join(parts)}. Not shown: the other {rest}."


def _named(row: dict, several: bool) -> str:
    where = f" ({tables.escaped(words.task(row))}, {row['classifier']})" if several else ""
    return f"`{words.arm(row)}`{where} {tables.interval(row)}"


def _listed(names: list[str], most: int = 6) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def one_draw(rows: pd.DataFrame) -> str:
    """What synthetic images, and further real ones, changed in one draw; nothing is tested.

    rows: of `contrasts.against`, of one draw; may be empty.
    """
    run = [] if rows.empty else list(rows["arm"])
    named = [arm for arm in (contrasts.PRIMARY[0], "lora", *run) if arm in run][:1]
    if not named:
        return "There is no control beside an arm: nothing is compared."
    first = rows.iloc[0]
    told = [_named(row, False) for row in rows[rows["arm"].isin(named)].to_dict("records")]
    more = [_named(row, False) for row in rows[rows["arm"] == "real_more"].to_dict("records")]
    return (
        f"In this one draw, against `{words.control(first)}`, {words.metric(first)} changed by "
        f"{' and '.join([*told, *more])}, on {first['n_rare']} rare images of "
        f"{first['n_rare_groups']} groups. Brackets hold what other images of such groups would "
        "give, not what other draws would: one draw illustrates and tests nothing."
    )


def slopes(rows: pd.DataFrame) -> str:
    """In how many of all draws the arm lies above its control. rows: of `curves.slopes`."""
    ends = rows.groupby([*words.SETTING, "pair", "draw"], dropna=False)["value"].agg(
        ["first", "last"]
    )
    rising = (ends["last"] > ends["first"]).groupby(level="pair").agg(["sum", "size"])
    told = [
        f"{row['sum']} of {row['size']} draws rise from {pair}" for pair, row in rising.iterrows()
    ]
    return "; ".join(told) + "."


def worth(rows: pd.DataFrame, ratio: float = contrasts.PRIMARY[1]) -> str:
    """What the primary arm is worth, study by study. rows: of `ratios.worth_in_images`."""
    arm = contrasts.PRIMARY[0]
    here = rows[(rows["arm"] == arm) & (rows["ratio"] == ratio)]
    if here.empty:
        return f"`{arm}` was not run at {ratio:g}x."
    told = [
        f"{tables.images(row)} ({tables.escaped(words.task(row))})"
        for row in here.to_dict("records")
    ]
    return f"`{arm}` at {ratio:g}x is worth {_listed(told)} further real rare images."


def regret(rows: pd.DataFrame) -> str:
    """What letting validation choose the ratio costs at most. rows: of `ratios.regret_summary`."""
    worst = rows.sort_values("regret").iloc[-1]
    costly = (rows["low"] > 0).sum()
    return (
        f"Letting validation choose the ratio costs up to {tables.interval(worst, 'regret', '')}; "
        f"in {costly} of {len(rows)} cases its interval leaves out zero."
    )


def correlations(rows: pd.DataFrame) -> str:
    """How many correlations leave out zero. rows: of `pool_gains.correlation`."""
    clear = ((rows["low"] > 0) | (rows["high"] < 0)).sum()
    return (
        f"Of {len(rows)} rank correlations of the gain with a quality {clear} have an interval "
        "without zero."
    )


def claims(rows: pd.DataFrame) -> str:
    """How many claims hold, do not, or cannot be told. rows: of `claims.paper_claims`."""
    told = ", ".join(f"{verdict}: {n}" for verdict, n in rows["verdict"].value_counts().items())
    return f"{rows['claim'].nunique()} claims on {len(rows)} tasks in all; {told}."


def classifiers(rows: pd.DataFrame) -> str:
    """Which classifiers on the real shots alone are shown to differ from the probe."""
    alone = rows[(rows["arm"] == "real") & rows["difference"].notna()]
    shown = alone[alone["verdict"].isin(contrasts.SHOWN)]
    if shown.empty:
        return "No other classifier is shown to differ from the probe on the real shots alone."
    parts = []
    for verdict, part in shown.groupby("verdict"):
        names = [
            f"{r['classifier']} ({r['domain']}, {r['n_real']} shots)" for _, r in part.iterrows()
        ]
        parts.append(f"{verdict} than the probe: {_listed(names)}")
    return "; ".join(parts).capitalize() + "."


def headroom(rows: pd.DataFrame) -> str:
    """On how many tasks there is anything to gain. rows: of `headroom.room`."""
    told = ", ".join(f"{verdict} on {n}" for verdict, n in rows["verdict"].value_counts().items())
    return f"Of {len(rows)} tasks, classifiers and numbers of shots: {told}."
