/** The rounds, newest first. */

import { get } from "../api.js";
import { h } from "../dom.js";
import { duration, number, plural, time } from "../format.js";
import { card, empty, fromOutside, table } from "../parts.js";

const PAGE = 50;
const COLUMNS = [
  { label: "Round", term: "ordinal", heads: true, cell: (row) => h("a", { href: `#/rounds/${row.number}` }, number(row.ordinal)) },
  { label: "Started", cell: (row) => time(row.started) },
  { label: "Took", numeric: true, cell: (row) => duration(row.finished - row.started) },
  { label: "Peers", numeric: true, cell: (row) => number(row.peers) },
  { label: "Reward", term: "reward", numeric: true, cell: (row) => number(row.reward, 2) },
  { label: "Groups trained", term: "trained", numeric: true, cell: (row) => number(row.groups_trained) },
  { label: "Refused", term: "refused", numeric: true, cell: (row) => number(row.refused) },
];

export const title = () => "Rounds";

export function load(_, query) {
  const before = query.get("before");
  return get(`rounds?limit=${PAGE}${before ? `&before=${encodeURIComponent(before)}` : ""}`);
}

export function render({ rows, more }, { query, status }) {
  return h(
    "div",
    { class: "page" },
    h("h1", { tabindex: -1 }, "Rounds"),
    h("p", { class: "lead" }, "Open a round to see its questions, answers, critiques, verdicts and revisions."),
    fromOutside(status, "Rounds are numbered from the first that was seen. What each peer trained on is in its own journal."),
    card(null, rows.length ? table("Rounds, newest first", COLUMNS, rows, { rowKey: (row) => row.number }) : empty("No round has been finished yet.")),
    h(
      "nav",
      { class: "pager", "aria-label": "More rounds" },
      query.get("before") ? h("a", { href: "#/rounds" }, "← Newest") : h("span", {}),
      more && h("a", { href: `#/rounds?before=${rows.at(-1).number}` }, `Older than ${plural(rows.at(-1).ordinal, "round").replace(/s$/, "")} →`),
    ),
  );
}
