/** One round: each task with its answers side by side, critiques and revisions beneath them. */

import { get } from "../api.js";
import { h } from "../dom.js";
import { duration, number, plural, time } from "../format.js";
import { card, copyable, empty, feed, foreign, fromOutside, mark, peerLink, probabilityBar, scrolling, term } from "../parts.js";
import { line } from "../text.js";

const CHOICES_SHOWN = 60;

export const title = (round) => (round ? `Round ${round.ordinal}` : "Round");
export const load = ([number_]) => get(`rounds/${encodeURIComponent(number_)}`);

export function render(round, { query, set, status }) {
  const tasks = byCritiques(round.tasks);
  const chosen = tasks.find((task) => key(task) === query.get("task")) ?? tasks[0];
  return h(
    "div",
    { class: "page wide" },
    h("p", { class: "crumb" }, h("a", { href: "#/rounds" }, "Rounds")),
    h("h1", { tabindex: -1 }, `Round ${number(round.ordinal)}`),
    h("p", { class: "lead" }, "Started ", time(round.started), ", took ", duration(round.finished - round.started), ", ", plural(tasks.length, "task"), "."),
    fromOutside(status, "Texts are as their authors wrote them: without a model there is no tokenizer to decode the tokens with."),
    tasks.length
      ? h("div", { class: "tasks" }, choices(tasks, chosen, set), taskCard(chosen))
      : card(null, empty("The records of this round are not in the journals here.")),
    h("div", { class: "columns" }, card("Gossip", feed(round.feed)), card("What it follows from", facts(round))),
  );
}

function facts(round) {
  const row = (label, value) => [h("dt", {}, label), h("dd", {}, value)];
  return h(
    "dl",
    { class: "facts" },
    row("Number", number(round.number)),
    row("Seed", copyable(round.seed, "the seed")),
    round.left_out > 0 && row("Left out", `${plural(round.left_out, "record")}, more than this page shows; they are in the journal`),
  );
}

const key = (task) => `${task.author ?? "shared"}:${task.index}`;

/** Those with critiques first: there is most to see. */
const byCritiques = (tasks) => tasks.toSorted((a, b) => b.critiques.length - a.critiques.length);

function choices(tasks, chosen, set) {
  const button = (task) => {
    const right = task.answers.filter((answer) => answer.reward >= 1).length;
    return h(
      "li",
      {},
      h(
        "button",
        { type: "button", "aria-pressed": String(task === chosen), onclick: () => set({ task: key(task) }) },
        h("bdi", { class: "foreign" }, line(task.question, 60)),
        h("small", {}, task.shared ? "shared" : `${line(task.answers[0]?.name, 24)}'s own`, ` · ${right} of ${task.answers.length} right`, task.critiques.length > 0 && ` · ${plural(task.critiques.length, "critique")}`),
      ),
    );
  };
  return h(
    "div",
    { class: "card choices" },
    h("h2", {}, "Tasks"),
    scrolling("list", "Tasks of the round", tasks.slice(0, CHOICES_SHOWN).map(button)),
    tasks.length > CHOICES_SHOWN && h("p", { class: "quiet-text" }, `and ${number(tasks.length - CHOICES_SHOWN)} more in the JSON`),
  );
}

function taskCard(task) {
  const authors = [...new Map(task.answers.map((answer) => [answer.author, answer.name]))];
  return h(
    "section",
    { class: "card task", "data-key": key(task), "aria-label": "The task" },
    h("h2", {}, task.shared ? "Shared task" : "Own task"),
    h("div", { class: "question" }, foreign(task.question)),
    task.truth !== null && task.truth !== undefined && h("p", { class: "truth" }, term("truth", "The verifier's truth"), " ", foreign(String(task.truth))),
    task.answers.length
      ? h("div", { class: "authors" }, authors.map(([author, name]) => authorColumn(task, author, name)))
      : empty("No answer to this task is here."),
  );
}

function authorColumn(task, author, name) {
  const answers = task.answers.filter((answer) => answer.author === author).map((answer) => withTalk(task, answer));
  // The discussed one first, so that these stand side by side.
  const ordered = answers.toSorted((a, b) => b.talk - a.talk);
  return h("section", { class: "author", "aria-label": `Answers of ${line(name, 28)}` }, h("h3", {}, peerLink(author, name)), ordered.map(answerBlock));
}

/** An answer with all that was said about it. */
function withTalk(task, answer) {
  const about = (item) => item.author === answer.author && item.sample === answer.sample;
  const [critiques, revisions] = [task.critiques.filter(about), task.revisions.filter(about)];
  return { answer, critiques, revisions, jury: task.jury.find(about), talk: critiques.length + revisions.length };
}

function answerBlock({ answer, critiques, revisions, jury }) {
  return h(
    "article",
    { class: "answer" },
    h("div", { class: "row" }, foreign(answer.text), mark(answer.reward)),
    answer.finished === false && h("p", { class: "quiet-text" }, "cut off at the length limit"),
    typeof jury?.probability === "number" && h("p", { class: "verdict" }, term("jury", "jury"), probabilityBar(jury.probability, "The jury's probability that it is right")),
    critiques.map(critiqueBlock),
    revisions.length > 0 &&
      h(
        "div",
        { class: "revision" },
        h("p", { class: "by" }, "revised to"),
        revisions.map((revision) => h("div", { class: "row" }, foreign(revision.text), mark(revision.reward))),
      ),
  );
}

function critiqueBlock(critique) {
  const probability = critique.probabilities?.[critique.sample];
  const raw = critique.verdicts?.[critique.sample];
  return h(
    "blockquote",
    { class: "critique" },
    h("p", { class: "by" }, peerLink(critique.judge, critique.name), " says"),
    foreign(critique.text),
    h(
      "p",
      { class: "verdict" },
      term("verdict", "verdict"),
      typeof probability === "number"
        ? probabilityBar(probability, "Probability that the answer is right, by this judge")
        : h("span", { class: "quiet-text" }, typeof raw === "number" ? `raw score ${number(raw, 2)}, not calibrated yet` : "none"),
    ),
  );
}
