/** What was checked, what failed, and what is on the chain. */

import { get } from "../api.js";
import { h } from "../dom.js";
import { NONE, number, percent, time } from "../format.js";
import { card, copyable, empty, explorerLink, identifier, peerLink, stat, table } from "../parts.js";
import { line } from "../text.js";

export const title = () => "Trust";
export const load = () => get("trust");

export function render(trust, { status }) {
  const { passed, failed } = trust.audits;
  const refused = Object.entries(trust.refused).sort((a, b) => b[1] - a[1]);
  return h(
    "div",
    { class: "page" },
    h("h1", { tabindex: -1 }, "Trust"),
    h("p", { class: "lead" }, "Nothing here has to be believed: every number follows from signed records, and the commands below do the sums again."),
    h(
      "dl",
      { class: "stats" },
      stat("audits", "Audits passed", number(passed), passed + failed ? `${percent(passed / (passed + failed))} of ${number(passed + failed)}` : "none yet"),
      stat("refused", "Records refused", number(refused.reduce((sum, [, count]) => sum + count, 0)), "by this side's checks"),
      stat("not_revealed", "Commits not revealed", number(trust.not_revealed), trust.not_revealed ? "their records never came" : "every record that was asked for came"),
      trust.sealed && stat("sealed", "Sealed audits opened", number(trust.sealed.opened), `of ${number(trust.sealed.of)} in the recipe`),
      stat("equivocations", "Equivocations proved", number(trust.equivocations.length), trust.equivocations.length ? "see below" : "nobody signed two versions"),
    ),
    card("Settlements", unread(status) && trust.settlements.length > 0 && h("p", { class: "quiet-text" }, "The chain does not answer; these are the newest that a peer here saw on it, as its journal has them."), trust.settlements.length ? settlements(trust.settlements, status.chain) : empty(unread(status) ? "The chain has not been read, so its settlements are not known." : "No epoch has been settled yet.")),
    h("div", { class: "columns" }, card("Refused records", refused.length ? reasons(refused) : empty("Every record that arrived was accepted.")), card("Equivocation proofs", proofs(trust.equivocations))),
  );
}

/** Whether the chain has never answered. */
const unread = ({ chain, stale }) => chain.registered_peers === null && stale.some((part) => part.part === "chain");

function settlements(all, chain) {
  const columns = [
    { label: "Epoch", term: "epoch", heads: true, cell: (row) => number(row.epoch) },
    { label: "State", cell: (row) => `${line(row.state, 30)}${row.frozen ? ", frozen" : ""}` },
    { label: "Root", term: "settlement", cell: (row) => identifier(row.root) },
    { label: "Points", numeric: true, cell: (row) => number(row.total, 1) },
    { label: "Posted", cell: (row) => time(row.posted_at) },
    { label: "Signers", term: "signers", cell: (row) => signers(row.signers) },
    { label: "Transaction", cell: (row) => [identifier(row.transaction), " ", explorerLink(chain, "tx", row.transaction)] },
    { label: "Check it yourself", wide: true, cell: (row) => (row.audit_command ? copyable(row.audit_command, `the audit command of epoch ${row.epoch}`) : NONE) },
  ];
  return table("Settlements, newest first", columns, all, { rowKey: (row) => row.epoch });
}

function signers(found) {
  if (!found) return NONE;
  if (!Array.isArray(found)) return number(found);
  return h("span", { title: found.map((signer) => line(signer, 60)).join("\n") }, number(found.length));
}

function reasons(all) {
  const most = all[0][1];
  return h(
    "ul",
    { class: "reasons" },
    all.map(([reason, count]) =>
      h("li", {}, h("span", {}, line(reason, 80)), h("b", {}, number(count)), h("span", { class: "meter", "aria-hidden": "true" }, h("span", { style: { width: `${(100 * count) / most}%` } }))),
    ),
  );
}

const proofs = (all) =>
  all.length
    ? table(
        "Peers that signed two different records for the same round and stage",
        [
          { label: "Peer", heads: true, cell: (proof) => peerLink(proof.peer_id) },
          { label: "Round", cell: (proof) => h("a", { href: `#/rounds/${proof.round}` }, number(proof.round)) },
          { label: "Stage", cell: (proof) => line(proof.stage, 20) },
          { label: "The two", cell: (proof) => [identifier(proof.sha256[0], 4), " ", identifier(proof.sha256[1], 4)] },
        ],
        all,
        { rowKey: (proof) => `${proof.round} ${proof.stage} ${proof.peer_id}` },
      )
    : empty("No peer has signed two different records for the same slot.");
