/** Definitions of the words on the page: shown on hover and focus, read by screen readers, hidden by Escape. */

import { get } from "./api.js";
import { h } from "./dom.js";

const GAP = 8;

export async function startTips() {
  const tip = document.getElementById("tip");
  const hide = () => (tip.hidden = true);
  const show = (event) => {
    const word = event.target.closest?.("[data-term]");
    const definition = word && document.getElementById(`definition-${word.dataset.term}`);
    if (!definition) return hide();
    tip.textContent = definition.textContent;
    tip.hidden = false;
    const [at, size] = [word.getBoundingClientRect(), tip.getBoundingClientRect()];
    const left = Math.min(Math.max(GAP, at.left), document.documentElement.clientWidth - size.width - GAP);
    const below = at.bottom + GAP + size.height < innerHeight;
    tip.style.left = `${left}px`;
    tip.style.top = `${below ? at.bottom + GAP : Math.max(GAP, at.top - GAP - size.height)}px`;
  };
  addEventListener("pointerover", show);
  addEventListener("focusin", show);
  addEventListener("focusout", hide);
  addEventListener("scroll", hide, { passive: true });
  addEventListener("keydown", (event) => event.key === "Escape" && hide());
  try {
    const definitions = Object.entries(await get("definitions"));
    document.getElementById("definitions").append(...definitions.map(([key, sentence]) => h("p", { id: `definition-${key}` }, sentence)));
  } catch {
    // The words stay without definitions; that the server does not answer is told elsewhere.
  }
}
