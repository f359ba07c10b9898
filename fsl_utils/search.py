"""A recorded search over the settings of fine-tuning: adapters compared by what they paint, on development data.

    python -m fsl_utils.search notebooks/searches/elpv.yaml

Adapters, pools and reports go through the store: a search that was killed, or got more tries, goes on where it was.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from . import ROOT, StudyError, diversity, domains, generate, lora, params, partitions, plots, store

DEFAULTS = dict(domain="elpv", rare_class="", n_real=40, draws=[0], seed=0, n_images=100, adapter_steps=400, tries=[{}])
REPORTED = ["kid", "kid_spread", "kid_real", "copy_rate", "copy_false_alarm", "auroc_synthetic", "called_rare", "called_rare_real"]
LAST = 50  # steps whose mean loss stands for the end


def read(path: Path) -> dict:
    """A search file: any of DEFAULTS. `tries` is a list of maps of what each changes: names of lora.SETTINGS, or adapter_steps.

    Raises StudyError for an unknown name or a wrong value, before anything runs.
    """
    try:
        asked = yaml.safe_load(path.read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise StudyError(f"{path}: not a readable YAML file ({str(error).splitlines()[0]})") from error
    if not isinstance(asked, dict) or (unknown := sorted(asked.keys() - DEFAULTS.keys())):
        raise StudyError(f"{path}: unknown name '{unknown[0] if isinstance(asked, dict) else asked}': known are {', '.join(DEFAULTS)}")
    asked = DEFAULTS | asked
    for name in ("domain", "rare_class", "n_real", "seed", "n_images", "adapter_steps"):
        params.value(name, asked[name])
    if not isinstance(asked["draws"], list) or not asked["draws"] or not isinstance(asked["tries"], list) or not asked["tries"]:
        raise StudyError(f"{path}: draws and tries must be lists with something in them")
    for number in asked["draws"]:
        params.value("draw", number)
    for changed in asked["tries"]:
        if not isinstance(changed, dict):
            raise StudyError(f"{path}: the try {changed!r} is no map of settings")
        lora.settings_for(asked["domain"], _split(asked, changed)[1])
    return asked


def _split(asked: dict, changed: dict) -> tuple[int, dict]:
    """Steps and settings of a try."""
    settings = dict(changed)
    return params.value("adapter_steps", settings.pop("adapter_steps", asked["adapter_steps"])), settings


def rows(asked: dict, device: str = "cpu") -> Iterator[tuple[dict, np.ndarray]]:
    """Train, sample and judge every try on every draw, draw by draw; yields a row of the table and the images, uint8 [n, C, S, S].

    A row: what was asked, every setting, the step that was kept, the mean loss of the 50 steps before it, and of the
    pool (mode noise) what `diversity.report` says in REPORTED. All real images are of the development partition.
    """
    domain = domains.load(asked["domain"], asked["rare_class"])
    size = params.default("image_size")
    for number in asked["draws"]:
        draw = partitions.draw(domain.table, number, asked["n_real"])
        for changed in asked["tries"]:
            steps, settings = _split(asked, changed)
            for state in lora.train(domain, draw, size, asked["seed"], steps, device, settings):
                if state["step"] % 100 == 0:
                    print(f"draw {number} {words(changed)}: step {state['step']} of {steps}", file=sys.stderr, flush=True)
            adapter = lora.request(domain, draw, size, asked["seed"], steps, settings=settings)
            pool = generate.request(adapter, domain, draw, seed=asked["seed"])
            report = diversity.report(domain, draw, pool, asked["n_images"], size, device=device)
            folder = store.find("adapter", adapter)
            facts, losses = store.manifest(folder), pd.read_csv(folder / "loss.csv")["loss"]
            yield {
                "try": words(changed), "domain": domain.name, "rare_class": domain.rare_class, "n_real": asked["n_real"], "draw": number,
                "seed": asked["seed"], "adapter_steps": steps, **lora.settings_for(domain.name, settings), "kept_step": facts["kept_step"],
                "final_loss": round(losses[: facts["kept_step"]].tail(LAST).mean(), 5), **{name: report[name] for name in REPORTED},
                "train_seconds": facts["train_seconds"], "pool": report["pool"],
            }, generate.pool(pool, asked["n_images"], domain, draw, device)


def words(changed: dict) -> str:
    """A try in words: 'rank 8, zoom 1.5'; 'defaults' where nothing is changed."""
    return ", ".join(f"{name} {value}" for name, value in changed.items()) or "defaults"


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Means over the draws, a row a try in the order of the file; `called_rare` as a share of that of real rare images."""
    table = table.assign(called_rare_share=table["called_rare"] / table["called_rare_real"])
    wanted = ["final_loss", "kid", "kid_real", "copy_rate", "auroc_synthetic", "called_rare_share", "kept_step", "train_seconds"]
    return table.groupby("try", sort=False)[wanted].mean().astype(float).round(3)


def main(arguments: list[str] | None = None) -> None:
    """Run a search file: the table as <out>.csv after every try, and a sheet of synthetic images as <out>_draw<n>."""
    parser = argparse.ArgumentParser(prog="python -m fsl_utils.search", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path, help="where the table goes (default: results/searches/<file>.csv)")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args(arguments)
    out = given.out or ROOT / "results" / "searches" / f"{given.file.stem}.csv"
    found, shown = [], {}
    for row, images in rows(read(given.file), params.device(given.device)):
        found.append(row)
        shown.setdefault(row["draw"], []).append((row["try"], images[:16]))
        store.write_text(out, pd.DataFrame(found).to_csv(index=False, lineterminator="\n"))
    table = pd.DataFrame(found)
    plots.style()
    for number, lines in shown.items():
        plots.save(plots.sheet(lines), out.with_name(f"{out.stem}_draw{number}"), table.loc[table["draw"] == number, ["try", "pool"]])
    print(summary(table).to_string())


if __name__ == "__main__":
    try:
        main()
    except StudyError as error:
        sys.exit(f"error: {error}")
