import json
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from pipeline.artifacts import ROOT, Paths, write_arrays, write_json, write_text
from pipeline.params import load_params, read_yaml
from pipeline.report.results import Results
from pipeline.report.spec import Paper, TableSpec
from pipeline.report.statistics import over_images
from pipeline.report.tables import (
    INTERVALS,
    MEASURED,
    STEP_COST,
    compare,
    comparisons,
    fill,
    per_class,
    render,
    seeds_of,
    to_latex,
    to_markdown,
)
from pipeline.typed import ConfigError, InputError, from_mapping
from tests.report.study import BASE, OURS, write_study

GIVEN = {
    "title": "A table",
    "source": "Table 1",
    "columns": ["1/8 (99)", "1/4", "full"],
    "rows": [
        {"name": "Base", "published": [50, 60.5, None], "runs": ["base_8", "base_4", None]},
        {"name": "Quoted", "published": [None, 72.0, None]},
        {"name": "Ours", "runs": ["ours_8", None, None]},
    ],
}
SEEDS = pd.DataFrame(
    [("base_8", 7, 0, 0.4), ("base_8", 7, 1, 0.5), ("ours_8", 7, 0, 0.625), ("other", 9, 0, 0.1)],
    columns=["run", "labeled", "seed", "miou"],
)
CLASSES = pd.DataFrame(
    [
        ("base_8", 0, "road", 0.8),
        ("base_8", 0, "sky", 0.0),
        ("base_8", 1, "road", 0.8),
        ("base_8", 1, "sky", 1.0),
        ("ours_8", 0, "road", 0.5),
        ("ours_8", 0, "sky", float("nan")),
    ],
    columns=["run", "seed", "class", "iou"],
)


def spec():
    return from_mapping(TableSpec, GIVEN, "tables.some")


def test_measured_stands_beside_published():
    table = compare(spec(), SEEDS)
    assert table.to_dict("list") == {
        "method": ["Base", "Quoted", "Ours"],
        "1/8 measured (7)": ["45.00 ± 7.07", "", "62.50"],
        "1/8 (99) published": ["50.0", "", ""],
        "1/4 published": ["60.5", "72.0", ""],
    }


def test_without_measurements_there_is_what_was_published():
    assert list(compare(spec(), SEEDS.head(0))) == ["method", "1/8 (99) published", "1/4 published"]


def test_each_measured_run_has_a_column_of_classes():
    table = per_class(spec(), CLASSES)
    assert table.to_dict("list") == {
        "class": ["road", "sky"],
        "Base 1/8": ["80.00 ± 0.00", "50.00 ± 70.71"],
        "Ours 1/8": ["50.00", ""],
    }


def test_published_numbers_of_a_row_have_the_same_number_of_decimals():
    rows = [{"name": "a", "published": [72.1, 72.63]}, {"name": "b", "published": [72.1, 73.0]}]
    given = from_mapping(TableSpec, GIVEN | {"columns": ["1/8", "1/4"], "rows": rows}, "")
    assert compare(given, SEEDS.head(0)).to_dict("list") == {
        "method": ["a", "b"],
        "1/8 published": ["72.10", "72.1"],
        "1/4 published": ["72.63", "73.0"],
    }


def test_more_runs_than_classes_are_rows():
    given = GIVEN | {"columns": ["A", "B"], "rows": [{"name": "Base", "runs": ["a", "b"]}]}
    classes = pd.DataFrame(
        [("a", 0, "sky", 0.5), ("b", 0, "sky", 1.0)], columns=["run", "seed", "class", "iou"]
    )
    table = per_class(from_mapping(TableSpec, given, ""), classes)
    assert table.to_dict("list") == {"method": ["Base A", "Base B"], "sky": ["50.00", "100.00"]}


def costed(tmp_path, shown):
    """Table `t` with step costs measured for another study and, of this, for STPG alone."""
    paths = Paths("tiny", root=tmp_path)
    write_study(paths)
    costs = "study,recipe,method,ratio\ntiny,r,stpg,4.392\nother,r,supervised,9\ntiny,r,cps,5\n"
    write_text(paths.step_costs(), costs)
    rows = [
        {"name": "Base", "runs": [BASE]},
        {"name": "Quoted", "published": [1.0]},
        {"name": "Ours", "runs": [OURS]},
    ]
    given = {"title": "T", "source": "s", "columns": ["1/8"], "rows": rows, "step_cost": shown}
    return fill(from_mapping(Paper, {"tables": {"t": given}}, ""), "t", "tiny", Results(paths))


def test_a_step_costs_what_was_measured_for_the_study(tmp_path):
    table = costed(tmp_path, shown=True)
    assert table.compared["step"].tolist() == ["", "", "4.39"]
    assert table.about.endswith(STEP_COST)


def test_costs_are_shown_only_where_a_table_says_so(tmp_path):
    table = costed(tmp_path, shown=False)
    assert list(table.compared) == ["method", "1/8 measured (3)", "1/8 published"]
    assert "Step" not in table.about


def test_classes_that_validation_does_not_show_are_told(tmp_path):
    assert "show no" not in costed(tmp_path, shown=False).about
    path = Paths("tiny", root=tmp_path).metrics(BASE)
    metrics = json.loads(path.read_text())
    metrics["seeds"][0]["confusion"][3][3] = 0
    write_json(path, metrics)
    paths = Paths("tiny", root=tmp_path)
    rows = [{"name": "Base", "runs": [BASE]}, {"name": "Ours", "runs": [OURS]}]
    given = {"title": "T", "source": "s", "columns": ["1/8"], "rows": rows}
    table = fill(from_mapping(Paper, {"tables": {"t": given}}, ""), "t", "tiny", Results(paths))
    assert "The validation images of tiny show no bus: such a class is 0 in" in table.about


def test_markdown_by_hand():
    table = pd.DataFrame({"method": ["a", "b"], "1/8": ["1.00", ""]})
    assert to_markdown(table) == "| method | 1/8 |\n|---|---:|\n| a | 1.00 |\n| b |  |"


def test_markdown_shows_signs_as_they_are():
    table = pd.DataFrame({"a|b": ["*x*", "<b>"], "c": ["`", "d_e"]})
    assert to_markdown(table).splitlines() == [
        r"| a\|b | c |",
        "|---|---:|",
        r"| \*x\* | \` |",
        r"| \<b> | d_e |",
    ]


def test_classes_of_two_data_sets_keep_their_order():
    given = GIVEN | {"columns": ["A", "B"], "rows": [{"name": "Base", "runs": ["a", "b"]}]}
    classes = pd.DataFrame(
        [("a", 0, "sky", 0.5), ("a", 0, "car", 0.25), ("b", 0, "boat", 0.5), ("b", 0, "car", 1.0)],
        columns=["run", "seed", "class", "iou"],
    )
    table = per_class(from_mapping(TableSpec, given, ""), classes)
    assert table.to_dict("list") == {
        "class": ["sky", "car", "boat"],
        "Base A": ["50.00", "25.00", ""],
        "Base B": ["", "100.00", "50.00"],
    }


@pytest.mark.parametrize(
    ("runs", "text"),
    [
        ([], "Nothing is measured yet."),
        (["ours_8"], "Splits: drawn. Seeds a run: 1."),
        (["base_8"], "Splits: drawn. Seeds a run: 2."),
        (["base_8", "ours_8"], "Splits: drawn. Seeds a run: 2 (ours_8: 1)."),
        (["base_8", "ours_8", "base_4"], "Splits: cps, drawn. Seeds a run: 1 (base_8: 2)."),
    ],
)
def test_whose_splits_and_how_many_seeds(runs, text):
    rows = [("base_8", "drawn"), ("base_8", "drawn"), ("ours_8", "drawn"), ("base_4", "cps")]
    seeds = pd.DataFrame([*rows, ("other", "u2pl")], columns=["run", "family"])
    assert seeds_of(spec(), seeds[seeds["run"].isin([*runs, "other"])]) == text


COMPARED = GIVEN | {
    "title": "Scores",
    "columns": ["1/8 (99)", "all"],
    "compare": ["Base", "Ours"],
    "rows": [
        {"name": "Base", "published": [50, None], "runs": [BASE, None]},
        {"name": "Ours", "runs": [OURS, OURS]},
    ],
}
HEAD = ["Ours minus Base", "points", "95 % over images", "95 % over seeds", "seeds"]


@pytest.fixture
def paths(tmp_path):
    """A study whose base has seeds 0, 1, 2 and whose other run 1, 0; two images of one class."""
    paths = Paths("tiny", tmp_path)
    write_study(paths)
    hits = {BASE: [[1, 9], [2, 8], [7, 7]], OURS: [[5, 9], [9, 3]]}
    for run, hits_SI in hits.items():
        counts_SI3C = np.array([[[[hit], [9], [9]] for hit in of] for of in hits_SI], np.int32)
        write_arrays(paths.images(run), {"ids": np.array(["a", "b"]), "counts_SI3C": counts_SI3C})
    for run, miou in {BASE: [0.40, 0.50, 0.90], OURS: [0.56, 0.43]}.items():
        about = Results(paths).metrics[run]
        seeds = [seed | {"miou": x} for seed, x in zip(about["seeds"], miou, strict=True)]
        write_json(paths.metrics(run), about | {"seeds": seeds})
    return paths


def compared(paths, given=COMPARED):
    return comparisons(from_mapping(TableSpec, given, "tables.some"), Results(paths))


def test_a_difference_is_of_equal_seeds_whatever_their_order(paths):
    table = compared(paths)
    assert list(table) == HEAD
    # Seed 0: 43 - 40; seed 1: 56 - 50. Standard error 1.5 points, t of one degree 12.7062.
    low, high = over_images(Results(paths).counts(BASE)[[0, 1]], Results(paths).counts(OURS))
    assert table.to_numpy().tolist() == [
        ["1/8", "+4.50", f"[{100 * low:+.2f}, {100 * high:+.2f}]", "[-14.56, +23.56]", "2"]
    ]


def test_the_interval_over_images_is_of_the_common_seeds(paths):
    # Seed 0 alone: base hits 1 and 9 of 9, the other 9 and 3.
    keep_seeds(paths, BASE, [0])
    base, ours = Results(paths).counts(BASE), Results(paths).counts(OURS)
    low, high = over_images(base, ours[[1]])
    (row,) = compared(paths).to_numpy().tolist()
    assert row[2:] == [f"[{100 * low:+.2f}, {100 * high:+.2f}]", "", "1"]
    assert (low, high) != over_images(base, ours[[0]])


def test_a_table_says_in_what_blocks_images_are_drawn(paths):
    base, ours = Results(paths).counts(BASE)[[0, 1]], Results(paths).counts(OURS)
    low, high = over_images(base, ours, block=2)
    (row,) = compared(paths, COMPARED | {"block": 2}).to_numpy().tolist()
    assert row[2] == f"[{100 * low:+.2f}, {100 * high:+.2f}]"
    table = fill(
        from_mapping(Paper, {"tables": {"t": COMPARED | {"block": 2}}}, ""),
        "t",
        "tiny",
        Results(paths),
    )
    assert table.about.endswith("Bootstrap: blocks of 2 successive images.")


def test_rows_with_nothing_to_tell_are_left_out(paths):
    rows = [{"name": n, "runs": [r]} for n, r in {"Base": BASE, "None": "absent"}.items()]
    rows.append({"name": "Quoted", "published": [50.0]})
    given = {"title": "T", "source": "s", "columns": ["1/8"], "rows": rows}
    table = fill(from_mapping(Paper, {"tables": {"t": given}}, ""), "t", "tiny", Results(paths))
    assert table.compared["method"].tolist() == ["Base", "Quoted"]


def test_equal_runs_differ_by_nothing(paths):
    rows = [{"name": "Base", "runs": [BASE, None]}, {"name": "Ours", "runs": [BASE, None]}]
    nothing = "[+0.00, +0.00]"
    assert compared(paths, COMPARED | {"rows": rows}).to_numpy().tolist() == [
        ["1/8", "+0.00", nothing, nothing, "3"]
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"compare": None},
        {"rows": [{"name": "Base", "runs": [BASE, None]}, {"name": "Ours"}]},
        {"rows": [{"name": "Base", "runs": [BASE, None]}, {"name": "Ours", "runs": [None, OURS]}]},
        {"rows": [{"name": "Base", "runs": ["absent", None]}, COMPARED["rows"][1]]},
    ],
)
def test_what_is_not_measured_is_not_compared(paths, change):
    assert compared(paths, COMPARED | change).empty


def test_runs_without_a_common_seed_are_not_compared(paths):
    keep_seeds(paths, BASE, [2])
    assert compared(paths).empty


def test_scores_on_other_images_are_refused(paths):
    counts_SI3C = Results(paths).counts(OURS)
    write_arrays(paths.images(OURS), {"ids": np.array(["a", "c"]), "counts_SI3C": counts_SI3C})
    with pytest.raises(InputError, match=f"{BASE} is compared with {OURS}, .* on other images"):
        compared(paths)


def keep_seeds(paths, run, places):
    """Leaves the seeds at some places."""
    results = Results(paths)
    counts = results.counts(run)[places]
    kept = [results.metrics[run]["seeds"][place] for place in places]
    write_json(paths.metrics(run), results.metrics[run] | {"seeds": kept})
    write_arrays(paths.images(run), {"ids": np.array(["a", "b"]), "counts_SI3C": counts})


def rendered(paths, key="some", note=None):
    given = {"tables": {key: COMPARED}, "notes": {"tiny": note or {}}}
    return render(from_mapping(Paper, given, ""), key, "tiny", Results(paths))


def test_the_three_forms_have_the_same_cells(paths):
    forms = rendered(paths)
    assert set(forms) == {"md", "csv", "tex"}
    table = compare(from_mapping(TableSpec, COMPARED, ""), Results(paths).seeds)
    assert table.to_csv(index=False) == forms["csv"]
    assert to_markdown(table) in forms["md"]
    body = forms["tex"].split(r"\midrule")[1].split(r"\bottomrule")[0].replace(r"$\pm$", "±")
    rows = [line.removesuffix(r"\\").split("&") for line in body.strip().splitlines()]
    assert [[x.strip() for x in row] for row in rows] == table.to_numpy().tolist()


def test_the_markdown_file_by_its_parts(paths):
    text = rendered(paths, note={"title": ", drawn", "note": "Mind this."})["md"]
    assert text.splitlines()[:5] == [
        "# Scores, drawn: mIoU (%), study `tiny`",
        "",
        "Mind this.",
        "",
        f"Published: Table 1. Splits: drawn. Seeds a run: 3 ({OURS}: 2). {MEASURED}",
    ]
    heads = [line for line in text.splitlines() if line.startswith("#")]
    assert heads[1:] == ["## Differences", "## IoU of each class (%)"]
    assert f"\n\n## Differences\n\n{INTERVALS}\n\n| {' | '.join(HEAD)} |\n" in text
    assert "\n\n| class | Base 1/8 | Ours 1/8 | Ours all |\n" in text
    assert text.endswith("|\n")


def test_a_table_that_nothing_is_measured_of(tmp_path):
    text = rendered(Paths("tiny", tmp_path))["md"]
    assert text.splitlines()[2] == f"Published: Table 1. Nothing is measured yet. {MEASURED}"
    assert text.count("#") == 1
    assert text.endswith(
        "| method | 1/8 (99) published |\n|---|---:|\n| Base | 50.0 |\n| Ours |  |\n"
    )


def test_a_table_that_nothing_is_published_of_says_its_source(paths):
    given = COMPARED | {"source": "not in Table 1", "rows": [COMPARED["rows"][1]], "compare": None}
    paper = from_mapping(Paper, {"tables": {"some": given}}, "")
    text = render(paper, "some", "tiny", Results(paths))["md"]
    assert text.splitlines()[2].startswith("Not in Table 1. Splits: drawn.")


SIGNS = pd.DataFrame(
    {"a_b": [r"50 % & #1 $x_{2}$ ~^\ <|>", "plain"], "✓ (%)": ["1.00 ± 0.50", "✓"], "c": ["", ""]}
)


def test_latex_worked_by_hand():
    assert to_latex(SIGNS, caption="a_b: 5 %, R&D", label="tab:a_b-c").splitlines() == [
        r"% needs \usepackage{booktabs,amssymb}",
        r"\begin{table}[t]",
        r"\centering",
        r"\caption{a\_b: 5 \%, R\&D}",
        r"\label{tab:a_b-c}",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"a\_b & $\checkmark$ (\%) & c \\",
        r"\midrule",
        r"50 \% \& \#1 \$x\_\{2\}\$ \textasciitilde{}\textasciicircum{}\textbackslash{} "
        r"\textless{}\textbar{}\textgreater{} & 1.00 $\pm$ 0.50 &  \\",
        r"plain & $\checkmark$ &  \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(paths, tmp_path):
    tables = [to_latex(SIGNS, caption="a_b: 5 %, R&D", label="tab:a_b"), rendered(paths)["tex"]]
    text = [
        r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs,amssymb}",
        r"\begin{document}",
        *tables,
        r"See \ref{tab:a_b} and \ref{tab:tiny-some}.\end{document}",
    ]
    (tmp_path / "tables.tex").write_text("\n".join(text))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in (tmp_path / "tables.log").read_text()


@pytest.mark.parametrize("part", ["published", "runs"])
@pytest.mark.parametrize("cells", [[None], [None] * 4])
def test_a_row_of_another_length_is_refused(part, cells):
    given = GIVEN | {"rows": [{"name": "Short", part: cells}]}
    message = f"^tables.some: row 'Short' has {len(cells)} {part}; expected 3, one a column$"
    with pytest.raises(ValueError, match=message):
        from_mapping(TableSpec, given, "tables.some")


def test_a_published_number_is_a_number():
    given = GIVEN | {"rows": [{"name": "Typo", "published": ["50,1", None, None]}]}
    with pytest.raises(ConfigError, match=r"published\[0\]: found '50,1'; expected a number"):
        from_mapping(TableSpec, given, "tables.some")


PAPER = read_yaml(ROOT / "paper.yaml")


@pytest.mark.parametrize("name", PAPER["tables"])
def test_a_table_of_the_repository_is_well_formed(name):
    table = from_mapping(TableSpec, PAPER["tables"][name], f"paper.yaml: tables.{name}")
    published = [value for row in table.rows for value in row.published if value is not None]
    assert all(10 < value < 100 for value in published)  # percent
    names = [row.name for row in table.rows]
    assert len(set(names)) == len(names)
    measured = [row.name for row in table.rows if row.runs]
    runs = [run for row in table.rows for run in row.runs if run is not None]
    assert len(set(runs)) == len(runs)
    if name == "selection":
        return  # without a supervised row
    assert {"Sup. baseline", "STPG"} <= set(measured)


@pytest.mark.parametrize(
    ("name", "rows", "published"),
    [
        ("cityscapes", 11, 28),
        ("blender", 12, 38),
        ("classic", 12, 44),
        ("ablation", 6, 12),
        ("selection", 4, 4),
    ],
)
def test_the_paper_s_tables_are_complete(name, rows, published):
    table = from_mapping(TableSpec, PAPER["tables"][name], name)
    assert sum(bool(row.published) for row in table.rows) == rows
    found = [value for row in table.rows for value in row.published if value is not None]
    assert len(found) == published


def test_every_table_of_the_study_in_place_is_described():
    assert set(load_params().tables) <= set(PAPER["tables"])
