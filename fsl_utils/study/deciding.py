"""`fsl decide` and `fsl predict`: from a folder to a decision, and from a decision to scores."""

import shutil
import time
from pathlib import Path

from fsl_utils import StudyError, files, params, store
from fsl_utils.decision import intake, prediction, report, run, synthesis, takeaway
from fsl_utils.decision.intake import Intake


def decide(arguments) -> None:
    """One decision, or with --each one for every class."""
    out = files.absolute(arguments.out)
    if arguments.demo:
        if arguments.folder or arguments.rare:
            raise StudyError("--demo takes neither a folder nor --rare")
        return _decide(lambda: intake.demonstration(), out, arguments)
    if not arguments.folder:
        raise StudyError("name your folder, or try --demo")
    if arguments.each:
        return _each(out, arguments)

    def read() -> Intake:
        return intake.of_folder(arguments.folder, arguments.rare, arguments.common, arguments.group)

    return _decide(read, out, arguments)


def _each(out: Path, arguments) -> None:
    if arguments.rare or arguments.common:
        raise StudyError("--each takes every class in turn: leave --rare and --common away")
    for name in intake.classes(arguments.folder, arguments.group):
        print(f"\n{name}")

        def read(rare: str = name) -> Intake:
            return intake.of_folder(arguments.folder, rare, "", arguments.group)

        _decide(read, out / takeaway.plain(name), arguments)


def _decide(read, out: Path, arguments) -> None:
    """Read, decide, write; what stands in `out` is looked for before any work."""
    report.free(out, arguments.replace)
    export = out / report.NAMES[2]
    if export.is_symlink() or (export.exists() and not (export / "weights.csv").is_file()):
        raise StudyError(f"{export} was left by no decision: move it away, or take another --out")
    begin = time.perf_counter()
    store.sweep()
    taken = read()
    files.writable(out)
    counts = taken.counts
    print(
        f"{counts['images']} images, {counts['rare']} of them {counts['rare_class']}, in "
        f"{counts['groups']} groups, {counts['rare_groups']} of them with {counts['rare_class']}"
    )
    for note in taken.notes:
        print(f"note: {note}")
    device, painted = params.device("auto"), () if arguments.quick else (synthesis.way(),)
    decision = run.decide(taken, arguments.quick, arguments.size, device, painted)
    if export.exists():
        shutil.rmtree(export)
    written = report.write(decision, out)
    if decision.found is not None:
        written.append(takeaway.export(decision, export))
    print()
    for sentence in decision.answer.sentences:
        print(sentence)
    print(f"\n{', '.join(map(str, written))}; {time.perf_counter() - begin:.0f} s")


def predict(arguments) -> None:
    """Score the images of a folder; writes one row an image."""
    out = files.absolute(arguments.out)
    if out.exists() and not arguments.replace:
        raise StudyError(f"{out} is there already: name another --out, or take --replace")
    model = prediction.Model(files.absolute(arguments.model))
    root = files.absolute(arguments.folder)
    names, notes = prediction.looked_at(root, model)
    table = model.predict([root / name for name in names], params.device("auto"))
    table.insert(0, "image", names)
    files.write_text(out, table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    for note in notes:
        print(f"note: {note}")
    unlike = int(table["unlike"].sum())
    print(f"{int(table['called'].sum())} of {len(table)} images are called "
          f"{model.card['rare_class']}; {model.expected()}")  # fmt: skip
    if unlike:
        limit = model.card["unlike"]
        print(
            f"warning: {unlike} images look unlike the training ones (farther than "
            f"{limit['quantile']:.0%} of held-out ones): do not trust their scores"
        )
    if model.card["verdict"] != "take":
        print("warning: the decision behind this model could not tell that it is of use")
    print(out)
