/** What the swarm does at this moment. */

import { get } from "../api.js";
import { lineChart } from "../charts.js";
import { h } from "../dom.js";
import { bytes, NONE, number, percent, plural, time } from "../format.js";
import { MOST, networkPicture } from "../network.js";
import { card, countdown, empty, feed, fromOutside, paged, peerLink, stat, table, term } from "../parts.js";
import { line } from "../text.js";

const DOING = {
  answer: "Peers answer the tasks of this round",
  critique: "Peers judge each other's answers",
  revise: "Peers revise with the critiques they got",
  update: "Each peer trains on its own groups and on fetched ones",
  merge: "Peers merge their weights, where that makes nobody worse",
  measuring: "Peers answer the held-out questions",
  gathering: "Waiting for peers before the first round",
};
const STEP = 8;

export const title = () => "Now";

export async function load() {
  const { rows } = await get("rounds?limit=1");
  return rows.length ? get(`rounds/${rows[0].number}`) : { feed: [] };
}

export function render(round, context) {
  const { status } = context;
  const outside = fromOutside(status, "This page follows the swarm without a model of its own. It knows the rounds since it looks on, and what was settled before; held-out accuracy is in each peer's own journal.");
  return h(
    "div",
    { class: "page" },
    h("h1", { tabindex: -1 }, line(status.recipe?.name, 60) || "Swarm"),
    h("p", { class: "lead" }, line(status.recipe?.description, 300)),
    outside,
    roundCard(status),
    h("dl", { class: "stats" }, stats(status, outside)),
    h("div", { class: "columns" }, peersCard(context, round), card(round.ordinal ? `Gossip of round ${number(round.ordinal)}` : "Gossip", feed(round.feed))),
    !outside && card(
      term("heldout", "Held-out accuracy"),
      lineChart({
        label: "Held-out accuracy of the swarm by round",
        series: [{ label: "mean of the swarm", points: status.heldout?.curve ?? [], strong: true }],
        range: [0, 1],
        format: (value) => percent(value),
      }),
    ),
  );
}

function roundCard({ round, stages, stage, stage_ends: stageEnds, waiting, live, now }) {
  if (!round) return card("No round yet", empty("This swarm has not begun a round. It appears here as soon as it has."));
  const heading = h("h2", {}, term("ordinal", "Round"), " ", h("b", {}, number(round.ordinal)));
  if (!live) {
    return h(
      "section",
      { class: "card round" },
      heading,
      h("p", {}, "At rest: the journals here have not changed for a while. The last round ", round.finished ? "finished " : "began ", time(round.finished ?? round.started), "."),
    );
  }
  return h(
    "section",
    { class: "card round" },
    h("div", { class: "row" }, heading, h("p", { class: "left" }, round.finished ? "done; the next one begins" : ["ends within ", countdown(round.ends, now)])),
    h(
      "ol",
      { class: "stages", "aria-label": "Stages of the round" },
      stages.map((name) => h("li", { "aria-current": name === stage ? "step" : null }, name)),
    ),
    h("div", { class: "progress", "data-from": round.started, "data-to": round.ends, "aria-hidden": "true" }, h("span", {})),
    stage && !round.finished && h("p", { class: "quiet-text" }, doing(stage, waiting), stageEnds > now ? [", for at most ", countdown(stageEnds, now)] : null),
  );
}

function doing(stage, waiting) {
  if (waiting) return `Waiting for the others to finish: ${line(stage, 20)}`;
  return DOING[stage] ?? line(stage, 40);
}

function stats({ peers_present: peers, tokens_per_s: speed, heldout, epoch, now }, outside) {
  return [
    stat("peers_present", "Peers present", number(peers.length), byDevice(peers)),
    stat("tokens_per_s", "Tokens per second", number(speed), "of the whole swarm"),
    stat(
      "heldout",
      "Held-out accuracy",
      percent(heldout?.now),
      heldout?.start === null || heldout?.start === undefined ? (outside ? "in the peers' journals" : "not measured yet") : `from ${percent(heldout.start)} at the start, ${number(heldout.n)} questions`,
    ),
    stat(
      "epoch",
      "Settlement",
      epoch?.ends ? countdown(epoch.ends, now) : NONE,
      epoch ? [epoch.ends && `until epoch ${number(epoch.number)} ends; `, epoch.last_settled === null ? "none settled yet" : `last settled: epoch ${number(epoch.last_settled)}`] : "no epochs known",
    ),
  ];
}

function byDevice(peers) {
  const gpus = peers.filter((peer) => !/^cpu/i.test(peer.device ?? "cpu")).length;
  const parts = [gpus && plural(gpus, "GPU"), peers.length - gpus && plural(peers.length - gpus, "CPU")];
  return parts.filter(Boolean).join(", ") || "nobody is here";
}

/** Who announced something in the last round, where nobody is here now. */
function lastSeen(round) {
  const peers = [...new Map(round.feed.map((entry) => [entry.peer_id, entry])).values()];
  if (!peers.length) return empty("No peer has been heard yet.");
  return [networkPicture(peers, [], false), h("p", { class: "quiet-text" }, "Nobody is here now; these took part in the last round. Everybody who ever did is on the leaderboard.")];
}

function peersCard(context, round) {
  const { peers_present: peers, live, exchange, round: current, traffic } = context.status;
  if (!peers.length) return card("Peers of the last round", lastSeen(round));
  const columns = [
    { label: "Peer", heads: true, cell: (peer) => peerLink(peer.peer_id, peer.name) },
    { label: "Role", term: "role", cell: (peer) => line(peer.role, 20) || NONE },
    { label: "Device", cell: (peer) => h("span", { title: line(peer.device, 60) }, line(peer.device, 40) || NONE) },
    { label: "Tokens/s", numeric: true, cell: (peer) => number(peer.tokens_per_s) },
  ];
  const now = exchange && exchange.round === current?.number;
  const senders = now ? exchange.peers : round.feed.map((entry) => entry.peer_id);
  return card(
    "Peers",
    networkPicture(peers, senders, live),
    h(
      "p",
      { class: "quiet-text" },
      "Squares have a GPU, circles a CPU; rings only judge. ",
      now
        ? `Dots travel from those whose records of the stage ${line(exchange.stage, 20)} are announced: ${number(exchange.peers.length)} of ${number(peers.length)}.`
        : "Dots travel from those whose announcements of the latest finished round are here.",
      traffic && [" In its last round a peer here ", term("network", "received"), ` ${bytes(traffic.bytes_in + traffic.dht_in)} and sent ${bytes(traffic.bytes_out + traffic.dht_out)}.`],
      peers.length > MOST && ` The first ${MOST} are drawn.`,
    ),
    paged("peers", peers, STEP, context, (shown) => table("Peers that are present", columns, shown, { rowKey: (peer) => peer.peer_id })),
  );
}
