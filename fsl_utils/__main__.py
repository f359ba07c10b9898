"""python -m fsl_utils domains | fetch | pretrain | grid"""

import argparse
import resource
import sys
import time
from pathlib import Path

from . import ROOT, StudyError


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code. A StudyError is one line on stderr and exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m fsl_utils", description="Does few-shot synthetic data help a rare class?")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("domains", help="the data sets: what is at hand, how to get the rest")
    fetch = commands.add_parser("fetch", help="download a data set from its publisher")
    fetch.add_argument("domain")
    fetch.add_argument("--archives", default="", help="chestxray14: which of the twelve, as 1,2")
    pretrain = commands.add_parser("pretrain", help="train mini's weights on the base partitions (hours; not needed: weights ship)")
    pretrain.add_argument("--domains", default="elpv,magnetic_tile,chestxray14", help="comma-separated; 'folder' continues from the shipped weights")
    pretrain.add_argument("--folder", default="", help="path of your own images, with --domains folder")
    pretrain.add_argument("--rare-class", default="", help="with --domains folder")
    pretrain.add_argument("--common-class", default="", help="with --domains folder")
    pretrain.add_argument("--group-pattern", default="", help="with --domains folder")
    pretrain.add_argument("--steps", type=int, default=5000)
    pretrain.add_argument("--out", type=Path, default=None, help="folder of checkpoint and weights (default: in the store)")
    grid = commands.add_parser("grid", help="run a grid file through the notebooks")
    grid.add_argument("file", type=Path)
    grid.add_argument("--dry-run", action="store_true", help="say what would run and what is there")
    grid.add_argument("--out", type=Path, default=None, help="folder for tables and figures (default: results/<name>)")
    arguments = parser.parse_args(argv)
    try:
        COMMANDS[arguments.command](arguments)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: finished work is kept; run the same command again to go on", file=sys.stderr)
        return 130
    return 0


def _domains(_) -> None:
    from . import domains

    for row in domains.describe().to_dict("records"):
        print(f"{row['domain']}: {row['title']}")
        if row["status"]:
            print(f"  not at hand: {row['status']}")
        else:
            print(f"  {row['images']} images ({row['rare']} {row['rare_class']}, prevalence {row['prevalence']:.3f}), "
                  f"{row['groups']} groups ({row['rare_groups']} with {row['rare_class']}); common: {row['common_class']}")
        for note in row["notes"]:
            print(f"  note: {note}")
        for name in ("group", "source", "licence", "citation"):
            print(f"  {name}: {row[name]}")
    print("folder: your own images; see the README")


def _fetch(arguments) -> None:
    from . import fetch

    try:
        archives = tuple(int(n) for n in arguments.archives.split(",") if n)
    except ValueError:
        raise StudyError(f"--archives is '{arguments.archives}': give numbers such as 1,2") from None
    print(fetch.fetch(arguments.domain, archives))


def _pretrain(arguments) -> None:
    from . import domains, mini, pretrain, store

    own = {"folder": arguments.folder, "common_class": arguments.common_class, "group_pattern": arguments.group_pattern}
    names = arguments.domains.split(",")
    tasks = [domains.load(name, arguments.rare_class, **own) if name == "folder" else domains.load(name) for name in names]
    start = mini.SHIPPED if "folder" in names else None
    folder = arguments.out or store.root() / ("pretrain-folder" if start else "pretrain")
    for row in pretrain.run(tasks, arguments.steps, folder, start):
        if "held_out" in row:
            print(f"step {row['step']:6d} of {arguments.steps}   loss {row['mean_loss']:.4f}   held out {row['held_out']:.4f}   {row['seconds']:.0f} s", flush=True)
    print(f"weights: {folder / 'mini.safetensors'}" + (" (set FSL_MINI to this path to use them)" if start else ""))


def _grid(arguments) -> None:
    from . import grid

    name, runs = grid.read(arguments.file)
    if arguments.dry_run:
        for node in grid.nodes(runs):
            print(f"{'done  ' if grid.finished(node) else 'to run'}  {node.stage:8} {node.title}")
        return
    begin, folders, spent = time.perf_counter(), [], {}
    for row in grid.run(arguments.file):
        print(f"{row['state']:8} {row['stage']:8} {row['title']}" + (f"   {row['seconds']:.0f} s" if row["state"] == "ran" else ""), flush=True)
        if row["folder"]:
            folders.append(row["folder"])
            spent[row["stage"]] = spent.get(row["stage"], 0) + row["seconds"]
    out = (arguments.out or ROOT / "results" / name).absolute()
    start = time.perf_counter()
    cells = grid.publish(folders, out)
    spent["figures"] = time.perf_counter() - start
    _summary(cells, out, spent, time.perf_counter() - begin)
    print(f"executed notebooks: {folders[0].parent}/*/*.ipynb")


def _summary(cells, out: Path, spent: dict, total: float) -> None:
    """The ratio table, the figures, and where the time went."""
    import pandas as pd

    from . import stats

    table = stats.ratio_table(*stats.read(out / "tables"))
    shown = pd.DataFrame({
        **{name: table[name] for name in ("domain", "classifier") if name in table}, "arm": table["arm"],
        "ratio": table["ratio"].map(lambda r: f"{r:g}x"),
        "PR-AUC [95 % interval]": [f"{r.pr_auc:.3f} [{r.low:.3f}, {r.high:.3f}]" for r in table.itertuples()],
        "recall": table["recall"].round(3), "F1": table["f1"].round(3), "draws": table["n_draws"],
    })
    print(f"\nOn real {cells['evaluated_on'].iloc[0]} images (prevalence {cells['prevalence'].mean():.2f}); recall and F1 at .5:\n")
    print(shown.to_string(index=False))
    for caution in table["caution"].unique():
        print(f"{caution}")
    print("\nfigures:")
    for path in sorted((out / "figures").glob("*.png")):
        print(f"  {path}")
    print("\ntime: " + ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in spent.items()) + f"; in all {total:.0f} s")
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(f"peak memory of one process: {peak / 2**20:.1f} GiB")  # Linux counts in KiB


COMMANDS = {"domains": _domains, "fetch": _fetch, "pretrain": _pretrain, "grid": _grid}

if __name__ == "__main__":
    sys.exit(main())
