"""Few-shot fine-tuning: a LoRA adapter (Hu et al. 2021) of the backbone on one draw's shots.

The adapter holds low-rank matrices and, for mini, the embedding of the rare class; the backbone's
weights stay as they are. Under `accelerate launch` every process takes its share of each batch.
"""

import json
import math
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, reduce
from accelerate.utils.memory import should_reduce_batch_size
from peft import LoraConfig
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from scipy.stats import binom

from fsl_utils import StudyError, store
from fsl_utils.data import augmentation, images, partitions
from fsl_utils.data.datasets import readers, sheets
from fsl_utils.generator import backbones, copies, mini, regions

# What determines an adapter beside its data, part of its key. prior: share of common images in a batch (DreamBooth's
# prior preservation). shift (pixels), turn (degrees) and zoom (times): augmentation at most. defect: how much more a
# marked place weighs in the loss than any other, where masks exist (1: the same). A checkpoint is written
# every `check_every` steps; from step `check_from` on it must first pass the copy check. Chosen by results/experiments.md.
SETTINGS = dict(
    rank=64,
    alpha=64.0,
    learning_rate=2e-3,
    batch=16,
    prior=0.0,
    no_condition=0.1,
    shift=2,
    turn=0.0,
    zoom=1.0,
    defect=1.0,
    check_every=100,
    check_from=200,
)
LEAST = dict(rank=1, batch=1, zoom=1.0, check_every=1, views=1)  # the others: 0
SHARES = ("prior", "no_condition", "dropout")  # below 1
CHOICES = dict(optimiser=("adamw", "adamw8bit"), quantise=("", "nf4"))
DOMAIN_SETTINGS = {"magnetic_tile": {"defect": 5.0}}  # what a domain changes, by its name

CHECKED = 50  # images that a copy check samples, the same seeds every time
CHECK_STEPS = 20
CHECK_FIRST = 1_000_000  # number of the first of them: no pool reaches so far
ALARM = 0.01  # chance that any check of a run stops an adapter that copies no more than unseen real images seem to


def settings_for(domain: str, changed: dict | None = None, backbone: str = "mini") -> dict:
    """The settings of a domain's adapters: the common ones, the domain's own, the backbone's, then `changed`.

    Raises StudyError for an unknown name, another type or a value out of range.
    """
    found = SETTINGS | DOMAIN_SETTINGS.get(domain, {}) | backbones.settings(backbone)
    for name, value in (changed or {}).items():
        if name not in found:
            raise StudyError(
                f"unknown setting '{name}' of fine-tuning {backbone}: known are {', '.join(found)}"
            )
        if name in CHOICES and value not in CHOICES[name]:
            raise StudyError(
                f"setting {name} is {value!r}: known are {', '.join(map(repr, CHOICES[name]))}"
            )
        kind, least = type(found[name]), LEAST.get(name, 0)
        number = (
            isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        )
        if name not in CHOICES and (
            not number or kind(value) != value or value < least or name in SHARES and value >= 1
        ):
            below = " and below 1" if name in SHARES else ""
            raise StudyError(
                f"setting {name} is {value!r}: expected {kind.__name__}, at least {least}{below}"
            )
        found[name] = kind(value)
    return found


def request(
    domain,
    draw,
    image_size: int,
    seed: int,
    steps: int,
    backbone: str = "mini",
    settings: dict | None = None,
) -> dict:
    """All that determines an adapter: its key in the store is the hash of this. `settings`: those that differ from the domain's and backbone's."""
    found = settings_for(domain.name, settings, backbone)
    return {
        "backbone": backbone,
        **backbones.request(backbone, domain, image_size, found.get("quantise", "")),
        "data": domain.data_hash,
        "domain": domain.name,
        "rare_class": domain.rare_class,
        "protocol": domain.protocol,
        "image_size": image_size,
        "draw": draw.number,
        "n_real": len(draw.shots),
        "seed": seed,
        "steps": steps,
        **found,
    }


def attach(
    backbone,
    condition: int,
    rank: int = SETTINGS["rank"],
    alpha: float = SETTINGS["alpha"],
    dropout: float = 0.0,
):
    """The backbone with a fresh adapter: output unchanged; with mini the rare class begins as the row `condition`."""
    return backbone.attach(
        LoraConfig(
            r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=backbone.lora_targets
        ),
        condition,
    )


def load(backbone, folder: Path):
    """The backbone with a stored adapter, in eval mode. Raises StudyError where the two do not fit, or the file is damaged."""
    made = store.manifest(folder)["params"]
    if made["base"] != backbone.hash:
        raise StudyError(
            f"{folder}: this adapter is for {made['backbone']} with the base {made['base'][:12]}, not for {backbone.name} with "
            f"{backbone.hash[:12]}; fine-tune again with notebook 02"
        )
    try:
        with safe_open(folder / backbone.adapter_file, "pt") as file:
            ranks = {
                file.get_slice(name).get_shape()[0]
                for name in file.keys()
                if name.endswith("lora_A.weight")
            }
        if ranks != {made["rank"]}:
            raise StudyError(
                f"{folder}: the adapter's matrices have rank {', '.join(map(str, sorted(ranks)))}, its manifest says {made['rank']}; "
                "remove it and fine-tune again"
            )
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "error", message=".*missing adapter keys.*"
            )  # else they would stay random
            return backbone.load_adapter(folder)
    except (SafetensorError, RuntimeError, ValueError, OSError, UserWarning) as error:
        raise StudyError(
            f"{folder}: the adapter does not fit {backbone.name} ({str(error).splitlines()[0]}); remove it and fine-tune again"
        ) from error


def learning_rate(step: int, steps: int, highest: float = SETTINGS["learning_rate"]) -> float:
    """Short warm-up, then a cosine to zero."""
    return highest * min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / steps))


def train(
    domain,
    draw,
    image_size: int,
    seed: int,
    steps: int,
    device: str = "cpu",
    settings: dict | None = None,
    backbone: str = "mini",
) -> Iterator[dict]:
    """Fine-tune; yields {step, loss, losses, checks, backbone} after every step, and nothing if the adapter is already there.

    losses: of every step so far, also before an interruption. checks: {step, copied, of, allowed} of every copy check.
    An interrupted run resumes from its last checkpoint: batch, noise and dropout of a step come from
    (seed, step). From step `check_from` on, a checkpoint must pass the copy check; one that does not ends the run,
    and the one before it is the result (`kept_step` in the manifest). Raises StudyError where there is
    no shot, the loss is not finite, or already the first check fails.
    """
    wanted = request(domain, draw, image_size, seed, steps, backbone, settings)
    if store.find("adapter", wanted):
        return
    if not len(draw.shots):
        raise StudyError(f"draw {draw.number} has no shot: fine-tuning needs at least 1 (n_real)")
    processes = PartialState(cpu=device == "cpu")  # one, unless `accelerate launch` started more
    if processes.num_processes > wanted["batch"]:
        raise StudyError(
            f"{processes.num_processes} processes, but a batch of {wanted['batch']}: launch fewer, or set batch higher in settings"
        )
    torch.manual_seed(seed)
    backbone = backbones.load(wanted, device)
    size = backbone.image_size
    if image_size > size or backbone.name == "mini" and image_size != size:
        raise StudyError(
            f"image_size is {image_size}, but {backbone.name} paints {size} pixels: set image_size={size}"
        )
    backbone = attach(
        backbone,
        mini.condition(domain.name),
        wanted["rank"],
        wanted["alpha"],
        wanted.get("dropout", 0.0),
    )
    net = backbone.denoiser.train()
    trained = {n: p for n, p in net.named_parameters() if p.requires_grad}
    optimiser = _optimiser(trained, wanted)
    path = store.work_folder("adapter", wanted) / "checkpoint.safetensors"
    seconds, losses, checks = _resume(path, trained, optimiser)

    pixels, masks = domain.images(size), _masks(domain, draw, size, wanted)
    views = (
        _views(backbone, pixels, masks, domain, draw, wanted, range(len(losses), steps))
        if "views" in wanted
        else None
    )
    parts, rule, kept = 1, None, steps
    for step in range(len(losses), steps):
        begin = time.perf_counter()
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps, wanted["learning_rate"])
        if views is None:
            batch, cover, condition, generator = _batch(pixels, masks, domain, draw, wanted, step)
            clean = backbone.encode(batch)
        else:
            clean, cover, condition, generator = _viewed(views, domain, draw, wanted, step)
        loss, parts = _gradients(
            backbone, clean, cover, condition, generator, wanted["defect"], parts
        )
        if not math.isfinite(loss):
            raise StudyError(
                f"the loss is {loss} at step {step}: lower learning_rate in fsl_utils.generator.lora.SETTINGS ({wanted['learning_rate']})"
            )
        torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
        optimiser.step()
        losses.append(loss)

        due, passed = (step + 1) % wanted["check_every"] == 0, True
        if step + 1 >= wanted["check_from"] and (due or step + 1 == steps):
            rule = rule or copies.rule(domain, draw, image_size, unseen=draw.common)
            found = _check(backbone, wanted, rule, domain, draw)
            checks.append(
                {"step": step + 1, **broadcast_object_list([found])[0]}
            )  # one verdict for all processes
            passed = checks[-1]["copied"] <= checks[-1]["allowed"]
        seconds += time.perf_counter() - begin
        if due and passed and processes.is_main_process:
            _save(path, seconds, losses, checks, trained, optimiser)
        yield {
            "step": step + 1,
            "loss": loss,
            "losses": losses,
            "checks": checks,
            "backbone": backbone,
        }
        if not passed:
            if len(checks) == 1:
                raise StudyError(
                    f"{checks[0]['copied']} of {CHECKED} images are copies at step {step + 1} already ({checks[0]['allowed']} may seem so): "
                    f"train on more shots (n_real {len(draw.shots)}) or with a lower learning_rate ({wanted['learning_rate']})"
                )
            processes.wait_for_everyone()
            kept = len(_resume(path, trained, optimiser)[1])
            print(
                f"stopped at step {step + 1}: {checks[-1]['copied']} of {CHECKED} images are copies ({checks[-1]['allowed']} may seem so); "
                f"step {kept} is kept"
            )
            break

    def build(folder):
        backbone.save_adapter(folder)
        (folder / "loss.csv").write_text(
            "step,loss\n" + "".join(f"{i + 1},{v:.6f}\n" for i, v in enumerate(losses))
        )
        return {
            "train_seconds": round(seconds, 1),
            "kept_step": kept,
            "checks": checks,
            "parts": parts,
        }

    processes.wait_for_everyone()
    store.make("adapter", wanted, build, device=device)
    path.unlink(missing_ok=True)


def _masks(domain, draw, size: int, wanted: dict) -> np.ndarray:
    """Pixel masks of the shots, uint8 [n, 1, S, S], white on the defect; black where there are none or no setting asks for them."""
    if not regions.has_masks(domain) or wanted["defect"] == 1 and wanted["zoom"] == 1:
        return np.zeros((len(draw.shots), 1, size, size), np.uint8)
    return images.read_all(
        [readers.mask_path(path) for path in domain.table["path"].iloc[draw.shots]],
        size,
        1,
        progress=False,
    )


def _batch(
    pixels: np.ndarray, masks: np.ndarray, domain, draw, wanted: dict, step: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Generator]:
    """The batch of a step, augmented: images uint8 [N, C, S, S], their masks uint8 [N, 1, S, S], condition [N], and a generator for the rest.

    Shots come first, then the share `prior` of common training images under their own condition, so that the rare class must differ from them.
    """
    shots, rows, condition, rng, generator = _picked(domain, draw, wanted, step)
    cover = np.concatenate(
        [masks[shots], np.zeros((len(rows) - len(shots), *masks.shape[1:]), np.uint8)]
    )
    both = _augmented(
        torch.from_numpy(np.concatenate([pixels[rows], cover], axis=1)), domain, wanted, generator
    )
    return both[:, :-1], both[:, -1:], condition, generator


def _picked(domain, draw, wanted: dict, step: int):
    """What a step is made of: shots (places in draw.shots, [n]), rows of the domain's table [N] (theirs first), condition [N], generators."""
    rng = np.random.default_rng([wanted["seed"], step])
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    n = wanted["batch"]
    n_rare = max(1, n - round(wanted["prior"] * n))
    shots = rng.integers(len(draw.shots), size=n_rare)
    rows = np.concatenate([draw.shots[shots], rng.choice(draw.common, n - n_rare)])
    condition = np.repeat([mini.RARE, mini.condition(domain.name)], [n_rare, n - n_rare])
    condition = np.where(rng.random(n) < wanted["no_condition"], mini.NULL, condition)
    return shots, rows, torch.from_numpy(condition), rng, generator


def _augmented(both: torch.Tensor, domain, wanted: dict, generator) -> torch.Tensor:
    """Images with their mask as last channel, uint8 [N, C + 1, S, S]: a mask moves with its image."""
    both = augmentation.flips_and_shifts(
        both, sheets.SHEETS[domain.name].flips, wanted["shift"], generator
    )
    return augmentation.turn_and_zoom(both, wanted["turn"], wanted["zoom"], generator, both[:, -1:])


def _views(
    backbone, pixels: np.ndarray, masks: np.ndarray, domain, draw, wanted: dict, steps
) -> dict:
    """(row, view) -> latents [c, h, w] and the mask there [1, h, w] of all that the steps ask for, each image encoded once.

    A large backbone's encoder takes about as long as a training step. So an image has not a new augmentation at every
    step but one of `views`, each drawn by (seed, row, view).
    """
    asked = sorted({key for step in steps for key in _keys(domain, draw, wanted, step)[0]})
    cover = dict(zip(draw.shots.tolist(), masks))
    found = {}
    for start in range(0, len(asked), backbone.batch):
        some = asked[start : start + backbone.batch]
        both = torch.cat(
            [
                _augmented(
                    torch.from_numpy(
                        np.concatenate([pixels[row], cover.get(row, np.zeros_like(masks[0]))])[None]
                    ),
                    domain,
                    wanted,
                    torch.Generator().manual_seed(
                        int(partitions.generator("view", wanted["seed"], row, view).integers(2**62))
                    ),
                )
                for row, view in some
            ]
        )
        clean = backbone.encode(both[:, :-1])
        found |= zip(
            some, zip(clean, F.adaptive_avg_pool2d(both[:, -1:].float(), clean.shape[-2:]))
        )
    return found


def _keys(domain, draw, wanted: dict, step: int):
    """(row, view) of each image of a step, its condition [N], and a generator for the rest."""
    _, rows, condition, rng, generator = _picked(domain, draw, wanted, step)
    return (
        list(zip(rows.tolist(), rng.integers(wanted["views"], size=len(rows)).tolist())),
        condition,
        generator,
    )


def _viewed(views: dict, domain, draw, wanted: dict, step: int):
    """As `_batch`, of images that are encoded already: latents [N, c, h, w] in place of pixels."""
    keys, condition, generator = _keys(domain, draw, wanted, step)
    clean, cover = zip(*(views[key] for key in keys))
    return torch.stack(clean), torch.stack(cover), condition, generator


def _gradients(
    backbone, clean, masks, condition, generator, defect: float, parts: int
) -> tuple[float, int]:
    """Fill in the gradients of the batch's mean loss; returns it and the number of parts that fitted into memory.

    Out of memory: the batch is taken in twice as many parts, whose gradients add up to its own: images, noise and
    noise levels stay those of the whole, only dropout is drawn anew.
    """
    start = generator.get_state()
    while True:
        generator.set_state(start)
        try:
            loss = _backward(backbone, clean, masks, condition, generator, defect, parts)
            break
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and not should_reduce_batch_size(error):
                raise
        if parts >= len(clean):
            raise backbones.out_of_memory(backbone.name)
        parts *= 2
        print(f"out of memory: going on with each batch of {len(clean)} in {parts} parts")
    if PartialState().num_processes > 1:
        for parameter in backbone.denoiser.parameters():
            if parameter.requires_grad:
                parameter.grad = reduce(parameter.grad, "sum")
        loss = reduce(torch.tensor(loss, device=backbone.device), "sum").item()
    return loss, parts


def _backward(backbone, clean, masks, condition, generator, defect: float, parts: int) -> float:
    """Gradients and loss of this process's share of the batch, in parts."""
    backbone.denoiser.zero_grad(set_to_none=True)
    torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))  # dropout
    device = backbone.device.type
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        weight = None if defect == 1 else _weight(masks, clean, defect)
        start, n, total = generator.get_state(), len(clean), 0.0
        share = np.array_split(np.arange(n), PartialState().num_processes)[
            PartialState().process_index
        ]
        for part in np.array_split(share, min(parts, len(share))):
            generator.set_state(start)
            loss = (
                backbone.loss(
                    clean,
                    condition.to(clean.device),
                    generator,
                    weight,
                    slice(part[0], part[-1] + 1),
                ).sum()
                / n
            )
            loss.backward()
            total += loss.item()
    return total


def _weight(masks: torch.Tensor, clean: torch.Tensor, defect: float) -> torch.Tensor:
    """Weight of each place of the latents [N, c, h, w] in the loss, [N, 1, h, w] of mean 1 in each image: `defect` to 1 by the
    share of it that the mask covers. A crack is under 1 % of a tile, so of a plain loss (cf. DefectFill, Song et al. 2025)."""
    cover = F.adaptive_avg_pool2d(masks.to(clean).div(255), clean.shape[-2:])
    weight = 1 + (defect - 1) * cover
    return weight / weight.mean(dim=(2, 3), keepdim=True)


def _check(backbone, wanted: dict, rule: copies.Rule, domain, draw) -> dict:
    """Sample and count copies: {copied, of, allowed}, on images of no pool.

    More than `allowed` are copied with a chance of at most ALARM in a whole run, if single images are called so as often
    as unseen real ones are: a binomial quantile at the rule's false-alarm rate, ALARM shared among the checks (Bonferroni).
    """
    from fsl_utils.generator import sampling  # which itself loads adapters with this module

    asked = sampling.request(wanted, domain, draw, steps=CHECK_STEPS, seed=wanted["seed"])
    backbone.denoiser.eval()
    made = sampling.sample(backbone, asked, range(CHECK_FIRST, CHECK_FIRST + CHECKED), domain, draw)
    backbone.denoiser.train()
    looks = -(-wanted["steps"] // wanted["check_every"])
    allowed = binom.ppf(1 - ALARM / looks, CHECKED, np.fmax(copies.QUANTILE, rule.false_alarm))
    return {
        "copied": int(copies.judge(made, rule).nearest["copied"].sum()),
        "of": CHECKED,
        "allowed": int(allowed),
    }


def _optimiser(trained: dict, wanted: dict):
    """AdamW, or with `optimiser` 'adamw8bit' that of bitsandbytes, whose state takes a quarter of the memory (Dettmers et al. 2022)."""
    kind = torch.optim.AdamW
    if wanted.get("optimiser") == "adamw8bit":
        try:
            from bitsandbytes.optim import AdamW8bit as kind
        except ImportError as error:
            raise StudyError(
                "optimiser 'adamw8bit' needs bitsandbytes: pip install 'fsl-utils[large]', or set optimiser='adamw' in settings"
            ) from error
    return kind(trained.values(), lr=wanted["learning_rate"], weight_decay=0.0)


def _save(
    path: Path, seconds: float, losses: list[float], checks: list[dict], trained: dict, optimiser
) -> None:
    tensors = {}
    for name, parameter in trained.items():
        tensors[name] = parameter
        tensors |= {
            f"{name}:{key}": value
            for key, value in optimiser.state[parameter].items()
            if key != "step"
        }
    tensors = {
        k: v.detach().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()
    }  # bitsandbytes shares its tables
    metadata = {"history": json.dumps([seconds, losses, checks])}
    store.write_whole(path, lambda partial: save_file(tensors, partial, metadata=metadata))


def _resume(path: Path, trained: dict, optimiser) -> tuple[float, list[float], list[dict]]:
    """Load a checkpoint; returns seconds spent, losses and checks. Without one, or with a damaged one: (0, [], [])."""
    try:
        with safe_open(path, "pt") as file:
            seconds, losses, checks = json.loads(file.metadata()["history"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (FileNotFoundError, SafetensorError):
        return 0.0, [], []
    for name, parameter in trained.items():
        parameter.data.copy_(tensors[name])
        state = {
            key.removeprefix(f"{name}:"): value.to(parameter.device)
            for key, value in tensors.items()
            if key.startswith(f"{name}:")
        }
        # Copied into the parameter's own memory layout, else the last bits differ from an unbroken run's.
        state = {
            key: torch.empty_like(parameter, dtype=v.dtype).copy_(v)
            if v.shape == parameter.shape
            else v
            for key, v in state.items()
        }
        done = len(losses)
        optimiser.state[parameter] = {
            "step": torch.tensor(float(done)) if isinstance(optimiser, torch.optim.AdamW) else done,
            **state,
        }
    return seconds, losses, checks
