"""python -m fsl_utils domains | fetch | pretrain | tune | grid | status | remake"""

import argparse
import sys
import time
from pathlib import Path

from fsl_utils import ROOT, StudyError


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code. A StudyError is one line on stderr and exit code 1."""
    parser = argparse.ArgumentParser(
        prog="python -m fsl_utils", description="Does few-shot synthetic data help a rare class?"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("domains", help="the data sets: what is at hand, how to get the rest")
    fetch = commands.add_parser("fetch", help="download a data set from its publisher")
    fetch.add_argument("domain")
    fetch.add_argument(
        "--archives", default="", help="of a data set that comes in several: which, as 1,2, or all"
    )
    pretrain = commands.add_parser(
        "pretrain",
        help="train mini's weights on the base partitions (hours; not needed: weights ship)",
    )
    pretrain.add_argument(
        "--domains",
        default="elpv,magnetic_tile,chestxray14",
        help="comma-separated; 'folder' continues from the shipped weights",
    )
    pretrain.add_argument(
        "--folder", default="", help="path of your own images, with --domains folder"
    )
    pretrain.add_argument("--rare-class", default="", help="with --domains folder")
    pretrain.add_argument("--common-class", default="", help="with --domains folder")
    pretrain.add_argument("--group-pattern", default="", help="with --domains folder")
    pretrain.add_argument(
        "--start",
        type=Path,
        default=None,
        help="weights to go on from (default: random; for a folder the shipped ones)",
    )
    pretrain.add_argument("--steps", type=_count, default=5000)
    pretrain.add_argument(
        "--out",
        type=Path,
        default=None,
        help="folder of checkpoint and weights (default: in the store)",
    )
    tune = commands.add_parser(
        "tune",
        help="fine-tune one adapter without a notebook; on several GPUs under `accelerate launch -m`",
    )
    tune.add_argument(
        "-p",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="a parameter of notebook 02",
    )
    grid = commands.add_parser("grid", help="run a grid file through the notebooks")
    grid.add_argument("file", type=Path)
    grid.add_argument(
        "--dry-run",
        action="store_true",
        help="say what would run, what is there, and what the rest will cost",
    )
    grid.add_argument(
        "--gather",
        action="store_true",
        help="run no notebook of the grid: tables and figures of what is finished",
    )
    grid.add_argument(
        "--out",
        type=Path,
        default=None,
        help="folder for tables and figures (default: results/<name>)",
    )
    grid.add_argument(
        "--add",
        action="store_true",
        help="what stands in the tables of --out is kept there and not made again, whether or not the store has it",
    )
    grid.add_argument(
        "--workers",
        type=_count,
        default=None,
        help="notebooks at a time (default: as cores, memory and the grid allow)",
    )
    grid.add_argument(
        "--threads",
        type=_count,
        default=None,
        help="threads of each (default: cores / workers; 1 on a running cluster)",
    )
    grid.add_argument(
        "--scheduler",
        default="",
        help="a running Dask cluster, as tcp://host:8786 (default: this machine)",
    )
    grid.add_argument(
        "--retries",
        type=int,
        default=0,
        help="how often a failed notebook is tried again (default: 0)",
    )
    grid.add_argument(
        "--timeout",
        type=float,
        default=6,
        help="hours that one cell of a notebook may take (default: 6)",
    )
    status = commands.add_parser("status", help="how far a grid is, whoever runs it")
    status.add_argument("file", type=Path)
    remake = commands.add_parser(
        "remake",
        help="make one published cell again and compare; with an empty FSL_STORE from nothing",
    )
    remake.add_argument("file", type=Path, help="the grid file that it is from")
    remake.add_argument(
        "cell",
        help="the first digits of its key (column 'cell' of cells.csv, 'cells' of a figure's CSV)",
    )
    remake.add_argument(
        "--tables",
        type=Path,
        default=None,
        help="folder with cells.csv and scores.parquet (default: results/<name>/tables)",
    )
    remake.add_argument(
        "--threads",
        type=_count,
        default=None,
        help="threads (default: all cores); as many as were published with give the same bits on a like machine",
    )
    arguments = parser.parse_args(argv)
    try:
        COMMANDS[arguments.command](arguments)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        kept = "interrupted: finished work is kept; run the same command again to go on"
        print(str(stop) or kept, file=sys.stderr)
        return 130
    return 0


def _domains(_) -> None:
    from fsl_utils.data import domains

    for row in domains.describe().to_dict("records"):
        print(f"{row['domain']}: {row['title']}")
        if row["status"]:
            print(f"  not at hand: {row['status']}")
        else:
            print(
                f"  {row['images']} images ({row['rare']} {row['rare_class']}, prevalence {row['prevalence']:.3f}), "
                f"{row['groups']} groups ({row['rare_groups']} with {row['rare_class']}); common: {row['common_class']}"
            )
        for note in row["notes"]:
            print(f"  note: {note}")
        for name in ("group", "source", "licence", "citation"):
            print(f"  {name}: {row[name]}")
    print("folder: your own images; see the README")


def _fetch(arguments) -> None:
    from fsl_utils.data.datasets import registry

    print(registry.fetch(arguments.domain, arguments.archives))


def _pretrain(arguments) -> None:
    from fsl_utils import store
    from fsl_utils.data import domains
    from fsl_utils.generator import mini, pretrain

    own = {
        "folder": arguments.folder,
        "common_class": arguments.common_class,
        "group_pattern": arguments.group_pattern,
    }
    names = arguments.domains.split(",")
    tasks = [
        domains.load(name, arguments.rare_class, **own) if name == "folder" else domains.load(name)
        for name in names
    ]
    start = arguments.start or (mini.SHIPPED if "folder" in names else None)
    folder = arguments.out or store.root() / (
        "pretrain-folder" if "folder" in names else "pretrain"
    )
    for row in pretrain.run(tasks, arguments.steps, folder, start):
        if "held_out" in row:
            print(
                f"step {row['step']:6d} of {arguments.steps}   loss {row['mean_loss']:.4f}   held out {row['held_out']:.4f}   {row['seconds']:.0f} s",
                flush=True,
            )
    print(f"weights: {folder / 'mini.safetensors'} (set FSL_MINI to this path to use them)")


def _tune(arguments) -> None:
    import yaml
    from accelerate import PartialState

    from fsl_utils import params
    from fsl_utils.data import tasks
    from fsl_utils.generator import finetuning
    from fsl_utils.generator.adapter import AdapterRequest
    from fsl_utils.study import grid

    known, given = (
        grid.declared(grid.STAGES["adapter"]),
        {name: yaml.safe_load(value) for name, value in arguments.p},
    )
    if unknown := sorted(given.keys() - set(known)):
        raise StudyError(f"unknown parameter '{unknown[0]}': known are {', '.join(known)}")
    p = argparse.Namespace(
        **{name: params.value(name, given.get(name, params.default(name))) for name in known}
    )
    adapter = AdapterRequest.of(tasks.of(p), p)
    for step in finetuning.train(adapter, params.device(p.device)):
        if PartialState().is_main_process and step.number % 10 == 0:
            print(
                f"step {step.number:5d} of {p.adapter_steps}   loss {step.loss:.4f}",
                flush=True,
            )
    if PartialState().is_main_process:
        print(f"by {PartialState().num_processes} process(es): {adapter.place}")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of 1 or more")
    return int(text)


def _grid(arguments) -> None:
    from fsl_utils import store
    from fsl_utils.study import engine, grid, progress

    begin = time.perf_counter()
    name, runs = grid.read(arguments.file)
    out = (arguments.out or ROOT / "results" / name).absolute()
    grid.check(runs)
    nodes, kept = grid.nodes(runs), set()
    workers, threads = engine.share(nodes)
    if arguments.add:
        from fsl_utils.study import publish

        nodes, kept = publish.missing(nodes, out)
        strangers = len(publish.standing(out) - kept)
        print(
            f"{len(kept)} cells and reports stand in {out / 'tables'} already"
            + f"; {strangers} others there are of no run of this file and leave the tables"
            * (strangers > 0)
        )
    before = ended = grid.finished(nodes)
    workers = arguments.workers or workers
    threads = arguments.threads or (
        1 if arguments.scheduler else max(1, engine.CPU_COUNT // workers)
    )
    if arguments.dry_run:
        print("\n".join(progress.plan(nodes, set(before), workers, threads)))
        return
    if len(before) < len(nodes) and not arguments.gather:
        store.sweep()
        with engine.cluster(workers, arguments.scheduler, engine.asks_gpu(nodes)) as client:
            print(
                f"{len(nodes)} notebooks, {len(before)} of them done; {workers} at a time with {threads} threads each; "
                f"dashboard: {client.dashboard_link}"
            )
            ended = progress.show(
                nodes,
                engine.run(
                    nodes,
                    client,
                    threads=threads,
                    timeout=arguments.timeout * 3600,
                    retries=arguments.retries,
                ),
            )
    _publish(out, nodes, ended, set(before.values()), kept, begin)


def _publish(out: Path, nodes: list, ended: dict, before: set, kept: set, begin: float) -> None:
    """Tables and figures of what succeeded, the summary, and the failures if there are any."""
    from fsl_utils import store
    from fsl_utils.study import progress, publish

    failures = {node: error for node in nodes if (error := progress.failure(node, ended))}
    left = len(nodes) - len(failures) - sum(isinstance(result, Path) for result in ended.values())
    for node, error in failures.items():
        print(f"failed: {node.title}: {error}", file=sys.stderr)
    folders = [ended[node] for node in nodes if isinstance(ended.get(node), Path)]
    if folders or kept:
        cells = publish.tables(folders, out, kept)
        start = time.perf_counter()
        publish.figures(out)
        _summary(
            cells,
            out,
            publish.cost(folders, before),
            time.perf_counter() - start,
            time.perf_counter() - begin,
        )
        print(f"executed notebooks: {store.root()}/run/*/*.ipynb")
    if failures:
        raise StudyError(
            f"{len(failures)} of {len(nodes)} notebooks failed and {left} could not begin for it; "
            "what is finished is kept: mend what is named above and run the same command again"
        )


def _status(arguments) -> None:
    from fsl_utils.study import grid, progress

    nodes = grid.nodes(grid.read(arguments.file)[1])
    ended = progress.states(nodes)
    for frame in progress.watch(nodes, [ended]):
        print("\n".join(progress.lines(frame)))
    for node in nodes:
        if error := progress.failure(node, ended):
            print(f"{node.title}: {error}")


def _remake(arguments) -> None:
    from fsl_utils import store
    from fsl_utils.study import engine, grid, progress, remake

    begin = time.perf_counter()
    name, runs = grid.read(arguments.file)
    cell, scores = remake.published(
        arguments.tables or ROOT / "results" / name / "tables", arguments.cell
    )
    nodes = remake.nodes(runs, cell)
    made = store.root() / "cell" / cell["cell"]
    kept = made.exists()
    print(
        f"{nodes[-1].title}: {cell['arm']} at {cell['ratio']:g}x, scored on {cell['evaluated_on']}"
    )
    with engine.cluster(1) as client:
        ended = progress.show(
            nodes, engine.run(nodes, client, threads=arguments.threads or engine.CPU_COUNT)
        )
    for node in nodes:
        if error := progress.failure(node, ended):
            raise error
    again = remake.compared(scores, made)
    print(
        f"PR-AUC published {cell['pr_auc']:.6f}, here {again['pr_auc']:.6f}: {again['pr_auc'] - cell['pr_auc']:+.6f}; "
        f"scores of {len(scores)} images differ by at most {again['score']:.1e}"
    )
    print(
        "the cell was in the store already: an empty FSL_STORE makes it from nothing"
        if kept
        else f"made in {progress.duration(time.perf_counter() - begin)}"
    )


def _summary(cells, out: Path, cost, drawing: float, total: float) -> None:
    """The ratio table, the figures, and where the time went."""
    import pandas as pd

    from fsl_utils.analysis import ratios, tables
    from fsl_utils.study import progress

    table = ratios.ratio_table(*tables.read_results(out / "tables"))
    shown = pd.DataFrame(
        {
            **{name: table[name] for name in ("domain", "classifier") if name in table},
            "arm": table["arm"],
            "ratio": table["ratio"].map(lambda r: f"{r:g}x"),
            "PR-AUC [95 % interval]": [
                f"{r.pr_auc:.3f} [{r.low:.3f}, {r.high:.3f}]" for r in table.itertuples()
            ],
            "recall": table["recall"].round(3),
            "F1": table["f1"].round(3),
            "draws": table["n_draws"],
        }
    )
    print(
        f"\nOn real {cells['evaluated_on'].iloc[0]} images (prevalence {cells['prevalence'].mean():.2f}); recall and F1 at .5:\n"
    )
    print(shown.to_string(index=False))
    for caution in table["caution"].unique():
        print(f"{caution}")
    print("\nfigures:")
    for path in sorted((out / "figures").glob("*.png")):
        print(f"  {path}")
    print()
    for row in cost.itertuples():
        hits = f", {row.hits} of {row.things} things were in the store" if row.things else ""
        print(
            f"{row.Index:8} {row.now} notebooks run, {row.before} were done; {progress.duration(row.seconds)}, "
            f"{progress.duration(row.cpu_seconds)} of processor time{hits}"
        )
    print(f"figures  {progress.duration(drawing)}")
    print(
        f"time: {progress.duration(total)} in all, {progress.duration(cost['cpu_seconds'].sum())} of processor time in the notebooks"
    )
    if cost["peak_memory"].any():
        print(f"peak memory of a notebook: {cost['peak_memory'].max() / 2**30:.1f} GiB")


COMMANDS = {
    "domains": _domains,
    "fetch": _fetch,
    "pretrain": _pretrain,
    "tune": _tune,
    "grid": _grid,
    "status": _status,
    "remake": _remake,
}

if __name__ == "__main__":
    sys.exit(main())
