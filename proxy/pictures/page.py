"""The page around the pictures."""

from __future__ import annotations

import html
from collections.abc import Sequence

_STYLE = """
:root{color-scheme:light dark;--ink:light-dark(#1b1f24,#e6e8eb);--dim:light-dark(#5c6670,#9aa4af);
--line:light-dark(#dfe3e8,#30363d);--back:light-dark(#fff,#14171b);--card:light-dark(#f7f8fa,#1b1f25);
--good:light-dark(#137a3f,#4cc38a);--bad:light-dark(#b3261e,#ff8b7e);--warn:light-dark(#8a5a00,#e6b450);
--c0:light-dark(#2563c9,#6ea8fe);--c1:light-dark(#c2570c,#ffa657);--c2:light-dark(#0f7b6c,#56d4c0);
--c3:light-dark(#9a3ea8,#d2a8ff);--c4:light-dark(#8a6d00,#e3c04f);--c5:light-dark(#b02a5b,#ff9bc0);
--c6:light-dark(#4b5563,#a8b3bf);--c7:light-dark(#5a7d00,#b6d957)}
*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1040px;margin:0 auto;padding:28px 20px 60px}h1{font-size:25px;margin:0 0 4px}
h2{font-size:18px;margin:36px 0 8px}p{margin:6px 0 12px;max-width:76ch}.dim{color:var(--dim)}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:14px;min-width:100%;margin:8px 0 14px}
th,td{padding:5px 8px;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
th{font-weight:600;color:var(--dim);white-space:nowrap}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:12px;margin:14px 0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 14px}
.tile b{display:block;font-size:22px;line-height:1.25;overflow-wrap:anywhere}.tile span{color:var(--dim);font-size:13px}
.note{border-left:3px solid var(--dim);background:var(--card);padding:8px 14px;margin:12px 0;max-width:none}
.good{border-color:var(--good)}.bad{border-color:var(--bad)}.warn{border-color:var(--warn)}
svg{display:block;max-width:100%;height:auto;margin:6px 0 16px}svg text{fill:var(--ink);font:12px system-ui,sans-serif}
svg .dim{fill:var(--dim)}footer{margin-top:44px;color:var(--dim);font-size:13px;border-top:1px solid var(--line);
padding-top:10px}@media print{body{background:#fff}main{max-width:none}}
"""

TONES = ("", "good", "bad", "warn")


def escape(text: str) -> str:
    """Text for any place in a page, attributes included; control characters and lone surrogates become `\ufffd`."""
    return html.escape("".join(one if one.isprintable() or one == "\n" else "\ufffd" for one in text))


def page(title: str, sections: Sequence[str], *, subtitle: str = "", footer: str = "") -> bytes:
    """The whole file. `sections` are HTML made by the other functions here; the other texts are escaped."""
    parts = [
        "<!doctype html>\n<html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width,initial-scale=1'>",
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{escape(title)}</title><style>{_STYLE}</style><main><h1>{escape(title)}</h1>",
        f"<p class=dim>{escape(subtitle)}</p>" if subtitle else "",
        *sections,
        f"<footer>{escape(footer)}</footer>" if footer else "",
        "</main></html>\n",
    ]
    return "\n".join(part for part in parts if part).encode()


def section(heading: str, *inner: str, lead: str = "") -> str:
    """`lead`: a sentence that says what to look for."""
    told = f"<p class=dim>{escape(lead)}</p>" if lead else ""
    return f"<section><h2>{escape(heading)}</h2>{told}{''.join(inner)}</section>"


def note(text: str, tone: str = "") -> str:
    """A sentence that must not be overlooked; `tone`: good, bad, warn or none."""
    return f"<p class='note {tone if tone in TONES else ''}'>{escape(text)}</p>"


def table(head: Sequence[str], rows: Sequence[Sequence[object]], *, numbers: Sequence[int] = ()) -> str:
    """`numbers`: the columns (from 0) that are set as numbers, flush right; an interval is not broken over lines."""

    def text(place: int, cell: object) -> str:
        told = escape(str(cell))
        return told.replace(", ", ",&nbsp;") if place in numbers else told

    def cells(tag: str, row: Sequence[object]) -> str:
        return "".join(
            f"<{tag}{' class=n' if place in numbers else ''}>{text(place, cell)}</{tag}>"
            for place, cell in enumerate(row)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<div class=scroll><table><tr>{cells('th', head)}</tr>{body}</table></div>"


def tiles(shown: Sequence[tuple[str, str, str]]) -> str:
    """The few figures that matter most: (what, value, what to know about it)."""
    return (
        "<div class=tiles>"
        + "".join(
            f"<div class=tile><span>{escape(what)}</span><b>{escape(value)}</b><span>{escape(more)}</span></div>"
            for what, value, more in shown
        )
        + "</div>"
    )
