/** Text from peers. It is shown by textContent only; here its invisible characters become visible. */

// Direction marks, zero-width and other invisible characters, line separators, tags and variation selectors
// beyond those of emoji, private use, lone surrogates, noncharacters.
const INVISIBLE =
  /[\u0080-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ue000-\uf8ff\ufeff\uffa0\ufff0-\uffff]|\p{Cs}|[\u{1bca0}-\u{1bca3}\u{1d173}-\u{1d17a}\u{e0000}-\u{10ffff}]/gu;
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f]/g;
const MARKS = /(\p{M}{3})\p{M}+/gu;

const hex = (character) => `⟨U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
const picture = (character) => String.fromCharCode(character === "\u007f" ? 0x2421 : 0x2400 + character.charCodeAt(0));

/** The text with what cannot be seen made visible; line breaks and tabs stay. */
export function visible(text) {
  return String(text ?? "")
    .replaceAll("\r\n", "\n")
    .replace(CONTROL, picture)
    .replace(INVISIBLE, hex)
    .replace(MARKS, "$1…");
}

/** The same on one line, shortened to `limit` characters. */
export function line(text, limit = 40) {
  // Cut first: a name may be anything, and only its start is looked at.
  const head = visible(String(text ?? "").slice(0, 4 * limit)).replace(/\s+/g, " ").trim();
  const characters = [...head];
  return characters.length > limit ? `${characters.slice(0, limit - 1).join("")}…` : head;
}
