"""Are images that cover the shots better images? `python tests/benchmarks/bench_covering.py OUT`

For every draw of notebooks/grids/covering.yaml the set of `lora_covering` at 1x beside the first as
many of the pool (`lora`), by the independent judge: KID to unseen real rare images, told apart from
them, called rare, copies, mean distance of two images. Writes OUT (a row a task, draw and arm) and
OUT_compared (what covering changes, over draws), and prints the latter.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch

from fsl_utils import ROOT
from fsl_utils.analysis import searches
from fsl_utils.classifier import arms, covering, features, judge, plan
from fsl_utils.classifier.material import Material
from fsl_utils.data import partitions
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.figures import style
from fsl_utils.generator import copies, sampling
from fsl_utils.pools import distances, measures
from fsl_utils.study import grid

GRID = ROOT / "notebooks" / "grids" / "covering.yaml"


def judged(run: dict) -> list[dict]:
    """A row an arm of one run."""
    domain, p = grid.task(run), SimpleNamespace(**run)
    task = FewShotTask(domain, partitions.draw(domain.table, p.draw, p.n_real))
    material = Material(task, p, plan.cells(task, p), "cpu").through(features.View())
    looked = arms.get("lora_covering").source.candidates(task.n_real)
    shots = material.real()[task.draw.shots]
    chosen = covering.choose(shots, material.pool("rare", looked), task.n_real)
    pool, unseen = material.pools["rare"], copies.held_out(task)
    images = sampling.images_of(pool, looked, "cpu")
    seen = features.of_pool(images, pool.key, sampling.CHUNK, "cpu", judge.VIEW)
    real = features.of_domain(domain, p.image_size, ("development",), "cpu", judge.VIEW)
    rule = copies.rule(task, p.image_size)
    rows = []
    for arm, kept in (("lora", np.arange(task.n_real)), ("lora_covering", chosen)):
        called, _ = measures.called_rare(seen[kept], real, task.draw)
        vectors = distances.enet_distance().embed(images[kept])
        rows.append(
            {
                **{name: run[name] for name in ("domain", "n_real", "draw")},
                "try": arm,
                "distance_synthetic_synthetic": distances.mean_apart(vectors),
                "called_rare": called,
                "kid": measures.kid(seen[kept], real[unseen], pool.seed)[0],
                "auroc_synthetic": measures.told_apart(
                    seen[kept], None, real[unseen], task.draw.groups[unseen], pool.seed
                ),
                "copy_rate": copies.judge(images[kept], rule, None).rate,
            }
        )
    return rows


def main(out: str) -> None:
    torch.set_num_threads(1)
    runs = [run for run in grid.read(GRID)[1] if run["classifier"] == "probe"]
    table = pd.DataFrame([row for run in runs for row in judged(run)])
    changes = pd.concat(
        [
            searches.compared(part).assign(domain=domain)
            for domain, part in table.groupby("domain", sort=False)
        ]
    )
    style.save_table(Path(out), table)
    style.save_table(Path(f"{out}_compared"), changes)
    print(changes.to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
