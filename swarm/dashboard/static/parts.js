/** The parts that the pages are made of. */

import { h, svg } from "./dom.js";
import { duration, NONE, number, percent, time } from "./format.js";
import { line, visible } from "./text.js";

const FOLD_AT = 600;
const OPEN_LIMIT = 200_000;

/** A word whose definition shows on hover and focus. */
export function term(key, label) {
  return h("span", { class: "term", tabindex: 0, "data-term": key, "aria-describedby": `definition-${key}` }, label);
}

/** A peer's name on one line, isolated from the direction of the text around it. */
export const name = (text, limit = 28) => h("bdi", { class: "foreign" }, line(text, limit) || "(no name)");

/** A link to a peer's page. */
export const peerLink = (peerId, label) =>
  h("a", { href: `#/peers/${encodeURIComponent(peerId)}`, title: line(peerId, 80) }, name(label || peerId, label ? 28 : 14));

/** A model by the last part of its name; the whole of it on hover. */
export const model = (text) => h("bdi", { class: "foreign", title: line(text, 120) }, line(String(text ?? "").split("/").at(-1), 32) || NONE);

/** A text of a peer: shown as text, and folded where it is long. */
export function foreign(text) {
  const all = visible(text);
  if (!all) return h("span", { class: "quiet-text" }, "(empty)");
  if (all.length <= FOLD_AT) return h("bdi", { class: "foreign block", dir: "auto" }, all);
  const rest = h("div", { class: "foreign block long", dir: "auto", tabindex: 0, role: "region", "aria-label": "The whole text" });
  return h(
    "details",
    {
      class: "fold",
      // A long text costs nothing until somebody wants it.
      ontoggle: (event) => (event.currentTarget.lastChild.textContent = event.currentTarget.open ? all.slice(0, OPEN_LIMIT) : ""),
    },
    h("summary", {}, h("bdi", { class: "foreign", dir: "auto" }, line(all, 120)), h("span", { class: "quiet-text" }, ` ${number(all.length)} characters`)),
    rest,
  );
}

/** A long identifier: its two ends, the whole of it on hover and for copying. */
export function identifier(value, ends = 6) {
  if (!value) return NONE;
  const text = line(value, 200);
  return h("code", { title: text }, text.length > 2 * ends + 3 ? `${text.slice(0, ends + 2)}…${text.slice(-ends)}` : text);
}

/** A button that copies a text; where the browser does not allow it, the text is selected instead. */
export function copyable(text, label) {
  const shown = h("code", { class: "command" }, line(text, 400));
  return h(
    "span",
    { class: "copyable" },
    shown,
    h(
      "button",
      {
        type: "button",
        class: "quiet",
        "aria-label": `Copy ${label}`,
        onclick: async (event) => {
          const button = event.currentTarget;
          try {
            await navigator.clipboard.writeText(text);
            button.textContent = "Copied";
            setTimeout(() => (button.textContent = "Copy"), 1500);
          } catch {
            getSelection().selectAllChildren(button.previousSibling);
          }
        },
      },
      "Copy",
    ),
  );
}

/** A link to a block explorer, which is somebody else's site; nothing where none is known. `kind`: address or tx. */
export const explorerLink = ({ explorer }, kind, value) =>
  explorer && value && h("a", { href: `${explorer}/${kind}/${encodeURIComponent(value)}`, target: "_blank", rel: "noopener noreferrer nofollow" }, "explorer ↗");

/** A titled part of a page. */
export const card = (title, ...children) =>
  h("section", { class: "card" }, title && h("h2", {}, title), ...children);

/** One number with its name beneath it. */
export const stat = (key, label, value, note) =>
  h("div", { class: "stat" }, h("dt", {}, term(key, label)), h("dd", {}, h("b", {}, value), note && h("span", {}, note)));

/** What cannot be known from outside, where no journal of a peer is here. */
export const fromOutside = ({ homes }, sentence) =>
  homes.length > 0 && homes.every((home) => home.role === "onlooker") && h("p", { class: "hint" }, h("b", {}, "Seen from outside. "), sentence);

/** What stands where there is nothing yet, and why. */
export const empty = (sentence) => h("p", { class: "empty" }, sentence);

/** A table that becomes a list of cards on a narrow screen.
 *
 * A column: {label, cell(row), key?, term?, numeric?, wide?}; `sort` {key, descending, by(key)} makes the headings with
 * a key into buttons. */
export function table(caption, columns, rows, { sort, rowKey } = {}) {
  const heading = (column) => {
    const sorted = sort && column.key === sort.key;
    const attributes = {
      role: "columnheader",
      scope: "col",
      class: column.numeric ? "numeric" : null,
      "aria-sort": sorted ? (sort.descending ? "descending" : "ascending") : null,
    };
    if (!sort || !column.key) return h("th", attributes, column.term ? term(column.term, column.label) : column.label);
    const described = column.term ? { "data-term": column.term, "aria-describedby": `definition-${column.term}` } : {};
    return h(
      "th",
      attributes,
      h("button", { type: "button", class: "sort", ...described, onclick: () => sort.by(column.key) }, column.label),
    );
  };
  const cell = (column, row) =>
    h(
      column.heads ? "th" : "td",
      {
        role: column.heads ? "rowheader" : "cell",
        scope: column.heads ? "row" : null,
        class: [column.numeric && "numeric", column.wide && "wide"].filter(Boolean).join(" ") || null,
        "data-label": column.label,
      },
      column.cell(row),
    );
  // The roles are said again: a table that is laid out as cards is no table to some screen readers.
  return h(
    "table",
    { role: "table" },
    h("caption", { class: "hidden" }, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, columns.map(heading))),
    h(
      "tbody",
      { role: "rowgroup" },
      rows.map((row) => h("tr", { role: "row", "data-key": rowKey ? rowKey(row) : null }, columns.map((column) => cell(column, row)))),
    ),
  );
}

/** The course of a few values, without axes. */
export function sparkline(values, label) {
  const known = (values ?? []).filter((value) => typeof value === "number");
  if (known.length < 2) return h("span", { class: "quiet-text" }, NONE);
  const [width, height] = [96, 26];
  const top = Math.max(...known);
  const bottom = Math.min(0, ...known);
  const x = (index) => (2 + (index * (width - 4)) / (values.length - 1)).toFixed(1);
  const y = (value) => (height - 2 - ((value - bottom) / (top - bottom || 1)) * (height - 4)).toFixed(1);
  const points = values.flatMap((value, index) => (typeof value === "number" ? [`${x(index)},${y(value)}`] : []));
  const last = points.at(-1).split(",");
  return svg(
    "svg",
    { class: "spark", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `${label}: ${number(known[0], 1)} to ${number(known.at(-1), 1)}` },
    svg("polygon", { points: `${points[0].split(",")[0]},${height} ${points.join(" ")} ${last[0]},${height}` }),
    svg("polyline", { points: points.join(" ") }),
    svg("circle", { cx: last[0], cy: last[1], r: 2.2 }),
  );
}

/** A judge's informedness: the value, and the bar from its lower bound to it. */
export function informedness(judge) {
  if (!judge || typeof judge.value !== "number") return h("span", { class: "quiet-text" }, NONE);
  const x = (value) => 2 + 60 * Math.min(1, Math.max(0, value));
  const [low, high] = [x(judge.lower ?? judge.value), x(judge.value)];
  return h(
    "span",
    { class: "interval", title: `at least ${number(judge.lower, 2)} by ${number(judge.audits)} audits` },
    number(judge.value, 2),
    svg(
      "svg",
      { viewBox: "0 0 64 12", width: 64, height: 12, "aria-hidden": "true" },
      svg("line", { class: "track", x1: 2, x2: 62, y1: 6, y2: 6 }),
      svg("line", { class: "range", x1: low, x2: high, y1: 6, y2: 6 }),
      svg("circle", { cx: high, cy: 6, r: 3 }),
    ),
    h("small", {}, `≥ ${number(judge.lower, 2)}`),
  );
}

/** A gain in accuracy with its interval, on a line whose middle is no gain. */
export function helped({ gain, low, high }) {
  const most = Math.max(0.1, Math.abs(low), Math.abs(high));
  const x = (value) => 60 + (56 * value) / most;
  const points = (value) => `${value > 0 ? "+" : ""}${number(100 * value, 1)}`;
  return h(
    "span",
    { class: "interval" },
    h("b", {}, `${points(gain)} points`),
    svg(
      "svg",
      { viewBox: "0 0 120 16", width: 120, height: 16, "aria-hidden": "true" },
      svg("line", { class: "track", x1: 4, x2: 116, y1: 8, y2: 8 }),
      svg("line", { class: "zero", x1: 60, x2: 60, y1: 1, y2: 15 }),
      svg("line", { class: "range", x1: x(low), x2: x(high), y1: 8, y2: 8 }),
      svg("circle", { cx: x(gain), cy: 8, r: 4 }),
    ),
    h("small", {}, `95%: ${points(low)} to ${points(high)}`),
  );
}

/** Before and after, and whether that is a gain. */
export function gain(heldout) {
  if (!heldout) return NONE;
  return h("span", {}, percent(heldout.before), h("span", { class: "arrow" }, " → "), h("b", {}, percent(heldout.after)));
}

/** A probability as a bar with its number. */
export function probabilityBar(probability, label) {
  return h(
    "span",
    { class: "bar", role: "img", "aria-label": `${label}: ${percent(probability)}` },
    h("span", { class: "track" }, h("span", { class: "fill", style: { width: `${100 * Math.min(1, Math.max(0, probability))}%` } })),
    h("span", { class: "value" }, percent(probability)),
  );
}

/** Right, wrong or in between, in sign and word, not in colour only. */
export function mark(reward) {
  if (typeof reward !== "number") return h("span", { class: "mark open" }, "not scored");
  if (reward >= 1) return h("span", { class: "mark right" }, "✓ right");
  if (reward <= 0) return h("span", { class: "mark wrong" }, "✗ wrong");
  return h("span", { class: "mark part" }, `◐ ${number(reward, 2)}`);
}

/** A list that scrolls, by keyboard too. */
export const scrolling = (kind, label, items) => h("div", { class: `scrolling ${kind}`, tabindex: 0, role: "region", "aria-label": label }, h("ol", {}, items));

/** Who announced what: newest last in the data, first on the page. */
export function feed(entries) {
  if (!entries.length) return empty("Nothing yet: what the peers announced in a round shows here as soon as the round is done.");
  const item = (entry) => h("li", {}, h("span", { class: "when" }, time(entry.at)), h("span", {}, peerLink(entry.peer_id, entry.name), " ", line(entry.what, 160)));
  return scrolling("feed", "Gossip feed", entries.toReversed().map(item));
}

/** The first rows of many, with a button for as many more; `make` shows them. */
export function paged(key, rows, step, { local, set }, make) {
  const shown = local[key] ?? step;
  const left = rows.length - shown;
  const grow = () => (local[key] = shown + step);
  return [
    make(rows.slice(0, shown)),
    left > 0 && h("button", { type: "button", class: "more", onclick: () => set({}, grow) }, left > step ? `Show ${number(step)} more of ${number(left)}` : `Show the other ${number(left)}`),
  ];
}

/** Text that counts down to a moment (unix seconds of the server's clock); main.js keeps it going. */
export const countdown = (until, now) =>
  h("span", { role: "timer", "data-until": until }, duration(until - now));
