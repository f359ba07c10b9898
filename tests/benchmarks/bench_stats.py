"""Statistics and figures from 1,000 simulated cells: run it with `python tests/benchmarks/bench_stats.py`.

Prints wall and processor seconds of reading, resampling and each figure; the promise is 60 s in all.
"""

import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))
import simulate  # noqa: E402

from fsl_utils.analysis import contrasts, curves, ratios, resampling, tables
from fsl_utils.figures import results as result_figures
from fsl_utils.figures import style
from fsl_utils.figures import table as table_files  # noqa: E402

matplotlib.use("Agg")
spent = {}


@contextmanager
def timed(what: str):
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    spent[what] = spent.get(what, 0) + wall
    print(f"{what:28} {wall:6.1f} s wall {cpu:6.1f} s processor", flush=True)


def main(folder: Path) -> None:
    parts = [simulate.study(domain, draws=11) for domain in ("elpv", "tiles")]
    cells, scores = (pd.concat(both, ignore_index=True) for both in zip(*parts))
    simulate.write(folder, cells, scores)
    print(f"{len(cells)} cells, {len(scores)} scores")
    style.apply()
    with timed("read and check"):
        cells, scores = tables.read_results(folder)
    with timed("ratio table"):
        ratios.ratio_table(cells, scores)
    for part in tables.split_studies(cells):
        with timed("resample"):
            study = resampling.resample(part, scores)
        with timed("curve and gains"):
            table = curves.levels(study)
            style.save(
                result_figures.curve(table, gains=contrasts.gains(study, "duplicate")),
                folder / "curve",
                table,
            )
        with timed("panels"):
            style.save(result_figures.panels(table), folder / "panels", table)
        with timed("forest"):
            table = contrasts.against_controls(study)
            style.save(result_figures.forest(table), folder / "forest", table)
        with timed("slopes"):
            table = curves.slopes(study, ("lora_filtered", 4.0), ("real", 0.0))
            style.save(result_figures.paired_slopes(table), folder / "slopes", table)
        with timed("PR curves"):
            table = curves.precision_over_recall(
                part, scores, [("real", 0.0), ("duplicate", 4.0), ("lora_filtered", 4.0)]
            )
            style.save(result_figures.pr_curves(table, 0.3), folder / "pr", table)
        with timed("exchange rate"):
            table = pd.concat(
                [
                    ratios.worth_in_images(study, arm)
                    for arm in ("duplicate", "lora", "lora_filtered")
                ]
            )
            style.save(result_figures.exchange_rate(table), folder / "exchange", table)
        with timed("regret"):
            ratios.regret(part, scores, "lora_filtered")
        with timed("table"):
            table_files.save(folder / "table", contrasts.study_table(part, scores))
    print(f"in all {sum(spent.values()):.0f} s wall")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
