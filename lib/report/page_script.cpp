#include "report/page.h"

namespace attnscale {

std::string_view page_script() {
  return R"js(
"use strict";
(() => {
  const source = document.getElementById("figure-data");
  if (source && window.vegaEmbed) {
    const data = JSON.parse(source.textContent);
    const dark = window.matchMedia("(prefers-color-scheme: dark)");
    const panels = (spec) => new Set(spec.data.values.map((row) => row.variant)).size;

    // Gives a spec the width that the page has now: one panel, or as many beside each other as stay readable.
    const fitted = (original, width) => {
      const spec = structuredClone(original);
      if (!spec.facet) {
        spec.width = Math.max(180, width);
        spec.autosize = {type: "fit-x", contains: "padding"};
        return spec;
      }
      const side = 64, gap = 34;
      spec.columns = Math.max(1, Math.min(panels(spec), Math.floor(width / 330)));
      spec.spec.width = Math.max(160, Math.floor((width - side - gap * (spec.columns - 1)) / spec.columns) - 12);
      return spec;
    };

    const views = new Map();
    const draw = async () => {
      for (const {id, spec} of data.figures) {
        const target = document.querySelector(`[data-figure="${id}"]`);
        const config = structuredClone(dark.matches ? data.dark : data.light);
        config.legend.columns = Math.max(2, Math.floor(target.clientWidth / 170));
        try {
          const view = await vegaEmbed(target, fitted(spec, target.clientWidth), {
            config, renderer: "svg", tooltip: {theme: dark.matches ? "dark" : "light"}, downloadFileName: id,
            actions: {export: true, source: false, compiled: false, editor: false}});
          views.get(id)?.finalize();
          views.set(id, view);
        } catch (error) {
          target.textContent = `This figure could not be drawn: ${error}`;
        }
      }
      document.documentElement.dataset.drawn = "yes";
    };
    let timer, width = window.innerWidth;
    const later = () => { clearTimeout(timer); timer = setTimeout(draw, 150); };
    dark.addEventListener("change", later);
    window.addEventListener("resize", () => { if (window.innerWidth !== width) { width = window.innerWidth; later(); } });
    draw();
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    const value = (row, column) => {
      const cell = row.cells[column];
      return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
    };
    // Numbers before words, so that cells without a value end together.
    const compare = (a, b) => typeof a === typeof b ? (typeof a === "number" ? a - b : a.localeCompare(b)) : typeof a === "number" ? -1 : 1;
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows].sort((a, b) => compare(value(a, column), value(b, column)) * (down ? -1 : 1));
      table.tBodies[0].append(...rows);
    }));
  }
})();
)js";
}

}  // namespace attnscale
