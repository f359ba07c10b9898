"""The first study again with today's classifiers: which of its gains were repairs of its probe."""

import itertools

import pandas as pd

from fsl_utils import StudyError
from fsl_utils.analysis import adaptive, contrasts, curves, ways
from fsl_utils.analysis.resampling import REAL, Resampled, resample
from fsl_utils.analysis.tables import split_studies
from fsl_utils.analysis.ways import Way

FIRST = "probe_first"  # the first study's probe, run again on the same pools as today's
PUBLISHED = "published"  # the first study's own cells: the same probe, pools of that time
TASK = ["domain", "rare_class", "protocol", "n_real"]
RATIO = contrasts.PRIMARY[1]
LORA = ("lora", RATIO)
# Mean scores of three classifiers: with synthetic images, and without.
ENSEMBLES = {
    "ensemble": [REAL, LORA, ("synth_both", RATIO)],
    "free ensemble": [REAL, ("augment", RATIO), ("real_base", RATIO)],
}

Tables = tuple[pd.DataFrame, pd.DataFrame]  # cells, scores


def together(first: Tables, again: Tables) -> Tables:
    """The first study's probe as the classifier PUBLISHED, beside what was run again: the tasks and
    draws that both have, arms at RATIO.

    Raises StudyError where they have none, or nothing was run again with FIRST.
    """
    if FIRST not in set(again[0]["classifier"]):
        raise StudyError(f"what was run again has no cell of {FIRST}")
    old = first[0][first[0]["classifier"] == "probe"].assign(classifier=PUBLISHED)
    new = again[0]
    both = [*TASK, "draw"]
    shared = old[both].drop_duplicates().merge(new[both].drop_duplicates())
    if shared.empty:
        raise StudyError("the two folders of tables share no task and draw")
    cells = pd.concat([old, new], ignore_index=True).merge(shared)
    cells = cells[cells["ratio"].isin([0.0, RATIO])]
    scores = pd.concat([first[1], again[1]], ignore_index=True)
    return cells, scores[scores["cell"].isin(cells["cell"])]


def studies(cells: pd.DataFrame, scores: pd.DataFrame) -> list[Resampled]:
    """One a task and classifier."""
    return [resample(part, scores) for part in split_studies(cells)]


def gains(by_classifier: list[Resampled]) -> pd.DataFrame:
    """Every arm minus `real`, one family a task and classifier. Columns as of `contrasts.against`
    and `control_level`, the mean PR-AUC of `real`."""
    families = [
        contrasts.against(study, "real").assign(control_level=study.points.loc[REAL].mean())
        for study in by_classifier
    ]
    return pd.concat(families, ignore_index=True)


def draws(by_classifier: list[Resampled]) -> pd.DataFrame:
    """From `real` to LORA with both probes, draw by draw. Columns as of `curves.slopes`."""
    probes = [s for s in by_classifier if s.setting["classifier"] in (FIRST, "probe")]
    return pd.concat([curves.slopes(study, LORA, REAL) for study in probes], ignore_index=True)


def ensembles(cells: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """ENSEMBLES minus `real`, and the first minus the second: one family a task and classifier.

    Columns as of `contrasts.contrast`. Where a member was not run there is no row.
    """
    families = []
    for part in split_studies(cells):
        keys = pd.MultiIndex.from_frame(part[["arm", "ratio"]])
        run = [name for name, members in ENSEMBLES.items() if set(members) <= set(keys)]
        if not run:
            continue
        named = [part[keys.isin(ENSEMBLES[name])].assign(arm=name, ratio=0.0) for name in run]
        valued = scores[scores["cell"].isin(part["cell"])]
        means, mean_scores = adaptive.averaged(pd.concat(named), valued)
        real = part[keys.isin([REAL])]
        study = resample(pd.concat([real, means]), pd.concat([valued, mean_scores]))
        made = [(name, 0.0) for name in run]
        pairs = [*((key, REAL) for key in made), *itertools.combinations(made, 2)]
        families.append(contrasts.family([contrasts.contrast(study, *pair) for pair in pairs]))
    return pd.concat([pd.DataFrame(), *families], ignore_index=True)


def repairs(cells: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """What the first probe lacked and what of its gains was that, paired on draws, pools and test
    images. Tasks that were not run with FIRST are left out.

    A row a task, classifier of today and arm that both have, one family a task and classifier. Of
    `real`: its PR-AUC with the classifier minus that with FIRST. Of others: the gain over `real`
    with FIRST minus that with the classifier.
    """
    families = []
    for task, part in cells.groupby(TASK, sort=False):
        if FIRST not in set(part["classifier"]):
            continue
        study = ways.studies(part, scores)[task[-1]]
        for name in sorted(set(part["classifier"]) - {FIRST, PUBLISHED}):
            families.append(_family(study, name).assign(classifier=name))
    return pd.concat(families, ignore_index=True)


def _family(study: Resampled, classifier: str) -> pd.DataFrame:
    now, before = (Way(name, "real").name for name in (classifier, FIRST))
    rows = [dict(zip(("arm", "ratio"), REAL)) | contrasts.combination(study, _gain(now, before))]
    for name, ratio in study.replicates:
        old = Way.of(name)
        new = Way(classifier, old.arm, old.weight, old.backbone).name
        if old.classifier == FIRST and old.arm != "real" and (new, ratio) in study.replicates:
            gained = _gain(name, before, ratio)
            kept = {key: -weight for key, weight in _gain(new, now, ratio).items()}
            rows.append(
                {"arm": old.arm, "ratio": ratio} | contrasts.combination(study, gained | kept)
            )
    return contrasts.family(rows)


def _gain(name: str, control: str, ratio: float = 0.0) -> dict:
    """Weights of a way at a ratio minus its control, which has none."""
    return {(name, ratio): 1, (control, 0.0): -1}
