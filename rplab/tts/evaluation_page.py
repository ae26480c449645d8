"""The page of `rplab tts eval`: players, mel pictures and numbers, one HTML file beside its sounds, no network."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from rplab.l10n import tr

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#222;background:#fff}
h1{font-size:1.4rem}table{border-collapse:collapse;width:100%}td,th{padding:.4rem .6rem;border-bottom:1px solid #ddd;text-align:left}
th{background:#f5f5f5;position:sticky;top:0}.n{text-align:right;font-variant-numeric:tabular-nums}img{height:64px;width:220px;image-rendering:auto}
.bad{color:#b00020}audio{width:15rem}small{color:#666}
@media(prefers-color-scheme:dark){body{background:#161616;color:#ddd}th{background:#222}td,th{border-color:#333}small{color:#999}}
"""


def render_page(summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the page as HTML; files are named relative to it."""
    names = {
        "kana_cer": tr("가나 오류율", "kana error rate"),
        "mcd": "MCD (dB)",
        "dnsmos": "DNSMOS",
        "rtf": "RTF",
        "first_sound_s": tr("첫 소리 (s)", "first sound (s)"),
        "seconds": tr("길이 (s)", "length (s)"),
        "sentences": tr("문장", "sentences"),
        "not_spoken": tr("읽지 못함", "not spoken"),
    }
    missing: Mapping[str, str] = summary["missing"]
    facts = "".join(
        f"<tr><th scope=row>{label}</th><td>{_number(summary[key]) if summary[key] is not None else _small(missing.get(key, ''))}</td></tr>"
        for key, label in names.items()
    )
    title = html.escape(tr(f"음성 평가: {summary['voice']}", f"Evaluation of the voice {summary['voice']}"))
    heads = ("#", tr("문장", "sentence"), tr("소리", "sound"), "mel", tr("오류", "errors"), "MCD", "DNSMOS", "RTF", tr("첫 소리", "first"))
    body = "".join(_row(row) for row in rows)
    head = "".join(f"<th>{name}</th>" for name in heads)
    return (
        f'<!doctype html><html lang="{tr("ko", "en")}"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{_STYLE}</style><h1>{title}</h1><table>{facts}</table>"
        f"<h2>{tr('문장별', 'Sentence by sentence')}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></html>\n"
    )


def _row(row: Mapping[str, Any]) -> str:
    name = f"{row['index']:03d}"
    text = f"<td lang=ja>{html.escape(row['text'])}"
    if row["error"]:
        return f'<tr><td class=n>{name}</td>{text}</td><td colspan=7 class="bad">{html.escape(row["error"])}</td></tr>'
    if row["heard"] is not None:
        text += f"<br><small>{html.escape(row['heard'])}</small>"
    errors = "" if row["kana_errors"] is None else f"{row['kana_errors']}/{row['kana_length']}"
    numbers = "".join(f"<td class=n>{_number(row[key])}</td>" for key in ("mcd", "dnsmos", "rtf", "first_sound_s"))
    return (
        f"<tr><td class=n>{name}</td>{text}</td><td><audio controls preload=none src=audio/{name}.wav></audio></td>"
        f"<td><img src=mel/{name}.png alt=mel></td><td class=n>{errors}</td>{numbers}</tr>"
    )


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _small(text: str) -> str:
    return f"<small>{html.escape(text)}</small>"
