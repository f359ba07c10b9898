"""decision.html and decision.json: one page with its pictures in it, and the same for machines.

Whatever comes from the user's folder (names of classes and files, notes) is escaped.
"""

import json
from html import escape
from pathlib import Path

from fsl_utils import StudyError, store
from fsl_utils.decision import pictures
from fsl_utils.decision.recommendation import Recommendation, interval
from fsl_utils.decision.run import Decision

NAMES = ("decision.html", "decision.json", "export")
STRETCHED = 1.2  # sides that differ by more are worth a word
_STYLE = """
body { font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
.answer { border-left: 5px solid #0072B2; background: #f3f7fa; padding: .6em 1em; }
.answer p:first-child { font-weight: bold; }
table { border-collapse: collapse; } td, th { padding: .25em .8em .25em 0; text-align: left; }
th { border-bottom: 1px solid #999; } img { max-width: 100%; } .small { color: #666; }
code { background: #f0f0f0; }
"""


def free(folder: Path, replace: bool) -> None:
    """Raise StudyError where a decision stands in `folder` already and may not be replaced."""
    there = [name for name in NAMES if (folder / name).exists()]
    if there and not replace:
        raise StudyError(
            f"{folder} holds {', '.join(there)} already: nothing is written over; take another "
            "--out, or --replace"
        )


def write(decision: Decision, folder: Path) -> list[Path]:
    """Write decision.json and decision.html; returns their paths."""
    page, record = folder / NAMES[0], folder / NAMES[1]
    store.write_text(record, json.dumps(decision.params(), indent=1, ensure_ascii=False))
    store.write_text(page, html(decision))
    return [page, record]


def html(decision: Decision) -> str:
    """The whole page."""
    counts, answer = decision.intake.counts, decision.answer
    title = f"{counts['rare_class']}: a decision"
    parts = [f"<h1>{escape(title)}</h1>", _answer(answer)]
    figures = [(name, pictures.embedded(figure)) for name, figure in pictures.all_of(decision)]
    shots, *rest = figures
    parts += ["<h2>What you have</h2>", have(decision), _figure(*shots)]
    texts = () if decision.found is None else (_gain(answer), ways(answer), _errors(decision), "")
    for (name, address), text in zip(rest, texts):
        parts += [f"<h2>{escape(name)}</h2>", text, _figure(name, address)]
    if answer.threshold:
        parts += ["<h2>What to take away</h2>", _take(answer)]
    parts += ["<h2>How this was found</h2>", _how(decision)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _answer(answer: Recommendation) -> str:
    said = "".join(f"<p>{escape(sentence)}</p>" for sentence in answer.sentences)
    return f'<div class="answer">{said}</div>'


def _figure(name: str, address: str) -> str:
    return f'<p><img alt="{escape(name)}" src="{address}"></p>'


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table; every cell is escaped."""
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def have(decision: Decision) -> str:
    """What the user has, as HTML: counts, sizes, and the notes of the intake."""
    counts = decision.intake.counts
    sides = (counts["width"], counts["height"])
    size = " by ".join(f"{low} to {high}" if low < high else str(low) for low, high in sides)
    rows = [
        ["images", f"{counts['images']} in {counts['groups']} groups"],
        [f"rare: {counts['rare_class']}", f"{counts['rare']} in {counts['rare_groups']} groups"],
        ["most of them in one group", str(counts["largest_rare_group"])],
        ["pixels", f"{size}; seen as {decision.seen.size} by {decision.seen.size}"],
        ["what this costs", chain(sides[0][1], sides[1][1], decision.seen.size)],
        ["colour", "seen" if counts["channels"] == 3 else "none"],
        ["pictures in more than one group", f"{counts['leaks']} pairs"],
    ]
    notes = "".join(f"<li>{escape(note)}</li>" for note in decision.intake.notes)
    return table(["", ""], rows) + (f"<ul>{notes}</ul>" if notes else "")


def chain(width: int, height: int, size: int) -> str:
    """What it costs to squeeze images of up to width by height pixels to size by size, in words."""
    across, down = width / size, height / size
    if max(across, down) <= 1:
        return "nothing: no image is larger"
    said = f"one pixel seen is up to {across:.1f} by {down:.1f} of yours: narrower marks fade"
    stretch = max(across, down) / min(across, down)
    return said + (f", and shapes are stretched {stretch:.1f} times" if stretch > STRETCHED else "")


def _gain(answer: Recommendation) -> str:
    rows = [
        [f"{point['images']:.0f}", interval(point)]
        for point in sorted(answer.curve, key=lambda point: point["images"])
    ]
    seen = f"{answer.detectable:.3f}" if answer.detectable == answer.detectable else "not known"
    return (
        f"<p>The smallest difference that these groups show with 80 % power: {seen} PR-AUC.</p>"
        + table(["real rare images", "PR-AUC"], rows)
    )


def ways(answer: Recommendation) -> str:
    """Every way as HTML: its PR-AUC and its difference from the simplest, with intervals."""
    rows = []
    for row in answer.table:
        low, high = row["difference_low"], row["difference_high"]
        apart = interval({"value": row["difference"], "low": low, "high": high}, "+")
        simplest = row["difference"] == low == high == 0
        times = answer.choices.get(row["name"], 0)
        mark = "recommended" if row["chosen"] else ""
        rows.append(
            [row["name"], row["title"], interval(row), "" if simplest else apart, str(times), mark]
        )
    head = ["way", "", "PR-AUC", "from the simplest", "times chosen", ""]
    lost = "".join(
        f"<li>{escape(name)} could not be fitted: {escape(why)}</li>"
        for name, why in answer.left_out.items()
    )
    return table(head, rows) + (f"<ul>{lost}</ul>" if lost else "")


def _errors(decision: Decision) -> str:
    """The files behind the figure, for whoever wants to look at their labels."""
    names, lines = decision.intake.domain.table["image"].to_numpy(), []
    for label, word in ((1, "lowest scores of rare"), (0, "highest of common")):
        rows = pictures.worst(decision.evidence, decision.answer.chosen, label)[: pictures.SHOWN]
        lines.append(f'<p class="small">{word}: {escape(", ".join(names[rows]))}</p>')
    return "".join(lines)


def _take(answer: Recommendation) -> str:
    threshold = answer.threshold
    rows = [[name, interval(threshold[name])] for name in ("precision", "recall")]
    return (
        f"<p>At the threshold {threshold['value']:.3f} expect, where rare images are as frequent "
        "as among yours:</p>"
        + table(["", "held out"], rows)
        + "<p>Score new images with <code>fsl predict FOLDER --model export/model</code>. The "
        "training set stands in <code>export/train</code>, its weights in "
        "<code>export/weights.csv</code>.</p>"
    )


def _how(decision: Decision) -> str:
    if decision.found is None:
        return "<p>Nothing was fitted.</p>"
    repeats, folds = len(decision.found.fold), decision.found.folds
    said = (
        f"{folds} outer folds of whole groups, {repeats} times. In each the other folds choose the "
        "way, by the one-standard-error rule: the simplest that lies within one standard error of "
        "the best. So the score at the top is of images that neither trained nor chose. Every way "
        "weighs both classes the same. Brackets hold 95 % intervals over groups and repeats, for "
        f"groups that tell as much as {decision.found.effective_groups:.1f} equal ones; all "
        "figures are of real images. Each fit sees fewer images than the classifier that is "
        "exported, which was fitted on all."
    )
    return f'<p class="small">{escape(said)}</p>'
