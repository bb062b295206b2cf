#include "report/vega_host.h"

namespace attnscale {

std::string_view vega_host_before() {
  return R"js(
"use strict";
globalThis.self = globalThis;
globalThis.console = {log() {}, info() {}, debug() {}, warn() {}, error() {}};
// Nothing waits for real time here: a timer's function runs as soon as the present task ends.
globalThis.setTimeout = (call) => { Promise.resolve().then(() => call()); return 0; };
globalThis.clearTimeout = () => {};
Object.hasOwn ??= (object, key) => Object.prototype.hasOwnProperty.call(object, key);
globalThis.structuredClone = (value) => {
  const copies = new Map();
  const copy = (from) => {
    if (typeof from === "function") throw new TypeError("a function cannot be cloned");
    if (from === null || typeof from !== "object") return from;
    if (copies.has(from)) return copies.get(from);
    if (from instanceof Date) return new Date(+from);
    if (from instanceof RegExp) return new RegExp(from.source, from.flags);
    const to = Array.isArray(from) ? [] : {};
    copies.set(from, to);
    if (from instanceof Map) return new Map([...from].map(([key, item]) => [copy(key), copy(item)]));
    if (from instanceof Set) return new Set([...from].map(copy));
    for (const key of Object.keys(from)) to[key] = copy(from[key]);
    return to;
  };
  return copy(value);
};
)js";
}

std::string_view vega_host_after() {
  return R"js(
"use strict";
(() => {
  // Advance widths of Helvetica for the characters from space to tilde, in thousandths of the font size.
  const widths = [278,278,355,556,556,889,667,191,333,333,389,584,278,333,278,278,556,556,556,556,556,556,556,556,556,556,
    278,278,584,584,584,556,1015,667,667,722,722,667,611,778,722,278,500,667,556,833,722,778,667,778,722,667,611,722,667,
    944,667,667,611,278,278,278,469,556,333,556,556,500,556,556,278,556,556,222,222,500,222,833,556,556,556,556,333,500,
    278,556,500,722,500,500,500,334,260,334,584];
  const advance = (character) => widths[character.charCodeAt(0) - 32] ?? 600;
  vega.textMetrics.width = (item, text) => {
    const size = item.fontSize ?? 11;
    const heavy = item.fontWeight === "bold" || item.fontWeight >= 600 ? 1.07 : 1;
    const limit = item.limit > 0 ? item.limit : Infinity;
    let sum = 0;
    for (const character of String(text ?? "")) sum += advance(character);
    return Math.min(limit, sum * size * heavy / 1000);
  };
})();
var drawn = "", trouble = "";
function draw(spec, config) {
  drawn = "";
  trouble = "the engine gave no answer";
  const failed = (error) => { trouble = String(error); };
  try {
    const view = new vega.View(vega.parse(vegaLite.compile(spec, {config}).spec), {renderer: "none"});
    view.logger({level() { return this; }, error(text) { failed(text); return this; }, warn() { return this; },
                 info() { return this; }, debug() { return this; }});
    view.toSVG().then((svg) => { drawn = svg; }, failed);
  } catch (error) {
    failed(error);
  }
}
)js";
}

}  // namespace attnscale
