"""A recorded search over settings of fine-tuning and ways to sample, on development data.

    python -m fsl_utils.study.search notebooks/searches/elpv.yaml

Adapters, pools and reports go through the store: a search that was killed, or got more tries, goes
on where it was. With `halve` the worse half of the tries is dropped after each draw (successive
halving, Jamieson & Talwalkar 2016).
"""

import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from fsl_utils import ROOT, params, store
from fsl_utils.analysis import searches
from fsl_utils.data import domains, partitions
from fsl_utils.data.datasets import registry
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.figures import sheets, style
from fsl_utils.generator import finetuning, sampling, settings
from fsl_utils.generator.adapter import AdapterRequest
from fsl_utils.generator.sampling import PoolRequest
from fsl_utils.pools import reports
from fsl_utils.study import scripts, yaml_file

SAMPLING = ("mode", "strength", "guidance", "steps", "gate", "autoguidance")
REPORTED = [
    "kid",
    "kid_spread",
    "kid_real",
    "kid_base",
    "copy_rate",
    "copy_false_alarm",
    "auroc_synthetic",
    "called_rare",
    "called_rare_real",
    "distance_synthetic_synthetic",
    "distance_real_across",
]
RARE_ENOUGH = 0.8  # of the share of held-out real rare images that is called rare
PLACE = "results/mine/searches/{}.csv"
ACROSS = 1024  # pixels of a sheet, the largest image_size: images at full size
LAST = 50  # steps whose mean loss stands for the end


class Search(params.Strict):
    """A search file. `tries` says what each changes: fields of settings.FineTuning, adapter_steps,
    or how to sample (SAMPLING). `halve`: drop the worse half after each draw."""

    domain: str = params.field("domain")
    rare_class: str = params.field("rare_class")
    n_real: int = params.field("n_real")
    seed: int = params.field("seed")
    backbone: str = params.field("backbone")
    image_size: int = params.field("image_size")
    adapter_steps: int = params.field("adapter_steps")
    n_images: int = Field(100, ge=1, le=10_000, description="a whole number, 1 to 10,000")
    draws: list[int] = Field([0], min_length=1, description="a list of draws")
    halve: bool = Field(False, description="true or false")
    tries: list[dict[str, Any]] = Field(
        [{}], min_length=1, description="a list of maps of settings"
    )

    def split(self, changed: dict) -> tuple[int, dict, dict]:
        """Steps and settings of a try's fine-tuning, and its ways to sample."""
        tuning = dict(changed)
        steps = params.value("adapter_steps", tuning.pop("adapter_steps", self.adapter_steps))
        how = {
            name: params.value(name, tuning.pop(name, params.default(name))) for name in SAMPLING
        }
        return steps, tuning, how


def read(path: Path) -> Search:
    """A search file. Raises StudyError for an unknown name or a wrong value."""
    search = yaml_file.checked(path, Search)
    with yaml_file.named(path):
        for number in search.draws:
            params.value("draw", number)
        for changed in search.tries:
            settings.of(search.domain, search.backbone, **search.split(changed)[1])
    return search


def rows(search: Search, device: str = "cpu") -> Iterator[tuple[dict, np.ndarray]]:
    """Train, sample and judge the tries that are still in, draw by draw; yields a row of the table
    and the images without those called copies, uint8 [n, C, S, S].

    All real images are of the development partition.
    """
    domain = domains.load(search.domain, search.rare_class)
    tries, judged = search.tries, defaultdict(list)
    for number in search.draws:
        task = FewShotTask(domain, partitions.draw(domain.table, number, search.n_real))
        for changed in tries:
            row, images = _row(search, task, changed, device)
            judged[row["try"]].append((row["called_rare"] / row["called_rare_real"], row["kid"]))
            yield row, images
        if search.halve:
            means = {name: tuple(np.mean(pairs, axis=0)) for name, pairs in judged.items()}
            tries = better_half(tries, means)


def _row(search: Search, task: FewShotTask, changed: dict, device: str) -> tuple[dict, np.ndarray]:
    """One try on one draw: every setting, the step that was kept, the mean loss of the 50 steps
    before it, and of the pool what its report says in REPORTED."""
    steps, tuning, how = search.split(changed)
    size, number = search.image_size, task.draw.number
    adapter = AdapterRequest.new(task, steps, search.seed, size, search.backbone, **tuning)
    for step in finetuning.train(adapter, device):
        if step.number % 100 == 0:
            text = f"draw {number} {words(changed)}: step {step.number} of {steps}"
            print(text, file=sys.stderr, flush=True)
    pool = PoolRequest.of(adapter, seed=search.seed, **how)
    base = PoolRequest.alone(adapter, seed=search.seed, **how)
    report = reports.report(reports.ReportRequest(pool, search.n_images, size, base), device)
    folder = adapter.find()
    facts, losses = store.manifest(folder), pd.read_csv(folder / "loss.csv")["loss"]
    row = {
        "try": words(changed),
        "domain": task.domain.name,
        "rare_class": task.domain.rare_class,
        "n_real": search.n_real,
        "draw": number,
        "seed": search.seed,
        "adapter_steps": steps,
        **asdict(adapter.settings),
        **how,
        "kept_step": facts["kept_step"],
        "final_loss": round(losses[: facts["kept_step"]].tail(LAST).mean(), 5),
        **{name: report[name] for name in REPORTED},
        "train_seconds": facts["train_seconds"],
        "pool": report["pool"],
    }
    copied = reports.details(report)[1]["copied"].to_numpy()
    return row, sampling.images_of(pool, search.n_images, device)[~copied]


def better_half(tries: list[dict], judged: dict[str, tuple[float, float]]) -> list[dict]:
    """The first try, which the others are compared with, and the best half of all (rounded down),
    in their order.

    judged: of each try, in words, the share called rare over that of real rare images, and KID.
    Least KID is best among those that are called rare often enough (RARE_ENOUGH): plain common
    images can have a low KID too.
    """

    def rank(changed):
        share, kid = judged[words(changed)]
        return share < RARE_ENOUGH, kid

    best = sorted(tries, key=rank)[: len(tries) // 2]
    return [changed for changed in tries if changed is tries[0] or changed in best]


def words(changed: dict) -> str:
    """A try in words: 'rank 8, mode inpaint'; 'defaults' where nothing is changed."""
    return ", ".join(f"{name} {value}" for name, value in changed.items()) or "defaults"


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Means over a try's draws, a row a try in the order of the file; `called_rare` as a share of
    that of real rare images. Tries that saw other draws are not to be compared: `draws` counts."""
    table = table.assign(called_rare_share=table["called_rare"] / table["called_rare_real"])
    columns = [
        "final_loss",
        "kid",
        "kid_real",
        "kid_base",
        "copy_rate",
        "auroc_synthetic",
        "called_rare_share",
        "kept_step",
        "train_seconds",
    ]
    tries = table.groupby("try", sort=False)
    return tries[columns].mean().astype(float).round(3).assign(draws=tries.size())


def main(arguments: list[str] | None = None) -> None:
    """Run a search file: the table as <out>.csv after every try, what each try changes as
    <out>_compared.csv, a sheet of synthetic images of each draw as <out>_draw<n>."""
    parser = scripts.parser("search", __doc__.splitlines()[0], PLACE)
    parser.add_argument("file", type=Path, help="such as notebooks/searches/elpv.yaml")
    given = parser.parse_args(arguments)
    out = given.out or ROOT / PLACE.format(given.file.stem)
    search, done, shown = read(given.file), [], defaultdict(list)
    for row, images in rows(search, params.device(given.device)):
        done.append(row)
        # Other modes keep much of a real image.
        if row["mode"] in sampling.FROM_NOISE or registry.get(row["domain"]).shown:
            called = (
                f"called copies and left out: {row['copy_rate']:.0%}; "
                f"of unseen real images {row['copy_false_alarm']:.1%}"
            )
            shown[row["draw"]].append((f"{row['try']} ({called})", images[:32]))
        store.write_text(out, pd.DataFrame(done).to_csv(index=False, lineterminator="\n"))
    table = pd.DataFrame(done)
    style.apply()
    for number, lines in shown.items():
        style.save(
            sheets.sheet(lines, per_row=ACROSS // search.image_size),
            out.with_name(f"{out.stem}_draw{number}"),
            table.loc[table["draw"] == number, ["try", "pool"]],
        )
    changes = searches.compared(table)
    if len(changes):
        style.save_table(out.with_name(f"{out.stem}_compared"), changes)
    print(summary(table).to_string())


if __name__ == "__main__":
    sys.exit(scripts.guarded(main))
