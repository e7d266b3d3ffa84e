// The operator's view: reads /stats, /stats/turns and /metrics every two seconds, while it is seen.

import { authorized, refusal } from "./connection.js";
import { h, ms, percent, put, s } from "./dom.js";

const EVERY_MS = 2000;
const $ = (id) => document.getElementById(id);
let key = "";
let timer = 0;

async function read(path) {
  const answer = await fetch(path, { headers: authorized(key) });
  const error = await refusal(answer);
  if (error) throw error;
  return path === "/metrics" ? answer.text() : answer.json();
}

async function refresh() {
  clearTimeout(timer);
  if (!document.hidden) {
    try {
      const [stats, turns, metrics] = await Promise.all(["/stats", "/stats/turns", "/metrics"].map(read));
      draw(stats, turns, samples(metrics));
      link("open", "every two seconds");
    } catch (error) {
      if (refused(error)) return;
      link("lost", "no connection, trying again");
    }
  }
  timer = setTimeout(refresh, EVERY_MS);
}

/** Ask for a key where one is needed; true if that is so. */
function refused(error) {
  if (!/api_key|missing_scope|forbidden/u.test(error.code ?? "")) return false;
  $("view").hidden = true;
  $("key-form").hidden = false;
  put($("key-told"), key ? error.message : "");
  link("lost", "needs a key");
  $("key").focus();
  return true;
}

function link(state, text) {
  $("link").dataset.state = state;
  put($("link"), text);
}

function draw(stats, turns, counted) {
  $("view").hidden = false;
  $("key-form").hidden = true;
  now(stats);
  rows($("experts"), stats.experts.map(expertRow));
  rows($("hours"), turns.hours.toReversed().map(hourRow));
  rows($("slowest"), turns.slowest.map(slowRow));
  const lacked = (name, label) => counted.filter((one) => one.name === name).map((one) => [label(one.labels), one.value]);
  figures($("lacked"), [
    ...lacked("livemind_turns_degraded_total", (labels) => `lacked: ${labels.what}`).map(([name, value]) => [name, value, value > 0]),
    ...lacked("livemind_turn_retrievals_total", (labels) => `retrieval: ${labels.outcome}`),
  ]);
}

function now(stats) {
  const waiting = stats.experts.reduce((sum, one) => sum + one.waiting, 0);
  const { server } = stats;
  figures($("figures"), [
    ["sessions", stats.sessions],
    ["answers in progress", stats.answering],
    ["waiting for an expert", waiting, waiting > 0],
    ["experts loaded", `${stats.models_loaded} of ${stats.models_available}`],
    ["turns", (server.turns_completed ?? 0) + (server.turns_cancelled ?? 0) + (server.turns_failed ?? 0)],
    ["failed", server.turns_failed ?? 0, (server.turns_failed ?? 0) > 0],
    ["requests refused", server.requests_refused ?? 0],
    ["up for", duration(server.uptime_s)],
  ]);
}

function figures(list, given) {
  list.replaceChildren(...given.map(([name, value, bad]) =>
    h("div", {}, h("dt", { text: name }), h("dd", { class: bad ? "bad" : null, text: typeof value === "number" ? value.toLocaleString("en") : value })),
  ));
}

function expertRow(one) {
  const left = one.remaining_s === null ? "" : `, about ${duration(one.remaining_s)} left`;
  const load = one.state === "loading" ? h("td", { text: `${percent(one.progress ?? 0)}${left}` }) : h("td", { text: one.detail });
  return [head(one.expert_id), cell(one.state), load, number(one.users - one.waiting), number(one.waiting), cell(one.dtype ?? "elsewhere"),
    number(one.prefill_ms_per_token === null ? "–" : one.prefill_ms_per_token.toFixed(2)), number(one.decode_ms === null ? "–" : one.decode_ms.toFixed(1))];
}

function hourRow(one) {
  const ahead = one.prefill_speculated + one.draft_speculated;
  const share = one.compared_turns && one.without_ms > 0 ? one.with_ms / one.without_ms : null;
  const fill = h("i");
  fill.style.width = `${Math.min(1, share ?? 0) * 100}%`;
  return [head(new Date(one.began_s * 1000).toLocaleTimeString("en", { hour: "2-digit", minute: "2-digit", hour12: false })),
    number(one.turns), number(one.failed), number(ahead), number(one.prefill_adopted + one.draft_adopted), number(one.prefill_wasted + one.draft_wasted),
    number(one.ttft_turns ? ms(one.ttft_ms / one.ttft_turns) : "–"), number(one.compared_turns ? ms(one.without_ms / one.compared_turns) : "–"),
    h("td", {}, ...(share === null ? ["–"] : [percent(share), h("div", { class: "bar", "aria-hidden": "true" }, fill)]))];
}

function slowRow(one) {
  const { timings, ledger } = one;
  return [head(new Date(one.ended_s * 1000).toLocaleTimeString("en", { hour12: false })), cell(one.expert ?? "none"), cell(one.status), number(ms(timings.ttft_ms)), number(ms(timings.total_ms)),
    number(one.prompt_tokens ?? "–"), number(one.cached_tokens ?? "–"), number(ledger.prefill_wasted + ledger.draft_wasted), h("td", {}, strip(timings))];
}

/** A turn in one line: typed until Enter, what was ready when, then the wait and the answer. */
function strip(timings) {
  const [wide, enter] = [240, 150];
  const typing = Math.max(timings.typing_ms ?? 0, 1);
  const total = Math.max(timings.total_ms ?? 0, 1);
  const at = (lead) => enter - (enter * Math.min(lead, typing)) / typing;
  const wait = ((wide - enter) * Math.min(timings.ttft_ms, total)) / total;
  const svg = s("svg", { class: "span timeline", viewBox: `0 0 ${wide} 14`, role: "img", "aria-label": `typed ${ms(timings.typing_ms)}, first text ${ms(timings.ttft_ms)}, end ${ms(timings.total_ms)}` },
    s("g", { class: "block waiting" }, s("rect", { x: 0, y: 5, width: enter, height: 4, rx: 2 })),
    s("g", { class: "block e4" }, s("rect", { x: enter, y: 2, width: Math.max(wait, 1), height: 10, rx: 2 })),
    s("g", { class: "block writing" }, s("rect", { x: enter + wait, y: 2, width: Math.max(wide - enter - wait, 0), height: 10, rx: 2 })),
  );
  for (const [name, kind] of [["route", "e1"], ["retrieval", "e0"], ["prefill", "e2"], ["draft", "e3"]]) {
    const lead = timings[`${name}_lead_ms`];
    if (lead !== null) svg.append(s("g", { class: `block ${kind}` }, s("title", { text: `${name}: ${ms(lead)} before Enter` }), s("rect", { x: at(lead) - 1.5, y: 1, width: 3, height: 12, rx: 1 })));
  }
  return svg;
}

/** The samples of Prometheus' text format. */
function samples(text) {
  return [...text.matchAll(/^(\w+)\{([^}]*)\} (\S+)$/gmu)].map(([, name, labels, value]) => ({
    name,
    labels: Object.fromEntries([...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/gu)].map(([, label, given]) => [label, given])),
    value: Number(value),
  }));
}

function rows(body, given) {
  const none = h("tr", {}, h("td", { class: "note", colspan: "9", text: "none yet" }));
  body.replaceChildren(...(given.length ? given.map((cells) => h("tr", {}, ...cells)) : [none]));
}

const head = (text) => h("th", { scope: "row", text });
const cell = (text) => h("td", { text });
const number = (value) => h("td", { class: "number", text: typeof value === "number" ? value.toLocaleString("en") : value });

function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = $("key").value.trim();
  refresh();
});
addEventListener("visibilitychange", () => !document.hidden && refresh());
refresh();
