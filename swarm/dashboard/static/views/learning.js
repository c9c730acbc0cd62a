/** Does it learn, from what, and how fast. */

import { get } from "../api.js";
import { lineChart } from "../charts.js";
import { h } from "../dom.js";
import { bytes, number, percent } from "../format.js";
import { card, empty, fromOutside, helped, name, table, term } from "../parts.js";
import { line } from "../text.js";

const MOST_PEERS = 8;

// What a curve is made of: a peer's values as [ordinal, value].
const along = (key) => (peer) => zip(peer, peer[key]);
const within = (key, part) => (peer) => zip(peer, peer[key][part]);
const zip = (peer, values) => (values ?? []).map((value, index) => [peer.ordinals[index], value]);

export const title = () => "Learning";
export const load = () => get("learning");

export function render({ peers }, { query, set, status }) {
  const heading = h("h1", { tabindex: -1 }, "Learning");
  const chosen = peers[query.get("peer")];
  const shown = chosen ? [chosen] : Object.values(peers);
  if (!shown.length) return h("div", { class: "page" }, heading, card(null, empty("No round has been finished yet.")));

  const x = query.get("x") === "time" ? "time" : "round";
  const outside = fromOutside(status, "The rewards are recomputed from the peers' records. Held-out accuracy, the reward of critiques, what was trained, time and speed are in each peer's own journal.");
  const chart = (key, title, series, options = {}) => {
    const measured = series.some((one) => one.points.length);
    if (!measured && (outside || options.optional)) return null;
    return card(term(key, title), lineChart({ label: title, series, x, ...options }));
  };
  const one = (label, of, strong) => ({ label, strong, points: mean(shown, of, x) });
  const mine = (of) => {
    if (shown.length === 1) return [one(shown[0].name, of, true)];
    return [one("mean of the swarm", of, true), ...shown.slice(0, MOST_PEERS).map((peer) => ({ label: peer.name, points: mean([peer], of, x) }))];
  };
  const merging = shown.some((peer) => peer.merged.some((count) => count > 0));
  const parts = (key) => [...new Set(shown.flatMap((peer) => Object.keys(peer[key])))].map((part) => one(part, within(key, part)));
  return h(
    "div",
    { class: "page wide" },
    heading,
    outside,
    toolbar(peers, query, set),
    h(
      "div",
      { class: outside ? "columns" : "columns first-wide" },
      chart("heldout", "Held-out accuracy", mine((peer) => peer.heldout), { range: [0, 1], format: (value) => percent(value) }),
      !outside && helpCard(shown),
      chart("reward", "Reward of answers", mine(along("answer"))),
      chart("reward", "Reward of critiques", mine(along("critique"))),
      chart("reward", "Reward of revisions", mine(along("revise"))),
      chart("trained", "Groups trained", [one("all", along("trained"), true), one("of these from others", along("fetched"))], { format: (value) => number(value) }),
      chart("dropped", "Groups left out, by reason", parts("dropped"), { format: (value) => number(value) }),
      merging && chart("merged", "Peers merged", mine(along("merged")), { format: (value) => number(value, 1) }),
      chart("merge_refused", "Weights of others refused, by reason", parts("merge_refused"), { optional: true, format: (value) => number(value, 1) }),
      chart("staleness", "Staleness of merged weights", mine(along("staleness")), { optional: true, format: (value) => `${number(value)} s` }),
      chart("seconds", "Time by stage", parts("seconds"), { format: (value) => `${number(value, value < 10 ? 1 : 0)} s` }),
      chart("tokens_per_s", "Tokens per second", mine(along("tokens_per_s")), { format: (value) => number(value) }),
      chart("drift", "Drift between sampling and training", mine(along("drift")), { format: (value) => (value && value < 0.001 ? value.toExponential(1) : number(value, 3)) }),
      chart("memory", "Peak memory", mine(along("memory")), { optional: true, format: bytes }),
      chart("joules", "Energy of a round", mine(along("joules")), { optional: true, format: (value) => `${number(value)} J` }),
      chart("network", "Network traffic of a round", traffic(parts("network")), { optional: true, format: bytes }),
    ),
    planCard(shown),
  );
}

/** Did it help me? What each peer gained by taking others' material. */
function helpCard(peers) {
  const told = (peer, gain, over) => (gain ? [{ peer: peer.name, gain, over: `${number(gain.rounds)} ${over}` }] : []);
  const measured = peers.flatMap((peer) => [...told(peer, peer.twin, "rounds, beside its twin alone"), ...told(peer, peer.help, "merges, by each")]);
  const title = term("help", "Did the swarm help?");
  if (!measured.length) return card(title, empty("Nobody can say yet: it takes five merges of weights with others, or a twin that has learned alone for some rounds, of a peer whose journal is here."));
  const columns = [
    { label: "Peer", heads: true, cell: (row) => name(row.peer) },
    { label: "Gained", wide: true, cell: (row) => helped(row.gain) },
    { label: "In", cell: (row) => row.over },
  ];
  const methods = [...new Set(measured.map((row) => line(row.gain.method, 120)))];
  return card(title, table("What each peer gained by the swarm", columns, measured, { rowKey: (row) => row.peer + row.over }), h("p", { class: "quiet-text" }, `Measured by ${methods.join("; ")}.`));
}

const KINDS = { bytes_in: "blobs in", bytes_out: "blobs out", dht_in: "DHT in", dht_out: "DHT out" };
const traffic = (series) => series.map((one) => ({ ...one, label: KINDS[one.label] ?? one.label }));

/** How each peer's updates fit into its memory. */
function planCard(peers) {
  const planned = peers.filter((peer) => peer.memory_plan);
  const columns = [
    { label: "Peer", heads: true, cell: (peer) => name(peer.name) },
    { label: "Rows at once", numeric: true, cell: (peer) => number(peer.memory_plan.micro_batch) },
    { label: "Tokens at once", numeric: true, cell: (peer) => number(peer.memory_plan.chunk_tokens) },
    { label: "Checkpointing", cell: (peer) => (peer.memory_plan.checkpointing ? "yes" : "no") },
    { label: "Why", wide: true, cell: (peer) => line(peer.memory_plan.why, 200) },
  ];
  return planned.length > 0 && card(term("memory_plan", "Memory plan"), table("How the updates of each peer fit into its memory", columns, planned, { rowKey: (peer) => peer.name }));
}

/** The mean of the peers at each ordinal, as [x, y]; by time, a point lies at the mean of their moments. */
function mean(peers, of, x) {
  const found = new Map();
  for (const peer of peers) {
    for (const [ordinal, value] of of(peer)) {
      if (typeof value !== "number") continue;
      if (!found.has(ordinal)) found.set(ordinal, []);
      found.get(ordinal).push([x === "time" ? moment(peer, ordinal) : ordinal, value]);
    }
  }
  const average = (points, place) => points.reduce((sum, point) => sum + point[place], 0) / points.length;
  return [...found.values()].map((points) => [average(points, 0), average(points, 1)]);
}

/** When a peer finished a round of it; what was measured before the first lies at the first. */
const moment = (peer, ordinal) => peer.times[Math.max(0, peer.ordinals.findLastIndex((done) => done <= ordinal))];

function toolbar(peers, query, set) {
  const choice = (key, label, options) =>
    h(
      "label",
      {},
      h("span", {}, label),
      h(
        "select",
        { value: query.get(key) ?? "", onchange: (event) => set({ [key]: event.target.value }) },
        options.map(([value, text]) => h("option", { value, selected: value === (query.get(key) ?? "") }, text)),
      ),
    );
  return h(
    "form",
    { class: "toolbar" },
    choice("peer", "Show", [["", "the swarm"], ...Object.entries(peers).map(([id, peer]) => [id, line(peer.name, 28)])]),
    choice("x", "Over", [["", "rounds"], ["time", "time"]]),
    h("span", { class: "downloads" }, h("a", { href: "api/learning.csv", download: true }, "CSV"), h("a", { href: "api/learning", download: "learning.json" }, "JSON")),
  );
}
