"""The numbers that pages quote, each with the CSV, rows and columns that it must be the mean of."""

STUDY = "results/study/overview.csv"
PRIMARY = "results/details/study/primary_contrast.csv"
ROOM = "results/details/study/headroom.csv"
CLAIMS = "results/details/study/claims_probe.csv"
BOLD = "results/details/study/bold_entries.csv"
IMAGE = "results/by_image/overview.csv"
CELLS = "domain == 'elpv'"
TILES = "domain == 'magnetic_tile' and rare_class == 'any_defect'"
XRAYS = "domain == 'chestxray14' and rare_class == 'Effusion'"
PROBE = "classifier == 'probe'"
RESNET = "classifier == 'resnet18'"
FREE = "results/details/baselines/classifiers.csv"
FORTY = "n_real == 40 and arm == 'real'"
CRACKS = "domain == 'pv_cracks'"
INTERVAL = "difference low high"
RULES = "results/details/study/adaptive.csv"
PATTERN = "results/details/paper_pattern.csv"
LEAKS = "results/leakage/leakage.csv"
RANKED = "quantity == 'PR-AUC'"
AT_HALF, CRACK = "quantity == 'F1 at .5'", "rare_class == 'crack'"
ADAPTIVE, ENSEMBLE = "arm == 'adaptive'", "arm == 'ensemble'"
OVER_REAL, OVER_FREE = "control == 'real'", "control == 'free ensemble'"
REAL = "difference_real low_real high_real"
DRAWS = f"{PROBE} and arm == 'real' and draw < 10 and {TILES}"


def arm(name: str, ratio: int = 4) -> str:
    return f"arm == '{name}' and ratio == {ratio}"


# Page, snippet, CSV, rows, columns: the last numbers of a snippet are the columns' means over rows.
# Figures of the audit have no CSV; they stand in one marked sentence of either page.
NUMBERS = [
    (
        *("README.md", "than a split by group, by up to .174", LEAKS),
        *((CRACKS, "classifier == 'patch_probe'"), "gives_away"),
    ),
    ("README.md", "mended probe scores .860", FREE, (CELLS, PROBE, FORTY), "level"),
    (
        *("README.md", "the first one .769", FREE),
        *((CELLS, "classifier == 'probe_first'", FORTY), "level"),
    ),
    (
        *("README.md", "discriminant scores .929", FREE),
        *((CRACKS, "classifier == 'whitened'", FORTY), "level"),
    ),
    ("README.md", "the probe .862", FREE, (CRACKS, PROBE, FORTY), "level"),
    ("README.md", "old probe by +.008", PRIMARY, (CELLS, PROBE), "difference_real"),
    ("README.md", "On tiles it changed it by -.028", PRIMARY, (TILES, PROBE), "difference_real"),
    ("README.md", "it changed it by +.014", PRIMARY, (XRAYS, PROBE), "difference_real"),
    ("README.md", "brought the old probe +.029", ROOM, (CELLS, PROBE), "difference"),
    ("README.md", "could not show less than .042", ROOM, (CELLS, PROBE), "detectable"),
    ("README.md", "they brought +.101", ROOM, (XRAYS, PROBE), "difference"),
    *(
        ("results/findings.md", *rest)
        for rest in (
            (
                "`synth_both`, +.025 [-.015, +.073]",
                STUDY,
                (CELLS, PROBE, arm("synth_both")),
                INTERVAL,
            ),
            (
                "`lora_augment`, -.005 [-.091, +.069]",
                STUDY,
                (TILES, PROBE, arm("lora_augment")),
                INTERVAL,
            ),
            (
                "`synth_both`, +.047 [+.003, +.102]",
                STUDY,
                (XRAYS, PROBE, arm("synth_both")),
                INTERVAL,
            ),
            (
                "At 20x `synth_both` gained +.090",
                "results/study/chestxray14_Effusion_n40/probe/curve.csv",
                (arm("synth_both", 20), "control == 'duplicate'"),
                "difference",
            ),
            ("solar cells: +.008 [-.029, +.054]", PRIMARY, (CELLS, PROBE), REAL),
            ("tiles: -.028 [-.139, +.063]", PRIMARY, (TILES, PROBE), REAL),
            ("X-rays: +.014 [-.022, +.055]", PRIMARY, (XRAYS, PROBE), REAL),
            ("p after Holm is .013", PRIMARY, (TILES, PROBE), "p_holm"),
            ("p after Holm is .013", PRIMARY, (XRAYS, PROBE), "p_holm"),
            (
                "X-rays, old probe: +.047 [+.003, +.102]",
                BOLD,
                (XRAYS, PROBE, arm("synth_both")),
                INTERVAL,
            ),
            ("ResNet-18: +.078 [+.007, +.143]", BOLD, (CELLS, RESNET, arm("synth_both")), INTERVAL),
            (
                "tiles, old probe: -.044 [-.120, +.019]",
                BOLD,
                (TILES, PROBE, arm("synth_both")),
                INTERVAL,
            ),
            (
                "+.101 [+.041, +.168], and the draws can show .071",
                ROOM,
                (XRAYS, PROBE),
                f"{INTERVAL} detectable",
            ),
            (
                "+.029 [-.007, +.071], and the draws can show .042",
                ROOM,
                (CELLS, PROBE),
                f"{INTERVAL} detectable",
            ),
            (
                "+.033 [-.017, +.089], and the draws can show .060",
                ROOM,
                (TILES, PROBE),
                f"{INTERVAL} detectable",
            ),
            ("PR-AUC .883", "results/by_image/tables/cells.csv", (DRAWS,), "pr_auc"),
            ("split by tile: .754", "results/study/tables/cells.csv", (DRAWS,), "pr_auc"),
            ("bring +.039 [+.013, +.065]", IMAGE, (arm("real_more"),), INTERVAL),
            ("lost .107 on solar cells", STUDY, (CELLS, PROBE, arm("synth_only")), "difference"),
            ("tiles rose by .062", CLAIMS, (TILES, "claim == 'F1 at .5 rises'"), "difference"),
            (
                "Recall at .5 rose by .134",
                CLAIMS,
                (TILES, "claim == 'recall at .5 rises'"),
                "difference",
            ),
            ("PR-AUC fell by .027", CLAIMS, (TILES, "claim == 'PR-AUC rises'"), "difference"),
            (
                "from validation F1 fell by .024",
                CLAIMS,
                (TILES, "claim.str.startswith('F1 rises, each')"),
                "difference",
            ),
            (
                "at 4x has .929",
                "results/quickstart/tables/cells.csv",
                (PROBE, arm("lora")),
                "pr_auc",
            ),
            (
                "against .908",
                "results/quickstart/tables/cells.csv",
                (PROBE, arm("real", 0)),
                "pr_auc",
            ),
            (
                "and .829",
                "results/quickstart/tables/cells.csv",
                (RESNET, arm("lora")),
                "pr_auc",
            ),
            (
                "against .838",
                "results/quickstart/tables/cells.csv",
                (RESNET, arm("real", 0)),
                "pr_auc",
            ),
        )
    ),
    *(
        ("results/experiments.md", snippet, PATTERN, (claim, rare), INTERVAL)
        for snippet, claim, rare in (
            ("five draws | +.255 [-.071, +.574]", AT_HALF, CRACK),
            ("+.363 [+.004, +.643]", "quantity == 'recall at .5'", CRACK),
            ("+.025 [-.618, +.539]", "quantity.str.startswith('F1, each')", CRACK),
            ("-.031 [-.598, +.354] |", RANKED, CRACK),
            ("ten draws | -.044 [-.091, +.002]", AT_HALF, f"{XRAYS} and {PROBE}"),
        )
    ),
    *(
        ("results/experiments.md", snippet, PATTERN, (RANKED, PROBE, split, TILES), INTERVAL)
        for snippet, split in (
            ("there: -.019 [-.061, +.020]", "protocol == 'image'"),
            ("by image, -.027 [-.143, +.069]", "protocol == 'group'"),
        )
    ),
    (
        *("results/experiments.md", "alone have .129", "results/details/paper_leakage.csv"),
        *((TILES,), "gives_away"),
    ),
    *(
        ("results/experiments.md", snippet, LEAKS, rows, "gives_away low high")
        for snippet, rows in (
            ("`padim` +.174 [+.050, +.323]", (TILES, "classifier == 'padim'")),
            ("+.174 [+.068, +.365]", (CRACKS, "classifier == 'patch_probe'")),
            ("probe gains +.099 [+.023, +.225]", (CRACKS, PROBE)),
        )
    ),
    *(
        ("results/experiments.md", snippet, RULES, rows, columns)
        for snippet, rows, columns in (
            ("`adaptive` | +.021 [-.005, +.059]", (XRAYS, ADAPTIVE), INTERVAL),
            ("Single draws lose up to .052", (TILES, ADAPTIVE), "worst"),
            ("It stays .069", (XRAYS, ADAPTIVE), "short"),
            ("(X-rays) and .031", (CELLS, PROBE, ADAPTIVE), "short"),
            ("at 4x | **+.030** [+.003, +.064]", (XRAYS, ENSEMBLE, OVER_REAL), INTERVAL),
            ("it is +.023 [+.001, +.050]", (XRAYS, ENSEMBLE, OVER_FREE), INTERVAL),
            ("and +.026 [+.004, +.061]", (CELLS, ENSEMBLE, OVER_FREE), INTERVAL),
            ("that, -.008 [-.074, +.046]", (TILES, ENSEMBLE, OVER_FREE), INTERVAL),
        )
    ),
    (
        "results/README.md",
        "PR-AUC was .665712",
        "results/study/tables/cells.csv",
        ("cell.str.startswith('bf70b9f00f2c')",),
        "pr_auc",
    ),
    (
        "results/README.md",
        "where .710877",
        "results/study/tables/cells.csv",
        ("cell.str.startswith('0ffed08c60b1')",),
        "pr_auc",
    ),
]
