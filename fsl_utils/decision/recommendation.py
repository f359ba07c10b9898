"""From evidence to a recommendation: one of a few sentences, each with its interval and counts."""

import math
from dataclasses import asdict, dataclass, field

import numpy as np

from fsl_utils import StudyError, metrics
from fsl_utils.analysis.resampling import MIN_GROUPS
from fsl_utils.decision import room
from fsl_utils.decision.candidates import Candidate
from fsl_utils.decision.evidence import Evidence, procedure, simplest
from fsl_utils.decision.folds import FEWEST

NOTICED = 0.01  # PR-AUC; a smaller difference is none to anybody
VERDICTS = ("take", "cannot tell", "no skill")


@dataclass
class Recommendation:
    """verdict: 'take'; 'cannot tell': too few groups; 'no skill': nothing beats guessing.

    chosen: a candidate's name, '' where none could be fitted. sentences: what to do, in order.
    score: of the nested procedure. table: one dict a candidate. threshold: of the chosen one, with
    expected precision and recall. All values are plain, for JSON.
    """

    verdict: str
    chosen: str
    sentences: list[str]
    score: dict = field(default_factory=dict)
    no_skill: float = math.nan
    table: list[dict] = field(default_factory=list)
    curve: list[dict] = field(default_factory=list)
    gain: dict = field(default_factory=dict)
    detectable: float = math.nan
    choices: dict[str, int] = field(default_factory=dict)
    threshold: dict = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def params(self) -> dict:
        """As JSON has it: numbers that are none become None."""
        return _plain(asdict(self))


def none(counts: dict) -> Recommendation:
    """Where so few groups have rare images that nothing can be held out twice."""
    word = counts["rare_class"]
    have = f"{counts['rare_groups']} groups with {word} ({counts['rare']} images)"
    if counts["rare_groups"] >= FEWEST:
        have = f"the images of {counts['common_class']} in fewer than {FEWEST} groups"
    return Recommendation(
        "cannot tell",
        "",
        [
            f"Cannot tell anything, because you have {have}: at least {FEWEST} groups of either "
            f"class are needed to choose on one part and score on another, and {MIN_GROUPS} for "
            "an interval that means something. Label more parts first."
        ],
    )


def of(
    found: Evidence, ways: list[Candidate], counts: dict, unseen: str = "were not tried"
) -> Recommendation:
    """The recommendation. ways: real and free ones from the simplest on, then synthetic ones.

    counts: of `intake.Intake`. unseen: what is said of synthetic images where no way has them.
    Raises StudyError where no way could be fitted.
    """
    ways = [way for way in ways if way.name in found.outer]
    free = [way for way in ways if way.kind != "synthetic"]
    if not free:
        raise StudyError(f"no way could be fitted: {next(iter(found.left_out.values()), 'none')}")
    plain = free[0].name
    chosen = simplest({way.name: found.levels[way.name] for way in free})
    few = found.rare_groups < MIN_GROUPS
    if few:
        chosen = plain
    added = _synthetic(found, ways, chosen)
    if added and added["low"] > 0 and not few:
        chosen = added["name"]
    nested, choices = procedure(found, plain)
    # What a generator adds was decided by its interval, not by the inner choice.
    synthetic = added and chosen == added["name"]
    values = found.levels[chosen] if synthetic else nested
    score = _humble(found.estimate(values), found.rare_groups)
    skill = found.estimate(values - found.guessing)
    verdict = "cannot tell" if few else "take" if skill["low"] > 0 else "no skill"
    answer = Recommendation(
        verdict,
        chosen,
        [],
        score,
        float(found.guessing[0, 0]),
        [_row(found, way, chosen, plain) for way in ways],
        room.learning_curve(found, plain),
        room.gain(found, plain=plain),
        room.detectable(found, [way.name for way in free[1:]], plain),
        {way.name: sum(names.count(way.name) for names in choices) for way in free},
        _threshold(found, chosen),
        found.left_out,
    )
    answer.sentences = sentences(answer, ways, counts, added, unseen)
    return answer


def nothing_to_gain(found: Evidence, ways: list[Candidate]) -> str:
    """Why it is no use to try synthetic images, '' where it may be: before any time goes there.

    They are no better than as many real ones: where even these could not be seen, nor can they.
    """
    free = [way.name for way in ways if way.kind == "free" and way.name in found.outer]
    seen = room.detectable(found, free)
    more = room.gain(found, room.PAINTED * int(found.labels.sum()))
    if found.rare_groups < MIN_GROUPS:
        return f"were not tried: {found.rare_groups} groups could not show what they add"
    if more["high"] < max(seen, NOTICED):
        return (
            f"were not tried: even {more['further']} real ones would add less than these groups "
            "could show"
        )
    return ""


def _humble(level: dict, groups: int) -> dict:
    """A level without error has no spread to resample: then the lower end is 1 - 3 / groups, the
    rule of three (Hanley and Lippman-Hand, JAMA 1983)."""
    if level["value"] < 1 - NOTICED / 2:
        return level
    return level | {"low": min(level["low"], 1 - 3 / groups)}


def _synthetic(found: Evidence, ways: list[Candidate], free: str) -> dict:
    """The best synthetic way against the chosen free one; empty where none was fitted."""
    names = [way.name for way in ways if way.kind == "synthetic"]
    if not names:
        return {}
    best = max(names, key=lambda name: found.levels[name][:, 0].mean())
    return {"name": best, "against": free, **found.estimate(found.difference(best, free))}


def _row(found: Evidence, way: Candidate, chosen: str, plain: str) -> dict:
    """One row of the table: level, and difference from the plain way, each with its interval."""
    level, apart = _humble(found.estimate(found.levels[way.name]), found.rare_groups), {}
    if way.name != plain:
        apart = found.estimate(found.difference(way.name, plain))
    return {
        "name": way.name,
        "title": way.title,
        "kind": way.kind,
        "chosen": way.name == chosen,
        **level,
        "difference": apart.get("value", 0.0),
        "difference_low": apart.get("low", 0.0),
        "difference_high": apart.get("high", 0.0),
    }


def _threshold(found: Evidence, name: str) -> dict:
    """A threshold for the way that is taken, with the precision and recall to expect.

    It maximises F1 of all out-of-fold scores. What to expect is measured in each fold at the
    threshold that the other folds choose.
    """
    scores = found.outer[name]
    scores = scores[np.isfinite(scores).all(axis=1)]
    called = np.zeros_like(scores)
    for repeat, row in enumerate(scores):
        for k in np.unique(found.fold[repeat]):
            out = found.fold[repeat] == k
            cut = _cut(found.labels[~out], row[~out])
            called[repeat, out] = row[out] >= cut
    labels = np.tile(found.labels, len(scores))
    expected = {
        metric: _humble(found.estimate(found.values(called, metric)), found.rare_groups)
        for metric in ("precision", "recall")
    }
    return {"value": _cut(labels, scores.ravel()), **expected}


def _cut(labels: np.ndarray, scores: np.ndarray) -> float:
    """The threshold of the largest F1, halfway to the next score below: new images score a little
    less sharply than those that chose it."""
    cut = metrics.choose_threshold(labels, scores)
    below = scores[scores < cut]
    return float((cut + below.max()) / 2) if len(below) else cut


def sentences(
    answer: Recommendation, ways: list[Candidate], counts: dict, added: dict, unseen: str
) -> list[str]:
    """What to do, in words."""
    titles = {way.name: way.title for way in ways}
    rare, few = counts["rare_class"], answer.verdict == "cannot tell"
    stand = f"{counts['rare']} images of {rare} in {counts['rare_groups']} groups"
    level = (
        f"PR-AUC {interval(answer.score)} on groups that it has not seen, where guessing has "
        f"{answer.no_skill:.2f} ({stand})"
    )
    if few:
        first = (
            f"Cannot tell which way is best, because you have {counts['rare_groups']} groups with "
            f"{rare}; {MIN_GROUPS} are needed. Until then take the simplest: "
            f"{titles[answer.chosen]}, {level}."
        )
    elif answer.verdict == "no skill":
        first = (
            f"Nothing that was tried tells {rare} from {counts['common_class']} better than "
            f"guessing: {level}. Look at the images at this size, and at the labels, first."
        )
    else:
        first = f"Take {titles[answer.chosen]}: {level}."
    said = [first, _on_rivals(answer, titles), _on_synthesis(added, unseen, few)]
    return [sentence for sentence in [*said, _on_more(answer, rare, few)] if sentence]


def _on_rivals(answer: Recommendation, titles: dict[str, str]) -> str:
    """What the other free ways do beside the one taken."""
    others = [row for row in answer.table if row["kind"] == "free"]
    if not others or math.isnan(answer.detectable):
        return ""
    best = max(others, key=lambda row: row["difference"])
    apart = {name: best[f"difference{part}"] for name, part in _PARTS.items()}
    if max(abs(value) for value in apart.values()) < NOTICED:
        return f"The best of the other free ways, {best['title']}, does the same as the simplest."
    return (
        f"The best of the other free ways, {best['title']}, makes {interval(apart, '+')} beside "
        f"the simplest; less than {answer.detectable:.2f} could not be seen on these groups."
    )


_PARTS = {"value": "", "low": "_low", "high": "_high"}


def _on_synthesis(added: dict, unseen: str, few: bool) -> str:
    if not added:
        return f"Synthetic images {unseen}."
    change = interval(added, "+")
    if added["low"] > 0 and not few:
        return f"Synthetic images add {change} to the best free way: take them."
    if added["high"] < 0:
        return f"Synthetic images do harm: {change} beside the best free way."
    return f"Synthetic images add nothing that you could notice: {change} beside the best free way."


def _on_more(answer: Recommendation, rare: str, few: bool) -> str:
    more = answer.gain
    if few or not np.isfinite([more["value"], more["low"], answer.detectable]).all():
        return "What more real images would bring cannot be told from so few."
    real = f"{more['further']} more real images of {rare} would bring about {interval(more, '+')}"
    if more["high"] < max(answer.detectable, NOTICED):
        return f"{real}, less than could be noticed: there is little to gain."
    if more["low"] > NOTICED / 2:
        return f"{real} (extrapolated from {more['have']}): label more."
    return f"{real} (extrapolated from {more['have']}): it cannot be told whether that is any."


def interval(values: dict, sign: str = "") -> str:
    """0.83 [0.70, 0.92]; with `sign` '+' as a change."""
    shown = [round(values[name], 2) + 0.0 for name in ("value", "low", "high")]  # no -0.00
    value, low, high = (f"{each:{sign}.2f}" for each in shown)
    return f"{value} [{low}, {high}]"


def _plain(value):
    """Numbers of NumPy as Python's; what is not finite as None."""
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
