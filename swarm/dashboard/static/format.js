/** Numbers and times as people read them, in the visitor's language and zone. What is not known is a dash. */

import { h } from "./dom.js";

export const NONE = "–";

const decimals = (digits) => new Intl.NumberFormat(undefined, { minimumFractionDigits: digits, maximumFractionDigits: digits });
const NUMBERS = [0, 1, 2, 3].map(decimals);
const SIGNIFICANT = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 3 });
const DAY_MS = 86_400_000;
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
export const DATE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

const known = (value) => typeof value === "number" && Number.isFinite(value);

export const number = (value, digits = 0) => (known(value) ? NUMBERS[digits].format(value).replace(/^-/, "−") : NONE);
export const percent = (value, digits = 0) => (known(value) ? `${number(100 * value, digits)}%` : NONE);
const UNITS = ["B", "kB", "MB", "GB", "TB"];

/** A number of bytes, in powers of a thousand. */
export function bytes(value) {
  if (!known(value)) return NONE;
  const power = Math.max(0, Math.min(UNITS.length - 1, Math.floor(Math.log10(Math.abs(value) || 1) / 3)));
  return `${SIGNIFICANT.format(value / 1000 ** power)} ${UNITS[power]}`;
}

export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

/** A length of time in the two largest units that it fills. */
export function duration(seconds) {
  if (!known(seconds)) return NONE;
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${seconds > 0 && seconds < 10 && seconds % 1 ? number(seconds, 1) : s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, "0")} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")} min`;
  return `${plural(Math.floor(s / 86_400), "day")} ${Math.floor((s % 86_400) / 3600)} h`;
}

/** A moment (unix seconds): the clock where it was within a day, else the date; the whole of it on hover. */
export function time(at) {
  if (!at || !known(at)) return NONE;
  const date = new Date(1000 * at);
  const near = Math.abs(Date.now() - date) < DAY_MS;
  return h("time", { datetime: date.toISOString(), title: FULL.format(date) }, (near ? CLOCK : DATE).format(date));
}
