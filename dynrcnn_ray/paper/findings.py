"""What the paper claims, as data: lines that name rows, with the paper's own numbers.

A claim names rows of an experiment by the paper's labels; the paper's differences are those of the tables' own numbers.
Table 9 has no claim here: most of its rows are other authors' numbers.

Margins, each from the paper's numbers:

- "C does not matter" and "AP50 does not gain": less than the smaller one of the gains in AP that the paper credits to
  its two parts (Table 3: 1.0).
- "At least as good as the best fixed beta": not behind it by as much as the default beta is (Table 5: 0.5).

All but those of Table 7 are lines, as a grid of one's own states them. A speed claim of Table 7 is a ratio of images
per second of timed rounds: it has no trials and no seeds whose numbers a line could compare. Early and late in the
figures are the first and the last fifth of the logged steps.

Command:  dynrcnn findings [--storage DIR]
"""

import itertools
import math
from collections.abc import Mapping, Sequence

from dynrcnn_ray.paper import figure1, figure2, figure5, table1, table2, table3, table4, table5, table6, table7, table8
from dynrcnn_ray.paper.contrasts import change, claims_of, rows_of_paper, shown_as
from dynrcnn_ray.report.findings import RATIO, Claim, Contrast, Term
from dynrcnn_ray.report.trial_numbers import OFFSETS

_MODULES = (table1, table2, table3, table4, table5, table6, table8, figure1, figure2, figure5)
_BACKBONES = ("ResNet-50-FPN", "ResNet-101-FPN")


def paper_rows() -> dict[str, dict[int, Mapping[str, float]]]:
    """The paper's numbers of each row, by experiment and row: what `read_numbers` looks for."""
    experiments = [module.EXPERIMENT for module in _MODULES]
    rows: dict[str, dict[int, Mapping[str, float]]] = {
        experiment.name: {index: row.reported for index, row in enumerate(rows_of_paper(experiment))}
        for experiment in experiments
    }
    rows[table7.NAME] = {index: {} for index in range(2 * len(table7.NAMES))}
    return rows


def paper_claims() -> list[Claim]:
    """All claims, in the order of tables and figures."""
    return [
        *_of_table1(),
        *_of_table2(),
        *_of_table3(),
        *_of_table4(),
        *_of_table5(),
        *_of_table6(),
        *_of_table7(),
        *_of_table8(),
        *_of_figure1(),
        *_of_figure2(),
        *_of_figure5(),
    ]


def _smallest_gain() -> float:
    """The smaller one of the gains in AP of the two parts alone."""
    without, *parts = (table3.PAPER[dla, dsl][0] for dla, dsl in ((False, False), (False, True), (True, False)))
    return min(parts) - without


def _of_table1() -> list[Claim]:
    return claims_of(
        table1.EXPERIMENT,
        {"claim": "A fixed IoU threshold of 0.4 loses AP and AP90", "AP, AP90": "IoU = 0.4 < IoU = 0.5"},
        {
            "claim": "A fixed IoU threshold of 0.6 loses AP and gains AP90",
            "AP": "IoU = 0.6 < IoU = 0.5",
            "AP90": "IoU = 0.6 > IoU = 0.5",
        },
    )


def _of_table2() -> list[Claim]:
    settings = {
        "with ResNet-50 and with ResNet-101": (("", "ResNet-50-FPN"), ("", "ResNet-101-FPN")),
        "with the 2x schedule": (("+2x", "ResNet-50-FPN"), ("+2x", "ResNet-101-FPN")),
        "with multi-scale training": (("+2x+MST", "ResNet-101-FPN"),),
        "with deformable convolutions": (("+2x+MST", "ResNet-101-FPN-DCN"),),
        "with multi-scale testing": (("+2x+MST*", "ResNet-101-FPN-DCN"),),
    }
    pairs = {
        setting: "; ".join(f"Dynamic R-CNN{suffix}, {name} > Faster R-CNN{suffix}, {name}" for suffix, name in rows)
        for setting, rows in settings.items()
    }
    claims = claims_of(
        table2.EXPERIMENT,
        *({"claim": f"Dynamic R-CNN gains AP {setting}", "AP": compared} for setting, compared in pairs.items()),
    )
    return [
        shown_as(claim, [backbone for _, backbone in rows])
        for claim, rows in zip(claims, settings.values(), strict=True)
    ]


def _of_table3() -> list[Claim]:
    margin = f"{_smallest_gain():.1f}"
    return claims_of(
        table3.EXPERIMENT,
        {"claim": "DSL alone gains AP and AP90", "AP, AP90": "DSL > baseline"},
        {"claim": "DLA alone gains AP and AP90", "AP, AP90": "DLA > baseline"},
        {"claim": "DLA and DSL together gain AP and AP90", "AP, AP90": "DLA + DSL > baseline"},
        {"claim": "Together they beat each alone, in AP and AP90", "AP, AP90": "DLA + DSL > DSL, DLA"},
        {
            "claim": f"AP50 does not gain: by less than {margin}",
            "AP50": f"DSL, DLA, DLA + DSL < baseline + {margin}",
        },
        {"claim": "Together they gain more at AP90 than at AP50", "AP90 - AP50": "DLA + DSL > baseline"},
    )


def _of_table4() -> list[Claim]:
    rows = [f"K_I = {top_k}" for top_k in table4.PAPER]
    return claims_of(
        table4.EXPERIMENT,
        {"claim": "DLA gains AP whatever K_I", "AP": f"{', '.join(rows)} > Baseline"},
        {"claim": "The smaller K_I, the higher AP90", "AP90": " > ".join(rows)},
        {"claim": "The larger K_I, the higher AP50", "AP50": " > ".join(rows[::-1])},
    )


def _of_table5() -> list[Claim]:
    fixed = ", ".join(f"β = {beta}" for beta in table5.PAPER_FIXED)
    others = ", ".join(f"K_β = {top_k}" for top_k in table5.PAPER_DSL if top_k != 10)
    reported = {beta: numbers[0] for beta, numbers in table5.PAPER_FIXED.items()}
    margin = f"{max(reported.values()) - reported[1.0]:.1f}"
    return claims_of(
        table5.EXPERIMENT,
        {"claim": "A fixed beta of 2.0 loses AP", "AP": "β = 2.0 < β = 1.0"},
        {"claim": "A fixed beta of 0.5 gains AP", "AP": "β = 0.5 > β = 1.0"},
        {
            "claim": f"DSL is at least as good as the best fixed beta: behind none by {margin} AP",
            "AP": f"K_β = 10 + {margin} > {fixed}",
        },
        {"claim": "At AP90, DSL is better than every fixed beta", "AP90": f"K_β = 10 > {fixed}"},
        {"claim": "K_β = 10 is the best in AP", "AP": f"K_β = 10 > {others}"},
    )


def _of_table6() -> list[Claim]:
    margin = f"{_smallest_gain():.1f}"
    pairs = itertools.combinations((f"C = {interval}" for interval in table6.PAPER), 2)
    return claims_of(
        table6.EXPERIMENT,
        {
            "claim": f"C does not matter: AP differs by less than {margin}",
            "AP": "; ".join(f"|{one} - {other}| < {margin}" for one, other in pairs),
        },
    )


def _of_table7() -> list[Claim]:
    pairs = {"": ("Dynamic R-CNN", "Cascade R-CNN"), " with masks": ("Dynamic Mask R-CNN", "Cascade Mask R-CNN")}

    def terms(phase: str, backbone: int, models: Sequence[str], sign: float = 1.0) -> tuple[Term, ...]:
        return tuple(
            Term(
                row=backbone * len(table7.NAMES) + list(table7.NAMES).index(model),
                measure=phase,
                weight=sign * weight,
                paper=table7.PAPER[model][backbone] if phase == "inference" else math.nan,
            )
            for model, weight in zip(models, (1.0, -1.0), strict=True)
        )

    def faster(phase: str, text: str, models: Sequence[str]) -> list[Contrast]:
        return [
            Contrast(f"{backbone}{text}", f"{phase} speed", RATIO, terms(phase, index, models), above=1.0)
            for index, backbone in enumerate(_BACKBONES)
        ]

    more_so = [
        Contrast(
            f"{backbone}: the ratio with masks over the ratio without",
            "inference speed",
            RATIO,
            (*terms("inference", index, pairs[" with masks"]), *terms("inference", index, pairs[""], -1.0)),
            above=1.0,
        )
        for index, backbone in enumerate(_BACKBONES)
    ]
    place = "Table 7, Section 5.5. Speed of Dynamic against Cascade R-CNN"
    training = [contrast for text, models in pairs.items() for contrast in faster("training", text, models)]
    return [
        *(
            Claim(
                table7.NAME,
                place,
                f"Dynamic R-CNN{text} detects faster than Cascade R-CNN",
                tuple(faster("inference", text, models)),
            )
            for text, models in pairs.items()
        ),
        Claim(table7.NAME, place, "Masks widen the lead", tuple(more_so)),
        Claim(table7.NAME, place, "Cascade R-CNN takes longer to train", tuple(training)),
    ]


def _of_table8() -> list[Claim]:
    def gain(backbone: str, task: str) -> str:
        return f"[{backbone}, {task}, +Dynamic] - [{backbone}, {task}, no +Dynamic]"

    claims = claims_of(
        table8.EXPERIMENT,
        *(
            {
                "claim": f"Dynamic training of Mask R-CNN gains {name} AP",
                "AP": "; ".join(f"{gain(backbone, task)} > 0" for backbone in _BACKBONES),
            }
            for task, name in (("bbox", "box"), ("segm", "mask"))
        ),
        {
            "claim": "Masks gain less than boxes",
            "AP": "; ".join(f"{gain(backbone, 'segm')} < {gain(backbone, 'bbox')}" for backbone in _BACKBONES),
        },
    )
    less = [f"{backbone}: gain of the masks against gain of the boxes" for backbone in _BACKBONES]
    return [shown_as(claim, texts) for claim, texts in zip(claims, (_BACKBONES, _BACKBONES, less), strict=True)]


def _of_figure1() -> list[Claim]:
    levels = range(50, 100, 10)
    positives, offsets, ranks = claims_of(
        figure1.EXPERIMENT,
        {
            "claim": "While the baseline trains, positives increase at every IoU threshold",
            ", ".join(change(f"positives_iou{level}") for level in levels): "baseline > 0",
        },
        {
            "claim": "Their offsets shrink",
            f"{change('sigma_dx')}, {change('sigma_dw')}": "baseline < 0",
        },
        {
            "claim": "The K_I-th best IoU rises and the K_β-th smallest error falls",
            change("iou_at_rank"): "baseline > 0",
            change("error_at_rank"): "baseline < 0",
        },
    )
    return [
        shown_as(positives, [f"IoU 0.{level // 10}" for level in levels], ["proposals/image"] * len(levels)),
        shown_as(offsets, ["spread in x", "spread in width"], ["sigma of dx", "sigma of dw"]),
        shown_as(ranks, ["K_I-th best IoU", "K_β-th smallest error"], ["IoU", "error"]),
    ]


def _of_figure2() -> list[Claim]:
    sigmas = [f"sigma of {offset}" for offset in OFFSETS]
    during, above = claims_of(
        figure2.EXPERIMENT,
        {
            "claim": "At the same IoU, the positives' offsets shrink during training",
            ", ".join(map(change, sigmas)): "baseline < 0",
        },
        {
            "claim": "At a higher IoU threshold they are smaller",
            ", ".join(f"late {sigma} at IoU 0.6 - late {sigma}" for sigma in sigmas): "baseline < 0",
        },
    )
    return [
        shown_as(during, ["late against early"] * len(sigmas), sigmas),
        shown_as(above, ["late, IoU 0.6 against 0.5"] * len(sigmas), sigmas),
    ]


def _of_figure5() -> list[Claim]:
    by_iou = [f"K_I = {top_k}" for top_k in sorted(table4.PAPER)]
    by_beta = [f"K_β = {top_k}" for top_k in sorted(table5.PAPER_DSL, reverse=True)]
    rises, falls, *in_order = claims_of(
        figure5.EXPERIMENT,
        {"claim": "T_now rises whatever K_I", change("T_now"): f"{', '.join(by_iou)} > 0"},
        {"claim": "beta_now falls whatever K_β", change("beta_now"): f"{', '.join(by_beta)} < 0"},
        {"claim": "The smaller K_I, the higher T_now ends", "late T_now": " > ".join(by_iou)},
        {"claim": "The larger K_β, the higher beta_now ends", "late beta_now": " > ".join(by_beta)},
    )
    return [
        shown_as(rises, metrics=["T_now"] * len(by_iou)),
        shown_as(falls, metrics=["beta_now"] * len(by_beta)),
        *in_order,
    ]
