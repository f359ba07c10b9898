"""Tables and figures of notebook 01: what the images, groups and partitions look like, and what leaks."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from fsl_utils.data import domains, images, leaks, partitions
from fsl_utils.data.datasets import readers, sheets
from fsl_utils.figures import plots

COMMON, RARE = plots.SKY, plots.RED


def title(domain: domains.Domain) -> str:
    """The task in a few words."""
    return f"{domain.name}: {domain.rare_class} against {domain.common_class}{caution(domain)}"


def caution(domain: domains.Domain) -> str:
    """What every figure of a split by image says."""
    return "   [split by image: leaks by design]" if domain.protocol == "image" else ""


def sides(domain: domains.Domain, draw: partitions.Draw | None = None) -> pd.Series:
    """Partition of each image; with a draw, development is split into training and validation."""
    side = domain.table["partition"].astype(object).copy()
    if draw is not None:
        side.iloc[np.concatenate([draw.shots, draw.more, draw.common])] = "training"
        side.iloc[draw.validation] = "validation"
    return side.rename("side")


def counts(domain: domains.Domain, draw: partitions.Draw | None = None) -> pd.DataFrame:
    """Images and groups of each side: images, rare, groups, groups_with_rare, prevalence."""
    table = domain.table.assign(
        side=sides(domain, draw), rare_group=domain.table["group"].where(domain.table["label"] == 1)
    )
    found = table.groupby("side", sort=False).agg(
        images=("image", "size"),
        rare=("label", "sum"),
        groups=("group", "nunique"),
        groups_with_rare=("rare_group", "nunique"),
        prevalence=("label", "mean"),
    )
    order = [
        s for s in ("base", "development", "training", "validation", "test") if s in found.index
    ]
    return found.loc[order]


def class_figure(found: pd.DataFrame, heading: str) -> Figure:
    """Images and groups of every class (a table of `domains.classes`), on a log scale."""
    found = found.iloc[::-1]
    figure, axis = plt.subplots(figsize=(plots.PAGE, 0.6 + 0.2 * len(found)))
    y = np.arange(len(found))
    axis.barh(y, found["images"], height=0.75, color=plots.SKY, label="images")
    axis.barh(y, found["groups"], height=0.35, color=plots.BLUE, label="groups")
    for at, (n, g) in enumerate(zip(found["images"], found["groups"])):
        axis.annotate(
            f"{n:,} / {g:,}",
            (n, at),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=6.5,
        )
    axis.set(
        xscale="log",
        yticks=y,
        yticklabels=found["class_name"],
        xlabel="images / groups",
        xlim=(1, found["images"].max() * 2.5),
    )
    axis.set_title(heading, loc="left")
    axis.legend(loc="lower right")
    return figure


def image_sizes(domain: domains.Domain) -> pd.DataFrame:
    """Width and height of every image file in pixels, from its header."""
    found = np.zeros((len(domain.table), 2), int)

    def read(i):
        with Image.open(domain.table["path"].iloc[i]) as image:
            found[i] = image.size

    images.each(read, range(len(found)), "sizes", progress=False)
    return pd.DataFrame(found, columns=["width", "height"]).assign(label=domain.table["label"])


def size_figure(found: pd.DataFrame, domain: domains.Domain) -> Figure:
    """Width against height; a dot grows with the number of images of that size. All are squeezed to one square."""
    figure, axis = plt.subplots(figsize=(plots.COLUMN, 2.6))
    for label, colour, name in ((0, COMMON, domain.common_class), (1, RARE, domain.rare_class)):
        sizes = found[found["label"] == label].value_counts(["width", "height"]).reset_index()
        axis.scatter(
            sizes["width"],
            sizes["height"],
            s=4 + 60 * sizes["count"] / len(found),
            alpha=0.5,
            color=colour,
            label=name,
            linewidth=0,
        )
    top = 1.1 * found[["width", "height"]].to_numpy().max()
    axis.plot([0, top], [0, top], color="0.7", linewidth=0.6, zorder=0)
    axis.set(
        xlim=(0, top),
        ylim=(0, top),
        xlabel="width, pixels",
        ylabel="height, pixels",
        aspect="equal",
    )
    axis.set_title("image sizes", loc="left")
    axis.legend(loc="best")
    return figure


def class_sheet(domain: domains.Domain, size: int, per_class: int = 32, seed: int = 0) -> Figure:
    """Development images of both classes, one of each group before a second of any."""
    groups, rows = domain.table["group"].to_numpy(), []
    for label, name in ((1, f"rare: {domain.rare_class}"), (0, f"common: {domain.common_class}")):
        chosen = partitions.spread(
            domain.rows("development", label), groups, partitions.generator("class sheet", seed)
        )[:per_class]
        rows.append(
            (
                f"{name}, {len(chosen)} images of {len(set(groups[chosen]))} groups{caution(domain)}",
                domain.images(size)[chosen],
            )
        )
    return plots.sheet(rows)


def group_sheet(
    domain: domains.Domain, size: int, n_groups: int = 6, per_group: int = 16
) -> Figure:
    """The development groups with the most rare images, one a row, rare images first."""
    table = domain.table.assign(whole=leaks.whole_groups(domain.table))
    development = table[table["partition"] == "development"]
    largest = (
        development.groupby("whole")["label"]
        .agg(["sum", "size"])
        .sort_values(["sum", "size"], ascending=False, kind="stable")
        .index[:n_groups]
    )
    rows = []
    for group in largest:
        here = development[development["whole"] == group].sort_values(
            ["label", "image"], ascending=[False, True]
        )
        rows.append(
            (
                f"{group}: {int(here['label'].sum())} rare of {len(here)}{caution(domain)}",
                domain.images(size)[here.index[:per_group]],
            )
        )
    return plots.sheet(rows)


def group_figure(domain: domains.Domain, draw: partitions.Draw | None = None) -> Figure:
    """Every group as a bar of its common and rare images, side by side; the shots of a draw are marked."""
    table = domain.table.assign(side=sides(domain, draw), shot=False)
    if draw is not None:
        table.iloc[draw.shots, table.columns.get_loc("shot")] = True
        table = table[table["side"].isin(["training", "validation"])]
    names = [s for s in counts(domain, draw).index if (table["side"] == s).any()]
    groups = table.groupby(["side", "group"]).agg(
        n=("label", "size"), rare=("label", "sum"), shots=("shot", "sum")
    )
    widths = [len(groups.loc[s]) for s in names]
    figure, axes = plt.subplots(
        1,
        len(names),
        figsize=(plots.PAGE, 2),
        sharey=True,
        width_ratios=np.maximum(widths, 0.12 * sum(widths)),
        squeeze=False,
    )
    for axis, side in zip(axes.flat, names):
        here = groups.loc[side].sort_values(["rare", "n"], ascending=False)
        edges = np.arange(len(here) + 1) - 0.5
        parts = [
            (here["shots"], plots.BLACK, "shots"),
            (here["rare"] - here["shots"], RARE, domain.rare_class),
            (here["n"] - here["rare"], COMMON, domain.common_class),
        ]
        bottom = np.zeros(len(here))
        for height, colour, label in parts:
            top = bottom + height.to_numpy()
            if draw is not None or label != "shots":
                axis.stairs(
                    top, edges, baseline=bottom, fill=True, color=colour, label=label, linewidth=0
                )
            bottom = top
        axis.set(xticks=[], xlim=(-0.5, len(here) - 0.5), xlabel=f"{len(here):,} groups")
        axis.set_title(
            f"{side}\n{int(here['rare'].sum()):,} rare of {int(here['n'].sum()):,} images",
            loc="left",
        )
    axes.flat[0].set_ylabel("images of the group")
    figure.suptitle(title(domain), x=0.01, ha="left")
    figure.legend(*axes.flat[-1].get_legend_handles_labels(), loc="outside right upper")
    return figure


def leak_table(by_group: domains.Domain, by_image: domains.Domain) -> pd.DataFrame:
    """What a split by image gives away, one row a protocol; the rule is the most similar development image's label."""
    rows = []
    for domain, name in ((by_group, "by group"), (by_image, "by image")):
        rule = leaks.nearest_neighbour(domain.table, domain.images(leaks.SIZE))
        rows.append(
            {
                "split": name,
                "split groups": len(leaks.split_groups(domain.table)),
                f"test {domain.rare_class} with a sibling in development": leaks.siblings(
                    domain.table
                ),
                "1-nearest-neighbour AUROC": rule["auroc"],
                "recall": rule["recall"],
                "false alarms": rule["false_alarms"],
            }
        )
    return pd.DataFrame(rows).set_index("split")


def twin_sheet(domain: domains.Domain, size: int, n: int = 16, seed: int = 0) -> Figure:
    """Rare test images above the development image that looks most like each."""
    vectors = leaks.fingerprints(domain.images(leaks.SIZE))
    test = partitions.generator("twins", seed).permutation(domain.rows("test", 1))[:n]
    development = domain.rows("development")
    twin = development[
        NearestNeighbors(n_neighbors=1, algorithm="brute")
        .fit(vectors[development])
        .kneighbors(vectors[test])[1][:, 0]
    ]
    groups, pixels = leaks.whole_groups(domain.table), domain.images(size)
    same = (groups[test] == groups[twin]).sum()
    return plots.sheet(
        [
            (f"split by {domain.protocol}: {len(test)} rare test images", pixels[test]),
            (f"the development image most like each: {same} are of the same group", pixels[twin]),
        ]
    )


def pair_sheet(
    domain: domains.Domain, found: leaks.Similar, size: int, n: int = 16
) -> Figure | None:
    """The most alike flagged pairs, test image above development image; None where none is flagged."""
    if found.pairs.empty:
        return None
    row = pd.Series(domain.table.index, index=domain.table["image"])
    pairs = found.pairs.head(n)
    # Filled up with white, so that a few pairs are not blown up to the width of the page.
    shown = [
        np.pad(
            domain.images(size)[row[pairs[c]]],
            [(0, n - len(pairs)), (0, 0), (0, 0), (0, 0)],
            constant_values=255,
        )
        for c in ("image", "other")
    ]
    return plots.sheet(
        [
            (
                f"test: similarity {pairs['similarity'].iloc[0]:.3f} to {pairs['similarity'].iloc[-1]:.3f}{caution(domain)}",
                shown[0],
            ),
            ("development", shown[1]),
        ]
    )


def view_table(
    findings: tuple[str, ...] = (
        "Effusion",
        "Pneumothorax",
        "Cardiomegaly",
        "Infiltration",
        "Mass",
        "Nodule",
    ),
) -> pd.DataFrame:
    """Chest X-rays at hand by view: finding, images, share_ap, auroc of a rule that sees the view alone ('AP is ill')."""
    labels = readers.read_chest_labels(sheets.data_root() / "chestxray14")
    frame = readers.read_chestxray14("all")[0].merge(labels[["image", "view"]], on="image")
    ap = frame["view"] == "AP"
    healthy = frame["class_name"] == sheets.SHEETS["chestxray14"].common
    rows = [
        {
            "finding": "No Finding",
            "images": int(healthy.sum()),
            "share_ap": ap[healthy].mean(),
            "auroc": float("nan"),
        }
    ]
    for finding in findings:
        ill = frame["class_name"].str.split("|").map(lambda names: finding in names)
        rows.append(
            {
                "finding": finding,
                "images": int(ill.sum()),
                "share_ap": ap[ill].mean(),
                "auroc": roc_auc_score(ill[ill | healthy], ap[ill | healthy])
                if ill.any()
                else float("nan"),
            }
        )
    return pd.DataFrame(rows)


def view_figure(found: pd.DataFrame) -> Figure:
    """Share of AP images by finding; the AUROC of the view alone stands beside each bar."""
    found = found.iloc[::-1]
    figure, axis = plt.subplots(figsize=(plots.COLUMN * 1.4, 0.5 + 0.22 * len(found)))
    colours = [COMMON if f == "No Finding" else RARE for f in found["finding"]]
    axis.barh(found["finding"], found["share_ap"], color=colours)
    for y, (share, auroc) in enumerate(zip(found["share_ap"], found["auroc"])):
        if auroc == auroc:
            axis.annotate(
                f"AUROC of the view alone {auroc:.2f}",
                (share, y),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=6,
            )
    axis.set(xlabel="share of AP images (patient lying)", xlim=(0, 1))
    return figure


def browse(domain: domains.Domain, size: int, per_page: int = 48) -> None:
    """Widgets to leaf through the development images of a class or a group. An extra: nothing is computed from it."""
    import ipywidgets as widgets
    from IPython.display import display

    table = domain.table[domain.table["partition"] == "development"]
    names = {
        "choose": table.index[:0],
        "both classes": table.index,
        domain.rare_class: table.index[table["label"] == 1],
        domain.common_class: table.index[table["label"] == 0],
    }
    kind = widgets.Dropdown(options=list(names), description="class")
    group = widgets.Dropdown(
        options=["all groups", *sorted(table["group"].unique())], description="group"
    )
    page, out = widgets.BoundedIntText(0, min=0, max=9999, description="page"), widgets.Output()

    def show(_):
        rows = names[kind.value]
        if group.value != "all groups":
            rows = rows[table["group"].loc[rows] == group.value]
        page.max = max(0, (len(rows) - 1) // per_page)
        here = rows[page.value * per_page : (page.value + 1) * per_page]
        with out:
            out.clear_output(wait=True)
            if not len(here):
                print("no such images in development")
                return
            figure = plots.sheet(
                [(f"{kind.value}, {group.value}: {len(rows)} images", domain.images(size)[here])]
            )
            display(figure)
            plt.close(figure)

    for widget in (kind, group, page):
        widget.observe(show, "value")
    display(widgets.VBox([widgets.HBox([kind, group, page]), out]))
