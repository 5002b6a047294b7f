// Brings every <figure class="explorer"> of a page to life: draws it with plotly and redraws it when a control, the theme or the
// width changes. All figures were computed in Python; nothing is computed here. The JSON's format: tenpapers/page/static.py.
(() => {
  "use strict";
  const HERE = document.currentScript.src;
  const NARROW = 560; // px
  const CONFIG = { displayModeBar: false, displaylogo: false, responsive: false };
  const NARROW_LAYOUT = {
    margin: { l: 48, r: 8, t: 24, b: 40 },
    font: { size: 11.5 },
    legend: { orientation: "h", x: 0, y: 0, xanchor: "left", yanchor: "bottom", yref: "container" },
  };
  const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

  // plotly.js stands beside this script, and is loaded by pages that have a figure.
  function loadPlotly() {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = new URL("plotly.min.js", HERE);
      script.onload = () => resolve(window.Plotly);
      script.onerror = () => reject(new Error("plotly.min.js could not be loaded"));
      document.head.append(script);
    });
  }

  // Undo the storage in 32 bits: six digits give back the number that was rounded to four; whole numbers are exact up to 2²⁴.
  function widened(number) {
    if (Number.isNaN(number)) return null;
    return Number.isInteger(number) && Math.abs(number) < 2 ** 24 ? number : Number(number.toPrecision(6));
  }

  // Replace references by what they stand for.
  function unpack(value, parts) {
    if (Array.isArray(value)) return value.map((entry) => unpack(entry, parts));
    if (!isObject(value)) return value;
    if ("$" in value) return unpack(parts[value.$], parts);
    if ("f4" in value) {
      const bytes = Uint8Array.from(atob(value.f4), (char) => char.charCodeAt(0));
      const view = new DataView(bytes.buffer);
      return Array.from({ length: bytes.length / 4 }, (_, i) => widened(view.getFloat32(4 * i, true)));
    }
    return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, unpack(entry, parts)]));
  }

  // Copy the entries of `extra` over those of `base`, object by object.
  function merge(base, extra) {
    for (const [key, value] of Object.entries(extra)) {
      base[key] = isObject(value) ? merge(isObject(base[key]) ? base[key] : {}, value) : value;
    }
    return base;
  }

  // The theme's colours, as defaults below whatever the figure itself sets.
  function themeLayout(element) {
    const css = getComputedStyle(element);
    const color = (name) => css.getPropertyValue(`--explorer-${name}`).trim();
    const axis = { gridcolor: color("grid"), linecolor: color("line"), tickcolor: color("line"), zerolinecolor: color("line") };
    return {
      font: { color: color("text"), family: css.fontFamily },
      xaxis: axis,
      yaxis: axis,
      hoverlabel: { bgcolor: color("surface"), bordercolor: color("line"), font: { color: color("text") } },
      annotationdefaults: { arrowcolor: color("muted") },
    };
  }

  class Explorer {
    constructor(element) {
      this.element = element;
      this.plot = element.querySelector(".explorer-plot");
      this.form = element.querySelector(".explorer-controls");
      this.summary = element.querySelector(".explorer-summary");
      this.content = JSON.parse(element.querySelector("script[type='application/json']").textContent);
      this.drawing = false;
    }

    // Position of each control, in the payload's order.
    positions() {
      return this.content.controls.map(({ name }) => Number(new FormData(this.form).get(name)));
    }

    // Index of the figure at the controls' positions: row-major, the last control fastest.
    point() {
      const positions = this.positions();
      return this.content.controls.reduce((index, { values }, i) => index * values.length + positions[i], 0);
    }

    readOut() {
      const positions = this.positions();
      this.content.controls.forEach(({ name, texts }, i) => {
        const input = this.form.elements[name];
        if (input.type !== "range") return;
        input.setAttribute("aria-valuetext", texts[positions[i]]);
        input.nextElementSibling.value = texts[positions[i]];
        input.style.setProperty("--filled", `${(100 * positions[i]) / (texts.length - 1)}%`);
      });
    }

    layoutHere(layout) {
      const narrow = this.plot.clientWidth < NARROW;
      layout.template ??= {};
      merge((layout.template.layout ??= {}), themeLayout(this.element));
      if (narrow) merge(layout, NARROW_LAYOUT);
      if (narrow && layout.meta.narrow) merge(layout, layout.meta.narrow);
      if (matchMedia("(pointer: coarse)").matches) layout.dragmode = false; // a finger on the plot scrolls the page
      layout.width = this.plot.clientWidth;
      layout.uirevision ??= "kept"; // a zoom and hidden curves outlive a move of a control
      return layout;
    }

    // Draw the present point. Calls during a drawing are answered by one more drawing at its end.
    async draw() {
      if (this.drawing) return void (this.again = true);
      this.drawing = true;
      try {
        do {
          this.again = false;
          const point = this.point();
          const { data, layout } = unpack(this.content.figures[point], this.content.parts);
          await this.plotly.react(this.plot, data, this.layoutHere(layout), CONFIG);
          if (this.summary && this.summary.textContent !== layout.meta.summary) this.summary.textContent = layout.meta.summary;
          this.element.dataset.point = point;
        } while (this.again);
      } finally {
        this.drawing = false;
      }
    }

    moved() {
      this.readOut();
      return this.draw();
    }

    async start(plotly) {
      this.plotly = plotly;
      if (this.form) {
        this.form.addEventListener("input", () => this.moved());
        this.form.addEventListener("submit", (event) => event.preventDefault());
        this.form.querySelector("button").addEventListener("click", () => (this.form.reset(), this.moved()));
        this.form.hidden = false;
        this.readOut();
      }
      this.element.querySelector(".explorer-notice").hidden = true;
      this.element.querySelector(".explorer-words").open = false;
      this.element.dataset.drawn = "true"; // takes the plot's place in the page before it is measured
      await this.draw();
      new ResizeObserver(() => this.plot.clientWidth && this.plot.clientWidth !== this.plot._fullLayout.width && this.draw()).observe(this.plot);
      this.element.dataset.ready = "true";
    }
  }

  async function main() {
    const elements = [...document.querySelectorAll("figure.explorer")];
    if (elements.length === 0) return;
    const plotly = await loadPlotly().catch((error) => {
      elements.forEach((element) => (element.dataset.failed = "true")); // the words for readers without scripts stay
      throw error;
    });
    const explorers = elements.map((element) => new Explorer(element));
    const redraw = () => explorers.forEach((explorer) => explorer.plotly && explorer.draw());
    new MutationObserver(redraw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    matchMedia("print").addEventListener("change", redraw);
    for (const explorer of explorers) {
      await explorer.start(plotly);
      await new Promise((resolve) => setTimeout(resolve)); // let the page answer its reader between two figures
    }
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", main);
  else main();
})();
