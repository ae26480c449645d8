"""The look of the HTML report: light and dark, two columns, prints well; no font is loaded from anywhere."""

from __future__ import annotations

STYLE = """
:root{--ink:#1c2430;--soft:#5d6978;--line:#dfe4ea;--card:#fff;--page:#f5f6f8;--a:#3b6fd4;--b:#2a9d74;--c:#d0853a;--bad:#c8553d}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ee;--soft:#98a3b3;--line:#313a46;--card:#1d232c;--page:#14181e;--a:#6f9bf0;
--b:#4fc296;--c:#e3a860;--bad:#e5806b}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.55 system-ui,"Noto Sans CJK KR","Noto Sans KR",sans-serif}
main{max-width:74rem;margin:0 auto;padding:2rem 1.2rem 4rem}
h1{font-size:1.7rem;margin:0}
h2{font-size:1.2rem;margin:2.4rem 0 .8rem}
h3{font-size:.95rem;margin:0 0 .6rem}
p{margin:.3rem 0}
.soft{color:var(--soft)}
nav{margin:.8rem 0 1.4rem}
nav a{color:var(--a);text-decoration:none;margin-right:1.1rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(11.6rem,1fr));gap:.7rem}
.tile,.box{background:var(--card);border:1px solid var(--line);border-radius:.7rem;padding:.8rem 1rem}
.tile{padding:.7rem .8rem}
.tile b{display:block;font-size:1.45rem;line-height:1.25}
.tile.bad b{color:var(--bad)}
.tile.good b{color:var(--b)}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(24rem,1fr));gap:.9rem;align-items:start}
.flow{columns:24rem;column-gap:.9rem}
.flow>*{break-inside:avoid;margin-bottom:.9rem}
.wide{grid-column:1/-1}
.bar{display:grid;grid-template-columns:minmax(5rem,13rem) 1fr 7.8rem;gap:.6rem;align-items:center;margin:.16rem 0}
.bar span:first-child{overflow-wrap:anywhere}
.bar i{display:block;height:.72rem;border-radius:.2rem;background:var(--a);min-width:2px}
.bar.bad i{background:var(--bad)}
.bar.good i{background:var(--b)}
.bar.c i{background:var(--c)}
.bar em{font-style:normal;text-align:right;color:var(--soft);white-space:nowrap;font-variant-numeric:tabular-nums}
.step{display:flex}
.step i{border-radius:.2rem 0 0 .2rem}
.step u{display:block;height:.72rem;background:var(--bad);border-radius:0 .2rem .2rem 0;min-width:2px;text-decoration:none}
.funnel:last-child i{background:var(--b)}
.cols{display:flex;align-items:flex-end;gap:2px;height:7.5rem;border-bottom:1px solid var(--line)}
.cols div{flex:1;background:var(--a);border-radius:.2rem .2rem 0 0;min-height:1px}
.axis{display:flex;justify-content:space-between;color:var(--soft);font-size:.8rem}
table{border-collapse:collapse;width:100%}
th,td{padding:.28rem .6rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
th{color:var(--soft);font-weight:600;font-size:.85rem}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
td.heat{text-align:center;border:2px solid var(--card);border-radius:.3rem;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto}
details{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.45rem .8rem;margin:.35rem 0}
summary{cursor:pointer}
p.plain{margin:.35rem 0;padding:.45rem .8rem;border:1px solid var(--line);border-radius:.6rem}
blockquote{margin:.45rem 0;padding:.4rem .8rem;border-left:3px solid var(--line);white-space:pre-wrap;overflow-wrap:anywhere}
.say{max-width:46rem;margin:.45rem 0;padding:.5rem .8rem;border-radius:.8rem;white-space:pre-wrap;overflow-wrap:anywhere;
background:#3b6fd41c}
.say.user{background:#2a9d741c;margin-left:2.5rem}
.say.system{background:none;border:1px dashed var(--line);color:var(--soft);font-size:.88rem}
"""
