#include "report/page.h"

namespace attnscale {

std::string_view page_style() {
  return R"css(
:root { color-scheme: light dark; --ground: #f6f7f9; --card: #ffffff; --text: #1f2328; --faint: #5b6570; --line: #dfe3e8;
  --accent: #0072b2; --good: #0b7a53; --bad: #b3401a; --shadow: 0 1px 2px rgb(20 30 40 / .06), 0 4px 16px rgb(20 30 40 / .05); }
@media (prefers-color-scheme: dark) { :root { --ground: #12161a; --card: #1a1f25; --text: #e6e8eb; --faint: #9aa3ad;
  --line: #303740; --accent: #6db8ee; --good: #4cc79b; --bad: #ff9a6b; --shadow: none; } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body { margin: 0; background: var(--ground); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 20px 60px; }
header { margin-bottom: 24px; }
.kicker { margin: 0; color: var(--accent); font-size: 13px; font-weight: 600; letter-spacing: .08em; text-transform: uppercase; }
h1 { margin: 4px 0 12px; font-size: clamp(26px, 4vw, 38px); line-height: 1.15; letter-spacing: -.015em; overflow-wrap: anywhere; }
h2 { margin: 0 0 12px; font-size: 20px; line-height: 1.3; letter-spacing: -.005em; }
.about { margin: 0 0 8px; color: var(--faint); max-width: 75ch; }
.verdict { margin: 0; font-size: 17px; max-width: 78ch; overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 12px; margin: 0 0 20px; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 16px; box-shadow: var(--shadow); }
.tile dt { color: var(--faint); font-size: 13px; }
.tile dd { margin: 2px 0 0; font-size: 25px; font-weight: 600; line-height: 1.25; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.tile small { display: block; color: var(--faint); font-size: 12.5px; font-weight: 400; line-height: 1.4; }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 0 0 20px; font-size: 14px; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 3px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 22px 24px; margin: 0 0 20px;
  box-shadow: var(--shadow); scroll-margin-top: 12px; }
.card p { max-width: 78ch; margin: 0 0 12px; }
.card > p:last-child { margin-bottom: 0; }
figure { margin: 0; }
figcaption { margin-top: 12px; color: var(--faint); font-size: 14px; max-width: 88ch; }
.live { width: 100%; overflow-x: auto; min-height: 60px; }
.live .vega-embed { display: block; padding-right: 0; }
.live .vega-embed details { position: absolute; top: 0; right: 0; }
.vega-embed summary { background: var(--card) !important; border-color: var(--line) !important; box-shadow: none !important;
  color: var(--faint) !important; }
.vega-embed .vega-actions { background: var(--card) !important; border-color: var(--line) !important; }
.vega-embed .vega-actions a { color: var(--text) !important; }
.live svg { display: block; max-width: 100%; height: auto; }
.still { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 6px; }
.js .has-still .still { display: none; }
#vg-tooltip-element { font: 13px/1.4 system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; }
.scroll { overflow-x: auto; margin: 0 -24px; padding: 0 24px; }
.scroll:has(.sortable) { max-height: 640px; overflow-y: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
th, td { padding: 6px 10px; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--faint); font-weight: 600; font-size: 13px; }
.sortable th { position: sticky; top: 0; background: var(--card); z-index: 1; }
th:first-child, td:first-child { padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
td.n, th.n { text-align: right; }
td.estimate { white-space: normal; } td.estimate span { white-space: nowrap; }
td.words, #trouble td { white-space: normal; overflow-wrap: anywhere; min-width: 4em; }
tbody tr:hover { background: color-mix(in srgb, var(--accent) 7%, transparent); }
th button { all: unset; cursor: pointer; }
th button:hover { color: var(--text); }
th button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 3px; }
th[aria-sort=ascending] button::after { content: " ↑"; }
th[aria-sort=descending] button::after { content: " ↓"; }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 12.5px; }
td code { color: var(--faint); }
pre { overflow-x: auto; margin: 12px 0 0; line-height: 1.45; white-space: pre-wrap; overflow-wrap: anywhere; }
.status { font-weight: 600; }
.status.done { color: var(--good); font-weight: 400; }
.status.stopped { font-weight: 400; }
.status.diverged, .status.failed, .status.oom, .status.other { color: var(--bad); }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: 4px 20px; margin: 0 0 12px; font-size: 14px; }
.facts dt { color: var(--faint); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
summary { cursor: pointer; color: var(--accent); font-size: 14px; }
.quiet { font-size: 14px; }
.quiet h2 { font-size: 16px; }
.quiet ul { margin: 0; padding-left: 20px; }
@media (max-width: 560px) { main { padding: 24px 12px 40px; } .card { padding: 16px 14px; border-radius: 10px; }
  .scroll { margin: 0 -14px; padding: 0 14px; } .facts { grid-template-columns: 1fr; gap: 0; } .facts dd { margin-bottom: 8px; } }
@media print { :root { --ground: #fff; --card: #fff; --text: #000; --faint: #444; --line: #ccc; --accent: #000; --good: #000; --bad: #000; }
  body { font-size: 11pt; } main { max-width: none; padding: 0; } nav { display: none; }
  .card, .tile { box-shadow: none; } .card { border: 0; padding: 0; margin: 0 0 18pt; } figure, .tile, tr { break-inside: avoid; }
  h2 { break-after: avoid; } .scroll:has(.sortable) { max-height: none; } .scroll { overflow: visible; } .sortable th { position: static; }
  .js .has-still .still { display: block; } .has-still .live { display: none; } table { font-size: 8pt; } th, td { padding: 2pt 4pt; } }
)css";
}

}  // namespace attnscale
