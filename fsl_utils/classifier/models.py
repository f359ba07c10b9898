"""The two classifiers: `probe` (logistic regression on frozen features) and `resnet18`."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torchvision.models import ResNet18_Weights, resnet18
from torchvision.ops import sigmoid_focal_loss

from fsl_utils import StudyError
from fsl_utils.data import augmentation

PROBE = dict(C=0.003)
RESNET = dict(batch=64, learning_rate=1e-3, weight_decay=0.01, shift=4, focal_gamma=2.0)


def fit_probe(
    features: np.ndarray, labels: np.ndarray, reference: np.ndarray
) -> tuple[StandardScaler, LogisticRegression]:
    """Logistic regression with pos_weight = common / rare of the mixed set.

    features [N, D], labels [N]. `reference` [M, D]: the draw's real training images; they set the
    scale of the features and the sum of the weights, so that the penalty is the same in every arm.
    """
    n_rare = labels.sum()
    weight = np.where(labels == 1, (len(labels) - n_rare) / n_rare, 1.0)
    weight *= len(reference) / weight.sum()
    scaler = StandardScaler().fit(reference)
    model = LogisticRegression(C=PROBE["C"], max_iter=2000)
    return scaler, model.fit(scaler.transform(features), labels, sample_weight=weight)


def score_probe(
    fitted: tuple[StandardScaler, LogisticRegression], features: np.ndarray
) -> np.ndarray:
    """Probability of the rare class, float64 [N]."""
    scaler, model = fitted
    return model.predict_proba(scaler.transform(features))[:, 1]


def new_resnet(init: str, seed: int) -> torch.nn.Module:
    """torchvision's ResNet-18 with one logit, from `scratch` or `imagenet` weights.

    Raises StudyError where the ImageNet weights cannot be had: nothing falls back in silence.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if init == "scratch":
            return resnet18(num_classes=1)
        try:
            model = resnet18(weights=ResNet18_Weights.IMAGENET1K_V1)
        except (OSError, RuntimeError) as error:
            raise StudyError(
                f"the ImageNet weights of ResNet-18 cannot be fetched ({error}): "
                "set init='scratch', or put "
                f"{ResNet18_Weights.IMAGENET1K_V1.url.rsplit('/', 1)[-1]} into "
                f"{torch.hub.get_dir()}/checkpoints"
            ) from error
        model.fc = torch.nn.Linear(model.fc.in_features, 1)
        return model


def to_input(images: torch.Tensor) -> torch.Tensor:
    """uint8 [N, 1 or 3, H, W] -> normalised float [N, 3, H, W], channels last, as ImageNet weights
    expect.
    """
    transform = ResNet18_Weights.IMAGENET1K_V1.transforms()
    mean, std = (
        torch.tensor(v, device=images.device)[:, None, None]
        for v in (transform.mean, transform.std)
    )
    pixels = (images.float().div(255).expand(-1, 3, -1, -1) - mean) / std
    return pixels.contiguous(memory_format=torch.channels_last)


def train_resnet(
    images: torch.Tensor,
    labels: torch.Tensor,
    arm,
    *,
    steps: int,
    seed: int,
    init: str,
    flips: str,
    weights: torch.Tensor | None = None,
    device: str = "cpu",
) -> Iterator[dict]:
    """Train on uint8 images [N, C, H, W] and labels [N] for `steps` of 64; yields {step, loss,
    model}.

    weights: of each image in its class's loss, [N] (None: all the same). AdamW under a one-cycle
    rate; the last step is the result. Arms that share a seed start from the same weights.
    """
    model = new_resnet(init, seed).to(device, memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=RESNET["learning_rate"], weight_decay=RESNET["weight_decay"]
    )
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, RESNET["learning_rate"], total_steps=max(steps, 2), cycle_momentum=False
    )
    images, labels = images.to(device), labels.to(device).float()
    n_rare = float(labels.sum())
    balance = (len(labels) - n_rare) / n_rare
    weights = (torch.ones(len(labels)) if weights is None else weights.clone()).to(device)
    for c in (0, 1):
        weights[labels == c] /= weights[labels == c].mean()
    strong = augmentation.Strong() if arm.augmentation == "strong" else None
    rows = batches(labels.cpu().numpy().astype(int), arm.sampling, RESNET["batch"], seed)
    for step in range(steps):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        chosen = torch.from_numpy(next(rows)).to(device)
        batch, target = (
            augmentation.flips_and_shifts(images[chosen], flips, RESNET["shift"], generator),
            labels[chosen],
        )
        if strong:
            batch, target = strong(batch, target, generator)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            logits = model(to_input(batch)).squeeze(1).float()
        loss = _loss(logits, target, weights[chosen], arm, balance)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        rate.step()
        yield {"step": step + 1, "loss": loss.item(), "model": model}


def _loss(logits, target, weights, arm, balance: float) -> torch.Tensor:
    """BCE with pos_weight, or focal loss (Lin et al. 2017), so that both classes weigh the same in
    all.
    """
    pos_weight = (
        1.0 if arm.sampling == "balanced" else balance
    )  # balanced batches are balanced already
    if arm.loss == "focal":
        alpha = pos_weight / (1 + pos_weight)
        loss = sigmoid_focal_loss(logits, target, alpha=alpha, gamma=RESNET["focal_gamma"])
        return (loss * weights).mean()
    return F.binary_cross_entropy_with_logits(
        logits, target, weights, pos_weight=torch.tensor(pos_weight, device=logits.device)
    )


def batches(labels: np.ndarray, sampling: str, size: int, seed: int) -> Iterator[np.ndarray]:
    """Rows of one batch after another: natural (epochs without replacement) or class-balanced (half
    of each class).
    """
    rng = np.random.default_rng(seed)
    if sampling == "balanced":
        classes = [np.flatnonzero(labels == c) for c in (1, 0)]
        while True:
            yield np.concatenate([rng.choice(c, size // 2) for c in classes])
    queue = np.empty(0, int)
    while True:
        while len(queue) < size:
            queue = np.concatenate([queue, rng.permutation(len(labels))])
        yield queue[:size]
        queue = queue[size:]


@torch.inference_mode()
def score_resnet(
    model: torch.nn.Module, images: np.ndarray, device: str = "cpu", penultimate: bool = False
) -> np.ndarray:
    """Probability of the rare class for uint8 images, float64 [N]; or the features before the head,
    [N, 512].
    """
    model.eval()
    head, model.fc = model.fc, torch.nn.Identity()
    parts = [
        model(to_input(torch.from_numpy(np.array(images[i : i + 128])).to(device)))
        for i in range(0, len(images), 128)
    ]
    model.fc = head
    features = torch.cat(parts)
    out = features if penultimate else torch.sigmoid(head(features).squeeze(1).double())
    return out.cpu().numpy()
