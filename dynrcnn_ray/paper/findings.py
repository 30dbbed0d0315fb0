"""What the paper claims, as data: contrasts of rows with the paper's own numbers.

A claim names rows of an experiment by the paper's labels; the paper's differences are those of the tables' own numbers.
Table 9 has no claim here: most of its rows are other authors' numbers.

Margins, each from the paper's numbers:

- "C does not matter" and "AP50 does not gain": less than the smaller one of the gains in AP that the paper credits to
  its two parts (Table 3: 1.0).
- "At least as good as the best fixed beta": not behind it by as much as the default beta is (Table 5: 0.5).

A speed claim of Table 7 is a ratio of images per second. Early and late in the figures are the first and the last fifth
of the logged steps.

Command:  dynrcnn findings [--storage DIR]
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence

from dynrcnn_ray.paper import figure1, figure2, figure5, table1, table2, table3, table4, table5, table6, table7, table8
from dynrcnn_ray.paper.contrasts import (
    NamedRow,
    between,
    difference,
    falls,
    finding,
    gains,
    in_late_order,
    in_order,
    loses,
    named_row,
    rises,
    rows_of_paper,
    unit_of,
)
from dynrcnn_ray.report.findings import RATIO, Contrast, Finding, Term
from dynrcnn_ray.report.trial_numbers import OFFSETS
from dynrcnn_ray.store.labels import CHECK
from dynrcnn_ray.store.schemas import PROPOSALS

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


def paper_findings() -> list[Finding]:
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


def _of_table1() -> list[Finding]:
    low, middle, high = (named_row(table1.EXPERIMENT, {"IoU": iou}) for iou in ("0.4", "0.5", "0.6"))
    return [
        finding(
            table1.EXPERIMENT,
            "A fixed IoU threshold of 0.4 loses AP and AP90",
            loses(low, middle, "AP"),
            loses(low, middle, "AP90"),
        ),
        finding(
            table1.EXPERIMENT,
            "A fixed IoU threshold of 0.6 loses AP and gains AP90",
            loses(high, middle, "AP"),
            gains(high, middle, "AP90"),
        ),
    ]


def _of_table2() -> list[Finding]:
    settings = {
        "with ResNet-50 and with ResNet-101": (("", "ResNet-50-FPN"), ("", "ResNet-101-FPN")),
        "with the 2x schedule": (("+2x", "ResNet-50-FPN"), ("+2x", "ResNet-101-FPN")),
        "with multi-scale training": (("+2x+MST", "ResNet-101-FPN"),),
        "with deformable convolutions": (("+2x+MST", "ResNet-101-FPN-DCN"),),
        "with multi-scale testing": (("+2x+MST*", "ResNet-101-FPN-DCN"),),
    }

    def gain(suffix: str, backbone: str) -> Contrast:
        with_dynamic, without = (
            named_row(table2.EXPERIMENT, {"Method": f"{method}{suffix}", "Backbone": backbone})
            for method in ("Dynamic R-CNN", "Faster R-CNN")
        )
        return dataclasses.replace(gains(with_dynamic, without, "AP"), text=backbone)

    return [
        finding(table2.EXPERIMENT, f"Dynamic R-CNN gains AP {setting}", *(gain(*row) for row in rows))
        for setting, rows in settings.items()
    ]


def _of_table3() -> list[Finding]:
    experiment = table3.EXPERIMENT
    baseline, dsl, dla, both = (named_row(experiment, {"DLA": a, "DSL": b}) for a in ("", CHECK) for b in ("", CHECK))
    margin = _smallest_gain()
    return [
        finding(
            experiment,
            f"{name} AP and AP90",
            gains(row, baseline, "AP"),
            gains(row, baseline, "AP90"),
        )
        for name, row in (("DSL alone gains", dsl), ("DLA alone gains", dla), ("DLA and DSL together gain", both))
    ] + [
        finding(
            experiment,
            "Together they beat each alone, in AP and AP90",
            *(gains(both, alone, metric) for alone in (dsl, dla) for metric in ("AP", "AP90")),
        ),
        finding(
            experiment,
            f"AP50 does not gain: by less than {margin:.1f}",
            *(between(row, baseline, "AP50", -math.inf, margin) for row in (dsl, dla, both)),
        ),
        finding(
            experiment,
            "Together they gain more at AP90 than at AP50",
            Contrast(
                "gain at AP90 against gain at AP50",
                "AP90 - AP50",
                "percent",
                (*difference(both, baseline, "AP90"), *difference(both, baseline, "AP50", sign=-1.0)),
            ),
        ),
    ]


def _of_table4() -> list[Finding]:
    experiment = table4.EXPERIMENT
    baseline = named_row(experiment, {"Setting": "Baseline"})
    rows = [named_row(experiment, {"Setting": f"K_I = {top_k}"}) for top_k in table4.PAPER]
    return [
        finding(experiment, "DLA gains AP whatever K_I", *(gains(row, baseline, "AP") for row in rows)),
        finding(experiment, "The smaller K_I, the higher AP90", *in_order(rows, "AP90")),
        finding(experiment, "The larger K_I, the higher AP50", *in_order(rows[::-1], "AP50")),
    ]


def _of_table5() -> list[Finding]:
    experiment = table5.EXPERIMENT
    fixed = {beta: named_row(experiment, {"Setting": f"β = {beta}"}) for beta in table5.PAPER_FIXED}
    dsl = {top_k: named_row(experiment, {"K_β": str(top_k)}) for top_k in table5.PAPER_DSL}
    best = dsl[10]
    default = fixed[1.0]
    margin = max(row.row.reported["AP"] for row in fixed.values()) - default.row.reported["AP"]
    return [
        finding(experiment, "A fixed beta of 2.0 loses AP", loses(fixed[2.0], default, "AP")),
        finding(experiment, "A fixed beta of 0.5 gains AP", gains(fixed[0.5], default, "AP")),
        finding(
            experiment,
            f"DSL is at least as good as the best fixed beta: behind none by {margin:.1f} AP",
            *(between(best, row, "AP", -margin, math.inf) for row in fixed.values()),
        ),
        finding(
            experiment,
            "At AP90, DSL is better than every fixed beta",
            *(gains(best, row, "AP90") for row in fixed.values()),
        ),
        finding(
            experiment,
            "K_β = 10 is the best in AP",
            *(gains(best, row, "AP") for top_k, row in dsl.items() if top_k != 10),
        ),
    ]


def _of_table6() -> list[Finding]:
    rows = [named_row(table6.EXPERIMENT, {"Setting": f"C = {interval}"}) for interval in table6.PAPER]
    margin = _smallest_gain()
    return [
        finding(
            table6.EXPERIMENT,
            f"C does not matter: AP differs by less than {margin:.1f}",
            *(between(one, other, "AP", -margin, margin) for one, other in itertools.combinations(rows, 2)),
        )
    ]


def _of_table7() -> list[Finding]:
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
            Finding(
                table7.NAME,
                place,
                f"Dynamic R-CNN{text} detects faster than Cascade R-CNN",
                tuple(faster("inference", text, models)),
            )
            for text, models in pairs.items()
        ),
        Finding(table7.NAME, place, "Masks widen the lead", tuple(more_so)),
        Finding(table7.NAME, place, "Cascade R-CNN takes longer to train", tuple(training)),
    ]


def _of_table8() -> list[Finding]:
    def pair(backbone: str, task: str) -> tuple[NamedRow, NamedRow]:
        with_dynamic, without = (
            named_row(table8.EXPERIMENT, {"Backbone": backbone, "Task": task, "+Dynamic": cell}) for cell in (CHECK, "")
        )
        return with_dynamic, without

    less = [
        Contrast(
            f"{backbone}: gain of the masks against gain of the boxes",
            "AP",
            "percent",
            (*difference(*pair(backbone, "segm"), "AP"), *difference(*pair(backbone, "bbox"), "AP", sign=-1.0)),
            above=-math.inf,
            below=0.0,
        )
        for backbone in _BACKBONES
    ]
    return [
        *(
            finding(
                table8.EXPERIMENT,
                f"Dynamic training of Mask R-CNN gains {name} AP",
                *(dataclasses.replace(gains(*pair(backbone, task), "AP"), text=backbone) for backbone in _BACKBONES),
            )
            for task, name in (("bbox", "box"), ("segm", "mask"))
        ),
        finding(table8.EXPERIMENT, "Masks gain less than boxes", *less),
    ]


def _of_figure1() -> list[Finding]:
    baseline = named_row(figure1.EXPERIMENT, {})
    return [
        finding(
            figure1.EXPERIMENT,
            "While the baseline trains, positives increase at every IoU threshold",
            *(rises(baseline, f"positives_iou{level}", f"IoU 0.{level // 10}") for level in range(50, 100, 10)),
        ),
        finding(
            figure1.EXPERIMENT,
            "Their offsets shrink",
            *(falls(baseline, f"sigma_d{axis}", f"spread in {side}") for axis, side in (("x", "x"), ("w", "width"))),
        ),
        finding(
            figure1.EXPERIMENT,
            "The K_I-th best IoU rises and the K_β-th smallest error falls",
            rises(baseline, "iou_at_rank", "K_I-th best IoU"),
            falls(baseline, "error_at_rank", "K_β-th smallest error"),
        ),
    ]


def _of_figure2() -> list[Finding]:
    baseline = named_row(figure2.EXPERIMENT, {})

    def shrinks(text: str, minuend: str, subtrahend: str) -> list[Contrast]:
        return [
            Contrast(
                text,
                f"sigma of {offset}",
                unit_of(PROPOSALS, offset),
                (
                    Term(baseline.index, minuend.format(offset)),
                    Term(baseline.index, subtrahend.format(offset), weight=-1.0),
                ),
                above=-math.inf,
                below=0.0,
            )
            for offset in OFFSETS
        ]

    return [
        finding(
            figure2.EXPERIMENT,
            "At the same IoU, the positives' offsets shrink during training",
            *shrinks("late against early", "late sigma of {}", "early sigma of {}"),
        ),
        finding(
            figure2.EXPERIMENT,
            "At a higher IoU threshold they are smaller",
            *shrinks("late, IoU 0.6 against 0.5", "late sigma of {} at IoU 0.6", "late sigma of {}"),
        ),
    ]


def _of_figure5() -> list[Finding]:
    experiment = figure5.EXPERIMENT
    by_iou = [named_row(experiment, {"K_I": str(top_k), "K_β": ""}) for top_k in sorted(table4.PAPER)]
    by_beta = [
        named_row(experiment, {"K_I": "", "K_β": str(top_k)}) for top_k in sorted(table5.PAPER_DSL, reverse=True)
    ]
    return [
        finding(experiment, "T_now rises whatever K_I", *(rises(row, "T_now", row.name) for row in by_iou)),
        finding(experiment, "beta_now falls whatever K_β", *(falls(row, "beta_now", row.name) for row in by_beta)),
        finding(experiment, "The smaller K_I, the higher T_now ends", *in_late_order(by_iou, "T_now")),
        finding(experiment, "The larger K_β, the higher beta_now ends", *in_late_order(by_beta, "beta_now")),
    ]
