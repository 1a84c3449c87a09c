"""Small tables for notebooks."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

__all__ = ["html_sheet", "html_table"]


def html_sheet(title: str, entries: Mapping[str, Any]) -> str:
    """Return HTML of a title and a table of names and values; all of it is inert text."""
    rows = "".join(
        f'<tr><th style="text-align:left">{escape(str(key))}</th>'
        f'<td style="text-align:left">{escape(str(value))}</td></tr>'
        for key, value in entries.items()
    )
    return f"<div><strong>{escape(title)}</strong><table>{rows}</table></div>"


def html_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[tuple[str, Sequence[Sequence[str]]]],
    note: str = "",
) -> str:
    """Return HTML of a table in sections, each a heading ("" for none) and rows of cells."""
    head = "".join(f'<th style="text-align:left">{escape(name)}</th>' for name in columns)
    body = []
    for heading, lines in rows:
        if heading:
            body.append(
                f'<tr><th colspan="{len(columns)}" style="text-align:left">{escape(heading)}</th>'
                "</tr>"
            )
        for cells in lines:
            filled = "".join(f'<td style="text-align:left">{escape(cell)}</td>' for cell in cells)
            body.append(f"<tr>{filled}</tr>")
    foot = f"<small>{escape(note)}</small>".replace("\n", "<br>") if note else ""
    return (
        f"<div><strong>{escape(title)}</strong><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table>{foot}</div>"
    )
