"""The tables of notebook 06, each from a tidy table of `analysis`: verdicts first."""

import numpy as np
import pandas as pd

from fsl_utils.analysis import contrasts, resampling
from fsl_utils.analysis.claims import SHOWN
from fsl_utils.figures import style, table, words
from fsl_utils.figures.pools import QUALITY_NAMES


def primary(rows: pd.DataFrame) -> table.Table:
    """The primary contrast, the verdict first. rows: of `contrasts.primary`."""
    cells = []
    for row in rows.to_dict("records"):
        differences = {
            f"minus {control}": table.interval(
                {
                    name: row.get(f"{name}_{control}", np.nan)
                    for name in ("difference", "low", "high")
                }
            )
            for control in ("real", "duplicate")
        }
        cells.append(
            {
                "verdict": row["verdict"],
                "task": words.task(row),
                "shots": f"{row['n_real']}",
                "classifier": words.classifier(row),
                "scored on": row["evaluated_on"],
                "draws": f"{row['n_draws']}",
                **differences,
                resampling.P_LABELS["p_holm"]: table.number(row["p_holm"], ""),
            }
        )
    cells = pd.DataFrame(cells)
    bold = pd.DataFrame(False, cells.index, cells.columns)
    bold["verdict"] = cells["verdict"].isin(contrasts.SHOWN)
    return table.Table(cells, bold, f"Better (worse): than both controls. {table.FOOT}")


def headroom(rows: pd.DataFrame) -> table.Table:
    """What further real images would bring, the verdict first. rows: of `headroom.room`."""
    cells = pd.DataFrame(
        {
            "verdict": row["verdict"],
            "task": words.task(row),
            "shots": f"{row['shots']}",
            "classifier": words.classifier(row),
            "level": table.number(row["level"], ""),
            f"{row['further']} further real images": table.interval(row)
            + " *" * bool(not row["measured"] and np.isfinite(row["difference"])),
            "these draws show": table.number(row["detectable"], ""),
        }
        for row in rows.to_dict("records")
    )
    return table.unmarked(cells, "* by a power law over the numbers of images that were run.")


def classifiers(rows: pd.DataFrame) -> table.Table:
    """Classifiers and free arms, a row each, a column a task; rows: of `classifiers.compare`."""
    tasks = [f"{domain}, {shots} shots" for domain, shots in zip(rows["domain"], rows["n_real"])]
    shown = rows.assign(
        task=tasks,
        name=rows["classifier"]
        + ", "
        + rows["arm"]
        + rows["ratio"].map(" {:g}x".format).where(rows["ratio"] > 0, ""),
        text=[_level_and_gain(row, rows["n_draws"].max()) for row in rows.to_dict("records")],
        bold=rows["verdict"].isin(contrasts.SHOWN),
    )
    order = list(dict.fromkeys(shown["name"]))
    columns = list(dict.fromkeys(tasks))
    cells, bold = (
        shown.pivot(index="name", columns="task", values=value).loc[order, columns]
        for value in ("text", "bold")
    )
    foot = (
        f"{words.metric(rows.iloc[0])}: mean over draws (standard deviation), then minus "
        f"{rows['control'].iloc[0]} on the same draws. {table.FOOT}"
    )
    return table.headed("classifier, arm", cells, bold.fillna(False).astype(bool), foot)


def _level_and_gain(row: dict, most: int) -> str:
    n = row["n_draws"]
    few = f"{n} draw{'s' * (n != 1)}" if n < most else ""
    beside = "; ".join(filter(None, [table.number(row["sd"], ""), few]))
    beside = beside and f"({beside})"
    return " ".join(filter(None, [table.number(row["level"], ""), beside, table.interval(row)]))


def arms(rows: pd.DataFrame, levels: pd.DataFrame) -> table.Table:
    """Arms against one control, a row an arm, a column a study with the control's level.

    rows: of `contrasts.against`; levels: of `curves.levels`; both concatenated over studies.
    """
    shared, studies = words.studies(rows)
    columns = {}
    for title, part in studies:
        first = part.iloc[0]
        same = [c for c in words.SETTING if c in levels]
        level = levels[
            (levels[same] == first[same]).all(axis=1)
            & (levels["arm"] == first["control"])
            & (levels["ratio"] == first["control_ratio"])
        ]
        columns[f"{_heading(title, part)} ({table.number(level['mean'].iloc[0], '')})"] = part
    control = words.control(rows.iloc[0])
    foot = f"{words.metric(rows.iloc[0])} minus {control}, whose level stands in the heading. "
    return _by_arm(columns, foot + f"{'; '.join(shared)}. {table.FOOT}")


def ratios(rows: pd.DataFrame) -> table.Table:
    """What arms add to a control by ratio, a row a study and arm. rows: of `contrasts.gains`."""
    control = rows["control"].iloc[0]
    foot = f"{words.metric(rows.iloc[0])} minus {control} at the same ratio. {table.FOOT}"
    return _by_ratio(rows.assign(shown=rows["verdict"].isin(contrasts.SHOWN)), table.interval, foot)


def worth(rows: pd.DataFrame) -> table.Table:
    """What arms are worth in further real images. rows: of `ratios.worth_in_images`."""

    foot = (
        f"Further real rare images that do the same; at most {rows['most'].max():.0f} were tried."
    )
    return _by_ratio(rows.assign(shown=False), table.images, foot)


def claims(rows: pd.DataFrame) -> table.Table:
    """The paper's claims, a row a claim, a column a study. rows: of `claims.paper_claims`."""
    shared, studies = words.studies(rows)
    columns, bold = {}, {}
    for title, part in studies:
        name = _heading(title, part)
        part = part.set_index("claim", drop=False)
        columns[name] = pd.Series(
            {c: f"{r['verdict']}: {table.interval(r)}" for c, r in part.iterrows()}
        )
        bold[name] = part["verdict"].isin(SHOWN)
    cells = pd.DataFrame(columns).reindex(rows["claim"].unique())
    marks = pd.DataFrame(bold).reindex(cells.index)
    return table.headed("claim", cells, marks, f"{'; '.join(shared)}. {table.FOOT}")


def regret(rows: pd.DataFrame) -> table.Table:
    """What letting validation choose costs. rows: `ratios.regret_summary`, study, chosen."""
    cells = pd.DataFrame(
        {
            "study": rows["study"],
            "arm": rows["arm"],
            "regret": [table.interval(row, "regret") for row in rows.to_dict("records")],
            "draws": rows["n_draws"].astype(str),
            "chose the fixed ratio": [f"{share:.0%}" for share in rows["agrees"]],
            "chosen": rows["chosen"],
        }
    )
    return table.unmarked(cells, "Positive: the best fixed ratio of the other draws is better.")


def correlations(rows: pd.DataFrame) -> table.Table:
    """Spearman's rho of the gain with each quality, a row a study, a column a quality.

    rows: of `pool_gains.correlation`, with quality and a study's setting.
    """
    shared, studies = words.studies(rows)
    cells = {
        _heading(title, part): pd.Series(
            {
                QUALITY_NAMES[row["quality"]]: table.interval(row, "rho")
                for row in part.to_dict("records")
            }
        )
        for title, part in studies
    }
    cells = pd.DataFrame(cells).T
    foot = f"Spearman's rho of the gain with the quality, interval over draws. {'; '.join(shared)}."
    return table.headed("study", cells, pd.DataFrame(False, cells.index, cells.columns), foot)


def study(rows: pd.DataFrame) -> table.Table:
    """A paper's table of one study, a row an arm. rows: of `contrasts.study_table`."""
    shared, _ = words.studies(rows)
    columns = {
        style.METRIC_NAMES.get(name, name): part
        for name, part in rows.groupby("quantity", sort=False)
    }
    beating = rows.loc[rows["beats_controls"].fillna(False).astype(bool), "arm"].unique()
    foot = f"{'; '.join(shared)}. {table.FOOT}"
    if len(beating):
        foot += f" Better than each of the controls: {', '.join(beating)}."
    return _by_arm(columns, foot, "value")


def levels(rows: pd.DataFrame) -> table.Table:
    """One study: an arm a row in the order in which they are drawn, a ratio a column.

    rows: of `curves.levels`. What has no ratio stands at 0x.
    """
    rows = style.in_order(rows, style.arms_of(rows)).reset_index(drop=True)
    shown = rows.assign(text=[table.interval(row, "mean", "") for _, row in rows.iterrows()])
    cells = shown.pivot(index="arm", columns="ratio", values="text").loc[rows["arm"].unique()]
    cells.columns = [f"{ratio:g}x" for ratio in cells.columns]
    foot = f"{words.metric(rows.iloc[0])}; {'; '.join(words.studies(rows)[0])}."
    unmarked = pd.DataFrame(False, cells.index, cells.columns)
    return table.headed("arm", cells, unmarked, foot)


def _by_arm(columns: dict[str, pd.DataFrame], foot: str, value: str = "difference") -> table.Table:
    """A row an arm, a column each of `columns`."""
    cells, bold = {}, {}
    for name, part in columns.items():
        sign = "" if value == "value" and not name.startswith("vs ") else "+"
        records = part.to_dict("records")
        arms = [words.arm(row) for row in records]
        cells[name] = pd.Series([table.interval(row, value, sign) for row in records], arms)
        bold[name] = pd.Series(part["verdict"].isin(contrasts.SHOWN).to_numpy(), arms)
    order = list(dict.fromkeys(name for column in cells.values() for name in column.index))
    return table.headed("arm", pd.DataFrame(cells).reindex(order), pd.DataFrame(bold), foot)


def _by_ratio(rows: pd.DataFrame, text, foot: str) -> table.Table:
    """A row a study and arm, a column a ratio."""
    shared, studies = words.studies(rows)
    parts = []
    for title, part in studies:
        frame = pd.DataFrame(
            {
                "study": _heading(title, part),
                "arm": part["arm"],
                "ratio": part["ratio"],
                "text": [text(row) for row in part.to_dict("records")],
                "shown": part["shown"],
            }
        )
        parts.append(frame)
    long = pd.concat(parts)
    wide = long.pivot(index=["study", "arm"], columns="ratio", values=["text", "shown"])
    cells = wide["text"].rename(columns=lambda r: f"{r:g}x").reset_index()
    bold = wide["shown"].rename(columns=lambda r: f"{r:g}x").reset_index()
    bold[["study", "arm"]] = False
    return table.Table(
        cells.fillna(""), bold.fillna(False).astype(bool), f"{'; '.join(shared)}. {foot}"
    )


def _heading(title: str, part: pd.DataFrame) -> str:
    """A study's title of `words.studies` in one line, its task where it has none."""
    return ", ".join(title.split("\n")) or words.task(part.iloc[0])
