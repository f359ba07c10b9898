"""The numbers that pages quote, each with the CSV, rows and columns that it must be the mean of."""

STUDY = "results/study1/overview.csv"
PRIMARY = "results/details/study1/primary_contrast.csv"
ROOM = "results/details/study1/headroom.csv"
CLAIMS = "results/details/study1/claims_probe.csv"
BOLD = "results/details/study1/bold_entries.csv"
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
RULES = "results/details/study1/adaptive.csv"
PATTERN = "results/details/paper_pattern.csv"
LEAKS = "results/leakage/leakage.csv"
VARIETY = "results/searches/chestxray14_variety_compared.csv"
STRONG = "results/searches/chestxray14_variety_strong_compared.csv"
GUIDED = "results/searches/pv_cracks_autoguidance_compared.csv"
BASES = "results/mini/mini128_autoguidance.csv"
SMALL = "results/mini/mini_autoguidance.csv"
LONGER = "results/mini/mini128_steps.csv"
CHESTS = "results/searches/chestxray14_autoguidance_compared.csv"
SHARPER = "results/autoguidance/compared.csv"
TAKEN, SEARCHED = (f"results/searches/downstream_elpv_{end}.csv" for end in ("taken", "compared"))
SHARES, BESIDE = "results/rotation/shares.csv", "results/rotation/rivals.csv"
ROTATED, FLATTERED = "results/rotation/gains.csv", "results/rotation/hindsight.csv"
GATE = "results/searches/chestxray14_gate_compared.csv"
SPLITS, TABLE = "results/details/paper_splits.csv", "results/details/paper_table.csv"
BY_IMAGE, BY_GROUP = "protocol == 'image'", "protocol == 'group'"
RESNET, TUNED = "classifier == 'resnet18'", "classifier == 'finetuned'"
HERE, THERE = f"{RESNET} and source == 'here'", "source == 'paper'"
RIVALS, ALL_MINUS_REAL = "results/recipes/rivals.csv", "results/recipes/gains.csv"
COVER, JUDGED = "results/covering/rivals.csv", "results/covering/judge_compared.csv"
ADDED = "results/study2/added.csv"
CHOSEN = "results/study2/primary.csv"
SECOND = "results/study2/secondary.csv"
POOLS = "results/pilot2/tables/pools.csv"
RANKED = "quantity == 'PR-AUC'"
AT_HALF, CRACK = "quantity == 'F1 at .5'", "rare_class == 'crack'"
ADAPTIVE, ENSEMBLE = "arm == 'adaptive'", "arm == 'ensemble'"
OVER_REAL, OVER_FREE = "control == 'real'", "control == 'free ensemble'"
HINDSIGHT, EVERY_C = "results/study2/probe_C.csv", "results/baselines/probe_C.csv"
TEN = "rule == 'fixed' and C == 10"
GAINS, REPAIRS = "results/mended/gains.csv", "results/mended/repairs.csv"
WHITENED, OLD = "classifier == 'whitened'", "classifier == 'probe_first'"
PLAIN = "arm == 'real'"
MEANS, OF_REAL = "results/mended/ensembles.csv", ("arm == 'ensemble'", "control == 'real'")
REAL = "difference_real low_real high_real"
DRAWS = f"{PROBE} and arm == 'real' and draw < 10 and {TILES}"


def arm(name: str, ratio: float = 4) -> str:
    return f"arm == '{name}' and ratio == {ratio}"


def pair(name: str, control: str) -> str:
    """The row of an arm beside its rival."""
    return f"arm == '{name}' and control == '{control}'"


def way(classifier: str, arm: str, ratio: int = 4, weight: float = 0, shots: int = 20) -> str:
    """The row of a way of the second study."""
    made = "" if arm in ("paste", "real_more") else "mini128"
    name = f"{classifier}|{arm}|{weight:g}|{made}"
    return f"n_real == {shots} and ratio == {ratio} and arm == '{name}'"


def common(classifier: str, shots: int) -> str:
    """The row of synthetic common images against real ones."""
    return f"question == 'commons' and n_real == {shots} and control == '{classifier}|real_base|0|'"


def pixels(classifier: str, shots: int = 20) -> str:
    """The row of 128 pixels against 64."""
    return f"question == 'pixels' and n_real == {shots} and arm == '{classifier}|lora|0|mini128'"


# Page, snippet, CSV, rows, columns: the last numbers of a snippet are the columns' means over rows.
NUMBERS = [
    (
        *("README.md", "than a split by group, by up to .174", LEAKS),
        *((CRACKS, "classifier == 'patch_probe'"), "gives_away"),
    ),
    (
        *("README.md", "`whitened` loses .149", FREE),
        *((XRAYS, "classifier == 'whitened'", FORTY), "difference"),
    ),
    *(
        ("README.md", snippet, REPAIRS, (task, PROBE, PLAIN), columns)
        for snippet, task, columns in (
            ("+.083 [+.045, +.148]", CELLS, INTERVAL),
            ("cells, +.061", XRAYS, "difference"),
            ("X-rays, +.011", TILES, "difference"),
        )
    ),
    *(
        ("README.md", snippet, GAINS, (task, classifier, arm(name)), columns)
        for snippet, task, classifier, name, columns in (
            ("probe by +.047", XRAYS, OLD, "synth_both", "difference"),
            ("today's by +.007 [-.041, +.060]", XRAYS, PROBE, "synth_both", INTERVAL),
        )
    ),
    *(
        ("results/study1/findings.md", snippet, REPAIRS, (task, PROBE, of), INTERVAL)
        for snippet, task, of in (
            ("solar cells: +.083 [+.045, +.148]", CELLS, PLAIN),
            ("X-rays: +.061 [+.008, +.123]", XRAYS, PLAIN),
            ("tiles: +.011 [-.040, +.072]", TILES, PLAIN),
            ("two gains, +.040 [-.001, +.086]", XRAYS, arm("synth_both")),
        )
    ),
    *(
        ("results/study1/findings.md", snippet, GAINS, (task, classifier, arm(name)), INTERVAL)
        for snippet, task, classifier, name in (
            ("today -.006 [-.040, +.034]", CELLS, PROBE, "synth_both"),
            ("today -.037 [-.152, +.037]", TILES, PROBE, "lora_augment"),
            ("today +.007 [-.041, +.060]", XRAYS, PROBE, "synth_both"),
            ("Today's gains +.007 [-.041, +.060]", XRAYS, PROBE, "synth_both"),
            ("most +.018 [-.010, +.051]", XRAYS, PROBE, "lora_base at weight 0.2"),
            ("today's probe: -.033 [-.072, +.011]", CELLS, PROBE, "lora_filtered"),
            (", -.087 [-.247, +.026]", TILES, PROBE, "lora_filtered"),
            (", -.006 [-.055, +.048]", XRAYS, PROBE, "lora_filtered"),
            ("change by -.067 [-.117, -.020]", XRAYS, WHITENED, "lora_filtered"),
            ("X-rays: +.047 [+.007, +.097]", XRAYS, OLD, "synth_both"),
            ("`whitened` -.064 [-.113, -.016]", XRAYS, WHITENED, "synth_both"),
            ("bring +.089 [+.045, +.136]", XRAYS, PROBE, "real_more"),
            ("X-rays, +.023 [+.001, +.067]", CELLS, PROBE, "real_more"),
            ("on tiles +.047 [-.003, +.108]", TILES, PROBE, "real_more"),
        )
    ),
    *(
        ("README.md", *rest)
        for rest in (
            ("adds +.053 [+.009, +.090]", ADDED, (way("probe", "lora", 4, 0.2),), INTERVAL),
            ("probe, +.033 [-.007, +.067]", ADDED, (way("finetuned", "lora", 4, 0.2),), INTERVAL),
            ("add +.113 [+.038, +.205]", ADDED, (way("probe", "paste"),), INTERVAL),
            ("and +.054 [+.014, +.108]", ADDED, (way("finetuned", "paste"),), INTERVAL),
            ("(`whitened`) scores .900", ADDED, (way("whitened", "real_more"),), "control_level"),
            ("the probe .740", ADDED, (way("probe", "paste"),), "control_level"),
            ("the net .833", ADDED, (way("finetuned", "paste"),), "control_level"),
            ("in hindsight, .815", HINDSIGHT, ("n_real == 20", TEN), "pr_auc"),
            ("changes it by -.001 [-.003, -.000]", CHOSEN, ("n_real == 20",), INTERVAL),
            ("free way by -.001 [-.003, +.001]", CHOSEN, ("n_real == 40",), INTERVAL),
            ("it by +.038 [+.014, +.086]", ADDED, (way("whitened", "real_more"),), INTERVAL),
        )
    ),
    *(
        ("results/study2/findings.md", *rest)
        for rest in (
            (
                "`real` (.900): -.001 [-.003, -.000]",
                CHOSEN,
                ("n_real == 20",),
                f"control_level {INTERVAL}",
            ),
            (
                "1x (.922): -.001 [-.003, +.001]",
                CHOSEN,
                ("n_real == 40",),
                f"control_level {INTERVAL}",
            ),
            (
                "common images: -.001 [-.012, +.007]",
                "results/study2/conditions.csv",
                ("n_real == 20", "control.str.contains('real_base')"),
                INTERVAL,
            ),
            ("4x -.028 [-.118, +.005]", ADDED, (way("whitened", "lora"),), INTERVAL),
            (
                "`lora_base` +.003 [-.024, +.019]",
                ADDED,
                (way("whitened", "lora_base", 1, 0.2),),
                INTERVAL,
            ),
            (
                "`lora` +.000 [-.026, +.010]",
                ADDED,
                (way("whitened", "lora", 1, 0.2),),
                INTERVAL,
            ),
            ("probe scores .740", ADDED, (way("probe", "lora"),), "control_level"),
            ("weight .2: +.053 [+.009, +.090]", ADDED, (way("probe", "lora", 4, 0.2),), INTERVAL),
            ("+.099 [-.022, +.194]", ADDED, (way("probe", "lora"),), INTERVAL),
            ("+.113 [+.038, +.205]", ADDED, (way("probe", "paste"),), INTERVAL),
            ("+.172 [+.070, +.294]", ADDED, (way("probe", "real_more"),), INTERVAL),
            (
                "the probe loses .159",
                "results/study2/ways.csv",
                ("n_real == 20 and arm == 'probe|real|0|'",),
                "difference",
            ),
            ("+.021 [-.007, +.047]", ADDED, (way("probe", "lora", 4, 0.2, 40),), INTERVAL),
            ("+.045 [-.002, +.108]", ADDED, (way("probe", "paste", shots=40),), INTERVAL),
            ("20 shots it scores .833", ADDED, (way("finetuned", "lora"),), "control_level"),
            ("with 40 .885", ADDED, (way("finetuned", "lora", shots=40),), "control_level"),
            ("`lora`: +.031 [-.016, +.072]", ADDED, (way("finetuned", "lora"),), INTERVAL),
            ("+.033 [-.007, +.067]", ADDED, (way("finetuned", "lora", 4, 0.2),), INTERVAL),
            ("+.054 [+.014, +.108]", ADDED, (way("finetuned", "paste"),), INTERVAL),
            ("+.087 [+.037, +.158]", ADDED, (way("finetuned", "real_more"),), INTERVAL),
            ("-.036 [-.114, -.001]", ADDED, (way("finetuned", "synth_both"),), INTERVAL),
            ("-.075 [-.169, -.020]", ADDED, (way("finetuned", "synth_both", shots=40),), INTERVAL),
            ("+.006 [-.033, +.029]", ADDED, (way("finetuned", "lora", shots=40),), INTERVAL),
            ("+.017 [-.007, +.047]", ADDED, (way("finetuned", "paste", shots=40),), INTERVAL),
            ("`paste`, scores .886", ADDED, (way("finetuned", "paste"),), "level"),
            ("-.013 [-.076, +.009]", SECOND, (common("whitened", 20),), INTERVAL),
            ("-.024 [-.095, -.003]", SECOND, (common("whitened", 40),), INTERVAL),
            ("+.041 [-.016, +.078]", SECOND, (common("probe", 20),), INTERVAL),
            ("-.010 [-.052, +.005]", SECOND, (common("probe", 40),), INTERVAL),
            ("-.026 [-.049, -.005]", ADDED, (way("probe", "synth_both", 4, 0.2, 40),), INTERVAL),
            ("`whitened`: +.035 [+.012, +.075]", SECOND, (pixels("whitened"),), INTERVAL),
            ("the probe: +.038 [-.017, +.079]", SECOND, (pixels("probe"),), INTERVAL),
            (
                "alone: .872 and .837",
                SECOND,
                (pixels("whitened"),),
                "level control_level",
            ),
            ("against .900", ADDED, (way("whitened", "real_more"),), "control_level"),
            ("+.031 [+.012, +.070]", SECOND, (pixels("whitened", 40),), INTERVAL),
            ("+.018 [-.018, +.050]", SECOND, (pixels("probe", 40),), INTERVAL),
            ("shots, .881 and .850", SECOND, (pixels("whitened", 40),), "level control_level"),
            ("against .922 at 40", ADDED, (way("whitened", "lora", shots=40),), "control_level"),
            ("gives `real` .815", HINDSIGHT, ("n_real == 20", TEN), "pr_auc"),
            ("20 shots and .875", HINDSIGHT, ("n_real == 40", TEN), "pr_auc"),
            ("in place of .835", HINDSIGHT, ("n_real == 40", "rule == 'log loss'"), "pr_auc"),
            ("real cracks .410", POOLS, ("n_real == 40",), "kid"),
            ("themselves is .262", POOLS, ("n_real == 40",), "kid_real"),
            ("calls .824", POOLS, ("n_real == 40",), "called_rare"),
            ("and .785", POOLS, ("n_real == 40",), "called_rare_real"),
            ("AUROC .990", POOLS, ("n_real == 40",), "auroc_synthetic"),
            ("+.038 [+.014, +.086]", ADDED, (way("whitened", "real_more"),), INTERVAL),
            (
                "X-rays it loses .149",
                FREE,
                (XRAYS, "classifier == 'whitened'", FORTY),
                "difference",
            ),
        )
    ),
    *(
        ("results/study1/findings.md", *rest)
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
                "results/study1/chestxray14_Effusion_n40/probe/curve.csv",
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
            ("split by tile: .754", "results/study1/tables/cells.csv", (DRAWS,), "pr_auc"),
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
        )
    ),
    *(
        ("results/experiments.md", snippet, EVERY_C, (task, f"n_real == {shots}", rule), "pr_auc")
        for snippet, task, shots, rule in (
            ("at 20 shots .826", CRACKS, 20, "rule == 'fixed' and C == 1"),
            ("in place of .788", CRACKS, 20, "rule == 'log loss'"),
            ("`pv_cracks` (.800", CRACKS, 20, "rule == 'average precision'"),
            (", .878)", CRACKS, 40, "rule == 'average precision'"),
            ("X-rays (.271", XRAYS, 20, "rule == 'average precision'"),
            (", .323)", XRAYS, 40, "rule == 'average precision'"),
        )
    ),
    *(
        ("results/experiments.md", snippet, MEANS, (task, classifier, *OF_REAL), INTERVAL)
        for snippet, task, classifier in (
            ("gains +.030 [+.004, +.061]", XRAYS, OLD),
            ("and +.028 [+.003, +.070] again", CELLS, OLD),
            ("today's probe +.016 [-.024, +.061]", XRAYS, PROBE),
            ("and +.001 [-.018, +.033]", CELLS, PROBE),
        )
    ),
    *(
        ("results/experiments.md", snippet, PATTERN, (claim, CRACK, PROBE), INTERVAL)
        for snippet, claim in (
            ("F1 +.255 [-.071, +.574]", AT_HALF),
            ("PR-AUC -.031 [-.598, +.354]", RANKED),
        )
    ),
    *(
        ("README.md", snippet, SPLITS, (CRACK, split, RESNET, arm(name, 20)), columns)
        for snippet, split, name, columns in (
            ("+.264 [+.150, +.358]", BY_IMAGE, "lora", INTERVAL),
            ("repeated shots by +.270", BY_IMAGE, "duplicate", "difference"),
            ("+.007 [-.068, +.168]", BY_GROUP, "lora", INTERVAL),
        )
    ),
    *(
        ("results/experiments.md", snippet, SPLITS, (CRACK, split, who, arm(name, ratio)), INTERVAL)
        for snippet, split, who, name, ratio in (
            ("+.270 [+.156, +.360]", BY_IMAGE, RESNET, "duplicate", 20),
            ("+.204 [+.105, +.291]", BY_IMAGE, RESNET, "duplicate", 4),
            ("-.049 [-.091, -.006]", BY_GROUP, RESNET, "duplicate", 4),
            ("-.344 [-.456, -.229]", BY_IMAGE, RESNET, "base_synth", 20),
            ("-.119 [-.200, -.019]", BY_GROUP, RESNET, "base_synth", 20),
            ("+.123 [+.012, +.220]", BY_IMAGE, RESNET, "lora", 4),
            ("-.023 [-.063, +.087]", BY_GROUP, RESNET, "lora", 4),
            ("+.264 [+.150, +.358]", BY_IMAGE, RESNET, "lora", 20),
            ("+.007 [-.068, +.168]", BY_GROUP, RESNET, "lora", 20),
            ("-.081 [-.144, -.011]", BY_GROUP, RESNET, "duplicate", 20),
            ("+.275 [+.158, +.377]", BY_IMAGE, RESNET, "synth_only", 20),
            ("-.014 [-.057, +.127]", BY_GROUP, RESNET, "synth_only", 20),
            ("-.063 [-.114, -.025]", BY_IMAGE, TUNED, "lora", 4),
            ("-.165 [-.271, +.048]", BY_GROUP, TUNED, "lora", 4),
            ("-.081 [-.142, -.035]", BY_IMAGE, TUNED, "lora", 20),
            ("-.244 [-.374, +.009]", BY_GROUP, TUNED, "lora", 20),
            ("by image -.032 [-.068, -.004]", BY_IMAGE, TUNED, "lora", 0.5),
            ("by tile -.058 [-.156, +.100]", BY_GROUP, TUNED, "lora", 0.5),
            ("-.240 [-.340, -.154]", BY_IMAGE, TUNED, "synth_only", 20),
            ("-.250 [-.370, -.061]", BY_GROUP, TUNED, "synth_only", 20),
            ("-.209 [-.300, -.131]", BY_IMAGE, TUNED, "base_synth", 20),
            ("-.348 [-.496, -.166]", BY_GROUP, TUNED, "base_synth", 20),
            ("+.005 [-.014, +.030]", BY_IMAGE, TUNED, "duplicate", 4),
            ("-.028 [-.079, +.042]", BY_GROUP, TUNED, "duplicate", 4),
            ("+.002 [-.037, +.040]", BY_IMAGE, TUNED, "duplicate", 20),
            ("-.052 [-.091, +.029]", BY_GROUP, TUNED, "duplicate", 20),
        )
    ),
    *(
        (
            "results/experiments.md",
            snippet,
            SPLITS,
            (XRAYS, split, TUNED, arm(name, ratio)),
            INTERVAL,
        )
        for snippet, split, name, ratio in (
            ("`lora` at 4x -.023 [-.052, +.006]", BY_IMAGE, "lora", 4),
            ("at 20x -.061 [-.096, -.023]", BY_IMAGE, "lora", 20),
            ("4x copies -.021 [-.036, -.006]", BY_IMAGE, "duplicate", 4),
            ("by patient +.024 [-.009, +.052]", BY_GROUP, "lora", 4),
            ("and -.016 [-.053, +.016]", BY_GROUP, "lora", 20),
        )
    ),
    *(
        (
            *("results/experiments.md", snippet, TABLE),
            (XRAYS, who, split, arm("lora" if ratio else "real", ratio), "n_real != 40"),
            "f1 pr_auc",
        )
        for who, split, ratio, snippet in (
            (THERE, BY_IMAGE, 0, "| .193 / .846"),
            (THERE, BY_IMAGE, 4, ".686 / .677"),
            (THERE, BY_IMAGE, 20, ".537 / .741"),
            (HERE, BY_IMAGE, 0, "by image | .329 / .298"),
            (HERE, BY_IMAGE, 4, ".364 / .299"),
            (HERE, BY_IMAGE, 20, ".295 / .300"),
            (RESNET, BY_GROUP, 0, "by patient | .303 / .252"),
            (RESNET, BY_GROUP, 4, ".295 / .243"),
            (RESNET, BY_GROUP, 20, ".237 / .244"),
            (TUNED, BY_IMAGE, 0, "by image | .307 / .417"),
            (TUNED, BY_IMAGE, 2, ".381 / .408"),
            (TUNED, BY_IMAGE, 4, ".331 / .394"),
            (TUNED, BY_IMAGE, 20, ".097 / .356"),
            (TUNED, BY_GROUP, 0, "by patient | .248 / .340"),
            (TUNED, BY_GROUP, 2, ".253 / .355"),
            (TUNED, BY_GROUP, 4, ".250 / .363"),
            (TUNED, BY_GROUP, 20, ".088 / .323"),
        )
    ),
    *(
        (
            "results/experiments.md",
            snippet,
            PATTERN,
            (of, XRAYS, RESNET, split, "n_real == 50"),
            INTERVAL,
        )
        for snippet, of, split in (
            ("F1 by +.035 [+.002, +.065]", AT_HALF, BY_IMAGE),
            ("PR-AUC, +.001 [-.034, +.035]", RANKED, BY_IMAGE),
            ("F1 changes by -.008 [-.043, +.023]", AT_HALF, BY_GROUP),
        )
    ),
    (
        *("results/experiments.md", "that by +.031 [-.001, +.061]", SPLITS),
        *((XRAYS, RESNET, BY_IMAGE, arm("duplicate")), INTERVAL),
    ),
    *(
        ("results/experiments.md", snippet, TABLE, (XRAYS, BY_IMAGE, who, PLAIN), "recall")
        for snippet, who in (
            ("begins at .573", HERE),
            ("theirs at .130", THERE),
        )
    ),
    (
        *("results/experiments.md", "gives away +.078 [+.010, +.144]"),
        *("results/details/paper_leakage.csv", (XRAYS, TUNED), "gives_away low high"),
    ),
    *(
        (
            "results/experiments.md",
            snippet,
            SPLITS,
            (split, TUNED, CRACK, arm("lora", ratio)),
            "difference",
        )
        for snippet, split, ratio in (
            ("-.052 at 2x", BY_IMAGE, 2),
            ("-.081 at 20x", BY_IMAGE, 20),
            (", -.096 and", BY_GROUP, 2),
            ("and -.244.", BY_GROUP, 20),
        )
    ),
    *(
        ("results/experiments.md", snippet, TABLE, (BY_GROUP, TUNED, CRACK, arm(*key)), column)
        for snippet, key, column in (
            (".139 to", ("real", 0), "f1"),
            ("to .283", ("lora", 0.5), "f1"),
            ("from .480", ("real", 0), "pr_auc"),
            ("to .421", ("lora", 0.5), "pr_auc"),
        )
    ),
    *(
        ("results/experiments.md", snippet, TABLE, (BY_IMAGE, TUNED, CRACK, arm(*key)), "f1 recall")
        for snippet, key in (
            ("`finetuned` has .843 and .741", ("real", 0)),
            (".825 and .776", ("lora", 4)),
        )
    ),
    *(
        ("results/experiments.md", snippet, RIVALS, (row, domain), INTERVAL)
        for row, domain, snippet in (
            (pair("contrastive", "synth_both"), CELLS, "`synth_both` | +.001 [-.055, +.038]"),
            (pair("contrastive", "synth_both"), XRAYS, "+.002 [-.026, +.032]"),
            (pair("contrastive", "synth_both"), CRACKS, "-.007 [-.060, +.027]"),
            (pair("contrastive_real", "real"), TILES, "+.029 [-.002, +.074]"),
            (pair("contrastive_real", "real"), XRAYS, "+.026 [-.001, +.057]"),
            (pair("contrastive_real", "real"), CRACKS, "-.020 [-.047, +.002]"),
            (pair("grow", "lora"), CELLS, "minus `lora` | -.007 [-.067, +.043]"),
            (pair("grow", "lora"), XRAYS, "-.026 [-.063, +.013]"),
            (pair("grow", "grow_any"), CELLS, "`grow_any` | -.006 [-.028, +.022]"),
            (pair("grow", "grow_any"), CRACKS, "+.003 [-.016, +.019]"),
            (pair("anneal", "lora"), CELLS, "`anneal` minus `lora` | +.007 [-.021, +.043]"),
            (pair("anneal", "lora"), TILES, "+.018 [-.030, +.074]"),
        )
    ),
    *(
        ("results/experiments.md", snippet, ALL_MINUS_REAL, (arm("synth_both"), domain), INTERVAL)
        for domain, snippet in (
            (CELLS, "+.004 [-.065, +.061]"),
            (TILES, "+.039 [-.016, +.093]"),
            (XRAYS, "+.060 [-.005, +.131]"),
            (CRACKS, "-.017 [-.070, +.082]"),
        )
    ),
    *(
        ("results/experiments.md", snippet, ALL_MINUS_REAL, (arm(name), XRAYS), INTERVAL)
        for name, snippet in (
            ("real_more", "brings +.103 [+.031, +.180]"),
            ("real_base", "bring +.007 [-.025, +.046]"),
            ("base_synth", "bring +.032 [-.026, +.092]"),
        )
    ),
    (
        *("results/experiments.md", "it is +.052 [-.005, +.115]", RIVALS),
        *((pair("synth_both", "real_base"), XRAYS), INTERVAL),
    ),
    *(
        ("results/experiments.md", snippet, COVER, rows, "difference low high")
        for snippet, rows in (
            ("| PR-AUC, probe | -.004 [-.021, +.010]", (CELLS, PROBE)),
            ("-.027 [-.069, +.002]", (TILES, PROBE)),
            ("-.003 [-.019, +.015]", (XRAYS, PROBE)),
            ("**-.022** [-.041, -.003]", (CRACKS, PROBE)),
            ("`whitened` | +.006 [-.009, +.042]", (CELLS, WHITENED)),
            ("-.009 [-.050, +.021]", (TILES, WHITENED)),
            ("-.015 [-.057, +.018]", (XRAYS, WHITENED)),
            ("-.005 [-.032, +.021]", (CRACKS, WHITENED)),
        )
    ),
    *(
        ("results/experiments.md", snippet, GATE, (f"measure == '{measure}'",), f"first {INTERVAL}")
        for measure, snippet in (
            ("kid", "| .552 | -.086 [-.106, -.069]"),
            ("called_rare", "| .987 | -.049 [-.067, -.032]"),
            ("distance_synthetic_synthetic", "| .875 | -.024 [-.038, -.009]"),
            ("auroc_synthetic", "| .998 | +.000 [-.000, +.001]"),
        )
    ),
    *(
        ("results/experiments.md", snippet, JUDGED, rows, "difference low high")
        for snippet, rows in (
            ("by the judge | -.034 [-.056, -.011]", (CELLS, "measure == 'kid'")),
            ("-.133 [-.176, -.092]", ("domain == 'chestxray14'", "measure == 'kid'")),
            ("-.115 [-.167, -.065]", ("domain == 'magnetic_tile'", "measure == 'called_rare'")),
            ("-.090 [-.135, -.045]", (CRACKS, "measure == 'called_rare'")),
        )
    ),
    *(
        ("results/experiments.md", snippet, LEAKS, rows, "gives_away low high")
        for snippet, rows in (
            ("`padim` +.174 [+.050, +.323]", (TILES, "classifier == 'padim'")),
            ("+.174 [+.068, +.365]", (CRACKS, "classifier == 'patch_probe'")),
            ("probe gains +.099 [+.023, +.225]", (CRACKS, PROBE)),
            ("`finetuned` +.098 [-.047, +.242]", (XRAYS, "classifier == 'finetuned'")),
            ("+.067 [+.005, +.210] on `pv_cracks`", (CRACKS, "classifier == 'finetuned'")),
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
    *(
        ("README.md", snippet, SHARES, (XRAYS, f"arm == '{role}'"), columns)
        for snippet, role, columns in (
            ("change PR-AUC by +.113 [+.071, +.148]", "ceiling", INTERVAL),
            ("synthetic ones by +.038 [+.009, +.064]", "synthetic", INTERVAL),
            ("is free by +.019", "free", "difference"),
        )
    ),
    *(
        ("results/experiments.md", snippet, SHARES, (task, f"arm == '{role}'"), columns)
        for snippet, task, role, columns in (
            ("X-rays (.307)", XRAYS, "free", "control_level"),
            ("cells (.734)", CELLS, "free", "control_level"),
            ("tiles (.808)", TILES, "free", "control_level"),
            ("real images | +.113 [+.071, +.148]", XRAYS, "ceiling", INTERVAL),
            ("+.020 [-.005, +.047]", CELLS, "ceiling", INTERVAL),
            ("-.004 [-.035, +.021]", TILES, "ceiling", INTERVAL),
            ("synthetic images | +.038 [+.009, +.064]", XRAYS, "synthetic", INTERVAL),
            ("+.002 [-.016, +.026]", CELLS, "synthetic", INTERVAL),
            ("-.023 [-.054, +.003]", TILES, "synthetic", INTERVAL),
            ("what is free | +.019 [+.000, +.037]", XRAYS, "free", INTERVAL),
            ("-.001 [-.011, +.012]", CELLS, "free", INTERVAL),
            ("-.002 [-.027, +.026]", TILES, "free", INTERVAL),
            ("the share is .34 [.10, .56]", XRAYS, "synthetic", "share share_low share_high"),
            ("what is free is .17", XRAYS, "free", "share"),
        )
    ),
    *(
        ("results/experiments.md", snippet, BESIDE, (task,), INTERVAL)
        for snippet, task in (
            ("minus free | +.019 [-.007, +.047]", XRAYS),
            ("+.003 [-.017, +.030]", CELLS),
            ("-.021 [-.061, +.013]", TILES),
        )
    ),
    *(
        ("results/experiments.md", snippet, FLATTERED, (XRAYS, f"arm == '{role}'"), "level")
        for snippet, role in (
            ("best synthetic way scores .371", "synthetic"),
            ("with `calibrated`, .371", "free"),
            ("in hindsight has .342", "shots"),
        )
    ),
    (
        *("results/experiments.md", "`synth_both`: +.048 [+.015, +.072]", ROTATED),
        *((XRAYS, TUNED, arm("synth_both")), INTERVAL),
    ),
    *(
        ("results/experiments.md", snippet, GAINS, (XRAYS, TUNED, f"arm == '{name}'"), columns)
        for snippet, name, columns in (
            ("+.023 [-.030, +.075]", "synth_both", INTERVAL),
            ("changes it by +.016 [-.002, +.035]", "contrastive_real", INTERVAL),
            ("common images alone by +.001", "synth_common", "difference"),
            ("images by +.088 [+.035, +.141]", "real_more", INTERVAL),
        )
    ),
    *(
        ("results/experiments.md", snippet, VARIETY, (f"measure == '{of}'",), f"first {INTERVAL}")
        for of, snippet in (
            ("distance_synthetic_synthetic", "| .875 | -.001 [-.002, -.000]"),
            ("kid", "| .552 | -.000 [-.001, +.001]"),
            ("called_rare", "| .987 | +.001 [+.000, +.004]"),
            ("auroc_synthetic", "| .998 | +.000 [-.000, +.000]"),
        )
    ),
    *(
        ("results/experiments.md", snippet, STRONG, (f"measure == '{of}'",), "difference")
        for of, snippet in (
            ("distance_synthetic_synthetic", "distance changes by -.006"),
            ("kid", "KID by +.025"),
        )
    ),
    *(
        (
            "results/experiments.md",
            snippet,
            SHARPER,
            (f"domain == '{domain}'", f"measure == '{way}'"),
            columns,
        )
        for snippet, domain, way, columns in (
            (
                "| .334 | **-.026** [-.046, -.008]",
                "chestxray14",
                "finetuned lora 4x",
                f"first {INTERVAL}",
            ),
            ("**-.030** [-.059, -.011]", "chestxray14", "finetuned synth_both 4x", INTERVAL),
            ("| .857 | +.001 [-.008, +.012]", "pv_cracks", "probe lora 4x", f"first {INTERVAL}"),
            ("-.000 [-.008, +.007]", "pv_cracks", "probe synth_both 4x", INTERVAL),
            ("| .870 | +.013 [+.001, +.027]", "pv_cracks", "whitened lora 4x", f"first {INTERVAL}"),
            ("+.009 [-.000, +.022]", "pv_cracks", "whitened synth_both 4x", INTERVAL),
            ("after Holm (p .31)", "pv_cracks", "whitened lora 4x", "p_holm"),
        )
    ),
    *(
        ("results/experiments.md", snippet, TAKEN, (f"rule == '{rule}'",), "chosen")
        for rule, snippet in (
            ("defaults", "| 20, 0, 1 | .708"),
            ("random", "2.24 | .607"),
            ("tpe", "1.46 | .697"),
        )
    ),
    *(
        (
            *("results/experiments.md", snippet, SEARCHED),
            (f"rule == '{rule}' and minus == '{minus}'",),
            columns,
        )
        for snippet, rule, minus, columns in (
            ("| .708 | (.611)", "tpe", "defaults", "first"),
            ("**-.059** [-.087, -.033]", "random", "defaults", INTERVAL),
            ("| .697 | -.014 [-.035, +.006]", "tpe", "defaults", INTERVAL),
            ("its cost, by +.045 [+.007, +.087]", "tpe", "random", INTERVAL),
        )
    ),
    (
        *("README.md", "X-rays -.030 [-.059, -.011]", SHARPER),
        *(("domain == 'chestxray14'", "measure == 'finetuned synth_both 4x'"), INTERVAL),
    ),
    *(
        ("results/experiments.md", snippet, CHESTS, (f"measure == '{of}'",), columns)
        for snippet, of, columns in (
            ("KID changes by -.137 [-.175, -.098]", "kid", INTERVAL),
            ("[-.175, -.098] from .552", "kid", "first"),
            ("+.206 [+.189, +.224]", "distance_synthetic_synthetic", INTERVAL),
            ("[+.189, +.224] from .875", "distance_synthetic_synthetic", "first"),
            ("called rare, -.052 [-.082, -.025]", "called_rare", INTERVAL),
        )
    ),
    *(
        ("results/mini.md", snippet, GUIDED, (f"measure == '{of}'",), f"first {INTERVAL}")
        for of, snippet in (
            ("kid", "| .418 | -.038 [-.056, -.021]"),
            ("distance_synthetic_synthetic", "| 1.095 | +.017 [+.009, +.024]"),
            ("auroc_synthetic", "| .984 | -.011 [-.020, -.003]"),
            ("called_rare", "| .832 | +.014 [-.026, +.060]"),
        )
    ),
    *(
        ("results/mini.md", snippet, LONGER, (f"domain == '{name}' and steps == 40",), "kid")
        for name, snippet in (
            ("elpv", "without it: KID .210"),
            ("magnetic_tile", "KID .210, .031"),
            ("chestxray14", ".031, 1.001"),
            ("pv_cracks", "1.001 and .147"),
        )
    ),
    *(
        (
            *("results/mini.md", snippet, csv),
            (f"domain == '{name}' and autoguidance == {weight}",),
            "kid fine",
        )
        for csv, name, weight, snippet in (
            (BASES, "elpv", 1, "| 1 (none) | .178 | .72"),
            (BASES, "elpv", 2, "| **2** | .093 | .85"),
            (BASES, "magnetic_tile", 2, ".85 | .023 | 1.04"),
            (BASES, "chestxray14", 2, "1.04 | .686 | .77"),
            (BASES, "pv_cracks", 2, ".77 | .094 | .90"),
            (BASES, "pv_cracks", 3, "1.29 | .105 | 1.30"),
            (SMALL, "elpv", 1, "| 1 (none) | .156 | .58"),
            (SMALL, "elpv", 3, "| 3 | .068 | 1.06"),
            (SMALL, "magnetic_tile", 2, ".75 | .013 | .80"),
            (SMALL, "chestxray14", 2, ".80 | .481 | .63"),
            (SMALL, "chestxray14", 3, "1.16 | .417 | .85"),
        )
    ),
    *(
        (
            *("results/experiments.md", snippet, f"results/segmentation/{domain}_compared.csv"),
            (f"measure == '{of}' and arm == '{name}' and minus == '{minus}'",),
            columns,
        )
        for domain, snippet, of, name, minus, columns in (
            ("pv_cracks", "the shots | .506", "dice", "synthetic", "real", "first"),
            ("pv_cracks", "| .506 | .795", "pixel_ap", "synthetic", "real", "first"),
            ("pv_cracks", "the pool | -.011 [-.030, +.009]", "dice", "synthetic", "real", INTERVAL),
            ("pv_cracks", "**-.022** [-.033, -.010]", "pixel_ap", "synthetic", "real", INTERVAL),
            ("pv_cracks", "(free) | -.024 [-.052, +.001]", "dice", "drawn", "real", INTERVAL),
            ("pv_cracks", "+.006 [-.008, +.018]", "pixel_ap", "drawn", "real", INTERVAL),
            ("pv_cracks", "**-.193** [-.260, -.140]", "dice", "synth_only", "real", INTERVAL),
            ("pv_cracks", "**-.202** [-.247, -.163]", "pixel_ap", "synth_only", "real", INTERVAL),
            ("pv_cracks", "-.028 [-.044, -.011]", "pixel_ap", "synthetic", "drawn", INTERVAL),
            ("magnetic_tile", "| .795 | .269", "dice", "synthetic", "real", "first"),
            ("magnetic_tile", "| .269 | .460", "pixel_ap", "synthetic", "real", "first"),
            ("magnetic_tile", "-.010 [-.041, +.021]", "dice", "synthetic", "real", INTERVAL),
            ("magnetic_tile", "-.026 [-.053, +.002]", "pixel_ap", "synthetic", "real", INTERVAL),
            ("magnetic_tile", "+.043 [+.003, +.095]", "dice", "drawn", "real", INTERVAL),
            ("magnetic_tile", "-.009 [-.037, +.022]", "pixel_ap", "drawn", "real", INTERVAL),
            ("magnetic_tile", "**-.181** [-.219, -.142]", "dice", "synth_only", "real", INTERVAL),
            (
                "magnetic_tile",
                "**-.283** [-.348, -.227]",
                "pixel_ap",
                "synth_only",
                "real",
                INTERVAL,
            ),
            ("magnetic_tile", "-.053 [-.094, -.015]", "dice", "synthetic", "drawn", INTERVAL),
        )
    ),
    (
        "results/README.md",
        "where .710877",
        "results/study1/tables/cells.csv",
        ("cell.str.startswith('0ffed08c60b1')",),
        "pr_auc",
    ),
]
