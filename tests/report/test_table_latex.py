import re
import shutil
import subprocess

import pytest

from dynrcnn_ray.report.table_latex import escape_latex, table_to_latex
from dynrcnn_ray.report.tables import build_table

NASTY = {
    "Setting": "100 % of A_B & {C} #1 $x ~ ^ \\ < > |",
    "K_β": "✓ β \u00d7 ± ≈ ≤",
    "Method": "[21] Détection* \u4e2d",
}


@pytest.fixture
def nasty(write_table):
    """Two rows over three seeds whose texts hold every character that LaTeX treats in its own way."""
    texts = {"title": "β & K_β of 50 % (≈0)", "anchor": "Table 5 #1", "paper_split": "minival"}
    command = {"command": "python main.py --storage 'a_b' --x 5%"}
    plan, trials = write_table(
        (
            texts | command | {"labels": {"Setting": "[baseline]", "K_β": "-"}},
            {seed: {"AP": 50.0} for seed in range(3)},
        ),
        (texts | command | {"labels": NASTY}, {seed: {"AP": 48.0 + seed, "AP90": 12.0} for seed in range(3)}),
        (texts | command | {"labels": {"Method": "Cascade"}, "reported": {"AP": 40.3}}, {}),
    )
    return table_to_latex(build_table(plan, trials.assign(final_T_now=0.6, final_beta_now=0.2)), plan)


def tabulars(latex):
    """Column specification and lines of cells of each tabular."""
    for alignment, body in re.findall(r"\\begin{tabular}{(\w+)}\n(.*?)\\end{tabular}", latex, re.DOTALL):
        lines = [
            line for line in body.splitlines() if not re.fullmatch(r"\\(toprule|midrule|bottomrule|addlinespace)", line)
        ]
        assert all(line.endswith(r" \\") for line in lines)
        yield alignment, [[cell.strip() for cell in re.split(r"(?<!\\)&", line.removesuffix(r"\\"))] for line in lines]


def without_comments(latex):
    return "\n".join(line for line in latex.splitlines() if not line.startswith("%"))


def test_environments_and_braces_are_balanced(nasty):
    open_environments = []
    for kind, name in re.findall(r"\\(begin|end){([a-z*]+)}", nasty):
        if kind == "begin":
            open_environments.append(name)
        else:
            assert open_environments.pop() == name
    assert not open_environments

    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", without_comments(nasty)):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0


def test_every_line_has_as_many_cells_as_columns(nasty):
    found = list(tabulars(nasty))

    assert len(found) == 4
    for alignment, lines in found:
        assert len(lines) > 2
        assert {len(line) for line in lines} == {len(alignment)}


def test_nothing_is_left_that_pdflatex_does_not_take(nasty):
    text = without_comments(nasty)

    assert all(character in "é" for character in text if not character.isascii())
    assert len(re.findall(r"(?<!\\)\$", text)) % 2 == 0
    assert not re.search(r"(?<!\\)[%#~^]", text)
    # Outside mathematics, an underscore is escaped.
    assert not re.search(r"(?<!\\)_", re.sub(r"(?<!\\)\$.*?(?<!\\)\$", "", text))
    # A bracket or a star after a line break would be its argument.
    assert not re.search(r"(\\\\|\\midrule|\\addlinespace)\s*[\[*]", text)
    commands = set(re.findall(r"\\([A-Za-z]+)", text))
    in_latex = {"begin", "end", "centering", "caption", "label", "footnotesize", "scriptsize", "setlength", "tabcolsep"}
    in_latex |= {"hphantom", "textbackslash", "textasciitilde", "textasciicircum"}
    in_latex |= {"beta", "Delta", "times", "pm", "approx", "leq"}
    assert commands <= in_latex | {"toprule", "midrule", "bottomrule", "addlinespace"} | {"checkmark"}


def test_the_first_line_names_the_packages_and_a_comment_the_command(nasty):
    packages, _, command, *_ = nasty.splitlines()

    assert packages == "% Packages: booktabs, amssymb."
    assert command == "% Made by: python main.py --storage 'a_b' --x 5%"


def test_captions_and_labels(nasty):
    assert re.findall(r"\\label{(.*)}", nasty) == [
        f"tab:made{grid}" for grid in ("", "-differences", "-seeds", "-course")
    ]
    main, differences, *_ = re.findall(r"\\caption{(.*)}", nasty)
    assert main.startswith(r"$\beta$ \& K$_{\beta}$ of 50 \% ($\approx$0) (Table 5 \#1). Scale mini; seeds 0, 1, 2. ")
    assert r"the paper's own numbers, on COCO minival; " in main
    assert r"95 \% interval by the paired t-test (scipy.stats.ttest\_rel)" in main
    assert differences == "Differences to the baseline, paired by seed. Scale mini; seeds 0, 1, 2."


def test_measured_and_paper_lines_with_spread_interval_and_mark(table3_store):
    plan = table3_store.plan("table3")
    trials = table3_store.trials()
    moved = trials["trial_id"] == "row3seed2"
    trials.loc[moved, "AP"] -= 4.5

    (alignment, main), (_, differences), _ = tabulars(table_to_latex(build_table(plan, trials), plan))

    assert alignment == "llllrrrr"
    assert main[0] == ["DLA", "DSL", "", "n", "AP", r"$\Delta$AP", "AP$_{50}$", "AP$_{90}$"]
    # AP 52.7, 53.0 and 48.8 against 49.7, 50.0 and 50.3: differences 3, 3 and -1.5.
    checks = [r"$\checkmark$", r"$\checkmark$"]
    assert main[7] == [
        *checks,
        "measured",
        "3",
        r"51.5 $\pm$ 2.3",
        r"$+$1.5 $\approx$0",
        r"80.0 $\pm$ 0.0",
        r"12.0 $\pm$ 0.0",
    ]
    assert main[8][2:6] == ["paper", "", r"38.9\hphantom{ $\pm$ 0.3}", r"$+$1.9\hphantom{ $\approx$0}"]
    assert differences[7][:4] == ["DLA + DSL", "measured", "3", r"$+$1.5 $\approx$0"]
    assert differences[8][:4] == ["", "", "", r"{\scriptsize {[}$-$5.0, $+$8.0]}"]
    assert differences[9][:4] == ["", "paper", "", r"$+$1.9\hphantom{ $\approx$0}"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("K_β", r"K$_{\beta}$"),
        ("K_I = 64", "K$_{I}$ = 64"),
        ("AP_S", "AP$_{S}$"),
        ("AP75", "AP$_{75}$"),
        ("segm_AP50", r"segm\_AP$_{50}$"),
        ("MAPS_S", r"MAPS\_S"),
        ("T_now", r"T\_now"),
        ("ResNet-101-DCN", "ResNet-101-DCN"),
        ("2\u00d7+MST*", r"2$\times$+MST{*}"),
        ("✓", r"$\checkmark$"),
        ("90 % & more", r"90 \% \& more"),
        ("{a}\\b", r"\{a\}\textbackslash{}b"),
        ("two\nlines", "two lines"),
        ("é \u4e2d \u0152", "é ? ?"),
    ],
)
def test_escape(text, expected):
    assert escape_latex(text) == expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [("-0.2", "$-$0.2"), ("+1.0", "$+$1.0"), ("-", "-"), ("[-0.8, +3.4]", "{[}$-$0.8, $+$3.4]"), ("37.0", "37.0")],
)
def test_escape_numbers(number, expected):
    assert escape_latex(number, is_number=True) == expected


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_pdflatex_takes_it(nasty, tmp_path):
    (tmp_path / "table.tex").write_text(nasty)
    (tmp_path / "paper.tex").write_text(
        r"\documentclass{article}\usepackage{booktabs,amssymb}\begin{document}\input{table}\end{document}"
    )

    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stdout[-3000:]
