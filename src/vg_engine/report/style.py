"""The look of a page and of its charts: quiet, one accent, light or dark as the reader has it."""

from __future__ import annotations

from typing import Final

_LIGHT: Final = """
--paper:#fff;--shade:#1a1e262e;--card:#f6f7f9;--ink:#1a1e26;--quiet:#5a6575;--line:#e1e5eb;--grid:#eaedf1;
--axis:#c3cad4;--accent:#0b7f76;--wash:#0b7f7614;--control:#98a2b1;--good:#1f7a4d;--bad:#b93815;
--warn:#a15c07;--s1:#4b57cf;--s2:#c2570c;--s3:#a3268f;--s4:#2874b4;--s5:#7a6a00;
"""
_DARK: Final = """
--paper:#13151a;--shade:#ffffff26;--card:#1b1e25;--ink:#e9ebef;--quiet:#a3aab8;--line:#2c313a;--grid:#23272f;
--axis:#4a515e;--accent:#40e0d0;--wash:#40e0d01a;--control:#727b8a;--good:#5ccb92;--bad:#ff8f6b;
--warn:#f2b45c;--s1:#9aa5ff;--s2:#ffa561;--s3:#f08fe0;--s4:#7cc0f5;--s5:#d9c84a;
"""

CHARTS: Final = """
.chart{display:block;max-width:100%;height:auto;overflow:visible;
font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;
font-variant-numeric:tabular-nums}
.chart text{fill:var(--quiet);font-size:12px}
.chart .ink,.chart .strong{fill:var(--ink)}.chart .strong{font-weight:600}
.chart .title{fill:var(--ink);font-size:14px;font-weight:600}
.chart .halo{paint-order:stroke;stroke:var(--paper);stroke-width:4px;stroke-linejoin:round}
.chart .named{fill:var(--c);font-weight:600}
.chart .grid{stroke:var(--grid);stroke-width:1}.chart .axis{stroke:var(--axis);stroke-width:1}
.chart .s{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.chart .thin{stroke-width:1.25}.chart .dash{stroke-dasharray:4 4;stroke-linecap:butt}
.chart .dotted{stroke-dasharray:1 5}
.chart .f{fill:var(--c)}.chart .soft{fill:var(--c);opacity:.6}
.chart .band{fill:var(--c);opacity:.13}.chart .ring{stroke:var(--paper);stroke-width:1.5}
.chart .hollow{fill:var(--paper);stroke:var(--c);stroke-width:1.5}
.chart .inside{fill:var(--paper);font-weight:600}
.chart .empty{fill:none;stroke:var(--axis);stroke-width:1}
.chart .casing{fill:none;stroke:#000;stroke-width:4}
.chart .outline{fill:none;stroke:#fff;stroke-width:2}
.chart .outlined{fill:none;stroke:var(--ink);stroke-width:2}
.chart .on-light{fill:#13151a}.chart .on-dark{fill:#fff}
.c0{--c:var(--accent)}.c1{--c:var(--s1)}.c2{--c:var(--s2)}.c3{--c:var(--s3)}.c4{--c:var(--s4)}
.c5{--c:var(--s5)}.cm{--c:var(--control)}.cq{--c:var(--quiet)}
"""

_PAGE: Final = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0 auto;max-width:1080px;padding:48px 32px 64px;background:var(--paper);color:var(--ink);
font:16px/1.6 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;
font-variant-numeric:tabular-nums;overflow-wrap:break-word}
h1{margin:0;font-size:2.1rem;line-height:1.2;font-weight:650;letter-spacing:-.02em;
text-wrap:balance}
.subtitle{margin:.5rem 0 0;color:var(--quiet);font-size:1.08rem;max-width:46rem}
nav{margin:1.75rem 0 0;padding:.7rem 0;border-block:1px solid var(--line)}
nav ol{display:flex;flex-wrap:wrap;gap:.2rem 1.5rem;margin:0;padding:0;list-style:none;
font-size:.92rem}
a{color:var(--accent);text-decoration:none}a:hover{text-decoration:underline}
section{margin-top:3.25rem}
h2{margin:0 0 1rem;font-size:1.3rem;line-height:1.3;font-weight:650;letter-spacing:-.01em}
ul,dl{margin:0}p{margin:0;max-width:46rem}
code{font:.88em/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;
overflow-wrap:anywhere}
.scroll{overflow-x:auto;overflow-y:hidden;
background:linear-gradient(90deg,var(--paper) 30%,transparent),
linear-gradient(270deg,var(--paper) 30%,transparent) 100% 0,
linear-gradient(90deg,var(--shade),transparent),
linear-gradient(270deg,var(--shade),transparent) 100% 0;background-repeat:no-repeat;
background-size:48px 100%,48px 100%,14px 100%,14px 100%;
background-attachment:local,local,scroll,scroll}
figure{margin:0}
figcaption{margin-top:.6rem;color:var(--quiet);font-size:.9rem;line-height:1.5;max-width:42rem}
.columns{display:flex;flex-wrap:wrap;gap:2rem 2.5rem;align-items:flex-start}
.columns>*{flex:1 1 420px;min-width:0;margin:0}
table{border-collapse:collapse;font-size:.92rem;line-height:1.4}
caption{padding:0 .8rem .5rem 0;text-align:left;font-weight:600}
th,td{padding:.42rem .8rem;text-align:left;vertical-align:baseline;
border-bottom:1px solid var(--line)}
th:first-child,td:first-child{padding-left:.6rem}
thead th{color:var(--quiet);font-weight:500;font-size:.85rem;border-color:var(--axis);
vertical-align:bottom}
td{max-width:26rem}td>.chart{display:inline-block;vertical-align:middle}
.r{text-align:right;white-space:nowrap}.c{text-align:center}
.interval{color:var(--quiet);font-size:.92em}
tr.on td{background:var(--wash);font-weight:600}tr.on .interval{font-weight:400}
tr.off td{color:var(--quiet)}
.facts{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.35rem 1.5rem;
font-size:.92rem}
.facts dt{color:var(--quiet)}.facts dd{margin:0;overflow-wrap:anywhere}
.numbers{display:flex;flex-wrap:wrap;gap:1.5rem 3rem}
.numbers div{min-width:8rem;max-width:16rem}
.numbers .name{color:var(--quiet);font-size:.88rem}
.numbers .big{font-size:2rem;line-height:1.25;font-weight:600;letter-spacing:-.02em}
.numbers .big .interval{display:block;font-size:.9rem;line-height:1.5;font-weight:400;
letter-spacing:0}
.numbers .long{font-size:1.15rem;line-height:1.4;letter-spacing:0;padding:.25rem 0}
.numbers .words{color:var(--quiet);font-size:.88rem;line-height:1.4}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(230px,100%),1fr));gap:1.25rem}
.card{display:flex;flex-direction:column;background:var(--card);border:1px solid var(--line);
border-radius:8px;overflow:hidden}
.card>img{width:100%;max-height:26rem;object-fit:contain;background:#13151a}
.card .says{margin:0;padding:.7rem .85rem 0;line-height:1.4}
.card .small{margin:0;padding:.25rem .85rem .7rem;color:var(--quiet);font-size:.84rem;
line-height:1.45}
.card .verdict::before{content:"";display:inline-block;width:.55em;height:.55em;border-radius:50%;
margin-right:.5em;vertical-align:.08em;background:var(--good)}
.card.bad .verdict::before{background:none;box-shadow:inset 0 0 0 2px var(--bad)}
.card details{margin:auto 0 0;padding:.45rem .85rem;border-top:1px solid var(--line);
font-size:.86rem}
img{display:block;max-width:100%;height:auto}
.strip{display:flex;flex-wrap:wrap;gap:.75rem}.strip figure{margin:0}
.strip img{border-radius:4px}.strip figcaption{margin-top:.25rem;font-size:.8rem}
.card .strip{gap:.4rem}.card .strip figure{flex:0 1 calc(33.3% - .3rem)}
.note{padding:.7rem 1rem;border-left:3px solid var(--k);border-radius:0 6px 6px 0;
background:var(--card);max-width:48rem}
.note>b{color:var(--k);margin-right:.4rem}.note.info{--k:var(--accent)}
.note.warning{--k:var(--warn)}.note.error{--k:var(--bad)}
details>summary{cursor:pointer;color:var(--accent);width:fit-content}
details[open]>summary{margin-bottom:.8rem}
.key{display:flex;flex-wrap:wrap;gap:.3rem 1.4rem;padding:0;list-style:none;
color:var(--quiet);font-size:.88rem}
.key li{display:flex;align-items:center;gap:.5rem}
.key svg{background:#5b6270;border-radius:3px}
section>:not(h2)+*,details>:not(summary)+*{margin-top:2rem}
section>p+*,details>p+*{margin-top:1rem}section>.key+*{margin-top:1rem}
footer{margin-top:4rem;padding-top:1rem;border-top:1px solid var(--line);color:var(--quiet);
font-size:.85rem}
footer p{margin:.2rem 0;max-width:none}
@media (max-width:640px){body{padding:28px 16px 48px}h1{font-size:1.65rem}
section{margin-top:2.5rem}.numbers{display:grid;grid-template-columns:1fr 1fr;gap:1.25rem}
.numbers div{min-width:0}.numbers .big{font-size:1.6rem}.numbers .long{font-size:1.05rem}
td:first-child{min-width:8rem}
.facts{grid-template-columns:minmax(0,1fr);gap:0}.facts dd{margin-bottom:.6rem}}
@media print{body{max-width:none;padding:0;font-size:11pt}nav{display:none}
figure,.card,tr,.note,.numbers{break-inside:avoid}h2{break-after:avoid}
.scroll{overflow:visible;background:none}.columns>*{flex-basis:300px}
.chart{min-width:0!important}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""

PAGE: Final = (
    f":root{{color-scheme:light dark;{_LIGHT}}}"
    f"@media screen and (prefers-color-scheme:dark){{:root{{{_DARK}}}}}{CHARTS}{_PAGE}"
).replace("\n", "")
