"""The numbers that documents state are those of the stored rows.

Each sentence is written here with its numbers computed from the rows: a document that says otherwise lacks it.
"""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dynrcnn_ray.paper.drawings.sync import recorded
from dynrcnn_ray.paper.simulation import simulate_spread
from dynrcnn_ray.report.drift import DYNAMICS_COLUMNS, with_drift
from dynrcnn_ray.report.finding_table import FINDINGS, FINDINGS_FILE
from dynrcnn_ray.statistics.estimates import mean_estimate
from dynrcnn_ray.store.parquet import from_parquet_bytes
from dynrcnn_ray.store.results_store import ResultStore

ROOT = Path(__file__).resolve().parents[2]
PARTS = {"baseline": ("", ""), "DSL": ("", "✓"), "DLA": ("✓", ""), "DLA + DSL": ("✓", "✓")}


@cache
def text_of(path: str) -> str:
    """A document with every run of blanks as one, since lines are broken anywhere; without emphasis."""
    return " ".join((ROOT / path).read_text().replace("**", "").split())


def store_of(name: str) -> ResultStore:
    return ResultStore.open(ROOT / "experiments" / name)


@cache
def table_of(store: str, name: str) -> pd.DataFrame:
    return pd.read_parquet(ROOT / "experiments" / store / "tables" / f"{name}.parquet")


@cache
def rows_of(store: str, plan: str) -> pd.DataFrame:
    """The logged steps of a plan's trials, each with its row's name as the table has it, and its seed."""
    results, names = store_of(store), dict(table_of(store, plan)[["row", "name"]].to_records(index=False).tolist())
    lines = results.plan(plan)
    assert lines is not None
    lines = lines.dropna(subset="trial_id").assign(row_name=lines["row"].map(names))
    return results.dynamics(lines["trial_id"]).merge(lines[["trial_id", "row_name", "seed"]], on="trial_id")


def ends(store: str, plan: str, column: str) -> pd.Series:
    """The mean over the seeds of a column's last value, by row."""
    last = rows_of(store, plan).sort_values("step").groupby(["row_name", "seed"]).tail(1)
    return last.groupby("row_name")[column].mean()


def short(number: float, digits: int = 2) -> str:
    return f"{number:.{digits}f}".removeprefix("0")


def signed(number: float) -> str:
    """As tables have it: a rounded -0.0 is +0.0."""
    return f"{round(number, 1) + 0.0:+.1f}"


def with_interval(mean: float, low: float, high: float) -> str:
    return f"{signed(mean)} [{signed(low)}, {signed(high)}]"


def mean_with_interval(values: pd.Series) -> str:
    found = mean_estimate(values.tolist())
    return with_interval(found.mean, *found.interval())


def passes(rows: pd.DataFrame, bound: float) -> list[int]:
    """The first logged step of each seed at which T_now is above a bound."""
    return sorted(rows.loc[rows["T_now"] > bound].groupby(["row_name", "seed"])["step"].min())


def markdown_tables(path: str) -> list[list[list[str]]]:
    lines = (ROOT / path).read_text().replace("**", "")
    tables = re.findall(r"(?:^\|.*\n)+", lines, re.MULTILINE)
    return [[[cell.strip() for cell in line.strip("|").split("|")] for line in each.splitlines()] for each in tables]


def of_rows(path: str, head: str) -> dict[str, dict[str, str]]:
    """The cells of the table whose head has these columns, by row and column."""
    (table,) = [each for each in markdown_tables(path) if " ".join(each[0]).startswith(head)]
    return {line[0]: dict(zip(table[0][1:], line[1:], strict=True)) for line in table[2:]}


def in_table3(store: str, row: str) -> Mapping[str, Any]:
    table = table_of(store, "table3")
    (found,) = table[(table["DLA"] == PARTS[row][0]) & (table["DSL"] == PARTS[row][1])].to_dict("records")
    return found


@pytest.mark.parametrize(
    ("store", "head"),
    [
        ("reference_voc", "three seeds AP AP50 AP60 AP70 AP80 AP90"),
        ("reference_voc_cpu", " AP AP50 AP60 AP70 AP75 AP80 AP90"),
    ],
)
def test_table_3_of_a_reference(store: str, head: str):
    stated = of_rows(f"experiments/{store}/README.md", head)
    assert stated.keys() == PARTS.keys()
    trials = store_of(store).trials().set_index("trial_id")
    plan = store_of(store).plan("table3")
    assert plan is not None
    for name, cells in stated.items():
        row = in_table3(store, name)
        ids = plan.loc[plan["row"] == row["row"], "trial_id"]
        assert cells == {metric: f"{trials.loc[ids, metric].mean():.1f}" for metric in cells}


def test_the_differences_on_photographs():
    stated = of_rows("experiments/reference_voc/README.md", " AP AP50 AP80 AP90 the paper's AP, AP50, AP80, AP90")
    metrics = ("AP", "AP50", "AP80", "AP90")
    for name, cells in stated.items():
        row = in_table3("reference_voc", name)
        for metric in metrics:
            mean, low, high = (row[f"delta_{metric}{end}"] for end in ("", "_low", "_high"))
            assert cells[metric] == with_interval(mean, low, high)
        papers = ", ".join(f"{row[f'delta_{metric}_paper']:+.1f}" for metric in metrics)
        assert cells["the paper's AP, AP50, AP80, AP90"] == papers


def test_the_course_on_photographs():
    text, rows = text_of("experiments/reference_voc/README.md"), rows_of("reference_voc", "table3")
    baseline = rows[rows["row_name"] == "baseline"]
    dla = rows[rows["row_name"].isin(["DLA", "DLA + DSL"])]
    of_dla = dla[dla["step"] >= 350].groupby("step")["positives"].mean()
    windows = ({350}, set(range(2750, 3001)))
    first, last = (baseline[baseline["step"].isin(window)]["positives"].mean() for window in windows)
    assert f"With DLA some {round(of_dla.mean(), -1):.0f} an image are sampled from step 350 to the end" in text
    assert f"while the baseline's climb from {first:.0f} to {last:.0f}." in text
    of_t_now, of_beta = (ends("reference_voc", "table3", name).mean() for name in ("T_now", "beta_now"))
    assert f"T_now climbs from .40 to {short(of_t_now)}, beta_now falls from 1 to {short(of_beta)}." in text
    early, late = passes(dla, 0.5)[0], passes(dla, 0.5)[-1]
    assert f"T_now passes the fixed .5 only at step {early:,} to {late:,} of 3,000 in DLA's rows" in text
    errors = {name: _misplaced(name) for name in PARTS}
    counts = f"{errors['baseline']:,} of the baseline's have the right class at an IoU below .5, {errors['DSL']:,} of"
    assert f"{counts} DSL's, {errors['DLA']} of DLA's, {errors['DLA + DSL']} of both" in text
    fewer = {name: 1 - errors[name] / errors["baseline"] for name in ("DLA", "DLA + DSL")}
    told = f"DLA alone leaves {100 * fewer['DLA']:.0f} % fewer badly placed detections, both parts a third fewer"
    assert told in text
    assert fewer["DLA + DSL"] == pytest.approx(1 / 3, abs=0.02)


def _misplaced(name: str) -> int:
    """Detections of the right class at a wrong place, of seed 0."""
    plan = store_of("reference_voc").plan("table3")
    assert plan is not None
    row = in_table3("reference_voc", name)["row"]
    (trial,) = plan.loc[(plan["row"] == row) & (plan["seed"] == 0), "trial_id"]
    errors = pd.read_parquet(ROOT / "experiments" / "reference_voc" / "errors" / f"{trial}.parquet")
    return int(errors.set_index("kind").loc["Loc", "count"])


def test_the_speed_on_two_cores():
    rows = rows_of("reference_voc_cpu", "table3")
    of_trials = 1000 / rows.groupby("row_name")["images_per_second"].median()
    text = text_of("experiments/reference_voc_cpu/README.md")
    assert f"medians of {of_trials.min():.0f} to {of_trials.max():.0f} ms an image" in text


def test_the_tables_of_blood_cells():
    stated = of_rows("experiments/reference_bccd/README.md", "K_I of 512")
    wide, three = table_of("reference_bccd", "table4_wide"), in_table3("reference_bccd", "DLA")
    for name, cells in stated.items():
        top_k = name.split()[0]
        (row,) = wide[wide["name"] == f"K_I = {top_k}"].to_dict("records")
        assert cells["T_now at the end"] == f"{row['final_T_now']:.2f}"
        assert cells["positives an image"] == f"{row['final_positives']:.1f}"
        for metric, column in (("AP", "AP against the baseline"), ("AP80", "AP80"), ("AP90", "AP90")):
            mean, low, high = (row[f"delta_{metric}{end}"] for end in ("", "_low", "_high"))
            assert cells[column] in (f"{mean:+.1f}", with_interval(mean, low, high))
    lost = f"{-three['delta_AP']:.1f} AP [{three['delta_AP_low']:+.1f}, {three['delta_AP_high']:+.1f}]"
    assert f"DLA costs {lost}, DSL changes nothing at all" in text_of("experiments/reference_bccd/README.md")
    assert f"the paper's K_I costs {lost}" in text_of("docs/results.md")


def test_table_3_of_the_results():
    """The page shows the stored table without the backbone, which is the same in all rows."""
    stored = markdown_tables("experiments/reference_mini/tables/table3.md")[0]
    (shown,) = [each for each in markdown_tables("docs/results.md") if each[0][:2] == ["DLA", "DSL"]]
    assert [line[1:] for line in (stored[0], *stored[2:])] == [shown[0], *shown[2:]]
    both, gains = in_table3("reference_mini", "DLA + DSL"), []
    for metric in ("AP", "AP90"):
        mean, low, high = (both[f"delta_{metric}{end}"] for end in ("", "_low", "_high"))
        gains.append(f"{mean:.1f} {metric} [{low:+.1f}, {high:+.1f}]")
    assert f"Both parts together gain {gains[0]} (the paper's +1.9) and {gains[1]} (+5.5)" in text_of("docs/results.md")
    assert f"DLA + DSL at +{gains[0]} (the paper's +1.9)" in text_of("README.md")


def verdicts_of_reference_mini() -> pd.DataFrame:
    content = (ROOT / "experiments" / "reference_mini" / FINDINGS_FILE).read_bytes()
    return pd.DataFrame(from_parquet_bytes(content, FINDINGS).to_pylist()).drop_duplicates("finding")


def test_the_readme_is_read_in_four_minutes():
    assert len((ROOT / "README.md").read_text().split()) <= 1000


def test_the_readme_says_what_is_shown():
    counts = verdicts_of_reference_mini()["verdict"].value_counts()
    assert counts["contradicted"] == 1
    told = (
        f"of its {counts.sum()} claims {counts['confirmed']} are confirmed, one is contradicted, {counts['undecided']}"
    )
    assert f"{told} are undecided" in text_of("README.md")
    on_photographs = in_table3("reference_voc", "DLA + DSL")
    mean, low, high = (on_photographs[f"delta_AP{end}"] for end in ("", "_low", "_high"))
    assert f"(PASCAL VOC, three seeds): {mean:+.1f} AP [{low:+.1f}, {high:+.1f}], undecided" in text_of("README.md")
    assert low < 0 < high


def test_the_verdicts_of_the_results():
    findings = verdicts_of_reference_mini()
    place = findings["place"].str.extract(r"^((?:Table|Figure) \d)")[0]
    for name, cells in of_rows("docs/results.md", " claims confirmed contradicted undecided").items():
        own = findings if name == "all" else findings[place == name]
        assert int(cells["claims"]) == len(own), name
        for verdict in ("confirmed", "contradicted", "undecided"):
            number = int((own["verdict"] == verdict).sum())
            assert cells[verdict] == (str(number) if number else "-"), (name, verdict)
        after_holm = int((own["verdict_holm"] == "confirmed").sum())
        assert cells["confirmed after Holm"] == (str(after_holm) if after_holm else "-"), name


def test_the_checksums_of_every_number_of_workers_are_one():
    """Printed by `python -m benchmarks.checksums`; `tests/training/test_shards.py` holds that they are."""
    lines = re.findall(
        r"^\| ([\d, then]+) \| `([0-9a-f]{16})` \|$", (ROOT / "docs/shards.md").read_text(), re.MULTILINE
    )
    assert [label for label, _ in lines] == ["1", "2", "3", "4", "8", "8, then 3, then 5"]
    (checksum,) = {found for _, found in lines}
    assert f"`{checksum}`" in text_of("README.md")


def test_what_shards_cost():
    rows = table_of("reference_cpu", "benchmarks").set_index("name")
    stated = of_rows("docs/shards.md", "a step against mini ResNet-50-FPN")
    for row, name in (("of two workers, a shard each", "two_workers"), ("of one worker with two shards", "one_worker")):
        for column, model in (("mini", "mini"), ("ResNet-50-FPN", "resnet-50")):
            ratio, low, high = rows.loc[f"shards.{model}.{name}", ["ratio", "interval_low", "interval_high"]]
            assert stated[row][column] == f"{ratio:.3f} x ({low:.3f} to {high:.3f})"
    two, one = (rows.loc[f"shards.memory.{name}", "median_a"] for name in ("two_workers", "one_worker"))
    assert f"two workers need {two:.0f} MB more" in text_of("docs/shards.md")
    assert f"two shards needs {-one:.0f} MB less" in text_of("docs/shards.md")


@cache
def pairs_of_the_all_reduce() -> pd.DataFrame:
    """A line for each trial without it: what its trial with it has more, and how far its own shards lie apart."""
    store = store_of("reference_sync")
    plan = store.plan("sync")
    assert plan is not None
    trials = with_drift(plan, store.trials(plan["trial_id"]), store.dynamics(plan["trial_id"], DYNAMICS_COLUMNS))
    labels = pd.DataFrame(dict(cells) for cells in plan["labels"])
    lines = pd.concat([plan[["seed", "trial_id"]], labels], axis=1).merge(trials.drop(columns="seed"), on="trial_id")
    lines = lines[lines["Shards"] != "1"].set_index(["Convention", "C", "Shards", "seed"])
    shared, alone = lines[lines["All-reduce"] != ""], lines[lines["All-reduce"] == ""]
    return alone.assign(gain_AP=shared["AP"] - alone["AP"], gain_AP90=shared["AP90"] - alone["AP90"]).reset_index()


def gain_of_seeds(rows: pd.DataFrame, column: str) -> str:
    """The mean over the settings, with its interval over the seeds."""
    return mean_with_interval(rows.groupby("seed")[column].mean())


def test_what_the_all_reduce_changes():
    rows, page = pairs_of_the_all_reduce(), "experiments/reference_sync/README.md"
    assert len(rows) == 12 * 3
    gain, gain90 = gain_of_seeds(rows, "gain_AP"), gain_of_seeds(rows, "gain_AP90")
    by_seed = ", ".join(map(signed, rows.groupby("seed")["gain_AP"].mean()))
    assert f"{gain} AP ({by_seed} by seed), {gain90} AP90" in text_of(page)
    assert f"{gain} over three seeds" in text_of("docs/results.md")
    of = {name: gain_of_seeds(each, "gain_AP") for name, each in rows.groupby("Convention")}
    assert f"{of['paper']} for the paper's, {of['released']} for the released code's" in text_of(page)
    eight = rows[rows["Shards"] == "8"].groupby(["Convention", "C"])[["apart_T_now", "apart_beta_now"]].mean()
    for setting, cells in of_rows(page, "convention, C T_now beta_now").items():
        row = eight.loc[tuple(setting.split(", "))]
        assert (cells["T_now"], cells["beta_now"]) == (short(row["apart_T_now"], 3), short(row["apart_beta_now"], 3))
    spreads = {
        (name, interval): " to ".join(dict.fromkeys(map(short, sorted(eight.xs(interval, level="C")[f"apart_{name}"]))))
        for name in ("T_now", "beta_now")
        for interval in ("20", "4")
    }
    told = f"lie {spreads['T_now', '20']} apart in T_now and {spreads['beta_now', '20']} in beta_now"
    assert told in text_of("docs/results.md")
    assert f"smaller, {spreads['T_now', '4']} and {spreads['beta_now', '4']}." in text_of("docs/results.md")


def test_the_simulation_beside_the_trials():
    """From what the first seed's images measured, as in the figure."""
    store, rows = store_of("reference_sync"), pairs_of_the_all_reduce()
    plan = store.plan("sync")
    assert plan is not None
    found = recorded(store, plan["trial_id"].iloc[0])
    assert found
    records, _ = found
    measured = rows[rows["Convention"] == "paper"].groupby(["C", "Shards"])
    page, within, furthest = "experiments/reference_sync/README.md", 0, {"T_now": 0.0, "beta_now": 0.0}
    for setting, cells in of_rows(page, "C, shards T_now T_now measured").items():
        interval, shards = setting.split(", ")
        spread = simulate_spread(
            records,
            num_shards=int(shards),
            images_per_shard=8 // int(shards),
            interval=int(interval),
        )
        for name in ("T_now", "beta_now"):
            simulated = spread[f"{name}_range"]
            found = mean_estimate(measured.get_group((interval, shards))[f"apart_{name}"].tolist())
            low, high = found.interval()
            assert cells[name] == short(simulated, 3)
            assert cells[f"{name} measured"] == f"{short(found.mean, 3)} [{short(low, 3)}, {short(high, 3)}]"
            furthest[name] = max(furthest[name], abs(simulated / found.mean - 1))
            within += low <= simulated <= high
    assert f"{within} of the 12 simulated values lie within the interval" in text_of(page)
    told = " and ".join(f"{100 * share:.0f} % in {name}" for name, share in furthest.items())
    assert f"from the measured means by at most {told}." in text_of(page)
    assert max(furthest.values()) < 0.2


SIMULATED = {
    "one difference": "0.0",
    "a margin, the true difference at its end": "3.0",
    "three differences, no effect in any": "1.0",
    "three differences, no effect in one": "2.0",
    "any of nine claims, after Holm": "4.0",
    "ordinary t-tests at 5 % at each look, one difference": "ordinary",
}
"""The lines of the table of wrong verdicts, as the benchmark names them."""


def test_how_often_verdicts_are_wrong():
    rows = table_of("reference_cpu", "benchmarks").set_index("name")
    stated = of_rows("docs/conventions.md", "there is no effect")
    assert stated.keys() == SIMULATED.keys()
    for label, name in SIMULATED.items():
        for law, cell in zip(("normal", "heavy", "skewed_rows", "skewed"), stated[label].values(), strict=True):
            share, note = rows.loc[f"verdicts.{law}.{name}", ["median_a", "note"]]
            assert cell == f"{100 * share:.2f} ({note.removeprefix('95 % interval ').removesuffix(' %')})"
    assert set(rows.filter(regex=r"verdicts\..*\.between", axis="index")["median_a"]) == {0.0}


def test_how_many_seeds_verdicts_take():
    rows = table_of("reference_cpu", "benchmarks").set_index("name").filter(like="verdicts.power", axis="index")
    stated = of_rows("docs/conventions.md", "true difference, in standard deviations")
    for (share, note), cells in zip(rows[["median_a", "note"]].to_numpy(), stated.values(), strict=True):
        confirmed, seeds, fixed = cells.values()
        assert confirmed == ("all" if share == 1 else f"{100 * share:.2f} %")
        assert f"after {seeds} seeds on average" in note
        assert note.endswith(f": {fixed.partition(' ')[0]}" if fixed else "on average")


def test_a_later_loss_beside_the_papers():
    table = table_of("reference_successors", "wise_iou").set_index("name")
    stated = of_rows("docs/own_rule.md", "row AP AP80 AP90")
    assert ["baseline", *stated] == table.index.tolist()
    for row, cells in stated.items():
        for metric, cell in cells.items():
            mean, low, high = (table.loc[row, f"delta_{metric}{end}"] for end in ("", "_low", "_high"))
            assert cell == with_interval(mean, low, high), (row, metric)
    findings = table_of("reference_successors", "findings").set_index("claim_hash")
    assert set(findings["verdict"]) == {"undecided"}
    text = text_of("docs/own_rule.md")
    mean, low, high = findings.loc["0608da906c27", ["measured", "low", "high"]]
    assert f"the gain in AP75 ({mean:+.1f} [{low:+.1f}, {high:+.1f}])" in text
    assert f"of Wise-IoU over DSL ({findings.loc['960135fb724e', 'measured']:+.1f} AP)" in text
    assert f"beside DLA ({findings.loc['b2b0547b276d', 'measured']:+.1f} AP)" in text


def test_retinanet_of_table_9():
    table = table_of("reference_mini", "table9").set_index("name")["AP"]
    ends_at = table["RetinaNet, small ResNet-FPN"], table["FCOS, small ResNet-FPN"]
    assert "RetinaNet ends at {:.1f} AP (FCOS at {:.1f})".format(*ends_at) in text_of(
        "experiments/reference_mini/README.md"
    )


RANKS = {"bccd": "blood cells", "deeppcb": "circuit boards", "nuclei": "cell nuclei"}


@pytest.mark.parametrize("name", RANKS)
def test_ranks_by_the_objects_of_an_image(name: str):
    table = table_of("reference_ranks", name).set_index("name")
    rows = store_of("reference_ranks").trials()
    rows = rows[rows["experiment"] == name].set_index("setting")
    for path in ("experiments/reference_ranks/README.md", *(["docs/data.md"] if name == "bccd" else [])):
        stated = of_rows(path, f"{RANKS[name]}, three seeds")
        assert list(stated) == table.index.tolist()
        for row, cells in stated.items():
            ends = [rows.loc[row, column].mean() for column in ("final_T_now", "final_beta_now")]
            assert [cells["T_now"], cells["beta_now"]] == [f"{end:.2f}" for end in ends], row
            for metric in ("AP", "AP50", "AP80", "AP90"):
                mean, low, high = (table.loc[row, f"delta_{metric}{end}"] for end in ("", "_low", "_high"))
                shown = with_interval(mean, low, high)
                assert cells[metric] == (f"{table.loc[row, metric]:.1f}" if row == "baseline" else shown), (row, metric)


def test_what_the_ranks_gain_is_told_alike_everywhere():
    gains = {
        (name, row): with_interval(*(line[f"delta_AP{end}"] for end in ("", "_low", "_high")))
        for name in RANKS
        for row, line in table_of("reference_ranks", name).set_index("name").iterrows()
    }
    of_paper, of_rule = (gains["bccd", row] for row in ("the paper's ranks", "ranks by objects"))
    told = f"{of_paper.replace(' [', ' AP [')} with the paper's K_I and K_beta, {of_rule} with those"
    assert told in text_of("README.md")
    of_nuclei = [gains["nuclei", row] for row in ("the paper's ranks", "ranks by objects")]
    assert f"on cell nuclei, 44 an image, {' and '.join(of_nuclei)}." in text_of("README.md")
    boards = table_of("reference_ranks", "deeppcb").set_index("name")
    of_boards = [gains["deeppcb", row] for row in ("the paper's ranks", "ranks by objects")]
    assert f"on circuit boards, 7 an image, {' and '.join(of_boards)};" in text_of("README.md")
    of_paper, of_rule = (gain.lstrip("-+") for gain in of_boards)
    costs = of_paper.replace(" [", " AP [")
    assert f"the paper's ranks cost {costs} and those of the rule gain {of_rule};" in text_of("docs/data.md")
    assert f"cost {costs}, those that `check-data` proposes gain {of_rule}, and" in text_of("docs/results.md")
    for metric in ("AP80", "AP90"):
        line = boards.loc["ranks by objects"]
        gain = with_interval(*(line[f"delta_{metric}{end}"] for end in ("", "_low", "_high")))
        assert gain.lstrip("+").replace(" [", f" {metric} [") in text_of("docs/data.md")
    of_paper, of_rule = (gain.lstrip("-") for gain in of_nuclei)
    costs = of_paper.replace(" [", " AP [")
    assert f"the paper's ranks cost {costs} and those of the rule {of_rule}" in text_of("docs/data.md")
    assert f"cost {costs}, those that `check-data` proposes {of_rule}" in text_of("docs/results.md")
    better = table_of("reference_ranks", "findings")
    better = better[better["line"] == "AP: ranks by objects > the paper's ranks"].set_index("experiment")["measured"]
    told = "by {:.1f} AP on blood cells, by {:.1f} on circuit boards, by {:.1f} on cell nuclei"
    told = told.format(*(better[name] for name in RANKS))
    assert told in text_of("experiments/reference_ranks/README.md")
    verdicts = table_of("reference_ranks", "findings").set_index("claim_hash")["verdict"]
    undecided = ("3375a65de1a9", "f5104e1275e4", "50f5b1a88f57", "e84f24267c59", "5c147ac0f905")
    assert verdicts.to_dict() == {**dict.fromkeys(undecided, "undecided"), "01336af2582d": "confirmed"}
