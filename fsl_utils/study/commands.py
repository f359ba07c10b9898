"""What the commands of `fsl` do; their arguments are in __main__. Imports are each command's own:
`grid` and `status` start without torch."""

import sys
import time
from pathlib import Path

from fsl_utils import ROOT, StudyError, files


def domains(_) -> None:
    """The data sets: what is at hand, how to get the rest."""
    from fsl_utils.data import domains as datasets

    print("enough to start: elpv, which comes with the package, or a folder of your own images")
    for row in datasets.describe().to_dict("records"):
        print(f"{row['domain']}: {row['title']}")
        if row["status"]:
            print(f"  not at hand: {row['status']}")
        else:
            print(
                f"  {row['images']} images ({row['rare']} {row['rare_class']}, "
                f"prevalence {row['prevalence']:.3f}), {row['groups']} groups "
                f"({row['rare_groups']} with {row['rare_class']}); common: {row['common_class']}"
            )
        for note in row["notes"]:
            print(f"  note: {note}")
        for name in ("group", "source", "licence", "citation"):
            print(f"  {name}: {row[name]}")
    print("folder: your own images; see notebooks/README.md")


def fetch(arguments) -> None:
    """Download a data set."""
    from fsl_utils.data.datasets import registry

    print(registry.fetch(arguments.domain, arguments.archives))


def pretrain(arguments) -> None:
    """Train mini's weights on base partitions."""
    from fsl_utils import store
    from fsl_utils.data import domains as datasets
    from fsl_utils.data.corpora import CORPORA
    from fsl_utils.generator import backbones, mini_weights
    from fsl_utils.generator import pretrain as training

    own = {
        "folder": arguments.folder,
        "common_class": arguments.common_class,
        "group_pattern": arguments.group_pattern,
    }
    names = arguments.domains.split(",")
    tasks = [
        datasets.load(name, arguments.rare_class, **own)
        if name == "folder"
        else datasets.load(name)
        for name in names
    ]
    kind = backbones.MINIS[arguments.backbone]
    start = arguments.start or (mini_weights.in_use(kind) if "folder" in names else None)
    own_name = f"pretrain-{kind.name}{'-folder' * ('folder' in names)}"
    folder = arguments.out or store.root() / own_name
    corpora = CORPORA if arguments.corpora else ()
    draw = arguments.draw if arguments.source == "draw" else None
    run = training.run(tasks, arguments.steps, folder, start, kind=kind, corpora=corpora, draw=draw)
    for row in run:
        if "held_out" in row:
            print(
                f"step {row['step']:6d} of {arguments.steps}   loss {row['mean_loss']:.4f}   "
                f"held out {row['held_out']:.4f}   {row['seconds']:.0f} s",
                flush=True,
            )
    path, variable = folder / f"{kind.name}.safetensors", mini_weights.variable(kind.name)
    print(f"weights: {path} (set {variable} to this path to use them)")


def tune(arguments) -> None:
    """Fine-tune one adapter."""
    from accelerate import PartialState

    from fsl_utils import params
    from fsl_utils.data import tasks
    from fsl_utils.generator import finetuning
    from fsl_utils.generator.adapter import AdapterRequest
    from fsl_utils.study import grid, notebooks

    known, given = notebooks.declared(grid.STAGES["adapter"]), {}
    for name, text in arguments.p:
        if name not in known:
            raise params.unknown("parameter", name, known)
        if name in given:
            raise StudyError(f"parameter {name} is given twice")
        given[name] = params.literal(name, text)
    p = params.checked(params.Parameters, given)
    adapter = AdapterRequest.of(tasks.of(p), p)
    for step in finetuning.train(adapter, params.device(p.device)):
        if PartialState().is_main_process and step.number % 10 == 0:
            print(f"step {step.number:5d} of {p.adapter_steps}   loss {step.loss:.4f}", flush=True)
    if PartialState().is_main_process:
        print(f"by {PartialState().num_processes} process(es): {adapter.place}")


def grid(arguments) -> None:
    """Run a grid file through the notebooks, then tables and figures."""
    from fsl_utils.study import engine, progress
    from fsl_utils.study import grid as grids
    from fsl_utils.study.runs import finished

    begin = time.perf_counter()
    name, runs = grids.read(arguments.file)
    nodes, kept = grids.nodes(runs), set()
    workers, threads = engine.share(nodes)
    workers = arguments.workers or workers
    share = 1 if arguments.scheduler else max(1, engine.CPU_COUNT // workers)
    threads = arguments.threads or share
    if arguments.dry_run and (absent := grids.absent(runs)):
        print("\n".join(progress.plan(nodes, set(), workers, threads)))
        print(f"not at hand: {', '.join(absent)} (`fsl fetch`); what of it is done is not known")
        return
    for domain in grids.check(runs):
        domain.print_notes()
    out = (arguments.out or ROOT / "results" / "mine" / name).absolute()
    if arguments.add:
        nodes, kept = _standing(nodes, out, arguments.replace or arguments.dry_run)
    before = ended = finished(nodes)
    if arguments.dry_run:
        print("\n".join(progress.plan(nodes, set(before), workers, threads)))
        return
    _writable(out, linked=arguments.out is not None)
    if len(before) < len(nodes) and not arguments.gather:
        ended = _run(nodes, len(before), arguments, workers, threads)
    failures = {node: error for node in nodes if (error := progress.failure(node, ended))}
    for node, error in failures.items():
        print(f"failed: {node.title}: {error}", file=sys.stderr)
    folders = [ended[node] for node in nodes if isinstance(ended.get(node), Path)]
    if folders or kept or arguments.gather:
        _publish(arguments, out, folders, kept, set(before.values()), begin)
    if failures:
        left = len(nodes) - len(failures) - len(folders)
        raise StudyError(
            f"{len(failures)} of {len(nodes)} notebooks failed and {left} could not begin for it; "
            "what is finished is kept: mend what is named above and run the same command again"
        )


def _standing(nodes: list, out: Path, replace: bool) -> tuple[list, set[str]]:
    """Those nodes whose results do not stand in out/tables yet, and the keys that stay there."""
    from fsl_utils.study import publish

    nodes, kept = publish.missing(nodes, out)
    others = len(publish.standing(out) - kept)
    print(f"{len(kept)} cells and reports stand in {out / 'tables'} already")
    if others and not replace:
        raise StudyError(
            f"{others} others there are of no run of this file: let them go with --replace, "
            "name the whole grid, or take another --out"
        )
    return nodes, kept


def _writable(out: Path, linked: bool) -> None:
    """Make the folder of tables and figures. Raises StudyError where it cannot be written to, or
    is a link that nobody named."""
    for path in () if linked else (out, out / "tables", out / "figures"):
        if not path.resolve().is_relative_to((ROOT / "results").resolve()):
            raise StudyError(f"{path} is a link to {path.resolve()}: say where with --out")
    files.writable(out)


def _run(nodes: list, done: int, arguments, workers: int, threads: int) -> dict:
    """What became of each node."""
    from fsl_utils import store
    from fsl_utils.study import engine, progress

    store.sweep()
    if arguments.scheduler.startswith("tcp://"):
        print(
            f"warning: {arguments.scheduler} asks nobody who he is: whoever reaches it can run "
            "code as you; see 'A cluster' in notebooks/grids/README.md",
            file=sys.stderr,
        )
    with engine.cluster(workers, arguments.scheduler, engine.asks_gpu(nodes)) as client:
        print(
            f"{len(nodes)} notebooks, {done} of them done; "
            f"{workers} at a time with {threads} threads each"
        )
        states = engine.run(
            nodes,
            client,
            threads=threads,
            timeout=arguments.timeout * 3600,
            retries=arguments.retries,
        )
        try:
            return progress.show(nodes, states)
        except KeyboardInterrupt:
            engine.interrupt()
            raise


def _publish(arguments, out: Path, folders: list, kept: set, before: set, begin: float) -> None:
    """Tables and figures of what is finished; where the time went, the answer, what is next."""
    from fsl_utils import store
    from fsl_utils.study import publish, summary

    cells = publish.tables(folders, out, kept, arguments.replace)
    publish.figures(out)
    print(f"\nexecuted notebooks: {store.root() / 'run'}\nfigures: {out / 'figures'}")
    lines = [
        *summary.times(publish.cost(folders, before), time.perf_counter() - begin),
        "",
        *summary.results(out, cells),
        *summary.answer(out),
        *summary.following(cells, arguments.file),
    ]
    print("\n".join(lines))


def status(arguments) -> None:
    """How far a grid is, from the store alone."""
    from fsl_utils.study import grid as grids
    from fsl_utils.study import progress

    nodes = grids.nodes(grids.read(arguments.file)[1])
    ended = progress.states(nodes)
    for frame in progress.watch(nodes, [ended]):
        print("\n".join(progress.lines(frame)))
    for node in nodes:
        if error := progress.failure(node, ended):
            print(f"{node.title}: {error}")


def remake(arguments) -> None:
    """Make one published cell again and compare."""
    from fsl_utils import store
    from fsl_utils.study import engine, progress
    from fsl_utils.study import grid as grids
    from fsl_utils.study import remake as again

    begin = time.perf_counter()
    name, runs = grids.read(arguments.file)
    tables = arguments.tables or ROOT / "results" / name / "tables"
    cell, scores = again.published(tables, arguments.cell)
    nodes = again.nodes(runs, cell)
    place = store.root() / "cell" / cell["cell"]
    kept = place.exists()
    print(
        f"{nodes[-1].title}: {cell['arm']} at {cell['ratio']:g}x, scored on {cell['evaluated_on']}"
    )
    with engine.cluster(1) as client:
        states = engine.run(nodes, client, threads=arguments.threads or engine.CPU_COUNT)
        ended = progress.show(nodes, states)
    for node in nodes:
        if error := progress.failure(node, ended):
            raise error
    here = again.compared(scores, place)
    print(
        f"PR-AUC published {cell['pr_auc']:.6f}, here {here['pr_auc']:.6f}: "
        f"{here['pr_auc'] - cell['pr_auc']:+.6f}; "
        f"scores of {len(scores)} images differ by at most {here['score']:.1e}"
    )
    print(
        "the cell was in the store already: an empty FSL_STORE makes it from nothing"
        if kept
        else f"made in {progress.duration(time.perf_counter() - begin)}"
    )


def decide(arguments) -> None:
    """From a folder of images to a decision."""
    from fsl_utils.study import deciding

    deciding.decide(arguments)


def predict(arguments) -> None:
    """Score new images with the classifier of a decision."""
    from fsl_utils.study import deciding

    deciding.predict(arguments)
