"""The look of a report: one style sheet, light and dark, for wide screens and for telephones."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark;
  --page: #f6f8fa; --panel: #ffffff; --edge: #d8dee4; --ink: #1f2328; --faint: #59636e; --accent: #0969da;
  --a0: #2f6fde; --a1: #b8670f; --a2: #7a52cc; --a3: #0f8a6a; --a4: #c4503f; --a5: #5b6b80;
  --used: #1a7f37; --late: #bf7500; --lost: #cf222e; --rejected: #bf3989; --apart: #8c959f; --held: #8250df; --found: #1a7f37; }
@media (prefers-color-scheme: dark) { :root {
  --page: #0d1117; --panel: #151b23; --edge: #30363d; --ink: #e6edf3; --faint: #8b949e; --accent: #6cb6ff;
  --a0: #6cb6ff; --a1: #d9a066; --a2: #b79af2; --a3: #6fc3a4; --a4: #e08d80; --a5: #93a4b8;
  --used: #3fb950; --late: #ff9f43; --lost: #ff6b60; --rejected: #ff7edb; --apart: #6e7681; --held: #c297ff; --found: #3fb950; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 24px 16px 64px; }
h1 { font-size: 26px; line-height: 1.25; margin: 8px 0 2px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 0; }
h3 { font-size: 14px; margin: 20px 0 4px; font-weight: 600; }
p { margin: 4px 0; }
.lead { color: var(--faint); margin-bottom: 12px; }
section { background: var(--panel); border: 1px solid var(--edge); border-radius: 10px; padding: 18px 20px; margin-top: 18px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(136px, 1fr)); gap: 12px; margin-top: 18px; }
.tile { background: var(--panel); border: 1px solid var(--edge); border-radius: 10px; padding: 12px 14px; }
.tile b { display: block; font-size: 23px; line-height: 1.25; font-weight: 650; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.tile span { color: var(--faint); font-size: 13px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 4px 28px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 6px 14px 6px 0; border-bottom: 1px solid var(--edge); vertical-align: top; }
th { color: var(--faint); font-weight: 500; font-size: 13px; white-space: nowrap; }
tbody tr:last-child td { border-bottom: 0; }
.number { text-align: right; white-space: nowrap; }
.number:last-child { padding-right: 0; }
td.number:has(.bar) { min-width: 140px; width: 34%; }
figure { margin: 0; }
figcaption { display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: 13px; color: var(--faint); margin-bottom: 8px; }
figcaption i { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 6px; vertical-align: -1px; }
.unit { margin-left: auto; }
.chart { display: grid; grid-template-columns: 48px 1fr; grid-template-rows: 200px auto; margin-bottom: 12px; }
.marks { position: relative; font-size: 12px; color: var(--faint); }
.marks span { position: absolute; right: 8px; transform: translateY(50%); }
.plot { position: relative; }
.plot svg { position: absolute; inset: 0; width: 100%; height: 100%; overflow: visible; }
.below { grid-column: 2; display: flex; justify-content: space-between; font-size: 12px; color: var(--faint); padding-top: 6px; }
.grid { stroke: var(--edge); stroke-width: 1; vector-effect: non-scaling-stroke; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; vector-effect: non-scaling-stroke; }
.layer { opacity: 0.85; stroke: var(--panel); stroke-width: 1; vector-effect: non-scaling-stroke; }
.column { fill: transparent; } .column:hover { fill: var(--ink); opacity: 0.08; }
.bar { display: flex; height: 14px; margin-top: 4px; border-radius: 4px; overflow: hidden; gap: 1px; }
.bar i { display: block; min-width: 2px; }
.lanes { display: grid; grid-template-columns: auto 1fr; gap: 6px 12px; align-items: center; margin: 8px 0 14px; font-size: 13px; }
.lane { position: relative; height: 18px; border-radius: 4px; background: var(--page); border: 1px solid var(--edge); }
.lane i { position: absolute; top: 0; bottom: 0; border-radius: 3px; min-width: 3px; }
.dot { display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin-right: 8px; }
.who { white-space: nowrap; }
img { width: 100%; height: auto; border-radius: 6px; display: block; }
footer { color: var(--faint); font-size: 13px; margin-top: 20px; }
@media (max-width: 560px) { main { padding: 12px 10px 40px; } section { padding: 14px; } h1 { font-size: 22px; }
  .chart { grid-template-columns: 38px 1fr; grid-template-rows: 170px auto; } }
"""
