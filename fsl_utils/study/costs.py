"""What a grid will cost: measured seconds and bytes of finished runs, and a shipped table where nothing was measured yet.

A run's work is counted in units (an optimiser step, a solver step of an image, a notebook of probes); a unit's cost is the mean
over the finished runs in this store that made all of their own things, in core-seconds (seconds times threads).
Each run counts by its work: a try-out of two steps, nearly all start, says little about two hundred.
"""

import json
from itertools import islice

from fsl_utils import StudyError, store
from fsl_utils.classifier import arms
from fsl_utils.study import grid

# Measured on two cores (make study): core-seconds and bytes a unit.
SHIPPED = {
    "adapter mini": (2 * 122 / 400, 18e6 / 400),  # an optimiser step
    "pool mini": (
        2 * 54 / 8_000,
        27e6 / 8_000,
    ),  # one solver step of one image, with its features and verdicts
    "cells probe": (
        2 * 30,
        1e7,
    ),  # a notebook: nearly all of it is start and features, whatever the arms
    "cells resnet18": (2 * 126 / 600, 127),  # an optimiser step at 64 x 64 pixels
    "report mini": (2 * 24, 3e6),  # a report
}
STEP = 64 * 64  # pixels of the image that a ResNet step is counted in
LATEST = 500  # finished runs looked at


def units(node: grid.Node) -> dict[str, float]:
    """Units of work of a node, by kind. Pools of common images are made in notebook 04 and counted there; those of the backbone
    alone are not counted, since all draws share one."""
    v = node.values
    if node.stage == "adapter":
        return {f"adapter {v['backbone']}": v["adapter_steps"]}
    if node.stage == "pool":
        return {f"pool {v['backbone']}": v["n_images"] * v["steps"]}
    if node.stage == "report":
        return {f"report {v['backbone']}": 1}
    planned = grid.planned(v)
    scale = (
        len(planned) * v["classifier_steps"] * v["image_size"] ** 2 / STEP
        if v["classifier"] == "resnet18"
        else 1
    )
    work = {f"cells {v['classifier']}": scale}
    common = [ratio for name, ratio in planned if "common" in arms.get(name).source.pools]
    if common:
        work[f"pool {v['backbone']}"] = max(common) * v["n_real"] * v["steps"]
    return work


def measured() -> dict[str, tuple[float, float]]:
    """Core-seconds and bytes a unit by kind: SHIPPED, and in its place what was measured in this store."""
    seen = {}
    for folder in islice((store.root() / "run").glob("*"), LATEST):
        try:
            record = store.manifest(folder)
            stage = {notebook: stage for stage, notebook in grid.STAGES.items()}[
                record["params"]["notebook"]
            ]
            own = {thing for thing in record["things"] if thing.startswith(stage.rstrip("s"))}
            work = units(
                grid.Node(
                    stage,
                    tuple((k, json.dumps(v)) for k, v in record["params"]["parameters"].items()),
                )
            )
            if own and own <= set(record["made"]) and len(work) == 1:
                [(kind, amount)] = work.items()
                seen.setdefault(kind, []).append(
                    (record["seconds"] * record["node_threads"], record["made_bytes"], amount)
                )
        except (StudyError, KeyError):
            continue  # a run of another kind (notebook 06), or one that is just being replaced
    sums = {kind: [sum(values) for values in zip(*rows)] for kind, rows in seen.items()}
    return SHIPPED | {
        kind: (seconds / work, size / work) for kind, (seconds, size, work) in sums.items()
    }


def of(node: grid.Node, table: dict) -> tuple[float, float]:
    """Core-seconds and bytes of a node. What `table` does not know counts nothing: see `unknown`."""
    costs = [(amount, table[kind]) for kind, amount in units(node).items() if kind in table]
    return sum(n * seconds for n, (seconds, _) in costs), sum(n * size for n, (_, size) in costs)


def unknown(nodes: list[grid.Node], table: dict) -> list[str]:
    """Kinds of work that were never measured."""
    return sorted({kind for node in nodes for kind in units(node)} - set(table))


def wall(nodes: list[grid.Node], table: dict, workers: int, threads: int) -> float:
    """Seconds that `nodes` take: their work shared by all workers, and no less than the longest chain of nodes that need one another."""
    left, ends = set(nodes), {}
    for node in nodes:  # in an order in which what is needed comes first
        ends[node] = of(node, table)[0] / threads + max(
            (ends[needed] for needed in node.needs if needed in left), default=0
        )
    return max(
        max(ends.values(), default=0),
        sum(of(node, table)[0] for node in nodes) / (workers * threads),
    )
