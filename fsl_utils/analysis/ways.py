"""Ways to train, beside one another: a pilot chooses, a study confirms.

The rules are those of results/study2/protocol.md.
A way is a classifier, an arm, a weight of its synthetic images and their generator, at a ratio. All
ways of one number of shots are one study, whatever their classifier: its arms are ways by name.
"""

import hashlib
from dataclasses import asdict, dataclass

import pandas as pd

from fsl_utils import StudyError
from fsl_utils.analysis import contrasts, headroom
from fsl_utils.analysis.resampling import MIN_DRAWS, Resampled, resample
from fsl_utils.analysis.tables import POOL_COLUMNS, SCORED_ON, TASK_COLUMNS

TIE = 0.002  # of the metric: no closer than this, the cheaper way is chosen
EFFECT = 0.03  # that the chosen pair's draws are to show
MOST_DRAWS = 20
CEILING = "real_more"  # costs further real images: nobody's rival
WITH_SYNTHETIC_COMMON = ("synth_both", "contrastive")
NEW, OLD = "mini128", "mini"  # the generator in question, and that of fewer pixels
SMALL = 0.2  # the weight that is to do no harm
HARM = -0.02  # the lower end of an interval that is called no harm
# In which ways of one task differ.
APART = ("n_real", "image_size", "classifier", "init")
SHARED = [name for name in TASK_COLUMNS if name not in APART]


@dataclass(frozen=True)
class Way:
    """A way but for its ratio. weight 0: each image counts as one. backbone '': no pool."""

    classifier: str
    arm: str
    weight: float = 0.0
    backbone: str = ""

    @property
    def name(self) -> str:
        """As the arm of a study."""
        return f"{self.classifier}|{self.arm}|{self.weight:g}|{self.backbone}"

    @classmethod
    def of(cls, name: str) -> "Way":
        """The way of this name."""
        classifier, arm, weight, backbone = name.split("|")
        return cls(classifier, arm, float(weight), backbone)


Key = tuple[str, float]  # of a way by name and its ratio: as a study's (arm, ratio)


def studies(cells: pd.DataFrame, scores: pd.DataFrame) -> dict[int, Resampled]:
    """Shots -> the study of all ways with so many.

    Raises StudyError where the cells are of several tasks.
    """
    return {int(n): resample(part, scores) for n, part in named(cells).groupby("n_real")}


def named(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells of one task as those of one classifier, whose arms are ways by name.

    Raises StudyError where they are of several tasks.
    """
    for name in SHARED:
        if cells[name].nunique() > 1:
            values = ", ".join(map(str, sorted(cells[name].unique())))
            raise StudyError(f"ways are compared on one task, but {name} is {values}")
    alike = dict.fromkeys(("init", *POOL_COLUMNS), "") | {"classifier": "all"}
    seen = cells["classifier_size"]  # what a generator paints is resized to it
    return cells.assign(arm=_names(cells), image_size=seen, **alike)


def _names(cells: pd.DataFrame) -> list[str]:
    columns = ("classifier", "arm", "synthetic_weight", "backbone")
    return [Way(*row).name for row in zip(*(cells[name] for name in columns))]


def with_ensembles(cells: pd.DataFrame, scores: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The same and, for every draw and its seed, `real` of all its classifiers together.

    An image's score is the mean of its ranks, from 0 to 1: classifiers have scales of their own.
    """
    members = cells[(cells["arm"] == "real") & (cells["evaluated_on"] != "fold")]
    rows, parts = [], []
    for _, same in members.groupby(["n_real", "draw", "seed"]):
        if len(same) < 2:
            continue
        first = same.iloc[0]
        key = hashlib.sha256("ensemble".join(same["cell"]).encode()).hexdigest()
        part = scores[scores["cell"].isin(same["cell"])]
        part = part[part["partition"].isin(SCORED_ON[first["evaluated_on"]])]
        ranks = part.groupby("cell")["score"].rank(pct=True)
        columns = ["image", "group", "partition", "label"]
        mean = ranks.groupby([part[name] for name in columns]).mean().rename("score")
        parts.append(mean.reset_index().assign(cell=key))
        rows.append(first.to_dict() | {"cell": key, "classifier": "ensemble"})
    if not rows:
        return cells, scores
    more = pd.DataFrame(rows)[list(cells)], pd.concat(parts)[list(scores)]
    return tuple(pd.concat(both, ignore_index=True) for both in zip((cells, scores), more))


def choose(cells: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """The best `free` and the best `synthetic` way of a pilot, a row a number of shots and role.

    Columns n_real, role, those of `Way`, ratio, level (mean PR-AUC over all draws), n_draws, and
    `draws`: the least that show EFFECT between the two, from MIN_DRAWS to MOST_DRAWS. Ways that
    lack a draw are not chosen. Within TIE of the best the one with the lower ratio is chosen, then
    the one that trains faster.
    """
    rows = []
    seconds = cells.assign(arm=_names(cells)).groupby(["n_real", "arm", "ratio"])["train_seconds"]
    for n_real, study in studies(cells, scores).items():
        level = study.points.dropna().mean(axis=1)
        cost = seconds.mean()[n_real]
        by_role = roles(level.index)
        if not all(by_role.values()):
            raise StudyError(f"the pilot at {n_real} shots lacks a free or a synthetic way")
        chosen = {role: cheapest(keys, level, cost) for role, keys in by_role.items()}
        needed = headroom.draws_needed(study, chosen["synthetic"], chosen["free"], EFFECT)
        rows += [
            {
                "n_real": n_real,
                "role": role,
                **asdict(Way.of(name)),
                "ratio": ratio,
                "level": level[name, ratio],
                "n_draws": study.points.shape[1],
                "draws": int(min(max(needed, MIN_DRAWS), MOST_DRAWS)),
            }
            for role, (name, ratio) in chosen.items()
        ]
    return pd.DataFrame(rows)


def roles(keys) -> dict[str, list[Key]]:
    """Which of a study's keys are free and which are synthetic; the ceiling is neither."""
    by_role = {"free": [], "synthetic": []}
    for name, ratio in keys:
        way = Way.of(name)
        if way.arm != CEILING:
            by_role["synthetic" if way.backbone else "free"].append((name, ratio))
    return by_role


def cheapest(keys: list[Key], level: pd.Series, seconds: pd.Series) -> Key:
    """Of these the cheapest within TIE of the best."""
    near = [key for key in keys if level[key] >= level[keys].max() - TIE]
    return min(near, key=lambda key: (key[1], seconds[key]))


def confirm(chosen: pd.DataFrame, by_shots: dict[int, Resampled]) -> pd.DataFrame:
    """The primary contrasts: the chosen synthetic way minus the chosen free one, at each number of
    shots. One family. Columns as of `contrasts.family`, with `n_real`.
    """
    rows = []
    for n_real, pair in chosen.groupby("n_real"):
        pair = pair.set_index("role")
        if n_real in by_shots:
            keys = (key_of(pair.loc[role]) for role in ("synthetic", "free"))
            rows.append(_contrast(by_shots[n_real], *keys))
    return _family(rows)


def key_of(row) -> Key:
    """The key of a row of `choose`."""
    return Way(row["classifier"], row["arm"], row["weight"], row["backbone"]).name, row["ratio"]


def conditions(chosen: pd.DataFrame, by_shots: dict[int, Resampled]) -> pd.DataFrame:
    """A chosen way with synthetic common images minus those with real ones, at 1x: one family."""
    rows = []
    for row in chosen[chosen["role"] == "synthetic"].to_dict("records"):
        if row["arm"] in WITH_SYNTHETIC_COMMON and row["n_real"] in by_shots:
            study, ours = by_shots[row["n_real"]], key_of(row)
            real = Way(row["classifier"], "real_base")
            both = Way(row["classifier"], "lora_base", row["weight"], row["backbone"])
            rows += [_contrast(study, ours, (way.name, 1.0)) for way in (real, both)]
    return _family(rows)


def questions(study: Resampled) -> dict[str, list[tuple[Key, Key]]]:
    """The secondary contrasts by question, as pairs (way, control) of every classifier."""
    pairs = {"commons": [], "harmless": [], "pixels": []}
    for classifier in sorted({Way.of(name).classifier for name, _ in study.replicates}):

        def at(arm, ratio, weight=0.0, backbone="", classifier=classifier) -> Key:
            return Way(classifier, arm, weight, backbone).name, ratio

        ours = at("synth_both", 1.0, backbone=NEW)
        pairs["commons"] += [
            (ours, at("real_base", 1.0)),
            (ours, at("lora_base", 1.0, backbone=NEW)),
        ]
        pairs["harmless"] += [
            (at(arm, 4.0, SMALL, NEW), at("real", 0.0)) for arm in ("lora", "synth_both")
        ]
        pairs["pixels"].append((at("lora", 4.0, backbone=NEW), at("lora", 4.0, backbone=OLD)))
    return pairs


def secondary(by_shots: dict[int, Resampled]) -> pd.DataFrame:
    """The secondary contrasts, one family a `question`; pairs that were not run are left out.

    `held` of `harmless`: the lower end of the interval lies above HARM.
    """
    by_question = {}
    for study in by_shots.values():
        for question, pairs in questions(study).items():
            rows = [_contrast(study, *pair) for pair in pairs]
            by_question.setdefault(question, []).extend(rows)
    families = [
        _family(rows).assign(question=question)
        for question, rows in by_question.items()
        if any(rows)
    ]
    table = pd.concat([pd.DataFrame(), *families], ignore_index=True)
    if table.empty:
        return table
    held = table["low"] > HARM
    return table.assign(held=held.where(table["question"] == "harmless"))


def against(study: Resampled, control: Key) -> pd.DataFrame:
    """Every other way minus one: one family, the best first. It is large: ten draws show nothing in
    more than 25 contrasts."""
    rows = [_contrast(study, key, control) for key in study.replicates if key != control]
    return _best_first(_family(rows))


def added(study: Resampled) -> pd.DataFrame:
    """Every way minus `real` of its own classifier: one family a classifier, the best first."""
    families = {}
    for key in study.replicates:
        plain = Way(Way.of(key[0]).classifier, "real").name, 0.0
        if key != plain:
            families.setdefault(plain, []).append(_contrast(study, key, plain))
    by_control = [_best_first(_family(families[plain])) for plain in sorted(families)]
    return pd.concat([pd.DataFrame(), *by_control], ignore_index=True)


def _best_first(family: pd.DataFrame) -> pd.DataFrame:
    """Empty where nothing was run beside the control."""
    if family.empty:
        return family
    return family.sort_values("difference", ascending=False, ignore_index=True)


def _family(rows: list[dict]) -> pd.DataFrame:
    """Contrasts tested together, without those that were not run."""
    return contrasts.family([row for row in rows if row])


def _contrast(study: Resampled, way: Key, control: Key) -> dict:
    """One paired contrast with both levels; {} where no draw has both."""
    if not {way, control} <= study.replicates.keys():
        return {}
    draws, columns = study.shared(way, control)
    if not len(draws):
        return {}
    points = study.points.iloc[:, draws]
    difference = points.loc[way] - points.loc[control]
    return contrasts.contrast(study, way, control) | {
        "level": points.loc[way].mean(),
        "control_level": points.loc[control].mean(),
        "share_above": (difference > 0).mean(),
        "n_real": columns["n_real"],
    }
