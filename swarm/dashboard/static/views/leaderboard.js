/** Who earned what, and how good a judge each peer is. */

import { get } from "../api.js";
import { h } from "../dom.js";
import { NONE, number, percent, plural, time } from "../format.js";
import { card, empty, fromOutside, gain, informedness, model, paged, peerLink, sparkline, table } from "../parts.js";
import { line, visible } from "../text.js";

const PAGE = 100;

const heldoutGain = (row) => (row.heldout ? row.heldout.after - row.heldout.before : null);
const COLUMNS = [
  { label: "#", key: "rank", numeric: true, of: (row) => row.rank, cell: (row) => number(row.rank) },
  { label: "Peer", key: "name", heads: true, of: (row) => visible(row.name).toLowerCase(), cell: (row) => peerLink(row.peer_id, row.name) },
  { label: "Points", key: "points", term: "points", numeric: true, of: (row) => row.points, cell: points },
  { label: "Last 30 rounds", term: "spark", cell: (row) => sparkline(row.spark, "Points of the last rounds") },
  { label: "Reward", key: "reward", term: "reward", numeric: true, of: (row) => row.reward, cell: (row) => number(row.reward, 2) },
  { label: "Held-out", key: "heldout", term: "heldout_gain", numeric: true, of: heldoutGain, cell: (row) => gain(row.heldout) },
  { label: "Informedness", key: "informedness", term: "informedness", numeric: true, of: (row) => row.informedness?.lower, cell: (row) => informedness(row.informedness) },
  { label: "Critiques", key: "critiques", term: "critiques", numeric: true, of: (row) => row.critiques, cell: (row) => number(row.critiques) },
  { label: "Checked", key: "share_audited", term: "share_audited", numeric: true, of: (row) => row.share_audited, cell: (row) => percent(row.share_audited) },
  { label: "Streak", key: "streak", term: "streak", numeric: true, of: (row) => row.streak, cell: (row) => number(row.streak) },
  { label: "Tokens/kWh", key: "tokens_per_kwh", term: "tokens_per_kwh", numeric: true, of: (row) => row.tokens_per_kwh, cell: (row) => number(row.tokens_per_kwh) },
  { label: "Model", key: "model", of: (row) => visible(row.model), cell: (row) => machine(row) },
];
const ASCENDING = new Set(["rank", "name", "model"]);

export const title = () => "Leaderboard";
export const load = () => get("leaderboard");

function points(row) {
  const parts = [typeof row.settled === "number" && `${number(row.settled, 1)} settled`, typeof row.pending === "number" && `${number(row.pending, 1)} pending`];
  return h("span", {}, h("b", {}, number(row.points, 1)), parts.filter(Boolean).map((part) => h("small", { class: "under" }, part)));
}

const machine = (row) =>
  h("span", {}, model(row.model), h("small", { class: "under" }, line(row.device, 40) || NONE));

export function render({ rows, updated }, context) {
  const { query, set, status } = context;
  const present = new Set(status.peers_present.map((peer) => peer.peer_id));
  const sort = { key: query.get("sort") ?? "rank", descending: query.get("down") === "1" };
  const found = sorted(rows.filter(matches(query, present)), sort);
  sort.by = (key) => set({ sort: key, down: key === sort.key ? !sort.descending : !ASCENDING.has(key) });
  return h(
    "div",
    { class: "page wide" },
    h("h1", { tabindex: -1 }, "Leaderboard"),
    fromOutside(status, "Points are the settled ones, and those recomputed from the records of the rounds seen since; informedness is by the audits of these rounds. Held-out accuracy is in each peer's own journal."),
    toolbar(rows, query, set, sort),
    h("p", { class: "quiet-text", role: "status" }, told(found.length, rows.length), " As of ", time(updated), "."),
    card(null, found.length ? paged("rows", found, PAGE, context, (shown) => board(shown, sort)) : empty(rows.length ? "No peer matches this search." : "No peer has finished a round yet.")),
  );
}

const told = (found, all) => (found === all ? `${plural(all, "peer")}.` : `${number(found)} of ${plural(all, "peer")}.`);

/** Columns of which nobody has a value say nothing, and are left out. */
function board(rows, sort) {
  const filled = COLUMNS.filter((column) => !column.of || rows.some((row) => (column.of(row) ?? null) !== null));
  return table("Peers by what they earned", filled, rows, { sort, rowKey: (row) => row.peer_id });
}

function toolbar(rows, query, set, sort) {
  const devices = [...new Set(rows.map((row) => line(row.device, 40)).filter(Boolean))].sort();
  const option = (value, label, chosen) => h("option", { value, selected: value === chosen }, label);
  const device = query.get("device") ?? "";
  return h(
    "form",
    { class: "toolbar", role: "search" },
    h("label", {}, h("span", {}, "Search"), h("input", { type: "search", id: "search", placeholder: "name, id or model", value: query.get("q") ?? "", oninput: (event) => set({ q: event.target.value }) })),
    h("label", {}, h("span", {}, "Device"), h("select", { value: device, onchange: (event) => set({ device: event.target.value }) }, option("", "all", device), devices.map((name) => option(name, name, device)))),
    h(
      "label",
      { class: "narrow-only" },
      h("span", {}, "Sort by"),
      h("select", { value: sort.key, onchange: (event) => sort.by(event.target.value) }, COLUMNS.filter((column) => column.key).map((column) => option(column.key, column.label, sort.key))),
    ),
    h("label", { class: "check" }, h("input", { type: "checkbox", checked: query.get("here") === "1", onchange: (event) => set({ here: event.target.checked }) }), h("span", {}, "present now")),
    h("span", { class: "downloads" }, h("a", { href: "api/leaderboard.csv", download: true }, "CSV"), h("a", { href: "api/leaderboard", download: "leaderboard.json" }, "JSON")),
  );
}

function matches(query, present) {
  const wanted = (query.get("q") ?? "").trim().toLowerCase();
  const device = query.get("device");
  const here = query.get("here") === "1";
  return (row) =>
    (!wanted || [row.name, row.peer_id, row.model].some((text) => visible(text).toLowerCase().includes(wanted))) &&
    (!device || line(row.device, 40) === device) &&
    (!here || present.has(row.peer_id));
}

/** Rows without a value come last in both directions. */
function sorted(rows, { key, descending }) {
  const of = COLUMNS.find((column) => column.key === key)?.of ?? COLUMNS[0].of;
  const sign = descending ? -1 : 1;
  const none = (value) => value === null || value === undefined;
  return [...rows].sort((a, b) => {
    const [x, y] = [of(a), of(b)];
    if (none(x) || none(y)) return none(x) - none(y) || a.rank - b.rank;
    return (x < y ? -sign : x > y ? sign : 0) || a.rank - b.rank;
  });
}
