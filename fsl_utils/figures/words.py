"""What stands in words on figures and tables: tasks, settings, cautions; names of folders."""

import hashlib
import re

import pandas as pd

from fsl_utils.analysis.tables import POOL_COLUMNS, TASK_COLUMNS
from fsl_utils.figures import style

SETTING = [*TASK_COLUMNS, *POOL_COLUMNS]
FILLED = "filled: interval without zero and p after Holm < .05"


def task(row) -> str:
    """'domain: rare class' of a row that has both."""
    return f"{row['domain']}: {row['rare_class']}"


def studies(
    table: pd.DataFrame, together: tuple[str, ...] = ()
) -> tuple[list[str], list[tuple[str, pd.DataFrame]]]:
    """What holds for a whole table, in words, and its studies, each with a title of its own.

    together: columns that do not part studies, as the classifier where a panel shows several.
    """
    apart = [c for c in SETTING if c in table and c not in together]
    parts = [part for _, part in table.groupby(apart, sort=False, dropna=False)]
    described = [_described(part, together) for part in parts]
    shared = [word for word in described[0] if all(word in words for words in described)]
    titles = []
    for words in described:
        own = [word for word in words if word not in shared]
        first, *rest = own or [""]
        titles.append("\n".join(filter(None, [first, ", ".join(rest)])))
    return shared, list(zip(titles, parts))


def _described(part: pd.DataFrame, together: tuple[str, ...]) -> list[str]:
    """A study in words, the most important first, cautions last and in capitals."""
    first = part.iloc[0]
    # The row with the fewest draws has the most to beware of.
    cautions = [c for c in max(part["caution"], key=len).split("; ") if c]
    told = " ".join(cautions)
    by_classifier = "classifier" in together
    words = [
        task(first),
        "" if "n_real" in together else f"{first['n_real']} shots",
        "" if by_classifier else classifier(first),
        f"{first['image_size']} px",
        "" if "validation" in told else f"on {first['evaluated_on']}",
        ", ".join(filter(None, [first["backbone"], first["mode"]])),
        f"{first['n_rare']} rare images, {first['n_groups']} groups" if "n_rare" in part else "",
        "" if by_classifier or "illustration" in told else _draws(part["n_draws"]),
        *(c.upper() if c.startswith(("illustration", "preliminary")) else c for c in cautions),
    ]
    return [word for word in words if word]


def classifier(row) -> str:
    """A row's classifier; 'from scratch' is said."""
    return row["classifier"] + " from scratch" * (row["init"] == "scratch")


def _draws(counts: pd.Series) -> str:
    fewest, most = int(counts.min()), int(counts.max())
    return f"{fewest} to {most} draws" if fewest < most else f"{most} draw{'s' * (most != 1)}"


def arm(row) -> str:
    """'lora 4x'; 'real' where a ratio has no meaning."""
    return f"{row['arm']} {row['ratio']:g}x" if row["ratio"] else row["arm"]


def metric(row) -> str:
    """The metric of a row as a figure names it."""
    return style.METRIC_NAMES[row["metric"]]


def control(row) -> str:
    """The control of a contrast with its ratio."""
    return f"{row['control']} {row['control_ratio']:g}x" if row["control_ratio"] else row["control"]


# A study's folder leaves out what is usual.
USUAL = {
    "image_size": 64,
    "protocol": "group",
    "evaluated_on": "test",
    "backbone": "mini",
    "mode": "noise",
}
OWN_INIT = {"resnet18": "scratch"}


def folders(settings: list[dict]) -> list[str]:
    """A folder for each study's own figures, '<task>/<classifier>', no two alike.

    settings: of `tables.setting`. What is not usual is named: its size, split, partition, backbone
    or mode. Names of classes become plain file names.
    """
    names = ["/".join(map(file_name, _places(where))) for where in settings]
    return [
        f"{name}_{where['base'][:6]}" if names.count(name) > 1 else name
        for name, where in zip(names, settings)
    ]


def _places(where: dict) -> tuple[str, str]:
    own = {
        name: str(where[name]) for name, value in USUAL.items() if where[name] not in ("", value)
    }
    size = f"{own['image_size']}px" if "image_size" in own else ""
    split = "by_image" if "protocol" in own else ""
    init = where["init"] if where["init"] != OWN_INIT.get(where["classifier"], "imagenet") else ""
    task = [where["domain"], where["rare_class"], f"n{where['n_real']}", size, split]
    made = [where["classifier"], init, own.get("backbone"), own.get("mode")]
    return (
        "_".join(filter(None, [*task, own.get("evaluated_on")])),
        "_".join(filter(None, made)),
    )


def file_name(text: str) -> str:
    """A name as one plain part of a path; where something had to go, a hash tells it apart."""
    name = re.sub(r"[^\w.-]+", "-", text.replace(" ", "-")).strip(".-")
    if name == text.replace(" ", "-"):
        return name
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:6]}".lstrip("-")
