/** The frame around the pages: which one is shown, what is known of the server, and the clockwork. */

import { get, watch } from "./api.js";
import { h, patch } from "./dom.js";
import { duration, number, time } from "./format.js";
import { line } from "./text.js";
import { startTips } from "./tips.js";
import { startTheme } from "./themes.js";
import * as leaderboard from "./views/leaderboard.js";
import * as learning from "./views/learning.js";
import * as now from "./views/now.js";
import * as peer from "./views/peer.js";
import * as round from "./views/round.js";
import * as rounds from "./views/rounds.js";
import * as trust from "./views/trust.js";

const ROUTES = [
  [/^\/?$/, now],
  [/^\/leaderboard$/, leaderboard],
  [/^\/peers\/([^/]+)$/, peer],
  [/^\/rounds$/, rounds],
  [/^\/rounds\/([^/]+)$/, round],
  [/^\/learning$/, learning],
  [/^\/trust$/, trust],
];
const REFRESH_AT_MOST_EVERY_MS = 1_000;
const REFRESH_AT_LEAST_EVERY_MS = 30_000; // that a swarm fell silent is no change of a journal
const POLL_MS = 5_000; // while changes are not told, or something fails

const page = document.getElementById("main");
let here = locate();
let data; // of the page that is shown
let status;
let clock = 0; // the server's clock less ours, in seconds
let answered = null; // our time of the last answer, in unix seconds
let failure = null;
let askedAt = 0; // milliseconds
let waiting = null;

/** What the address says: which page, of what, shown how. */
function locate() {
  const [path, query] = location.hash.slice(1).split("?");
  for (const [pattern, view] of ROUTES) {
    const found = (path || "/").match(pattern);
    if (found) return { path, view, of: found.slice(1).map(decode), query: new URLSearchParams(query), local: {} };
  }
  return { path, view: null, query: new URLSearchParams(), local: {} };
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** Change how the page is shown, in its address too. */
function set(changes, more) {
  for (const [key, value] of Object.entries(changes)) {
    if (value === "" || value === false) here.query.delete(key);
    else here.query.set(key, value === true ? "1" : value);
  }
  more?.();
  const query = here.query.toString();
  history.replaceState(null, "", `#${here.path || "/"}${query ? `?${query}` : ""}`);
  show();
}

/** Ask for the page's data, and show it; an answer that comes after the visitor has moved on is dropped. */
async function refresh() {
  const asked = here;
  askedAt = Date.now();
  const [overview, loaded] = await Promise.allSettled([get("status"), asked.view?.load(asked.of, asked.query)]);
  if (asked !== here) return;
  if (overview.value) {
    status = overview.value;
    answered = Date.now() / 1000;
    clock = status.now - answered;
  }
  data = loaded.value ?? data;
  failure = overview.reason ?? loaded.reason ?? null;
  show();
}

/** Refresh soon, and not more often than people can read. */
function refreshSoon() {
  waiting ??= setTimeout(() => {
    waiting = null;
    refresh();
  }, REFRESH_AT_MOST_EVERY_MS);
}

function show() {
  const shown = document.createElement("main");
  shown.id = page.id;
  shown.tabIndex = -1;
  shown.append(content());
  patch(page, shown);
  patch(document.getElementById("notices"), notices());
  patch(document.getElementById("connection"), connection());
  if (status) {
    const swarm = line(status.recipe?.name, 30) || "Swarm";
    document.getElementById("name").textContent = swarm;
    document.title = `${here.view && data ? here.view.title(data) : "Swarm"} · ${swarm}`;
    document.getElementById("colophon").textContent = `rl-swarm ${line(status.version, 20)} · swarm ${line(status.swarm, 80)}`;
  }
  for (const link of document.getElementById("nav").children) {
    const to = link.getAttribute("href").slice(1);
    const current = to === "/" ? /^\/?$/.test(here.path) : here.path.startsWith(to);
    current ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
  tick();
}

function content() {
  if (!here.view) return message("There is no such page", "The address may be of another version of this dashboard.");
  if (data && status) return here.view.render(data, { status, query: here.query, set, local: here.local });
  if (!failure) return h("p", { class: "empty" }, "Reading the journals …");
  if (failure.status === 401) return message("This dashboard asks for a token", "Open the link that it printed when it started.");
  if (failure.status === 404) return message("That is not here", failure.message);
  return message("Nothing to show yet", failure.message);
}

const sentence = (text) => line(text, 300).replace(/^./, (first) => first.toUpperCase());

const message = (heading, what) => h("div", { class: "page" }, h("h1", { tabindex: -1 }, heading), h("p", { class: "lead" }, sentence(what)));

/** What is wrong or old, and since when; the rest goes on. */
function notices() {
  const stale = (status?.stale ?? []).map((part) => {
    const ended = part.part === "chain" && !status.live; // a development chain ends with its swarm
    return [ended ? "The chain is away" : `Out of date: ${line(part.part, 40)}`, part.since, part.why, ended];
  });
  const reading = (status?.reading ?? []).map((journal) => h("p", { class: "notice busy" }, h("b", {}, "Reading"), ` the journal of ${line(journal.home, 40)}: ${number(journal.rounds)} rounds so far; what you see is not yet all.`));
  const lost = failure && failure.status !== 404 ? [["What you see may be old", answered, `${failure.message} Trying again.`]] : [];
  return h(
    "div",
    { id: "notices", class: "notices", role: "region", "aria-label": "Notices", "aria-live": "polite" },
    reading,
    [...lost, ...stale].map(([what, since, why, calm]) =>
      h("p", { class: calm ? "notice busy" : "notice" }, h("b", {}, what), since ? [", since ", time(since)] : null, ". ", sentence(why)),
    ),
  );
}

function connection() {
  const [kind, word] = failure && !failure.status ? ["lost", "not connected"] : !status ? ["", ""] : status.live ? ["live", "live"] : ["ended", "at rest"];
  return h("span", { id: "connection", class: `connection ${kind}`, role: "status" }, word);
}

/** Countdowns, and the bar of the round. */
function tick() {
  const at = Date.now() / 1000 + clock;
  for (const timer of document.querySelectorAll("[data-until]")) {
    timer.textContent = duration(Math.ceil(Number(timer.dataset.until) - at));
  }
  for (const bar of document.querySelectorAll("[data-from]")) {
    const [from, to] = [Number(bar.dataset.from), Number(bar.dataset.to)];
    bar.firstChild.style.width = `${100 * Math.min(1, Math.max(0, (at - from) / (to - from)))}%`;
  }
}

addEventListener("hashchange", async () => {
  const before = here;
  here = locate();
  if (before.path !== here.path) data = undefined;
  await refresh();
  if (before.path === here.path) return;
  scrollTo(0, 0);
  // A screen reader starts reading the new page at its heading.
  page.querySelector("h1")?.focus({ preventScroll: true });
});

addEventListener("keydown", (event) => {
  const search = document.getElementById("search");
  if (event.key !== "/" || !search || event.target.matches("input, select, textarea")) return;
  event.preventDefault();
  search.focus();
});

addEventListener("submit", (event) => event.preventDefault());

startTheme(document.getElementById("theme"));
startTips();
refresh();
const told = watch(refreshSoon);
setInterval(() => {
  tick();
  if (Date.now() - askedAt > (told() && !failure ? REFRESH_AT_LEAST_EVERY_MS : POLL_MS)) refresh();
}, 1000);
