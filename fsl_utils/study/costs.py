"""What a grid will cost: the mean of finished runs in this store, else a shipped table."""

from collections import defaultdict
from itertools import islice

from fsl_utils import StudyError, store
from fsl_utils.study import grid

# Core-seconds (seconds times threads) and bytes of a run, measured on two cores by `make study`.
SHIPPED = {
    "adapter mini at 64": (244.0, 18e6),
    "pool mini at 64": (108.0, 27e6),
    "cells probe at 64": (60.0, 10e6),
    "cells resnet18 at 64": (252.0, 10e6),
    "report mini at 64": (48.0, 3e6),
}
LATEST = 500  # finished runs looked at
OWN = {"adapter": "adapter", "pool": "pool", "cells": "cell", "report": "report"}


def kind(stage: str, parameters: dict) -> str:
    """Runs of one kind are taken to cost the same."""
    what = parameters["classifier" if stage == "cells" else "backbone"]
    return f"{stage} {what} at {parameters['image_size']}"


def measured() -> dict[str, tuple[float, float]]:
    """Core-seconds and bytes of a run by kind: SHIPPED, and in its place what was measured here.

    Only runs count that made all of their own results and found none in the store.
    """
    stages = {notebook: stage for stage, notebook in grid.STAGES.items()}
    seen = defaultdict(list)
    for folder in islice((store.root() / "run").glob("*"), LATEST):
        try:
            record = store.manifest(folder)
            stage = stages[record["params"]["notebook"]]
            own = {thing for thing in record["things"] if thing.startswith(OWN[stage] + "/")}
            if own and own <= set(record["made"]):
                cost = record["seconds"] * record["node_threads"], record["made_bytes"]
                seen[kind(stage, record["params"]["parameters"])].append(cost)
        except (StudyError, KeyError):
            continue  # a run of another kind (notebook 06), or one that is just being replaced
    means = {
        name: tuple(sum(part) / len(costs) for part in zip(*costs)) for name, costs in seen.items()
    }
    return SHIPPED | means


def of(node: grid.Node, table: dict) -> tuple[float, float]:
    """Core-seconds and bytes of a node; (0, 0) of a kind that `table` does not know."""
    return table.get(kind(node.stage, node.values), (0.0, 0.0))


def unknown(nodes: list[grid.Node], table: dict) -> list[str]:
    """Kinds of runs that were never measured."""
    return sorted({kind(node.stage, node.values) for node in nodes} - set(table))


def wall(nodes: list[grid.Node], table: dict, workers: int, threads: int) -> float:
    """Seconds that `nodes` take: their work shared by all workers, and no less than the longest
    chain of nodes that need one another."""
    left, ends = set(nodes), {}
    for node in nodes:  # in an order in which what is needed comes first
        needs = (ends[needed] for needed in node.needs if needed in left)
        ends[node] = of(node, table)[0] / threads + max(needs, default=0)
    work = sum(of(node, table)[0] for node in nodes)
    return max(max(ends.values(), default=0), work / (workers * threads))
