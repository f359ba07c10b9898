"""How to sample, searched by what it is for: the score of a classifier that saw synthetic images.

    python -m fsl_utils.study.downstream notebooks/searches/downstream/elpv.yaml

After the search by downstream score (arXiv 2405.02698). A way to sample (guidance, solver steps,
gate) is worth what `synth_only` scores on the draws' choosing images, rare ones synthetic alone.
Optuna's TPE proposes; random search of as many trials and the defaults are its rivals. What each
takes is then scored where nothing was chosen: on the rest of validation, and on other draws.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import optuna
import pandas as pd
from pydantic import Field
from sklearn.metrics import average_precision_score

from fsl_utils import ROOT, StudyError, params
from fsl_utils.analysis import searches
from fsl_utils.classifier import cells, plan
from fsl_utils.data import domains, partitions
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.figures import style
from fsl_utils.generator import finetuning
from fsl_utils.generator.adapter import AdapterRequest
from fsl_utils.study import scripts, yaml_file

ARM = "synth_only"
RULES = ("random", "tpe")
DEFAULTS = "defaults"
PLACE = "results/mine/searches/downstream_{}"
WAY = ["steps", "gate", "guidance"]


class Downstream(params.Strict):
    """A search file. `parameters`: those of notebook 03 and 04 that hold for all of it."""

    parameters: dict = Field({}, description="a map of parameters")
    draws: list[int] = Field([0], min_length=1, description="draws that choose")
    confirm: list[int] = Field([1], min_length=1, description="draws that nothing was chosen by")
    trials: int = Field(12, ge=1, le=1000, description="of each rule, 1 to 1,000")
    ratio: float = Field(4.0, gt=0, le=1000, description="synthetic images per shot")
    guidance: list[float] = Field([1.0, 3.0], min_length=2, max_length=2, description="its range")
    steps: list[int] = Field([8, 40], min_length=2, max_length=2, description="its range")
    gate: float = Field(0.5, ge=0, lt=1, description="largest share of the steps")


def read(path: Path) -> Downstream:
    """A search file. Raises StudyError for an unknown name or a wrong value."""
    search = yaml_file.checked(path, Downstream)
    with yaml_file.named(path):
        if both := sorted(set(search.draws) & set(search.confirm)):
            raise StudyError(f"draws {both} choose and confirm: take others to confirm")
        params.checked(params.Parameters, search.parameters)
    return search


def propose(trial: optuna.Trial, search: Downstream) -> dict:
    """A way to sample."""
    steps = trial.suggest_int("steps", *search.steps)
    share = trial.suggest_float("gate", 0.0, search.gate)
    guidance = round(trial.suggest_float("guidance", *search.guidance), 2)
    return {"steps": steps, "gate": int(share * steps), "guidance": guidance}


def _sampler(rule: str, search: Downstream, seed: int) -> optuna.samplers.BaseSampler:
    """TPE begins with a third of its trials at random: with optuna's ten, a search of twelve would
    be random search."""
    if rule == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=search.trials // 3)


def choose(
    search: Downstream, score: Callable[[dict], dict], seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every trial, and what each rule takes of its own: `rule`, the way, and what `score` says.

    score: of a way, {chosen: by what is chosen, ...}. The defaults are a rule of one trial.
    """
    default = {name: params.default(name) for name in WAY}
    rows = [{"rule": DEFAULTS, **default, **score(default)}]
    for rule in RULES:
        study = optuna.create_study(direction="maximize", sampler=_sampler(rule, search, seed))
        for _ in range(search.trials):
            trial = study.ask()
            way = propose(trial, search)
            rows.append({"rule": rule, **way, **score(way)})
            study.tell(trial, rows[-1]["chosen"])
    trials = pd.DataFrame(rows)
    best = trials.groupby("rule", sort=False)["chosen"].idxmax()
    return trials, trials.loc[best].reset_index(drop=True)


def scored(search: Downstream, way: dict, draws: list[int], device: str) -> pd.DataFrame:
    """PR-AUC of `ARM` with a way to sample, a row a draw: on the choosing images (`chosen`), on the
    `rest` of validation, and on all of it (`whole`).
    """
    asked = {"arms": [ARM], "ratios": [search.ratio], "evaluate_on": "validation", **way}
    found = []
    for number in draws:
        checked = params.checked(params.Parameters, search.parameters | asked | {"draw": number})
        p = SimpleNamespace(**checked.model_dump() | {"device": device})
        domain = domains.load(p.domain, p.rare_class, p.protocol)
        task = FewShotTask(domain, partitions.draw(domain.table, number, p.n_real))
        for _ in finetuning.train(AdapterRequest.of(task, p), device):
            pass
        for _ in cells.run(task, p):
            pass
        (cell,) = plan.cells(task, p)
        table = pd.read_parquet(cell.place / "scores.parquet")
        apart = table["partition"] == "choosing"
        parts = {"chosen": table[apart], "rest": table[~apart], "whole": table}
        found.append({name: _pr_auc(part) for name, part in parts.items()})
    return pd.DataFrame(found, index=draws)


def _pr_auc(table: pd.DataFrame) -> float:
    return float(average_precision_score(table["label"], table["score"]))


def confirmed(taken: pd.DataFrame, score: Callable[[dict], pd.DataFrame]) -> pd.DataFrame:
    """What each rule takes, scored on draws that nothing was chosen by: columns rule, WAY, draw and
    pr_auc, a row a rule and draw.

    taken: as of `choose`. score: PR-AUC of a way in column `whole`, a row a draw.
    """
    parts = [
        score(way).rename_axis("draw").reset_index().assign(rule=rule, **way)
        for rule, way in zip(taken["rule"], taken[WAY].to_dict("records"), strict=True)
    ]
    return pd.concat(parts).rename(columns={"whole": "pr_auc"})[["rule", *WAY, "draw", "pr_auc"]]


def contrasts(table: pd.DataFrame) -> pd.DataFrame:
    """Each rule minus the defaults and, of equal cost, TPE minus random search, as
    `searches.beside` says it. table: as of `confirmed`; `rule` in place of try."""
    named = table.rename(columns={"rule": "try"})
    return searches.beside(named, ("pr_auc",), *RULES).rename(columns={"try": "rule"})


def main(arguments: list[str] | None = None) -> None:
    """Run a search file: all trials as <out>.csv, what each rule takes as <out>_taken.csv, on the
    other draws as <out>_confirmed.csv, beside its rivals as <out>_compared.csv."""
    parser = scripts.parser("downstream", __doc__.splitlines()[0], PLACE)
    parser.add_argument("file", type=Path, help="such as notebooks/searches/downstream/elpv.yaml")
    given = parser.parse_args(arguments)
    search, device = read(given.file), params.device(given.device)
    out = given.out or ROOT / PLACE.format(given.file.stem)
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def score(way: dict) -> dict:
        means = scored(search, way, search.draws, device).mean().to_dict()
        print(way, {name: round(value, 4) for name, value in means.items()}, file=sys.stderr)
        return means

    trials, taken = choose(search, score)
    others = confirmed(taken, lambda way: scored(search, way, search.confirm, device))
    changes = contrasts(others)
    parts = {"": trials, "_taken": taken, "_confirmed": others, "_compared": changes}
    for end, table in parts.items():
        style.save_table(out.with_name(f"{out.name}{end}"), table)
    print(changes.to_string(index=False))


if __name__ == "__main__":
    sys.exit(scripts.guarded(main))
