"""Parameters of notebooks and grid files: of each its type, default, allowed values and comment.

pydantic holds them: no other name, no other type, nothing changes once it is checked.
"""

import ast
import difflib
import reprlib
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from fsl_utils import StudyError

MILLION = 1_000_000


class Strict(BaseModel):
    """A map of a file or a notebook: known names alone, of the very type, finite, not changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _text(default: str, comment: str) -> Any:
    return Field(default, max_length=4096, description=comment)


def _whole(default: int, what: str, low: int = 1, high: int = MILLION) -> Any:
    return Field(default, ge=low, le=high, description=f"{what}, {low:,} to {high:,}")


def _choice(default: str, comment: str = "") -> Any:
    return Field(default, description=comment)


Classifiers = Literal[
    "finetuned",
    "probe",
    "patch_probe",
    "whitened",
    "probe_anomaly",
    "mahalanobis",
    "padim",
    "patchcore",
    "probe_first",
    "resnet18",
]


class Parameters(Strict):
    """All parameters. A notebook takes those that its first cell sets."""

    domain: str = _text("elpv", "a domain, as `fsl domains` lists them")
    rare_class: str = _text("", "a class of the domain in quotes, or '' for its default")
    folder: str = _text("", "path of your own images, for domain 'folder'")
    common_class: str = _text("", "the common class in quotes, for domain 'folder'")
    group_pattern: str = _text(
        "", "regular expression whose first group names the group, for domain 'folder'"
    )
    view: Literal["PA", "AP", "all"] = _choice("PA", "for domain 'chestxray14'")
    protocol: Literal["group", "image"] = _choice("group", "what is never split")
    image_size: int = Field(
        64, ge=16, le=1024, multiple_of=4, description="pixels, 16 to 1,024, a multiple of 4"
    )
    draw: int = _whole(0, "which draw", 0)
    n_real: int = _whole(40, "shots")
    seed: int = _whole(0, "of noise and classifier", 0)
    backbone: Literal["mini", "mini128", "sd15", "flux2-klein-4b", "flux2-dev"] = _choice("mini")
    preset: Literal["", "paper"] = _choice("", "settings of fine-tuning")
    diversity: float = Field(
        0.0, ge=0, le=1000, description="weight of DDPM-PA's losses beside the usual one; 0: none"
    )
    adapter_steps: int = _whole(400, "optimiser steps")
    mode: Literal["noise", "from_shot", "from_common", "inpaint", "mask"] = _choice("noise")
    strength: float = Field(0.6, gt=0, le=1, description="of image-to-image, above 0, up to 1")
    guidance: float = Field(1.0, ge=1, le=100, description="1 (none) to 100")
    steps: int = _whole(20, "solver steps an image", 1, 1000)
    gate: int = _whole(0, "of them without the adapter", 0, 999)
    autoguidance: float = Field(
        1.0, ge=1, le=10, description="away from earlier weights: 1 (none) to 10"
    )
    n_images: int = _whole(200, "synthetic images")
    filter_steps: int = _whole(100, "optimiser steps of the filter's network")
    measure: Literal["enet_distance", "lpips_alex", "lpips_squeeze"] = _choice("enet_distance")
    export: str = _text("", "a folder for the pool as an ImageFolder, or '' for none")
    arms: list[str] = Field(
        [
            *("real", "duplicate", "augment", "lora", "lora_filtered", "lora_augment"),
            *("synth_only", "real_more"),
        ],
        min_length=1,
        max_length=100,
        description="a list of arms of classifier/arms.py",
    )
    ratios: list[Annotated[float, Field(ge=0, le=1000)]] = Field(
        [0.5, 1.0, 2.0, 4.0, 10.0],
        min_length=1,
        max_length=100,
        description="a list of numbers, 0 to 1,000",
    )
    classifier: Classifiers = _choice("probe", "see classifier/classifiers.py")
    classifier_size: int = Field(
        64, ge=32, le=512, multiple_of=4, description="pixels that the classifier sees, 32 to 512"
    )
    classifier_channels: Literal[1, 3] = Field(1, description="1 (grey) or 3 (RGB)")
    classifier_steps: int = _whole(100, "optimiser steps, of finetuned and resnet18")
    synthetic_weight: float = Field(
        0.0, ge=0, le=1, description="share of a class's loss that made images carry; 0: by number"
    )
    init: Literal["imagenet", "scratch"] = _choice("imagenet", "scratch is for resnet18 alone")
    evaluate_on: Literal["validation", "test", "fold"] = _choice("validation")
    fold: int = Field(-1, ge=-1, le=4, description="outer fold that is test, 0 to 4; -1: none")
    open_sealed: bool = Field(False, description="True opens a sealed test partition, for good")
    device: Literal["auto", "cpu", "cuda"] = _choice("auto")
    tables: str = _text("results/quickstart/tables", "folder with cells.csv and scores.parquet")
    figures: str = _text("results/mine/figures", "folder for figures")
    details: str = _text("", "folder for tables with intervals, or '' for details/ in `figures`")
    pdf: bool = Field(False, description="True or False: figures as PDF too")
    metric: Literal["pr_auc", "pr_auc_balanced", "auroc", "f1", "recall", "precision"] = _choice(
        "pr_auc"
    )


TABLE = Parameters.model_fields
Model = TypeVar("Model", bound=Strict)

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 60


def shown(given: object) -> str:
    """A value as a message shows it: one line, cut where it is long."""
    try:
        return _REPR.repr(given)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a number of thousands of digits"


def field(name: str) -> Any:
    """A parameter as a field of another map."""
    return TABLE[name]


def default(name: str):
    """A parameter's default."""
    return TABLE[name].get_default(call_default_factory=True)


def comment(name: str) -> str:
    """What a parameter may be, in a few words."""
    choices = [repr(choice) if choice == "" else choice for choice in _choices(name)]
    return ": ".join(part for part in (", ".join(choices), TABLE[name].description) if part)


def _choices(name: str) -> tuple:
    return get_args(TABLE[name].annotation) if isinstance(default(name), str) else ()


def unknown(what: str, name: object, known) -> StudyError:
    """The error for a name that there is not, with the one that was meant or all there are."""
    near = difflib.get_close_matches(str(name), list(known), 1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
    return StudyError(f"unknown {what} {shown(name)}: {hint}")


def checked(model: type[Model], given: dict, what: str = "parameter") -> Model:
    """A map as a model. Raises StudyError for the first thing that is wrong: one line, its name,
    its value, what is expected."""
    try:
        return model(**given)
    except TypeError:
        raise StudyError(f"the names of {what}s must be words") from None
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False)[0]
    name = str(fault["loc"][0])
    if fault["type"] == "extra_forbidden":
        raise unknown(what, name, model.model_fields)
    if fault["type"] == "missing":
        raise StudyError(f"{name} is missing: {model.model_fields[name].description}")
    allowed = comment(name) if model is Parameters else model.model_fields[name].description
    raise StudyError(f"{what} {name} is {shown(given[name])}: expected {allowed}{_mend(fault)}")


def _mend(fault: ErrorDetails) -> str:
    """How a value of the wrong type is given in YAML and on papermill's command line."""
    name = fault["loc"][0]
    if fault["type"] == "list_type":
        return f"; on the command line: papermill -y '{name}: [first, second]'"
    if fault["type"] == "string_type" and len(fault["loc"]) == 1:
        return f"; quote it, on the command line: papermill -r {name} VALUE"
    if fault["type"] in ("int_type", "float_type"):
        return "; a number, without quotes"
    return ""


def value(name: str, given):
    """`given` as the parameter's type. Raises StudyError for an unknown name, type or value."""
    return getattr(checked(Parameters, {name: given}), name)


def literal(name: str, text: str):
    """A parameter from the text of a command line, taken as it stands: no and 007 are words."""
    if name not in TABLE:
        raise unknown("parameter", name, TABLE)
    try:
        return getattr(Parameters.model_validate_strings({name: text}, strict=False), name)
    except ValidationError:
        raise StudyError(f"parameter {name} is {shown(text)}: expected {comment(name)}") from None


def check(namespace: dict, cells: list[str]) -> Parameters:
    """Check a notebook's parameters: `params.check(globals(), In)` in the second code cell.

    A parameter cell begins with '# Parameters': the notebook's own, and the one papermill
    injects after it. What the second sets and the first does not know is an error, where
    papermill alone would only warn. Returns the checked values, the others at their defaults.
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
            raise unknown("parameter", name, declared)
    return checked(Parameters, {name: namespace[name] for name in declared})


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
    """'cuda' or 'cpu' for a device parameter. Raises StudyError where CUDA is not there."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise StudyError("device is 'cuda', but torch sees no CUDA device: take 'auto' or 'cpu'")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"
