"""A decision from beginning to end: features, evidence, recommendation."""

from dataclasses import dataclass

import numpy as np

from fsl_utils import StudyError
from fsl_utils.decision import candidates, evidence, folds, recommendation, room
from fsl_utils.decision.candidates import Candidate
from fsl_utils.decision.evidence import Evidence
from fsl_utils.decision.intake import Intake
from fsl_utils.decision.recommendation import Recommendation
from fsl_utils.decision.seen import Seen
from fsl_utils.steps import bar

REPEATS = 3
QUICK = 2  # repeats of a quick look


@dataclass
class Decision:
    """All there is of a decision. found: None where the groups are too few for anything."""

    intake: Intake
    seen: Seen
    ways: list[Candidate]
    found: Evidence | None
    answer: Recommendation
    quick: bool

    @property
    def chosen(self) -> Candidate:
        """The way that is recommended. Raises StudyError where there is none."""
        return candidates.get(self.answer.chosen, self.ways)

    @property
    def evidence(self) -> Evidence:
        """Its evidence. Raises StudyError where the groups were too few for any."""
        if self.found is None:
            raise StudyError(self.answer.sentences[0])
        return self.found

    def params(self) -> dict:
        """What decision.json holds."""
        return {
            "what_you_have": self.intake.counts,
            "notes": list(self.intake.notes),
            "image_size": self.seen.size,
            "quick": self.quick,
            "repeats": 0 if self.found is None else len(self.found.fold),
            "folds": 0 if self.found is None else self.found.folds,
            **self.answer.params(),
        }


def decide(
    intake: Intake, quick: bool = False, size: int = 128, device: str = "cpu", synthesis=()
) -> Decision:
    """Cross-validate all ways on a user's images and recommend one.

    quick: fewer repeats, and no synthetic images. synthesis: candidates that need a generator,
    fitted only where there is something to gain and to see. What is finished is taken from the
    store.
    """
    seen, ways = Seen(intake.domain, size, device), [candidates.REAL, *candidates.FREE]
    if not folds.number(seen.labels, seen.groups):
        return Decision(intake, seen, ways, None, recommendation.none(intake.counts), quick)
    fold = folds.assign(seen.labels, seen.groups, QUICK if quick else REPEATS)
    found = cross_validated(seen, ways, fold)
    unseen = "were not tried: this is a quick look"
    if not quick:
        unseen = recommendation.nothing_to_gain(found, ways) or "were not tried"
        if synthesis and unseen == "were not tried":
            ways = [*ways, *synthesis]
            found = cross_validated(seen, ways, fold)
    answer = recommendation.of(found, ways, intake.counts, unseen)
    return Decision(intake, seen, ways, found, answer, quick)


def cross_validated(seen: Seen, ways: list[Candidate], fold: np.ndarray) -> Evidence:
    """The evidence of these ways and of a learning curve, with a bar."""
    every = [*ways, *room.curve(seen.labels, fold)]
    total = evidence.turns(every, len(fold), int(fold.max()) + 1) + 1
    for found in bar(evidence.gather(seen, every, fold), total, "cross-validating", "fit"):
        last = found
    return last
