/** Elements, and a patch that brings what is shown up to date without losing focus, folds, scrolling or charts. */

const SVG = "http://www.w3.org/2000/svg";
const HANDLERS = ["onclick", "oninput", "onchange", "ontoggle"];

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (HANDLERS.includes(key) || key === "value") element[key] = value;
    else if (key === "style") for (const [property, to] of Object.entries(value)) element.style.setProperty(property, to);
    else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(key, value === true ? "" : value);
    }
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An HTML element; strings among the children become text, never markup. */
export const h = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);

/** An SVG element. */
export const svg = (name, attributes, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

/** Make `old` equal to `fresh`, keeping the nodes that are alike. An element with `adopt` takes the fresh one's data. */
export function patch(old, fresh) {
  if (old.nodeName !== fresh.nodeName || old.dataset?.key !== fresh.dataset?.key) {
    old.replaceWith(fresh);
  } else if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
  } else if (old.adopt) {
    old.adopt(fresh);
  } else {
    patchAttributes(old, fresh);
    patchChildren(old, fresh);
    if (old.value !== fresh.value && old !== document.activeElement) old.value = fresh.value;
  }
}

function patchAttributes(old, fresh) {
  for (const handler of HANDLERS) if (old[handler] !== fresh[handler]) old[handler] = fresh[handler];
  // A policy against inline styles refuses the attribute, not the property.
  if (old.style.cssText !== fresh.style.cssText) old.style.cssText = fresh.style.cssText;
  const keep = old.nodeName === "DETAILS" ? ["style", "open"] : ["style"];
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !keep.includes(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (!keep.includes(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
}

function patchChildren(old, fresh) {
  const wanted = [...fresh.childNodes];
  const there = [...old.childNodes];
  wanted.forEach((child, index) => (index < there.length ? patch(there[index], child) : old.append(child)));
  there.slice(wanted.length).forEach((child) => child.remove());
}
