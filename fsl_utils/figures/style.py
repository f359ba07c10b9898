"""One look for all figures: colours, arms, heads; and the one way a figure is saved with its table."""

import io
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from fsl_utils import StudyError, store

COLUMN, PAGE = 3.35, 6.9  # widths of a figure in a two-column paper, inches


# Okabe and Ito, Color Universal Design (2008), without its yellow: told apart by the colour-blind.
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F"]


BLUE, RED, GREEN, PINK, ORANGE, SKY, BLACK, GREY = PALETTE


# arm: (colour, marker, line style). Controls are dark or grey and dashed, synthetic arms in colour.
ARM_STYLE = {
    "real": (BLACK, "s", "-"),
    "duplicate": (GREY, "o", "--"),
    "balanced": (GREY, "v", ":"),
    "focal": (GREY, "^", ":"),
    "augment": (BLACK, "D", "-."),
    "crt": (GREY, "<", "-."),
    "paste": (ORANGE, "P", ":"),
    "base_synth": (SKY, "X", ":"),
    "real_more": (GREEN, "s", "--"),
    "lora": (BLUE, "o", "-"),
    "lora_filtered": (RED, "D", "-"),
    "lora_augment": (PINK, "^", "-"),
    "lora_crt": (ORANGE, "<", "-"),
    "synth_only": (SKY, "v", "-."),
    "synth_both": (GREEN, "P", "-."),
}


METRIC_NAMES = {
    "pr_auc": "PR-AUC",
    "pr_auc_balanced": "PR-AUC, classes balanced",
    "auroc": "AUROC",
    "f1": "F1 at .5",
    "recall": "recall at .5",
    "precision": "precision at .5",
    "f1_at_threshold": "F1",
    "recall_at_threshold": "recall",
    "precision_at_threshold": "precision",
}


LINES = ["-", "--", "-.", ":"]


def apply() -> None:
    """Set matplotlib for a two-column paper: 7-8 pt, fonts embedded as TrueType, thin frames."""
    plt.rcParams.update(
        {
            "pdf.fonttype": 42,
            "font.family": "DejaVu Sans",
            "font.size": 7.5,
            "axes.titlesize": 7.5,
            "axes.labelsize": 7.5,
            "xtick.labelsize": 7,
            "ytick.labelsize": 7,
            "legend.fontsize": 7,
            "legend.frameon": False,
            "legend.handlelength": 2.6,
            "figure.titlesize": 6,
            "figure.dpi": 150,
            "figure.constrained_layout.use": True,
            "savefig.dpi": 300,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.linewidth": 0.6,
            "xtick.major.width": 0.6,
            "ytick.major.width": 0.6,
            "lines.linewidth": 1.3,
            "lines.markersize": 4,
            "errorbar.capsize": 1.5,
            "axes.prop_cycle": plt.cycler(color=PALETTE),
        }
    )


def arm_style(arm: str) -> tuple[str, str, str]:
    """Colour, marker and line style of an arm; one that is not in ARM_STYLE gets the next of each by its name."""
    n = sum(arm.encode())
    return ARM_STYLE.get(arm) or (PALETTE[n % len(PALETTE)], "pdh8"[n % 4], LINES[n % 4])


def save(figure: Figure, path: Path, table: pd.DataFrame) -> list[Path]:
    """Write path.pdf, path.png and path.csv, each whole or not at all, the same bytes for the same figure.

    Raises StudyError where the table names neither the cells nor the pools behind its rows.
    """
    path = Path(path)
    if not {"cells", "pool"} & set(table.columns):
        raise StudyError(
            f"{path}: the table has neither a column `cells` nor `pool`, so its rows cannot be traced back"
        )
    figure.draw_without_rendering()
    figure.set_layout_engine(
        "none"
    )  # it is laid out now; once more for each format would cost most of the time
    no_date = {"pdf": {"CreationDate": None}, "png": {"Software": None}}
    files = []
    for kind, metadata in no_date.items():
        image = io.BytesIO()
        figure.savefig(image, format=kind, metadata=metadata)
        files.append(_with_suffix(path, kind))
        store.write_whole(files[-1], lambda partial: partial.write_bytes(image.getvalue()))
    return [*files, save_rows(path, table)]


def save_rows(path: Path, table: pd.DataFrame) -> Path:
    """Write path.csv alone: a tidy table without a figure."""
    file = _with_suffix(Path(path), "csv")
    store.write_text(file, table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    return file


def _with_suffix(path: Path, kind: str) -> Path:
    return path.with_name(f"{path.name}.{kind}")  # with_suffix would cut a name at its last dot


def headline(table: pd.DataFrame) -> list[str]:
    """Task, size and cautions of a table, for the head of a figure or the foot of a table; few draws and validation in capitals."""
    first = table.iloc[0]
    said = [
        f"{first['domain']}: {first['rare_class']}",
        f"{first['n_real']} shots",
        f"{first['classifier']}, {first['image_size']} px",
        f"on {first['evaluated_on']}",
    ]
    if "n_draws" in table:
        fewest, most = int(table["n_draws"].min()), int(table["n_draws"].max())
        said.append(
            f"{fewest} to {most} draws" if fewest < most else f"{most} draw{'s' * (most != 1)}"
        )
    if "n_rare" in table:
        said.append(f"{first['n_rare']} rare images, {first['n_groups']} groups scored")
    # The row with the fewest draws has the most to say.
    cautions = max(table["caution"], key=len).split("; ") if "caution" in table else []
    return [
        ", ".join(said),
        *(c.upper() if c.startswith(("illustration", "preliminary")) else c for c in cautions if c),
    ]


def head(figure: Figure, table: pd.DataFrame) -> None:
    words = " | ".join(headline(table))
    figure.suptitle(
        textwrap.fill(words, int(17 * figure.get_figwidth())), x=0.01, ha="left", color="0.25"
    )


def legend(figure: Figure, axis, beside: bool = False) -> None:
    """The axis' legend beside a figure as wide as the page, or below one as wide as a column (two labels a line, if they fit)."""
    handles, labels = axis.get_legend_handles_labels()
    columns = 2 if max(map(len, labels), default=0) < 25 else 1
    figure.legend(
        handles,
        labels,
        **(
            {"loc": "outside right center"}
            if beside
            else {"loc": "outside lower center", "ncols": columns, "columnspacing": 1.2}
        ),
    )


def line(arm: str) -> dict:
    colour, _, line = arm_style(arm)
    return {"color": colour, "linestyle": line}


def ratio_axis(axis, ratios: pd.Series) -> None:
    """Ratios on a logarithmic axis that begins at 0x, with a tick each."""
    ticks = sorted(set(ratios) | {0})
    axis.set_xscale("symlog", linthresh=min([r for r in ticks if r > 0], default=1), linscale=0.5)
    axis.set_xticks(ticks, [f"{r:g}" for r in ticks])
    axis.minorticks_off()
    axis.set_xlim(-0.06 * min([r for r in ticks if r > 0], default=1), max(max(ticks), 1) * 1.25)
