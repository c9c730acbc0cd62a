/** Line charts: uPlot for the drawing, a legend of our own made of text nodes. */

import { h, svg } from "./dom.js";
import { DATE, NONE, number } from "./format.js";
import { line } from "./text.js";
import uPlot from "./vendor/uPlot.esm.js";

const COLOURS = 6;
const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3]];
const HEIGHT = 220;

const colour = (index) => getComputedStyle(document.documentElement).getPropertyValue(`--series-${index % COLOURS}`).trim();
const ink = (variable) => getComputedStyle(document.documentElement).getPropertyValue(variable).trim();
const dash = (index) => DASHES[Math.floor(index / COLOURS) % DASHES.length];

/** A chart of series over a common axis.
 *
 * spec: {label, unit, series: [{label, points: [[x, y]], strong?}], format(y), range?: [low, high], x?: "round" | "time"} */
class LineChart extends HTMLElement {
  #plot = null;
  #values = []; // text nodes of the legend: the values, and where on the axis they are
  #at = null;
  #observer = new ResizeObserver(() => this.#resize());

  connectedCallback() {
    this.#observer.observe(this);
    document.addEventListener("themechange", this.draw);
    this.draw();
  }

  disconnectedCallback() {
    this.#observer.disconnect();
    document.removeEventListener("themechange", this.draw);
    this.#plot?.destroy();
    this.#plot = null;
  }

  /** Take the data of a chart that was made anew. */
  adopt(fresh) {
    const same = JSON.stringify(this.spec.series) === JSON.stringify(fresh.spec.series) && this.spec.x === fresh.spec.x;
    this.spec = fresh.spec;
    if (!same) this.draw();
  }

  draw = () => {
    this.#plot?.destroy();
    const { series, label, format, range, x } = this.spec;
    const shown = series.filter((one) => one.points.length);
    const canvas = h("div", { class: "canvas", role: "img", "aria-label": summary(label, shown, format) });
    if (!shown.length) {
      this.replaceChildren(h("p", { class: "empty" }, "Nothing has been measured yet."));
      return;
    }
    this.replaceChildren(canvas, this.#legend(shown));
    const xs = [...new Set(shown.flatMap((one) => one.points.map((point) => point[0])))].sort((a, b) => a - b);
    if (xs.length === 1) xs.push(xs[0] + 1); // an axis needs a length
    const columns = shown.map((one) => {
      const at = new Map(one.points);
      return xs.map((value) => at.get(value) ?? null);
    });
    const axis = { stroke: ink("--muted"), grid: { stroke: ink("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    this.#plot = new uPlot(
      {
        width: this.clientWidth || 300,
        height: HEIGHT,
        legend: { show: false },
        cursor: { y: false, points: { size: 7 } },
        scales: { x: { time: x === "time" }, y: { range: range ? () => range : padded } },
        axes: [
          { ...axis, size: 30, grid: { show: false }, values: x === "time" ? undefined : (_, splits) => splits.map((value) => (Number.isInteger(value) ? number(value) : "")) },
          { ...axis, size: 52, values: (_, splits) => splits.map(format) },
        ],
        series: [
          {},
          ...shown.map((one, index) => ({
            stroke: colour(index),
            width: one.strong ? 2.5 : 1.5,
            dash: dash(index),
            spanGaps: true,
            points: { show: xs.length < 25, size: 5, fill: colour(index) },
          })),
        ],
        hooks: { setCursor: [(plot) => this.#tell(plot, columns)] },
      },
      [xs, ...columns],
      canvas,
    );
  };

  #resize() {
    if (this.#plot && this.clientWidth !== this.#plot.width) this.#plot.setSize({ width: this.clientWidth, height: HEIGHT });
  }

  #legend(shown) {
    this.#values = shown.map((one) => h("b", {}, this.spec.format(one.points.at(-1)[1])));
    this.#at = h("b", {}, "latest");
    return h(
      "ul",
      { class: "legend" },
      h("li", {}, this.#at),
      shown.map((one, index) =>
        h(
          "li",
          {},
          svg(
            "svg",
            { viewBox: "0 0 22 8", width: 22, height: 8, "aria-hidden": "true" },
            svg("line", { x1: 0, x2: 22, y1: 4, y2: 4, class: `stroke-${index % COLOURS}`, "stroke-width": one.strong ? 3 : 2, "stroke-dasharray": dash(index).join(" ") }),
          ),
          h("bdi", {}, line(one.label, 28)),
          this.#values[index],
        ),
      ),
    );
  }

  /** The values under the cursor, else each series' last one. */
  #tell(plot, columns) {
    const at = plot.cursor.idx ?? null;
    const x = at === null ? null : plot.data[0][at];
    this.#at.textContent = x === null ? "latest" : this.spec.x === "time" ? DATE.format(1000 * x) : `round ${number(x)}`;
    this.#values.forEach((node, index) => {
      const value = at === null ? columns[index].findLast((one) => one !== null) : columns[index][at];
      node.textContent = value === null ? NONE : this.spec.format(value);
    });
  }
}
customElements.define("line-chart", LineChart);

const padded = (_, low, high) => {
  const room = 0.08 * (high - low || Math.abs(high) || 1);
  return [low >= 0 && low - room < 0 ? 0 : low - room, high + room];
};

function summary(label, shown, format) {
  const course = shown
    .slice(0, COLOURS)
    .map((one) => `${line(one.label, 28)} from ${format(one.points[0][1])} to ${format(one.points.at(-1)[1])}`);
  return `${label}: ${course.join("; ")}`;
}

/** A line chart; see LineChart for what `spec` holds. */
export function lineChart(spec) {
  const chart = document.createElement("line-chart");
  const points = (one) => one.points.filter((point) => typeof point[1] === "number" && Number.isFinite(point[1]));
  chart.spec = { format: (value) => number(value, 2), x: "round", ...spec, series: spec.series.map((one) => ({ ...one, points: points(one) })) };
  return chart;
}

/** How often judged answers were right against how probable the judge found it; a good judge lies on the diagonal. */
export function calibrationPlot(calibration) {
  const size = 240;
  const at = (value) => 28 + value * (size - 40);
  const y = (value) => size - at(value);
  const most = Math.max(...calibration.bins.map((bin) => bin[2]), 1);
  const tick = (value) => [
    svg("text", { x: at(value), y: size - 8, "text-anchor": "middle" }, number(value, 1)),
    svg("text", { x: 22, y: y(value) + 4, "text-anchor": "end" }, number(value, 1)),
  ];
  const told = calibration.bins.map(([p, right, n]) => `said ${number(p, 2)}, right ${number(right, 2)} of ${number(n)}`);
  return svg(
    "svg",
    { class: "calibration", viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": `Calibration: ${told.join("; ")}` },
    svg("line", { class: "axis", x1: at(0), y1: y(0), x2: at(1), y2: y(0) }),
    svg("line", { class: "axis", x1: at(0), y1: y(0), x2: at(0), y2: y(1) }),
    svg("line", { class: "diagonal", x1: at(0), y1: y(0), x2: at(1), y2: y(1) }),
    [0, 0.5, 1].map(tick),
    svg("polyline", { points: calibration.bins.map(([p, right]) => `${at(p)},${y(right)}`).join(" ") }),
    calibration.bins.map(([p, right, n]) => svg("circle", { cx: at(p), cy: y(right), r: 3 + 6 * Math.sqrt(n / most) })),
  );
}
