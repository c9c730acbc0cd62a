/** The peers that are present as a small picture: round for a CPU, square for a GPU; dots travel where a record was sent. */

import { svg } from "./dom.js";
import { line } from "./text.js";

export const MOST = 48; // peers that are drawn
const NAMED = 12;
const LINKED = 14;
const [WIDTH, HEIGHT] = [560, 320];
const BELOW = 48; // the lowest peer, for its name

const isGpu = (device) => /cuda|gpu|nvidia|mps|rocm|h100|h200|a100/i.test(device ?? "");

/** `senders`: ids of the peers whose announcements of the latest round are here. */
export function networkPicture(peers, senders, live) {
  const shown = peers.slice(0, MOST);
  const place = new Map(shown.map((peer, index) => [peer.peer_id, position(index, shown.length)]));
  const links = shown.length <= LINKED ? pairs(shown) : shown.map((peer, index) => [peer, shown[(index + 1) % shown.length]]);
  const bottom = Math.max(...[...place.values()].map(([, y]) => y)) + BELOW;
  const moving = live && !matchMedia("(prefers-reduced-motion: reduce)").matches;
  return svg(
    "svg",
    { class: "network", viewBox: `0 0 ${WIDTH} ${bottom}`, "aria-hidden": "true" },
    links.map(([a, b]) => link(place.get(a.peer_id), place.get(b.peer_id))),
    moving && pulses(links, place, new Set(senders)),
    shown.map((peer) => node(peer, place.get(peer.peer_id), shown.length <= NAMED)),
  );
}

function position(index, count) {
  if (count === 1) return [WIDTH / 2, HEIGHT / 2];
  const angle = (2 * Math.PI * index) / count - Math.PI / 2;
  return [WIDTH / 2 + 200 * Math.cos(angle), HEIGHT / 2 - 8 + 112 * Math.sin(angle)];
}

const pairs = (peers) => peers.flatMap((a, index) => peers.slice(index + 1).map((b) => [a, b]));

const link = ([x1, y1], [x2, y2]) => svg("line", { class: "link", x1, y1, x2, y2 });

function pulses(links, place, senders) {
  const way = (from, to, index) =>
    svg(
      "circle",
      { class: "pulse", r: 3 },
      svg("animateMotion", {
        dur: "2.6s",
        // Begun in the past: a dot that has not begun would lie in the corner.
        begin: `-${((index * 0.37) % 2.6).toFixed(2)}s`,
        repeatCount: "indefinite",
        path: `M${place.get(from.peer_id).join(" ")}L${place.get(to.peer_id).join(" ")}`,
      }),
    );
  return links.flatMap(([a, b], index) => [
    senders.has(a.peer_id) && way(a, b, 2 * index),
    senders.has(b.peer_id) && way(b, a, 2 * index + 1),
  ]);
}

function node(peer, [x, y], named) {
  const r = named ? 15 : 8;
  const shape = isGpu(peer.device)
    ? svg("rect", { x: x - r, y: y - r, width: 2 * r, height: 2 * r, rx: r / 3 })
    : svg("circle", { cx: x, cy: y, r });
  const judging = /judge/i.test(peer.role ?? "");
  return svg(
    "g",
    { class: judging ? "node judge" : "node" },
    shape,
    named && svg("text", { x, y: y + r + 18, "text-anchor": "middle" }, line(peer.name, 16)),
  );
}
