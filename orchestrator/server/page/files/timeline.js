// One turn as SVG: what happened when, before Enter and after it, each half on a scale of its own.

import { colour, ms, s } from "./dom.js";

const WIDE = 720;
const NARROW = 320;
const LEFT = 74;
const RIGHT = 12;
const ROW = 22;
const TOP = 22;
const ROWS = ["typing", "route", "passages", "cache", "drafts", "answer"];

/** Return the SVG of a turn's data (livemind.turn/1), drawn for a place of so many pixels. */
export function timeline(data, place) {
  const width = Math.min(Math.max(place, NARROW), WIDE);
  const enter = LEFT + (width - LEFT - RIGHT) * 0.72;
  const height = TOP + ROWS.length * ROW + 26;
  const commit = Math.max(data.commit_ms ?? 0, 1);
  const after = Math.max((data.end_ms ?? commit) - commit, 1);
  const x = (at) =>
    at <= commit
      ? LEFT + ((enter - LEFT) * Math.max(at, 0)) / commit
      : enter + ((width - RIGHT - enter) * Math.min(at - commit, after)) / after;
  const y = (row) => TOP + ROWS.indexOf(row) * ROW;
  const svg = s("svg", {
    class: "timeline", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": described(data),
  });
  for (const row of ROWS) {
    svg.append(
      s("text", { x: LEFT - 10, y: y(row) + 14, class: "name", text: row }),
      s("line", { x1: LEFT, x2: width - RIGHT, y1: y(row) + ROW - 3, y2: y(row) + ROW - 3, class: "rule" }),
    );
  }
  svg.append(...typing(data, x, y), ...route(data, x, y, commit), ...passages(data, x, y, commit));
  svg.append(...cache(data, x, y), ...drafts(data, x, y), ...answer(data, x, y, commit));
  const bottom = TOP + ROWS.length * ROW;
  svg.append(
    s("line", { x1: enter, x2: enter, y1: 12, y2: bottom, class: "enter" }),
    s("text", { x: enter, y: 9, class: "mark", text: "Enter" }),
    s("text", { x: LEFT, y: bottom + 16, class: "scale", text: "0" }),
    s("text", { x: enter - 6, y: bottom + 16, class: "scale end", text: `${ms(commit)} of typing` }),
    s("text", { x: width - RIGHT, y: bottom + 16, class: "scale end", text: `+ ${ms(after)}` }),
  );
  return svg;
}

/** Return the same in words, for whoever does not see it. */
export function described(data) {
  const parts = [`Typed for ${ms(data.commit_ms ?? 0)}`];
  const settled = data.routes.find((step) => step.stable);
  if (settled) parts.push(`route settled on ${settled.expert} at ${ms(settled.at)}`);
  const frozen = data.retrievals.find((step) => step.stable);
  if (frozen) parts.push(`passages frozen at ${ms(frozen.at)}`);
  parts.push(`${data.drafts.length} drafts`);
  if (data.ttft_ms !== null) parts.push(`first text ${ms(data.ttft_ms)} after Enter`);
  return `${parts.join(", ")}.`;
}

function typing(data, x, y) {
  return data.keys.map((key) =>
    s("line", {
      x1: x(key.at), x2: x(key.at), y1: y("typing") + 4, y2: y("typing") + 16, class: key.replaces ? "key edit" : "key",
    }),
  );
}

function route(data, x, y, commit) {
  return data.routes.map((step, place) => {
    const until = data.routes[place + 1]?.at ?? Math.max(commit, step.at);
    return block(x(step.at), x(until), y("route"), `${colour(step.expert)} ${step.stable ? "firm" : "open"}`, step.expert);
  });
}

function passages(data, x, y, commit) {
  return data.retrievals.map((step, place) => {
    const until = data.retrievals[place + 1]?.at ?? Math.max(commit, step.at);
    const told = step.degraded ?? (step.stable ? `${step.passages} frozen` : step.passages ? `${step.passages}` : "");
    return block(x(step.at), x(until), y("passages"), `found ${step.stable ? "firm" : "open"} ${step.passages ? "" : "none"}`, told);
  });
}

function cache(data, x, y) {
  const most = Math.max(...data.prefills.map((step) => step.total), 1);
  let before = null;
  return data.prefills.map((step) => {
    const from = before === null ? step.at - 12 : before;
    before = step.at;
    const tall = Math.max(2, (14 * step.ready) / most);
    return s("rect", {
      x: x(Math.max(from, 0)), y: y("cache") + 17 - tall, width: Math.max(2, x(step.at) - x(Math.max(from, 0)) - 1),
      height: tall, rx: 1, class: `slice ${colour(step.expert)}`,
    });
  });
}

function drafts(data, x, y) {
  return data.drafts.map((draft) =>
    block(x(draft.at), x(draft.until ?? draft.at), y("drafts"), `${colour(draft.expert)} draft ${draft.state}`, draft.state === "adopted" ? "adopted" : ""),
  );
}

function answer(data, x, y, commit) {
  if (data.end_ms === null) return [];
  const first = data.first_text_ms ?? data.end_ms;
  return [
    block(x(commit), x(first), y("answer"), "waiting", ""),
    block(x(first), x(data.end_ms), y("answer"), "writing", ""),
    s("circle", { cx: x(first), cy: y("answer") + 10, r: 3.5, class: "first" }),
  ];
}

function block(from, until, top, kind, told) {
  const wide = Math.max(2, until - from - 1);
  const fits = told && wide > told.length * 6.2 + 8;
  return s("g", { class: `block ${kind}` },
    s("rect", { x: from, y: top + 3, width: wide, height: 14, rx: 3 }),
    fits ? s("text", { x: from + 5, y: top + 14, text: told }) : null,
  );
}
