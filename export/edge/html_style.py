"""The style sheet of a page of predictions, in the colours of the training report."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --muted: #5b6b7b; --line: #dfe6ec; --paper: #fff;
  --ground: #f3f6f9; --tint: #e1e8ee; --band: #8fb3cf; --accent: #1f4e79; --wrong: #a63d1c }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e2e8ee; --muted: #a3b1bf; --line: #33414f; --paper: #1d2731; --ground: #131a21;
    --tint: #33414f; --band: #40688c; --accent: #8fc0e8; --wrong: #f0997a } }
* { box-sizing: border-box }
body { margin: 0; font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  color: var(--ink); background: var(--ground) }
header, main, .bar { max-width: 90rem; margin: 0 auto; padding: 0 1rem }
header p { margin: .3rem 0 }
h1 { font-size: 1.35rem; margin: 1.2rem 0 .4rem; overflow-wrap: anywhere }
.bar { position: sticky; top: 0; z-index: 1; padding-block: .5rem; background: var(--ground);
  display: flex; flex-wrap: wrap; gap: .4rem 2rem }
fieldset { border: 0; margin: 0; padding: 0; min-width: 0; display: flex; flex-wrap: wrap;
  gap: .3rem; align-items: center }
legend { float: left; padding: 0 .3rem 0 0; color: var(--muted) }
label { position: relative; cursor: pointer }
label input { position: absolute; opacity: 0; inset: 0; cursor: pointer }
label span { display: block; padding: .2rem .7rem; border: 1px solid var(--line);
  border-radius: 1rem; background: var(--paper) }
input:checked + span { background: var(--accent); border-color: var(--accent); color: var(--paper) }
input:focus-visible + span { outline: 2px solid var(--accent); outline-offset: 2px }
.scale { color: var(--muted); font-size: .85rem; white-space: nowrap; margin-left: .4rem }
.scale img { vertical-align: middle; border-radius: 2px; width: 7rem; height: .6rem }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr));
  gap: .8rem; padding-block: .5rem 2rem; align-items: start }
.card { background: var(--paper); border: 1px solid var(--line); border-radius: .6rem;
  overflow: hidden; break-inside: avoid; content-visibility: auto;
  contain-intrinsic-size: auto 22rem }
.picture { position: relative; background: #0d1520; min-height: 2.5rem }
.picture img { display: block; width: 100%; height: auto }
.picture .map { position: absolute; inset: 0; height: 100%; opacity: 0 }
.text { padding: .6rem .8rem .7rem }
h2 { font-size: 1.05rem; margin: 0 0 .3rem; overflow-wrap: anywhere }
ul { list-style: none; margin: 0; padding: 0 }
li { display: grid; grid-template-columns: 1fr auto; gap: 0 .5rem; align-items: baseline;
  font-size: .9rem; color: var(--muted); margin-bottom: .35rem }
li.predicted { color: var(--ink) }
li span { overflow-wrap: anywhere } small, li b { white-space: nowrap }
li b { font-variant-numeric: tabular-nums; font-weight: 600 }
.track { grid-column: 1 / -1; position: relative; height: .5rem; border-radius: .25rem;
  background: var(--tint) }
.track i { position: absolute; inset: 0 auto 0 0; border-radius: .25rem; background: var(--band) }
.predicted .track i { background: var(--accent) }
.track u { position: absolute; top: -.15rem; bottom: -.15rem; width: 3px; margin-left: -1.5px;
  border-radius: 2px; background: var(--ink) }
.file { margin: .5rem 0 0; font-size: .8rem; color: var(--muted); overflow-wrap: anywhere }
.file b { color: var(--ink); font-weight: 600 }
.g-unreadable h2, .reason { color: var(--wrong) } .reason { margin: 0 }
@media (max-width: 40rem) { .bar { position: static }
  main { grid-template-columns: repeat(auto-fill, minmax(min(100%, 10.5rem), 1fr)) } }
@media print { .bar { position: static } * { print-color-adjust: exact } }
"""
