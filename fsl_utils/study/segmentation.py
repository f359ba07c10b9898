"""Do the masks of a pool teach where the defect is? `classifier.segmentation` over many draws.

    python -m fsl_utils.study.segmentation pv_cracks --draws 10

The pool is `mini128`'s by mode `mask`, the images those of validation. Adapters and pools go
through the store, and draws that stand in the table are not scored again.
"""

import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pandas as pd

from fsl_utils import ROOT, StudyError, params, store
from fsl_utils.analysis import searches
from fsl_utils.classifier import plan, segmentation
from fsl_utils.data import domains, partitions
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.figures import style
from fsl_utils.generator import finetuning
from fsl_utils.generator.adapter import AdapterRequest
from fsl_utils.study import scripts

IMAGES = 50  # of the pool, and of drawn marks
MEASURES = ("dice", "pixel_ap")
SETTING = {"backbone": "mini128", "image_size": 128, "mode": "mask", "adapter_steps": 350}
PLACE = "results/mine/segmentation/{}"
RIVAL = "drawn"  # costs nothing


def rows(asked: dict, draws: int, done: pd.DataFrame, device: str) -> Iterator[pd.DataFrame]:
    """The rows of `segmentation.compare` of each draw, with its pool; those in `done` as they are.

    asked: parameters of the notebooks that differ from their defaults and SETTING.
    """
    checked = params.checked(params.Parameters, SETTING | asked)
    p = SimpleNamespace(**checked.model_dump() | {"device": device})
    domain = domains.load(p.domain, p.rare_class)
    setting = {"domain": p.domain, "rare_class": domain.rare_class, "n_real": p.n_real}
    for number in range(draws):
        task = FewShotTask(domain, partitions.draw(domain.table, number, p.n_real))
        pool = plan.pools(task, p)["rare"]
        known = done[done["pool"] == pool.key]
        if len(known):
            yield known
            continue
        for step in finetuning.train(AdapterRequest.of(task, p), device):
            if step.number % 100 == 0:
                print(f"draw {number}: step {step.number}", file=sys.stderr, flush=True)
        compared = segmentation.compare(pool, IMAGES)
        yield compared.assign(**setting, pool=pool.key)


def contrasts(table: pd.DataFrame) -> pd.DataFrame:
    """Every arm minus the shots alone, and what has a pool minus RIVAL, as `searches.beside` says
    it; `arm` in place of try."""
    named = table.rename(columns={"arm": "try"})
    return searches.beside(named, MEASURES, RIVAL, "synthetic").rename(columns={"try": "arm"})


def main(arguments: list[str] | None = None) -> None:
    """Write <out>.csv after every draw, and <out>_compared.csv."""
    parser = scripts.parser("segmentation", __doc__.splitlines()[0], PLACE)
    parser.add_argument("domain", help="such as pv_cracks; it has masks")
    parser.add_argument("--shots", type=int, default=params.default("n_real"))
    parser.add_argument("--draws", type=int, default=10)
    given = parser.parse_args(arguments)
    out = given.out or ROOT / PLACE.format(given.domain)
    table = out.with_name(f"{out.name}.csv")
    done = pd.read_csv(table) if table.is_file() else pd.DataFrame(columns=["pool"])
    if "pool" not in done:
        raise StudyError(f"{table} is not a table of this command: take another --out")
    asked = {"domain": given.domain, "n_real": given.shots}
    parts = []
    for part in rows(asked, given.draws, done, params.device(given.device)):
        parts.append(part)
        # Every digit: contrasts of a table that was read again are those of its first run.
        store.write_text(table, pd.concat(parts).to_csv(index=False, lineterminator="\n"))
    changes = contrasts(pd.concat(parts, ignore_index=True))
    style.save_table(out.with_name(f"{out.name}_compared"), changes)
    print(changes.to_string(index=False))


if __name__ == "__main__":
    sys.exit(scripts.guarded(main))
