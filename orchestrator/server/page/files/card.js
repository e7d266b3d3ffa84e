// One turn on the page: question, answer, and below it how it came about.

import { colour, count, h, ms, oncePerFrame, put, save } from "./dom.js";
import { titleOf } from "./mind.js";
import { timeline } from "./timeline.js";

export class Card {
  /** @param {{edit: Function, cold: Function}} acts  what its buttons do. */
  constructor(turn, acts) {
    this.turn = turn;
    this.acts = acts;
    this.question = h("p", { class: "question", text: turn.text });
    this.reasoning = h("details", { class: "reasoning", hidden: true }, h("summary", { text: "Reasoning" }), h("p"));
    this.answer = h("p", { class: "answer" });
    this.told = h("p", { class: "told" });
    this.sources = h("p", { class: "sources", hidden: true });
    this.how = h("div", { class: "how" });
    const images = turn.images ? h("p", { class: "note", text: count(turn.images, "image") }) : null;
    this.root = h("li", { class: "turn", "aria-busy": "true" }, this.question, images, this.reasoning, this.answer, this.sources, this.told, this.how);
  }

  /** Draw what has come of the answer. */
  draw() {
    const { turn } = this;
    put(this.answer, turn.answer);
    if (turn.reasoning) {
      this.reasoning.hidden = false;
      put(this.reasoning.lastChild, turn.reasoning);
    }
    this.root.classList.toggle("writing", turn.done === null);
    if (turn.first !== null && turn.done === null) this.#tell(`first word after ${ms(turn.ttft)}`);
  }

  /** Draw it with the next frame. */
  drawSoon() {
    this.soon ??= oncePerFrame(() => this.turn.done === null && this.draw());
    this.soon();
  }

  /** Show that the connection went away under the answer. */
  lost() {
    this.#broke("the connection was lost");
  }

  /** Show why it was not asked. */
  refused(error) {
    this.#broke(error.message);
  }

  /** Draw the end: status, ledger and timeline. */
  end() {
    const { turn } = this;
    const { done } = turn;
    this.draw();
    this.root.setAttribute("aria-busy", "false");
    this.root.classList.add("over", done.status);
    if (done.status === "failed") this.answer.append(h("span", { class: "failed", text: done.error?.message ?? "failed" }));
    if (turn.cut !== null) this.answer.append(h("span", { class: "cut", text: " — stopped here" }));
    this.#tell(headline(turn));
    this.#sources();
    this.how.replaceChildren(this.#details(), this.#buttons());
    if (turn.cold) this.showCold();
  }

  /** Draw the same question without a head start beside it. */
  showCold() {
    const { cold } = this.turn;
    this.side ??= h("div", { class: "side", "aria-label": "The same question at once", role: "group" });
    if (!this.side.isConnected) this.root.append(this.side);
    if (cold.running || cold.error) {
      const told = cold.error ? `The cold question failed: ${cold.error}` : "Asking the same at once, with a cold cache …";
      this.side.replaceChildren(h("p", { class: "note", text: told }));
      return;
    }
    const [live, atOnce] = [this.turn.done, cold.done].map((done) => done.timings.ttft_ms);
    const bar = (name, value, kind) => {
      const line = h("i");
      line.style.width = `${Math.max(0.6, (100 * value) / Math.max(live, atOnce, 0.1))}%`;
      return h("li", { class: kind }, h("span", { text: name }), h("div", { class: "bar tall", "aria-hidden": "true" }, line), h("b", { text: ms(value) }));
    };
    const ratio = atOnce / Math.max(live, 0.01);
    const verdict = ratio >= 1 ? `${round(ratio)} × sooner` : `${round(1 / ratio)} × later`;
    const other = cold.done.expert === this.turn.done.expert ? "" : `; ${cold.done.expert} answered`;
    this.side.replaceChildren(
      h("p", { class: "verdict" }, h("b", { text: verdict, "data-ratio": ratio }), ` from Enter to the first word, ${cold.same ? "the same answer" : `another wording${other}`}`),
      h("ul", { class: "race" }, bar("while you typed", live, "warm"), bar("asked at once, cold", atOnce, "cold")),
      h("p", { class: "note", text: `By the server’s clock. In this browser, with network and drawing: ${ms(this.turn.ttft)} and ${ms(cold.ttft_ms)}.` }),
      ...(cold.same ? [] : [h("p", { class: "note", text: `Cold: ${cold.answer}` })]),
    );
    this.side.scrollIntoView({ block: "nearest" });
  }

  #broke(why) {
    this.draw();
    this.root.setAttribute("aria-busy", "false");
    this.root.classList.remove("writing");
    this.root.classList.add("over", "failed");
    this.answer.append(h("span", { class: "failed", text: why }));
    this.how.replaceChildren(h("p", { class: "acts" }, this.#editButton()));
  }

  #editButton() {
    return h("button", { type: "button", class: "quiet edit-button", text: "Edit", onclick: () => this.acts.edit(this) });
  }

  #tell(text) {
    put(this.told, text);
  }

  #sources() {
    const used = this.turn.done.documents;
    const ids = [...(used?.before ?? []), ...(used?.behind ?? [])];
    if (!ids.length) return;
    const known = new Map((this.turn.retrieval?.passages ?? []).map((one) => [one.id, one]));
    const names = ids.map((id) => titleOf(known.get(id) ?? { id, source: "passage" }));
    this.sources.replaceChildren("From ", ...names.map((name) => h("span", { class: "source", text: name })));
    this.sources.hidden = false;
  }

  #details() {
    const { done } = this.turn;
    const rows = [...times(this.turn), ...tokens(done)].map(([name, value]) => h("div", {}, h("dt", { text: name }), h("dd", { text: value })));
    const degraded = done.degraded?.length ? h("p", { class: "note", text: `Without: ${done.degraded.join("; ")}` }) : null;
    const scroll = h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Timeline" }, timeline(this.turn.data(), this.root.clientWidth));
    return h("details", { open: true }, h("summary", { text: "How it came about" }), scroll, h("dl", { class: "ledger" }, ...rows), consensus(done), degraded);
  }

  #buttons() {
    const cold = this.turn.done.status === "completed" && !this.turn.images;
    return h("p", { class: "acts" },
      cold ? h("button", { type: "button", class: "quiet cold-button", text: "Ask the same at once, cold", onclick: () => this.acts.cold(this) }) : null,
      this.#editButton(),
      h("button", { type: "button", class: "quiet json-button", text: "Save as JSON", onclick: () => this.#save() }),
    );
  }

  #save() {
    const name = `livemind-turn-${this.turn.at.toISOString().replaceAll(/[:.]/gu, "-")}.json`;
    save(name, JSON.stringify(this.turn.data(), null, 2), "application/json");
  }
}

/** Return one line about a turn that has ended. */
export function headline(turn) {
  const { done } = turn;
  const parts = [done.expert ?? "no expert"];
  if (done.status !== "completed") parts.push(done.status);
  if (turn.ttft !== null) parts.push(`first word ${ms(turn.ttft)} after Enter`);
  const adopted = [...turn.drafts.values()].find((draft) => draft.state === "adopted");
  if (adopted) parts.push(`draft adopted, ${count(adopted.tokens, "token")} ready`);
  const without = done.timings.estimated_ttft_ms_without;
  if (without !== null) parts.push(`without the head start about ${ms(without)}`);
  return parts.join(" · ");
}

function times(turn) {
  const t = turn.done.timings;
  return [
    ["typed for", ms(t.typing_ms)],
    ["first text, server", ms(t.ttft_ms)],
    ["first text, here", ms(turn.ttft)],
    ["whole answer", ms(t.total_ms)],
    ["route settled before", ms(t.route_lead_ms)],
    ["passages before", ms(t.retrieval_lead_ms)],
    ["cache ready before", ms(t.prefill_lead_ms)],
    ["draft before", ms(t.draft_lead_ms)],
  ];
}

function others(ledger, answered) {
  const idle = Object.entries(ledger.prefill_by_expert ?? {}).filter(([name]) => name !== answered);
  return idle.map(([name, count]) => [`on ${name}`, `${count} tokens`]);
}

function tokens(done) {
  const l = done.ledger;
  const u = done.usage;
  return [
    ["prompt", u ? `${u.prompt_tokens} tokens` : "–"],
    ["of it cached", u?.cached_tokens === null || !u ? "–" : `${u.cached_tokens}`],
    ["answer", u ? `${u.completion_tokens} tokens` : "–"],
    ["prepared", `${l.prefill_speculated}, used ${l.prefill_adopted}`],
    ...others(l, done.expert),
    ["drafted", `${l.draft_speculated}, used ${l.draft_adopted}`],
    ["wasted", `${l.prefill_wasted + l.draft_wasted} tokens`],
    ["drafts", `${l.drafts}`],
    ["cost against none", l.cost_multiplier === null ? "–" : `${l.cost_multiplier.toFixed(2)} ×`],
  ];
}

function consensus(done) {
  if (!done.consensus || done.consensus.policy === "first") return null;
  const { policy, spans, abstained } = done.consensus;
  const authors = [...new Set(spans.map((span) => span.author))];
  const told = authors.map((name) => h("span", { class: `source ${colour(name)}`, text: name }));
  const missing = abstained?.length ? ` · ${count(abstained.length, "expert")} abstained` : "";
  return h("p", { class: "sources" }, `Consensus ${policy}, ${count(spans.length, "span")} by `, ...told, missing);
}

function round(ratio) {
  return ratio < 10 ? ratio.toFixed(1) : Math.round(ratio).toLocaleString("en");
}
