"""A recorded search over settings of fine-tuning and ways to sample: pools compared, on development data.

    python -m fsl_utils.search notebooks/searches/elpv.yaml

Adapters, pools and reports go through the store: a search that was killed, or got more tries, goes on where it was.
With `halve` the worse half of the tries is dropped after each draw (successive halving, Jamieson & Talwalkar 2016).
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from fsl_utils import ROOT, StudyError, params, store
from fsl_utils.data import domains, partitions
from fsl_utils.data.datasets import registry
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.figures import sheets, style
from fsl_utils.generator import finetuning, sampling, settings
from fsl_utils.generator.adapter import AdapterRequest
from fsl_utils.generator.sampling import PoolRequest
from fsl_utils.pools import reports

DEFAULTS = dict(
    domain="elpv",
    rare_class="",
    n_real=40,
    draws=[0],
    seed=0,
    n_images=100,
    adapter_steps=400,
    halve=False,
    tries=[{}],
)
SAMPLING = ("mode", "strength", "guidance", "steps")
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
]
RARE_ENOUGH = 0.8  # of the share of held-out real rare images that is called rare
LAST = 50  # steps whose mean loss stands for the end


def read(path: Path) -> dict:
    """A search file: any of DEFAULTS. `tries` is a list of maps of what each changes: fields of settings.FineTuning, adapter_steps, or how to sample
    (SAMPLING). halve: drop the worse half after each draw.

    Raises StudyError for an unknown name or a wrong value, before anything runs.
    """
    try:
        asked = yaml.safe_load(path.read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise StudyError(
            f"{path}: not a readable YAML file ({str(error).splitlines()[0]})"
        ) from error
    if not isinstance(asked, dict) or (unknown := sorted(asked.keys() - DEFAULTS.keys())):
        raise StudyError(
            f"{path}: unknown name '{unknown[0] if isinstance(asked, dict) else asked}': known are {', '.join(DEFAULTS)}"
        )
    asked = DEFAULTS | asked
    for name in ("domain", "rare_class", "n_real", "seed", "n_images", "adapter_steps"):
        params.value(name, asked[name])
    if not isinstance(asked["halve"], bool):
        raise StudyError(f"{path}: halve is {asked['halve']!r}: expected true or false")
    if (
        not isinstance(asked["draws"], list)
        or not asked["draws"]
        or not isinstance(asked["tries"], list)
        or not asked["tries"]
    ):
        raise StudyError(f"{path}: draws and tries must be lists with something in them")
    for number in asked["draws"]:
        params.value("draw", number)
    for changed in asked["tries"]:
        if not isinstance(changed, dict):
            raise StudyError(f"{path}: the try {changed!r} is no map of settings")
        settings.of(asked["domain"], **_split(asked, changed)[1])
    return asked


def _split(asked: dict, changed: dict) -> tuple[int, dict, dict]:
    """Steps and settings of a try's fine-tuning, and its ways to sample."""
    tuning = dict(changed)
    steps = params.value("adapter_steps", tuning.pop("adapter_steps", asked["adapter_steps"]))
    how = {name: params.value(name, tuning.pop(name, params.default(name))) for name in SAMPLING}
    return steps, tuning, how


def rows(asked: dict, device: str = "cpu") -> Iterator[tuple[dict, np.ndarray]]:
    """Train, sample and judge tries draw by draw, on each draw those that are still in; yields a row of the table and the images without those called copies, uint8 [n, C, S, S].

    A row: what was asked, every setting, the step that was kept, the mean loss of the 50 steps before it, and of the
    pool what `reports.report` says in REPORTED. All real images are of the development partition.
    """
    domain = domains.load(asked["domain"], asked["rare_class"])
    size, tries, judged = params.default("image_size"), asked["tries"], defaultdict(list)
    for number in asked["draws"]:
        task = FewShotTask(domain, partitions.draw(domain.table, number, asked["n_real"]))
        for changed in tries:
            steps, tuning, how = _split(asked, changed)
            adapter = AdapterRequest.new(task, steps, asked["seed"], size, **tuning)
            for step in finetuning.train(adapter, device):
                if step.number % 100 == 0:
                    print(
                        f"draw {number} {words(changed)}: step {step.number} of {steps}",
                        file=sys.stderr,
                        flush=True,
                    )
            pool = PoolRequest.of(adapter, seed=asked["seed"], **how)
            base = PoolRequest.alone(adapter, seed=asked["seed"], **how)
            report = reports.report(
                reports.ReportRequest(pool, asked["n_images"], size, base), device
            )
            folder = adapter.find()
            judged[words(changed)].append(
                (report["called_rare"] / report["called_rare_real"], report["kid"])
            )
            facts, losses = store.manifest(folder), pd.read_csv(folder / "loss.csv")["loss"]
            copied = reports.details(report)[1]["copied"].to_numpy()
            yield (
                {
                    "try": words(changed),
                    "domain": domain.name,
                    "rare_class": domain.rare_class,
                    "n_real": asked["n_real"],
                    "draw": number,
                    "seed": asked["seed"],
                    "adapter_steps": steps,
                    **asdict(adapter.settings),
                    **how,
                    "kept_step": facts["kept_step"],
                    "final_loss": round(losses[: facts["kept_step"]].tail(LAST).mean(), 5),
                    **{name: report[name] for name in REPORTED},
                    "train_seconds": facts["train_seconds"],
                    "pool": report["pool"],
                },
                sampling.images_of(pool, asked["n_images"], device)[~copied],
            )
        if asked["halve"]:
            tries = better_half(
                tries, {name: tuple(np.mean(found, axis=0)) for name, found in judged.items()}
            )


def better_half(tries: list[dict], judged: dict[str, tuple[float, float]]) -> list[dict]:
    """The first try, which the others are compared with, and the best half of all (rounded down), in their order.

    judged: of each try, in words, the share called rare over that of real rare images, and KID. Least KID is best among
    those that are called rare often enough (RARE_ENOUGH): plain common images can have a low KID too.
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
    """Means over a try's draws, a row a try in the order of the file; `called_rare` as a share of that of real rare images.
    Tries that saw other draws are not to be compared: `draws` counts them."""
    table = table.assign(called_rare_share=table["called_rare"] / table["called_rare_real"])
    wanted = [
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
    return tries[wanted].mean().astype(float).round(3).assign(draws=tries.size())


def main(arguments: list[str] | None = None) -> None:
    """Run a search file: the table as <out>.csv after every try, and a sheet of synthetic images as <out>_draw<n>."""
    parser = argparse.ArgumentParser(
        prog="python -m fsl_utils.study.search", description=__doc__.splitlines()[0]
    )
    parser.add_argument("file", type=Path)
    parser.add_argument(
        "--out", type=Path, help="where the table goes (default: results/searches/<file>.csv)"
    )
    parser.add_argument("--device", default="auto")
    given = parser.parse_args(arguments)
    out = given.out or ROOT / "results" / "searches" / f"{given.file.stem}.csv"
    found, shown = [], {}
    for row, images in rows(read(given.file), params.device(given.device)):
        found.append(row)
        # Modes other than noise keep much of a real image.
        if row["mode"] == "noise" or registry.get(row["domain"]).shown:
            called = f"called copies and left out: {row['copy_rate']:.0%}; of unseen real images {row['copy_false_alarm']:.1%}"
            shown.setdefault(row["draw"], []).append((f"{row['try']} ({called})", images[:32]))
        store.write_text(out, pd.DataFrame(found).to_csv(index=False, lineterminator="\n"))
    table = pd.DataFrame(found)
    style.apply()
    for number, lines in shown.items():
        style.save(
            sheets.sheet(lines),
            out.with_name(f"{out.stem}_draw{number}"),
            table.loc[table["draw"] == number, ["try", "pool"]],
        )
    print(summary(table).to_string())


if __name__ == "__main__":
    try:
        main()
    except StudyError as error:
        sys.exit(f"error: {error}")
