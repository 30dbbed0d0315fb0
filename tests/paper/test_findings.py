"""The paper's claims: they agree with the paper's own numbers, and the committed reference is judged by its plans."""

import math
import shutil
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy import stats

from dynrcnn_ray.paper import table7
from dynrcnn_ray.paper.contrasts import rows_of_paper
from dynrcnn_ray.paper.findings import paper_claims, paper_rows
from dynrcnn_ray.paper.judge import paper_numbers
from dynrcnn_ray.paper.paper import BESIDE, EXPERIMENTS
from dynrcnn_ray.report.findings import RATIO, VERDICTS, judge
from dynrcnn_ray.statistics.estimates import TAIL
from dynrcnn_ray.statistics.power import detectable_effect, seeds_needed
from dynrcnn_ray.store.results_store import ResultStore
from experiments.main import main

REFERENCE = Path(__file__).resolve().parents[2] / "experiments" / "reference_mini"
CONTRASTS = [(claim, contrast) for claim in paper_claims() for contrast in claim.contrasts]
BY_NAME = {experiment.name: experiment for experiment in (*EXPERIMENTS, *BESIDE)}


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    """A copy without its pictures, which nothing here needs."""
    copy = tmp_path_factory.mktemp("store") / "reference"
    shutil.copytree(REFERENCE, copy, ignore=shutil.ignore_patterns("images", "detections", "*.svg"))
    return copy


def test_the_paper_confirms_its_own_claims():
    told = [contrast for _, contrast in CONTRASTS if not math.isnan(contrast.paper)]
    for contrast in told:
        paper = math.exp(contrast.paper) if contrast.unit == RATIO else contrast.paper
        assert contrast.above < round(paper, 6) < contrast.below, contrast
    # Figures have no numbers in the paper, and Table 7 none of training.
    silent = {claim.experiment for claim, contrast in CONTRASTS if math.isnan(contrast.paper)}
    assert silent == {"table7", "figure1", "figure2", "figure5"}


@pytest.mark.parametrize(
    ("experiment", "metric", "difference"),
    [
        # What the paper's text says of its tables.
        ("table2", "AP", 1.8),
        ("table2", "AP", 1.9),
        ("table2", "AP", 2.3),
        ("table3", "AP", 1.0),
        ("table3", "AP", 1.2),
        ("table3", "AP90", 2.9),
        ("table3", "AP", 1.9),
        ("table3", "AP90", 5.5),
        ("table5", "AP90", 3.5),
        ("table8", "AP", 2.1),
    ],
)
def test_differences_are_those_of_the_papers_text(experiment, metric, difference):
    differences = [
        contrast.paper for claim, contrast in CONTRASTS if (claim.experiment, contrast.metric) == (experiment, metric)
    ]
    assert any(found == pytest.approx(difference) for found in differences)


def test_margins_are_the_papers():
    claimed = {
        claim.experiment: (contrast.above, contrast.below)
        for claim, contrast in CONTRASTS
        if contrast.above not in (0.0, 1.0, -math.inf) or contrast.below not in (0.0, math.inf)
    }
    assert claimed == {
        "table3": (-math.inf, pytest.approx(1.0)),
        "table5": (pytest.approx(-0.5), math.inf),
        "table6": (pytest.approx(-1.0), pytest.approx(1.0)),
    }


def test_every_claim_names_rows_and_numbers_that_there_are():
    rows = paper_rows()
    for claim, contrast in CONTRASTS:
        for term in contrast.terms:
            assert term.row in rows[claim.experiment]
            if claim.experiment.startswith("table") and claim.experiment != table7.NAME:
                row = rows_of_paper(BY_NAME[claim.experiment])[term.row]
                metric = term.measure.removeprefix(row.metric_prefix)
                assert metric in BY_NAME[claim.experiment].metrics
                assert term.measure == row.metric_prefix + metric
                assert term.paper == row.reported[metric]
        assert sum(term.weight for term in contrast.terms) == 0


def test_every_table_and_figure_of_a_claim_is_there():
    places = list(dict.fromkeys(claim.place.partition(",")[0] for claim in paper_claims()))
    assert places == [*(f"Table {number}" for number in range(1, 9)), *(f"Figure {number}" for number in (1, 2, 5))]
    claims = [claim.words for claim in paper_claims()]
    assert len(set(claims)) == len(claims)


def test_speed_claims_set_each_detector_against_its_cascade():
    models = list(table7.NAMES)
    for claim, contrast in CONTRASTS:
        if claim.experiment != table7.NAME or len(contrast.terms) != 2:
            continue
        dynamic, cascade = contrast.terms
        assert dynamic.row // 4 == cascade.row // 4 == ("101" in contrast.text)
        assert models[dynamic.row % 4].replace("Dynamic", "Cascade") == models[cascade.row % 4]
        assert (dynamic.weight, cascade.weight) == (1.0, -1.0)
        assert ("Mask" in models[dynamic.row % 4]) == ("with masks" in contrast.text)


def test_the_reference_is_judged_by_its_plans(reference):
    """Differences to a baseline are the tables' own, whatever configuration the trials had."""
    store = ResultStore.open(reference)
    compared = 0
    for judgement in judge(paper_claims(), paper_numbers(store)):
        name = judgement.claim.experiment
        plan = store.plan(name)
        if name not in ("table1", "table3", "table4", "table5") or plan is None:
            continue
        table = pq.read_table(reference / "tables" / f"{name}.parquet").to_pandas().set_index("row")
        baseline = int(plan["baseline_row"].iloc[0])
        for part in judgement.parts:
            row, other = (term.row for term in part.contrast.terms[:2])
            if other != baseline or len(part.contrast.terms) != 2:
                continue
            column = f"delta_{part.contrast.metric}"
            # The tables' intervals are those of a number of seeds that was fixed beforehand.
            found = (part.estimate.mean, *part.estimate.ends(TAIL))
            # One seed has no interval.
            drawn = table.loc[row, [column, f"{column}_low", f"{column}_high"]].tolist()
            assert found == pytest.approx(drawn, nan_ok=True)
            assert part.estimate.n == table.loc[row, "delta_n"]
            assert part.contrast.paper == pytest.approx(table.loc[row, f"{column}_paper"])
            compared += 1
    assert compared >= 9


@pytest.mark.slow
def test_the_command_writes_all_and_the_page_begins_with_it(reference, capsys):
    assert main(["findings", "--storage", str(reference)]) == 0

    out = capsys.readouterr().out
    assert "Of 38 claims of the paper" in out
    rows = pd.read_parquet(reference / "tables" / "findings.parquet")
    assert len(rows) == len(CONTRASTS)
    counts = rows.drop_duplicates("finding")["verdict"].value_counts()
    assert set(counts.index) <= set(VERDICTS)
    for kind in ("md", "tex"):
        assert "Of 38 claims of the paper" in (reference / "tables" / f"findings.{kind}").read_text()
    page = (reference / "report.html").read_text()
    assert page.index('id="findings"') < page.index('id="table3"')
    assert page.count('class="text confirmed"') >= counts["confirmed"]


def test_the_report_draws_them_too(tmp_path, capsys):
    # One table and its baseline alone: the page of every trial of the reference takes long.
    plan = ResultStore.open(REFERENCE).plan("table3")
    for file in ["plans/table3", *(f"trials/{name}" for name in plan.loc[plan["row"] == 0, "trial_id"])]:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(REFERENCE / f"{file}.parquet", tmp_path / f"{file}.parquet")

    assert main(["report", "--storage", str(tmp_path)]) == 0

    assert "claims of the paper: 0 confirmed, 0 contradicted, 0 undecided" in capsys.readouterr().out
    assert (tmp_path / "tables" / "findings.parquet").exists()
    assert 'id="findings"' in (tmp_path / "report.html").read_text()


def test_a_store_without_the_papers_tables_has_no_findings(tmp_path, capsys):
    assert main(["findings", "--storage", str(tmp_path)]) == 0
    assert "run one first, such as table3" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_dry_run_says_how_many_seeds_it_takes(reference, capsys):
    table = pd.read_parquet(reference / "tables" / "table3.parquet").set_index("name").drop("baseline")
    n = table["delta_n"]
    half = (table["delta_AP_high"] - table["delta_AP_low"]) / 2
    deviation = half * n**0.5 / [stats.t.ppf(0.975, seeds - 1) for seeds in n]
    needed = [seeds_needed(*pair) for pair in zip(table["delta_AP_paper"], deviation, strict=True)]

    assert main(["table3", "--dry-run", "--storage", str(reference)]) == 0

    lines = capsys.readouterr().out.splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith("DSL  "))
    told, seeds = lines[first : first + 6 : 2], lines[first + 1 : first + 6 : 2]
    assert [line.split()[-6] for line in told] == [
        f"{spread * detectable_effect(count):.1f}" for spread, count in zip(deviation, n, strict=True)
    ]
    assert [line.removeprefix(" " * 11).split()[4] for line in seeds] == [f"{count:.0f}" for count in needed]

    assert main(["all", "--dry-run", "--storage", str(reference)]) == 0

    assert f"table3 {max(needed):.0f}" in capsys.readouterr().out


def test_a_dry_run_says_nothing_of_seeds_where_nothing_has_run(tmp_path, capsys):
    assert main(["table3", "--dry-run", "--storage", str(tmp_path)]) == 0
    assert main(["all", "--dry-run", "--storage", str(tmp_path)]) == 0
    assert "told from zero" not in (out := capsys.readouterr().out)
    assert "Seeds that tell" not in out
