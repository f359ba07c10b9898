"""What the user has: all images of a folder as one labelled table, leaks mended, and counts of it.

No partition is made and nothing is written to the folder: a decision cross-validates by groups over
all of the data.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fsl_utils import StudyError
from fsl_utils.data import decoding, domains, duplicates, partitions
from fsl_utils.data.datasets import folder
from fsl_utils.data.datasets.tables import some
from fsl_utils.data.domains import Domain

REST = "the rest"  # the common class where more than two classes are there and none is named
DEMO = (48, 352)  # rare and common images of the demonstration


@dataclass(frozen=True)
class Intake:
    """domain: all images, every one `development`, with leaks merged into one group.

    leaks: image, other, agreement, of near-duplicates whose groups were apart. counts: what stands
    in the report. notes: what was left out or mended, one line each.
    """

    domain: Domain
    leaks: pd.DataFrame
    counts: dict
    notes: tuple[str, ...]


def of_folder(root: str, rare: str, common: str = "", group_pattern: str = "") -> Intake:
    """A user's folder. `common`: '' for all other classes together. Raises StudyError where the
    folder, its groups or its classes cannot be read as asked."""
    frame, notes = folder.read(root, group_pattern)
    table, common = labelled(frame, rare, common)
    return of_table("folder", rare, common, table, notes)


def demonstration() -> Intake:
    """Development images of the shipped solar cells, as many as a user may have."""
    whole = domains.load("elpv")
    table = whole.table[whole.table["partition"] == "development"].reset_index(drop=True)
    rows = []
    for label, n in zip((1, 0), DEMO):
        of_label = np.flatnonzero(table["label"] == label)
        rng = partitions.generator("demonstration", label)
        rows += list(partitions.spread(of_label, table["group"].to_numpy(), rng)[:n])
    table = table.iloc[np.sort(rows)].reset_index(drop=True)
    note = f"{DEMO[0]} rare and {DEMO[1]} common images of {len(whole.table)}: a demonstration"
    return of_table("elpv", whole.rare_class, whole.common_class, table, [note])


def classes(root: str, group_pattern: str = "") -> list[str]:
    """Names of a folder's classes."""
    return sorted(folder.read(root, group_pattern)[0]["class_name"].unique())


def labelled(frame: pd.DataFrame, rare: str, common: str = "") -> tuple[pd.DataFrame, str]:
    """The table of `domains.label` and the name of the common class.

    Without `common` it is the only other class, or all others together.
    """
    names = sorted(frame["class_name"].unique())
    others = [name for name in names if name != rare]
    if not rare:
        raise StudyError(f"which class is rare? --rare takes one of {', '.join(names)}")
    if rare in names and not common and len(others) > 1:
        joined = frame["class_name"].where(frame["class_name"] == rare, REST)
        return domains.label(frame.assign(class_name=joined), rare, REST), REST
    common = folder.find_common(names, rare, common)
    if rare == common:
        raise StudyError(f"rare and common class are both '{rare}': name another with --common")
    return domains.label(frame, rare, common), common


def of_table(name: str, rare: str, common: str, table: pd.DataFrame, notes: list[str]) -> Intake:
    """A labelled table (of `domains.label`) as a user's data: leaks merged, everything counted."""
    table = table.assign(partition="development")
    given = Domain(name, rare, common, "group", table)
    leaks = duplicates.pairs(np.asarray(given.images(duplicates.SIZE)), table["group"].to_numpy())
    before = table["group"].nunique()
    table = table.assign(group=duplicates.merged(table["group"], leaks))
    domain = Domain(name, rare, common, "group", table, tuple(notes))
    leaks = leaks.assign(
        **{column: table["image"].to_numpy()[leaks[column]] for column in ("image", "other")}
    )
    notes = [*notes, *_on_leaks(leaks, table, before)]
    if (share := table["label"].mean()) > 0.5:
        notes.append(f"the rare class {rare} is the majority: {share:.0%} of {len(table)} images")
    return Intake(domain, leaks, _counts(domain, leaks), tuple(notes))


def _on_leaks(leaks: pd.DataFrame, table: pd.DataFrame, before: int) -> list[str]:
    """What was found across groups, as notes."""
    if leaks.empty:
        return []
    named = [f"{a} = {b}" for a, b in zip(leaks["image"], leaks["other"])]
    notes = [
        f"{len(leaks)} pairs of images of different groups are one picture: {some(named)}; their "
        f"groups are one here ({before} groups became {table['group'].nunique()}): apart, a "
        "classifier would be scored on what it was trained on"
    ]
    labels = table.set_index("image")["label"]
    apart = [
        pair for pair, a, b in zip(named, leaks["image"], leaks["other"]) if labels[a] != labels[b]
    ]
    if apart:
        notes.append(f"{len(apart)} of them stand under two labels, look at them: {some(apart)}")
    return notes


def _counts(domain: Domain, leaks: pd.DataFrame) -> dict:
    """What the user has, in plain numbers."""
    table = domain.table
    rare = table["label"] == 1
    sizes = np.array([decoding.size(Path(path)) for path in table["path"]])
    per_group = table[rare].groupby("group").size()
    return {
        "rare_class": domain.rare_class,
        "common_class": domain.common_class,
        "images": len(table),
        "rare": int(rare.sum()),
        "groups": int(table["group"].nunique()),
        "rare_groups": int(table["group"][rare].nunique()),
        "largest_rare_group": int(per_group.max()),
        "leaks": len(leaks),
        "channels": domain.channels,
        "width": [int(sizes[:, 0].min()), int(sizes[:, 0].max())],
        "height": [int(sizes[:, 1].min()), int(sizes[:, 1].max())],
    }
