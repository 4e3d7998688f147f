"""Stage `report`: one page with all tables and figures, and what made each."""

from pipeline.artifacts import ROOT, Paths, write_text
from pipeline.command import run_stage
from pipeline.params import load_params
from pipeline.report.page import collect, to_html, to_markdown
from pipeline.report.spec import load_paper


def main() -> None:
    """Writes reports/<study>/report.html, which needs no other file, and report.md."""
    params = load_params()
    paths = Paths(params.study)
    page = collect(params, load_paper(ROOT / "paper.yaml"), paths)
    html = paths.reports() / "report.html"
    write_text(html, to_html(page))
    write_text(html.with_suffix(".md"), to_markdown(page))
    print(f"{html.relative_to(ROOT)}: all tables and figures")


if __name__ == "__main__":
    run_stage(main)
