/** One peer: its course, its judgement, its records. */

import { get } from "../api.js";
import { calibrationPlot, lineChart } from "../charts.js";
import { h } from "../dom.js";
import { duration, NONE, number, percent, time } from "../format.js";
import { card, copyable, empty, explorerLink, gain, identifier, informedness, paged, stat, table, term } from "../parts.js";
import { line } from "../text.js";

const STEP = 12;
const STAGES = ["answer", "critique", "revise"];

export const title = (peer) => line(peer?.name, 28) || "Peer";
export const load = ([peerId]) => get(`peers/${encodeURIComponent(peerId)}`);

export function render(peer, context) {
  return h(
    "div",
    { class: "page" },
    h("p", { class: "crumb" }, h("a", { href: "#/leaderboard" }, "Leaderboard"), ` / rank ${number(peer.rank)}`),
    h("h1", { tabindex: -1 }, h("bdi", {}, line(peer.name, 40))),
    h("p", { class: "lead" }, `${line(peer.model, 60) || "unknown model"} on ${line(peer.device, 60) || "an unknown device"}`),
    h(
      "dl",
      { class: "stats" },
      stat("points", "Points", number(peer.points, 1), typeof peer.settled === "number" ? `${number(peer.settled, 1)} settled, ${number(peer.pending, 1)} pending` : "no settlement of them is known"),
      stat("reward", "Reward", number(peer.reward, 2), "mean of the last ten rounds"),
      stat("heldout", "Held-out accuracy", gain(course(peer.heldout)), peer.heldout.length ? "first and last measurement" : "measured by its own journal only"),
      stat("informedness", "Informedness", informedness(peer.informedness), peer.informedness ? `at least ${number(peer.informedness.lower, 2)}, by ${number(peer.informedness.audits)} audits` : "not audited yet"),
      stat("streak", "Streak", number(peer.streak), "rounds in a row"),
    ),
    card("Identity", identity(peer, context.status.chain)),
    h(
      "div",
      { class: "columns" },
      card(term("reward", "Reward by stage"), lineChart({ label: "Mean reward by stage and round", series: STAGES.map((stage) => ({ label: stage, points: peer.rounds.map((round) => [round.ordinal, round.rewards?.[stage]]) })) })),
      card(term("points", "Points per round"), lineChart({ label: "Points by round", series: [{ label: "points", points: peer.rounds.map((round) => [round.ordinal, round.points]) }], format: (value) => number(value, 1) })),
      card(term("heldout", "Held-out accuracy"), lineChart({ label: "Held-out accuracy by round", series: [{ label: "held-out", points: peer.heldout.map(([ordinal, correct, n]) => [ordinal, correct / n]) }], range: [0, 1], format: (value) => percent(value) })),
      card(term("calibration", "Calibration as a judge"), calibration(peer.calibration)),
    ),
    card("Rounds", peer.rounds.length ? paged("rounds", peer.rounds.toReversed(), STEP, context, rounds) : empty("The rounds of this peer are in its own journal, which is not here.")),
    card("Records", peer.records.length ? paged("records", peer.records, STEP, context, records(peer.rounds)) : empty("No record of this peer is here.")),
  );
}

/** The first and the last measurement. */
function course(heldout) {
  const share = ([, correct, n]) => correct / n;
  return heldout.length ? { before: share(heldout[0]), after: share(heldout.at(-1)) } : null;
}

function identity(peer, chain) {
  const row = (label, value) => [h("dt", {}, label), h("dd", {}, value)];
  return h(
    "dl",
    { class: "facts" },
    row("Peer id", copyable(peer.peer_id, "the peer id")),
    row("Account", peer.address ? [copyable(peer.address, "the account"), explorerLink(chain, "address", peer.address)] : NONE),
    chain.contract && row("Contract", [copyable(chain.contract, "the contract"), explorerLink(chain, "address", chain.contract)]),
    row("Registered", registration(peer.registered)),
    row("Ask the chain", copyable(peer.registered_command, "the command that asks the chain")),
  );
}

function registration(registered) {
  if (registered === null || registered === undefined) return "not known: the chain has not been read";
  return registered ? "yes, in the swarm's contract" : "no";
}

function calibration(found) {
  if (!found?.bins?.length) return empty("No verdict of this peer has been audited yet.");
  return h(
    "div",
    {},
    calibrationPlot(found),
    h("p", { class: "quiet-text" }, `Across: how probable it found the answers right; up: how many were. Slope ${number(found.slope, 2)}, intercept ${number(found.intercept, 2)}, ${number(found.audits)} audits.`),
  );
}

function rounds(all) {
  const columns = [
    { label: "Round", heads: true, cell: (round) => h("a", { href: `#/rounds/${round.number}` }, number(round.ordinal)) },
    { label: "Reward", term: "reward", numeric: true, cell: (round) => number(round.reward, 2) },
    { label: "Points", term: "points", numeric: true, cell: (round) => number(round.points, 1) },
    { label: "Took", numeric: true, cell: (round) => duration(total(round.seconds)) },
    { label: "Trained", cell: (round) => (round.updated ? "yes" : "no") },
    all.some((round) => round.why_nothing) && { label: "Why nothing", wide: true, cell: (round) => line(round.why_nothing, 200) || NONE },
  ].filter(Boolean);
  return table("Rounds of this peer, newest first", columns, all, { rowKey: (round) => round.number });
}

const total = (seconds) =>
  typeof seconds === "object" && seconds !== null ? Object.values(seconds).reduce((sum, value) => sum + value, 0) : seconds;

const records = (rounds) => (all) => {
  const ordinals = new Map(rounds.map((round) => [round.number, round.ordinal]));
  const columns = [
    { label: "Round", heads: true, cell: (record) => h("a", { href: `#/rounds/${record.round}` }, number(ordinals.get(record.round) ?? record.round)) },
    { label: "Stage", cell: (record) => line(record.stage, 20) },
    { label: "Announced", cell: (record) => time(record.announced) },
    { label: "SHA-256", cell: (record) => identifier(record.sha256) },
    { label: "Signature", cell: (record) => identifier(record.signature) },
    { label: "Held here", cell: (record) => (record.held ? "yes" : "no") },
  ];
  return table("Signed records of this peer, newest first", columns, all, { rowKey: (record) => `${record.round} ${record.stage}` });
};
