"""The two forms of a report: HTML that needs no other file, Markdown for a repository's page.

Both classes have the same members. Arguments called `plain` are shown as they are; others are
marked up already.
"""

import base64
import html
import io
from collections.abc import Iterable, Sequence

import pandas as pd
from PIL import Image

from pipeline.report.tables import in_markdown, pipe_table, to_markdown

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 932px; padding: 1rem; background: #fff; color: #1b1b1b;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  overflow-wrap: break-word; }
h1, h2, h3 { line-height: 1.25; margin: 2em 0 .5em; }
h1 { font-size: 1.75rem; margin-top: .5em; }
h2 { font-size: 1.375rem; border-bottom: 1px solid #bbb; padding-bottom: .25em; }
h3 { font-size: 1.125rem; }
a { color: #0b4f9e; }
:target { scroll-margin-top: 1rem; }
code { font: .875em ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
p.note { border-left: 4px solid #b35900; padding-left: .75rem; }
.scroll { overflow-x: auto; margin: .75rem 0; background:
  linear-gradient(to right, #fff 12px, #fff0) 0 0 / 40px 100% no-repeat local,
  linear-gradient(to left, #fff 12px, #fff0) 100% 0 / 40px 100% no-repeat local,
  linear-gradient(to right, #0002, #0000) 0 0 / 8px 100% no-repeat scroll,
  linear-gradient(to left, #0002, #0000) 100% 0 / 8px 100% no-repeat scroll; }
.scroll:focus-visible { outline: 2px solid #0b4f9e; }
table { border-collapse: separate; border-spacing: 0; font-size: .875rem; line-height: 1.35;
  font-variant-numeric: tabular-nums; border-top: 2px solid; border-bottom: 2px solid; }
th, td { padding: .25rem .5rem; text-align: right; white-space: nowrap; }
thead th { border-bottom: 1px solid; vertical-align: bottom; white-space: normal; }
tbody tr + tr > * { border-top: 1px solid #e4e4e4; }
tbody th { font-weight: 400; }
tbody th, thead th:first-child { position: sticky; left: 0; background: #fff; }
.word { text-align: left; }
tbody tr:has(:target) > *, li:has(:target) { background: #fff3bf; }
details { margin: .75rem 0; }
summary { cursor: pointer; padding: .25rem 0; }
figure { margin: .75rem 0; }
img { display: block; max-width: 100%; height: auto; }
figcaption { margin-top: .5rem; font-size: .9375rem; }
@media (max-width: 600px) {
  tbody th { white-space: normal; min-width: 8rem; }
  .scroll img { max-width: none; width: 40rem; }
  ul { padding-left: 1.25rem; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  a { color: inherit; text-decoration: none; }
  h1, h2, h3 { break-after: avoid; }
  figure, tr, li { break-inside: avoid; }
  .scroll { overflow: visible; background: none; }
  table { font-size: 7pt; }
  th, td { padding: .1rem .25rem; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
""".strip()


class Html:
    """One file without scripts, pictures within."""

    def text(self, plain: str) -> str:
        """A piece of a sentence, or of a cell."""
        return html.escape(plain)

    def code(self, plain: str) -> str:
        """A name or a command; a long name breaks after an underscore."""
        return f"<code>{html.escape(plain).replace('_', '_<wbr>')}</code>"

    def link(self, content: str, address: str) -> str:
        """The address may be `#` and an anchor of the page."""
        return f'<a href="{html.escape(address)}">{content}</a>'

    def file(self, plain: str) -> str:
        """One beside the report."""
        return self.code(plain)

    def anchor(self, name: str) -> str:
        """A place to link to."""
        return f'<span id="{html.escape(name)}"></span>'

    def heading(self, level: int, plain: str, name: str) -> str:
        """A heading with an anchor."""
        return f'<h{level} id="{html.escape(name)}">{html.escape(plain)}</h{level}>'

    def paragraph(self, content: str) -> str:
        """Some sentences."""
        return f"<p>{content}</p>"

    def note(self, content: str) -> str:
        """A paragraph not to be overlooked."""
        return f'<p class="note">{content}</p>'

    def bullets(self, items: Iterable[str]) -> str:
        """A list."""
        return "\n".join(["<ul>", *(f"<li>{item}</li>" for item in items), "</ul>"])

    def frame(self, table: pd.DataFrame, plain: str) -> str:
        """A table of plain texts, called `plain`."""
        head, *rows = (map(html.escape, row) for row in (table.columns, *table.to_numpy()))
        return self.table([*head], rows, plain, words=(0,))

    def table(
        self, head: Sequence[str], rows: Iterable[Iterable[str]], plain: str, words: Sequence[int]
    ) -> str:
        """A table called `plain`, without numbers in the columns `words`.

        It scrolls sideways within the page, by the keyboard too.
        """
        kind = ["word" if i in words else "number" for i in range(len(head))]
        heads = [f'<th scope="col" class="{k}">{x}</th>' for k, x in zip(kind, head, strict=True)]
        lines = [f"<thead><tr>{''.join(heads)}</tr></thead>", "<tbody>"]
        for first, *others in rows:
            cells = [f'<td class="{k}">{x}</td>' for k, x in zip(kind[1:], others, strict=True)]
            lines.append(f'<tr><th scope="row" class="{kind[0]}">{first}</th>{"".join(cells)}</tr>')
        around = (
            f'<div class="scroll" role="region" tabindex="0" aria-label="{html.escape(plain)}">'
        )
        return "\n".join([around, "<table>", *lines, "</tbody>", "</table>", "</div>"])

    def folded(self, summary: str, body: str) -> str:
        """What opens on a click."""
        return f"<details>\n<summary>{summary}</summary>\n{body}\n</details>"

    def figure(self, file: str, png: bytes, plain: str, caption: str) -> str:
        """A picture, as WebP without loss; `plain` stands for it where it cannot be seen."""
        webp = io.BytesIO()
        with Image.open(io.BytesIO(png)) as picture:
            width, height = picture.size
            picture.convert("RGB").save(webp, "WEBP", lossless=True)
        data = base64.b64encode(webp.getvalue()).decode()
        image = (
            f'<img src="data:image/webp;base64,{data}" width="{width}" height="{height}" '
            f'alt="{html.escape(plain)}">'
        )
        scrolled = (
            '<div class="scroll" role="region" tabindex="0" '
            f'aria-label="{html.escape(file)}">{image}</div>'
        )
        return f"<figure>\n{scrolled}\n<figcaption>{caption}</figcaption>\n</figure>"

    def whole(self, plain: str, blocks: Iterable[str]) -> str:
        """The file; `plain` is its title."""
        head = [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(plain)}</title>",
            f"<style>\n{STYLE}\n</style>",
            "</head>",
            "<body>",
            "<main>",
            f"<h1>{html.escape(plain)}</h1>",
        ]
        return "\n".join([*head, *blocks, "</main>", "</body>", "</html>"]) + "\n"


class Markdown:
    """The same in GitHub's Markdown; pictures are files beside it."""

    def text(self, plain: str) -> str:
        return in_markdown(plain)

    def code(self, plain: str) -> str:
        return f"`{plain}`"

    def link(self, content: str, address: str) -> str:
        return f"[{content}]({address})"

    def file(self, plain: str) -> str:
        return self.link(plain, plain)

    def anchor(self, name: str) -> str:
        return f'<a id="{html.escape(name)}"></a>'

    def heading(self, level: int, plain: str, name: str) -> str:
        return f"{self.anchor(name)}\n\n{'#' * level} {in_markdown(plain)}"

    def paragraph(self, content: str) -> str:
        return content

    def note(self, content: str) -> str:
        return f"> {content}"

    def bullets(self, items: Iterable[str]) -> str:
        return "\n".join(f"- {item}" for item in items)

    def frame(self, table: pd.DataFrame, plain: str) -> str:
        return to_markdown(table)

    def table(
        self, head: Sequence[str], rows: Iterable[Iterable[str]], plain: str, words: Sequence[int]
    ) -> str:
        return pipe_table(head, rows, words)

    def folded(self, summary: str, body: str) -> str:
        return f"<details>\n<summary>{summary}</summary>\n\n{body}\n\n</details>"

    def figure(self, file: str, png: bytes, plain: str, caption: str) -> str:
        return f"![{in_markdown(plain)}]({file})\n\n{caption}"

    def whole(self, plain: str, blocks: Iterable[str]) -> str:
        return "\n\n".join([f"# {in_markdown(plain)}", *blocks]) + "\n"


Markup = Html | Markdown
