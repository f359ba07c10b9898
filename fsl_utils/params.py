"""Notebook parameters: one name, type, default and check each, the same in every notebook and grid file."""

import ast
from types import SimpleNamespace

from fsl_utils import StudyError

# name: (type, default, check, what is allowed). A list type holds values of its element type.
TABLE = {
    "domain": (str, "elpv", None, "a domain"),
    "rare_class": (str, "", None, "a class of the domain, '' for its default"),
    "folder": (str, "", None, "path of your own images, for domain 'folder'"),
    "common_class": (str, "", None, "the common class, for domain 'folder'"),
    "group_pattern": (
        str,
        "",
        None,
        "regular expression whose first group names the group, for domain 'folder'",
    ),
    "view": (str, "PA", {"PA", "AP", "all"}, "PA, AP or all, for domain 'chestxray14'"),
    "protocol": (str, "group", {"group", "image"}, "group or image"),
    "image_size": (
        int,
        64,
        lambda v: 16 <= v <= 1024 and v % 4 == 0,
        "pixels, 16 to 1024, a multiple of 4",
    ),
    "draw": (int, 0, lambda v: v >= 0, ">= 0"),
    "n_real": (int, 40, lambda v: v >= 1, ">= 1"),
    "seed": (int, 0, lambda v: v >= 0, ">= 0"),
    "backbone": (
        str,
        "mini",
        {"mini", "sd15", "flux2-klein-4b", "flux2-dev"},
        "mini, sd15, flux2-klein-4b or flux2-dev",
    ),
    "preset": (
        str,
        "",
        {"", "paper"},
        "'' or paper: settings of fine-tuning, see fsl_utils.generator.settings.PRESETS",
    ),
    "adapter_steps": (int, 400, lambda v: v >= 1, ">= 1"),
    "mode": (
        str,
        "noise",
        {"noise", "from_shot", "from_common", "inpaint"},
        "noise, from_shot, from_common or inpaint",
    ),
    "strength": (float, 0.6, lambda v: 0 < v <= 1, "in (0, 1]"),
    "guidance": (float, 1.0, lambda v: v >= 1, ">= 1 (1 is none)"),
    "steps": (int, 20, lambda v: 1 <= v <= 1000, "1 to 1000"),
    "n_images": (int, 200, lambda v: v >= 1, ">= 1"),
    "filter_steps": (int, 200, lambda v: v >= 1, ">= 1"),
    "measure": (
        str,
        "enet_distance",
        {"enet_distance", "lpips_alex", "lpips_squeeze"},
        "enet_distance, lpips_alex or lpips_squeeze",
    ),
    "export": (str, "", None, "a folder for the pool as an ImageFolder, '' for none"),
    "arms": (
        [str],
        ["real", "duplicate", "lora", "synth_only"],
        lambda v: len(v) > 0,
        "arms of fsl_utils.classifier.arms.ARMS",
    ),
    "ratios": (
        [float],
        [0.5, 1, 2, 4, 10, 20],
        lambda v: len(v) > 0 and min(v) >= 0,
        "ratios >= 0",
    ),
    "classifier": (str, "probe", {"probe", "resnet18"}, "probe or resnet18"),
    "classifier_steps": (int, 300, lambda v: v >= 1, ">= 1"),
    "init": (str, "imagenet", {"scratch", "imagenet"}, "scratch or imagenet"),
    "evaluate_on": (str, "validation", {"validation", "test"}, "validation or test"),
    "device": (str, "auto", {"auto", "cpu", "cuda"}, "auto, cpu or cuda"),
    "tables": (str, "results/quickstart/tables", None, "folder with cells.csv and scores.parquet"),
    "figures": (str, "results/quickstart/figures", None, "folder for figures"),
    "metric": (
        str,
        "pr_auc",
        {"pr_auc", "pr_auc_balanced", "auroc", "f1", "recall", "precision"},
        "a metric of cells.csv",
    ),
}


def default(name: str):
    """A parameter's default."""
    return TABLE[name][1]


def value(name: str, given):
    """`given` as the parameter's type. Raises StudyError naming an unknown parameter, a wrong type or value."""
    if name not in TABLE:
        raise StudyError(f"unknown parameter '{name}': known are {', '.join(TABLE)}")
    kind, _, check, allowed = TABLE[name]
    asked = given
    if isinstance(kind, list):
        fits = isinstance(given, list) and all(_is(v, kind[0]) for v in given)
        given = [kind[0](v) for v in given] if fits else given
    else:
        fits = _is(given, kind)
        given = kind(given) if fits else given
    if fits and check is not None:
        fits = given in check if isinstance(check, set) else check(given)
    if not fits:
        word = f"a list of {kind[0].__name__}" if isinstance(kind, list) else kind.__name__
        raise StudyError(f"parameter {name} is {asked!r}: expected {word}, {allowed}")
    return given


def _is(given, kind: type) -> bool:
    if kind is float:
        return (
            isinstance(given, (int, float))
            and not isinstance(given, bool)
            and abs(given) < float("inf")
        )
    return isinstance(given, kind) and not isinstance(given, bool)


def check(namespace: dict, cells: list[str]) -> SimpleNamespace:
    """Check a notebook's parameters; call it as `params.check(globals(), In)` in the second code cell.

    A parameter cell begins with '# Parameters': the notebook's own, and the one papermill
    injects after it. What the second sets and the first does not know is an error, where
    papermill alone would only warn. Returns the checked values.
    """
    marked = [
        names_set(source) for source in cells if source.lstrip().lower().startswith("# parameters")
    ]
    if not marked:
        raise StudyError(
            "no cell begins with '# Parameters': run the first cell of the notebook first"
        )
    declared = marked[0]
    for name in (n for later in marked[1:] for n in later):
        if name not in declared:
            raise StudyError(
                f"unknown parameter '{name}': this notebook takes {', '.join(declared)}"
            )
    return SimpleNamespace(**{name: value(name, namespace[name]) for name in declared})


def names_set(source: str) -> list[str]:
    """Names that a cell of plain assignments sets, in order."""
    return [
        t.id
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
        for t in node.targets
        if isinstance(t, ast.Name)
    ]


def device(name: str) -> str:
    """'cuda' or 'cpu' for a device parameter. Raises StudyError where CUDA is asked for and not there."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise StudyError("device is 'cuda', but torch sees no CUDA device: take 'auto' or 'cpu'")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"
