"""Statistics and figures from 1,000 simulated cells: `python tests/benchmarks/bench_stats.py`.

Prints wall and processor seconds of reading, resampling and each figure; 60 s in all at most.
"""

import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))
import simulate

from fsl_utils.analysis import contrasts, curves, ratios, resampling, tables
from fsl_utils.figures import lines, result_tables, style, table
from fsl_utils.figures import results as result_figures

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
            rows = curves.levels(study)
            style.save(
                lines.curve(rows, contrasts.gains(study, "duplicate")),
                folder / "curve",
                rows,
            )
        with timed("panels"):
            style.save(lines.arms(rows), folder / "panels", rows)
        with timed("forest"):
            rows = contrasts.against_controls(study)
            style.save(result_figures.forest(rows), folder / "forest", rows)
        with timed("slopes"):
            rows = curves.slopes(study, ("lora_filtered", 4.0), ("real", 0.0))
            style.save(result_figures.slopes(rows), folder / "slopes", rows)
        with timed("PR curves"):
            rows = curves.precision_over_recall(
                part, scores, [("real", 0.0), ("duplicate", 4.0), ("lora_filtered", 4.0)]
            ).assign(prevalence=0.3)
            style.save(lines.precision_over_recall(rows), folder / "pr", rows)
        with timed("exchange rate"):
            rows = pd.concat(
                [
                    ratios.worth_in_images(study, arm)
                    for arm in ("duplicate", "lora", "lora_filtered")
                ]
            )
            style.save(lines.worth(rows), folder / "exchange", rows)
        with timed("regret"):
            ratios.regret(part, scores, "lora_filtered")
        with timed("table"):
            rows = contrasts.study_table(part, scores)
            table.save(folder / "table", result_tables.study(rows), rows)
    print(f"in all {sum(spent.values()):.0f} s wall")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
