// Makes elements and text for people; owns no state.

const SVG = "http://www.w3.org/2000/svg";

/** Return an element; `given` are attributes, `onX` listeners, `text`; null attributes are left out. */
export function h(name, given = {}, ...children) {
  return filled(document.createElement(name), given, children);
}

/** Return an SVG element. */
export function s(name, given = {}, ...children) {
  return filled(document.createElementNS(SVG, name), given, children);
}

function filled(element, given, children) {
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Write text only where it is another one: what stands is not laid out again. */
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Return milliseconds for people. */
export function ms(value) {
  if (value === null || value === undefined) return "–";
  if (value < 10) return `${value.toFixed(1)} ms`;
  if (value < 1000) return `${Math.round(value)} ms`;
  return `${(value / 1000).toFixed(value < 10_000 ? 2 : 1)} s`;
}

/** Return a share as whole percent. */
export function percent(share) {
  return `${Math.round(share * 100)} %`;
}

/** Return how sure a route is; 0 says that nothing was estimated, and the default expert answers. */
export function confidence(share) {
  return share > 0 ? percent(share) : "default";
}

/** Return a count with its word. */
export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

const COLOURS = 6;
const seen = new Map();

/** Return the class that colours an expert: the same one for as long as the page is open. */
export function colour(expert) {
  if (!seen.has(expert)) seen.set(expert, seen.size % COLOURS);
  return `e${seen.get(expert)}`;
}

/** Let a browser save a text as a file. */
export function save(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Call `draw` at most once a frame, however often it is asked for. */
export function oncePerFrame(draw) {
  let wanted = false;
  return () => {
    if (wanted) return;
    wanted = true;
    requestAnimationFrame(() => {
      wanted = false;
      draw();
    });
  };
}
