"""NIH ChestX-ray14: chest X-rays of patients, several of one patient, in twelve archives."""

import os
import shutil
from pathlib import Path

import pandas as pd

from fsl_utils import StudyError, files
from fsl_utils.data import decoding, download, images, partitions
from fsl_utils.data.datasets.sheet import DataSet, Sheet, data_root
from fsl_utils.data.datasets.tables import need_folder, read_csv, some

SHEET = Sheet(
    title="NIH ChestX-ray14",
    rare=(
        "Effusion",
        "Atelectasis",
        "Cardiomegaly",
        "Consolidation",
        "Edema",
        "Emphysema",
        "Fibrosis",
        "Hernia",
        "Infiltration",
        "Mass",
        "Nodule",
        "Pleural_Thickening",
        "Pneumonia",
        "Pneumothorax",
    ),
    common="No Finding",
    group="patient",
    licence="free use: link to the NIH site, cite, acknowledge the NIH Clinical Center",
    citation="Wang et al., ChestX-ray8, CVPR 2017",
    source="https://nihcc.app.box.com/v/ChestXray-NIHCC",
    get="python -m fsl_utils fetch chestxray14",
)
BASE_SHARE = 0.30

# Links of NIH's batch_download_zips.py, MD5 of its FAQ_CHESTXRAY.pdf, sizes as the server told them
# in 2026.
LABELS_URL = (
    "https://nihcc.app.box.com/index.php?rm=box_download_shared_file&vanity_name=ChestXray-NIHCC"
    "&file_id=f_219760887468"
)
LABELS_BYTES = 50_000_000  # at most; the table has about 8 MB, and the server may not tell
URL = "https://nihcc.box.com/shared/static/{}.gz"
ARCHIVES = {  # number: (link, bytes, MD5)
    1: ("vfk49d74nhbxq3nqjg0900w5nvkorp5c", 2008470987, "fe8ed0a6961412fddcbb3603c11b3698"),
    2: ("i28rlmbvmfjbl8p2n3ril0pptcmcu9d1", 3952623504, "ab07a2d7cbe6f65ddd97b4ed7bde10bf"),
    3: ("f1t00wrtdk94satdfb9olcolqx20z2jp", 3929234850, "2301d03bde4c246388bad3876965d574"),
    4: ("0aowwzs5lhjrceb3qp67ahp0rd1l1etg", 3838903983, "9f1b7f5aae01b13f4bc8e2c44a4b8ef6"),
    5: ("v5e3goj22zr6h8tzualxfsqlqaygfbsn", 3935496531, "1861f3cd0ef7734df8104f2b0309023b"),
    6: ("asi7ikud9jwnkrnkj99jnpfkjdes7l6l", 3986301172, "456b53a8b351afd92a35bc41444c58c8"),
    7: ("jn1b4mw4n6lnh74ovmcjb8y48h8xj07n", 4016328426, "1075121ea20a137b87f290d6a4a5965e"),
    8: ("tvpxmn7qyrgl0w8wfh9kqfjskv6nmm1j", 4018347353, "b61f34cec3aa69f295fbb593cbd9d443"),
    9: ("upyy3ml7qdumlgk2rfcvlb9k6gvqq2pj", 4111327929, "442a3caa61ae9b64e61c561294d1e183"),
    10: ("l6nilvfa9cg3s28tqv1qc1olm3gnz54p", 4181556296, "09ec81c4c31e32858ad8cf965c494b74"),
    11: ("hhq8fkdgvcari67vfhs7ppg2w6ni4jze", 4187084020, "499aefc67207a5a97692424cf5dbeed5"),
    12: ("ioqwiy20ihqwyr8pf4c24eazhh281pbu", 2914187733, "dc9fda1757c2de0032b63347a7d2895c"),
}

_COLUMNS = {
    "Image Index": "image",
    "Finding Labels": "class_name",
    "Patient ID": "patient",
    "View Position": "view",
}
_STUDIED = ("Effusion", "Pneumothorax", "Cardiomegaly")
VIEWS = ("PA", "AP", "all")
VIEW = "PA"  # sicker patients are imaged lying, AP: with both views a classifier learns the view


def read_labels(root: Path) -> pd.DataFrame:
    """The official label table, all 112,120 rows: image, class_name ('A|B'), patient, view, group,
    stratum.
    """
    need_folder(root, SHEET.get)
    files = sorted(root.glob("Data_Entry_2017*.csv"))
    if not files:
        raise StudyError(f"{root}: no Data_Entry_2017*.csv there; {SHEET.get}")
    frame = read_csv(files[-1], list(_COLUMNS))
    missing = [c for c in _COLUMNS if c not in frame.columns]
    if missing:
        raise StudyError(f"{files[-1]}: the columns {missing} are missing; take the official file")
    frame = frame[list(_COLUMNS)].rename(columns=_COLUMNS)
    twice = frame["image"][frame["image"].duplicated()]
    if len(twice):
        raise StudyError(
            f"{files[-1]}: {len(twice)} images have several rows (first: {twice.iloc[0]}); "
            "take the official file"
        )
    # Stratum: the studied findings of the patient in this view, and the archive of twelve, so
    # that any subset of the archives is split in the same shares.
    found = frame["class_name"].where(frame["view"] == VIEW, "")
    flags = pd.Series("", index=frame.index)
    for finding in _STUDIED:
        has = found.str.contains(finding).groupby(frame["patient"]).transform("any")
        flags += has.map({True: "1", False: "0"})
    position = frame["image"].rank(method="first").sub(1)
    archive = 1 + (position - 4999).floordiv(10000).add(1).clip(0, 11)
    archive = archive.groupby(frame["patient"]).transform("first")
    frame["group"] = "patient" + frame["patient"].str.zfill(5)
    frame["stratum"] = flags + archive.astype(int).map(" archive{:02d}".format)
    return frame


def read(view: str = "") -> tuple[pd.DataFrame, list[str]]:
    """The images at hand of one view ('PA', the default, or 'AP') or 'all'; has a column `view`.

    In `images/` or the twelve `images_0NN/images/`.
    """
    view = view or VIEW
    if view not in VIEWS:
        raise StudyError(f"unknown view '{view}': known are {', '.join(VIEWS)}")
    root = data_root() / "chestxray14"
    labels = read_labels(root)
    folders = ("images", "images_0*/images", "images_0*")
    paths = [p for folder in folders for p in sorted(root.glob(f"{folder}/*.png"))]
    if not paths:
        raise StudyError(f"{root}: no images/*.png or images_0NN/images/*.png there; {SHEET.get}")
    found = {p.name: str(p) for p in reversed(paths)}  # of two with one name the first counts
    here = labels[labels["image"].isin(found)]
    frame = here if view == "all" else here[here["view"] == view]
    columns = ["image", "path", "class_name", "group", "stratum", "view"]
    return frame.assign(path=frame["image"].map(found))[columns], _notes(
        labels, here, frame, paths, found
    )


def _notes(labels, here, frame, paths: list[Path], found: dict[str, str]) -> list[str]:
    notes = [
        f"{len(labels) - len(here)} of {len(labels)} rows of the label table have no image here: "
        "their archives were not fetched"
    ]
    if strangers := sorted(found.keys() - set(here["image"])):
        notes.append(
            f"{len(strangers)} images without a row in the label table are left out: "
            f"{some(strangers)}"
        )
    if len(paths) > len(found):
        twice = sorted({p.name for p in paths if str(p) != found[p.name]})
        notes.append(f"{len(twice)} images lie in two folders, the first is read: {some(twice)}")
    if len(frame) < len(here):
        notes.append(
            f"{len(here) - len(frame)} of {len(here)} images are in another view and are left out: "
            "sicker patients are imaged lying (AP), so with both views a classifier learns the view"
        )
    return notes


def split() -> pd.DataFrame:
    """The shipped partition: 30 % of the patients whose every image says No Finding are base."""
    return partitions.make(
        read_labels(data_root() / "chestxray14"), "chestxray14", BASE_SHARE, SHEET.common
    )


def view_table() -> pd.DataFrame:
    """X-rays at hand by view: finding, images, share_ap, auroc of a rule that sees the view alone
    ('AP is ill'; of a rule of two answers it is half of one more than the two shares differ by).
    """
    frame = read("all")[0]
    ap = frame["view"] == "AP"
    healthy = frame["class_name"] == SHEET.common
    row = {"finding": SHEET.common, "images": int(healthy.sum()), "share_ap": ap[healthy].mean()}
    rows = [row | {"auroc": float("nan")}]
    for finding in (*_STUDIED, "Infiltration", "Mass", "Nodule"):
        ill = ("|" + frame["class_name"] + "|").str.contains(f"|{finding}|", regex=False)
        share = ap[ill].mean()  # NaN where there is none
        row = {"finding": finding, "images": int(ill.sum()), "share_ap": share}
        rows.append(row | {"auroc": (1 + share - ap[healthy].mean()) / 2})
    return pd.DataFrame(rows)


def fetch(folder: Path, archives: list[int]) -> None:
    """The label table, then each archive into `images_0NN/images/`; every image must decode."""
    todo = [n for n in archives if not (folder / f"images_{n:03d}").is_dir()]
    sizes = [ARCHIVES[n][1] for n in todo]
    print(
        f"chestxray14: {len(todo)} of {len(archives)} archives to get, "
        f"{download.size_text(sum(sizes))} in all"
    )
    # What is unpacked is about as large as its archive, which goes when it is unpacked.
    download.need_space(folder, sum(sizes) + max(sizes, default=0))
    if not list(folder.glob("Data_Entry_2017*.csv")):
        _fetch_labels(folder)
    for n in todo:
        _fetch_archive(folder, n)


def _fetch_archive(folder: Path, n: int) -> None:
    link, size, md5 = ARCHIVES[n]
    archive = folder / f"images_{n:03d}.tar.gz"
    download.download(URL.format(link), archive, size, exact=True, md5=md5)
    unpacked = folder / f".images_{n:03d}"
    shutil.rmtree(unpacked, ignore_errors=True)
    try:
        with files.explained(folder):
            (unpacked / "images").mkdir(parents=True)
            for name, content in download.members(archive, r"(?:\./)?images/(\d{8}_\d{3}\.png)"):
                (unpacked / "images" / name).write_bytes(content)
        paths = sorted((unpacked / "images").iterdir())
        if not paths:
            raise StudyError(f"{archive}: holds no images/*.png; not the official archive")
        images.each(lambda path: decoding.decode(path, 1), paths, f"checking images_{n:03d}")
        os.rename(unpacked, folder / f"images_{n:03d}")
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    archive.unlink()


def _fetch_labels(folder: Path) -> None:
    """NIH publishes no checksum of the table, so its image names are compared with the shipped
    partition's.
    """
    aside = folder / ".labels"
    path = aside / "Data_Entry_2017_v2020.csv"
    try:
        download.download(LABELS_URL, path, LABELS_BYTES)
        if set(read_labels(aside)["image"]) != set(partitions.shipped("chestxray14")["file"]):
            raise StudyError(
                f"{LABELS_URL}: the images named there are not ChestX-ray14's; "
                f"get Data_Entry_2017_v2020.csv by hand from {SHEET.source}"
            )
        os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


CHESTXRAY14 = DataSet(
    name="chestxray14",
    sheet=SHEET,
    read=read,
    options=("view",),
    split=split,
    fetch=fetch,
    archives={number: size for number, (_, size, _) in ARCHIVES.items()},
    prompts=("a photo of a chest X-ray with {}", "a photo of a chest X-ray with {}"),
    condition=3,
    confounder=view_table,
)
