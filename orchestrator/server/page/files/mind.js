// Draws what the server prepares for the text that is being typed; reads a Turn, changes nothing.

import { colour, confidence, count, h, percent, put } from "./dom.js";
import { wordsOf } from "./turn.js";

const SHOWN_EXPERTS = 4;
const SHOWN_WORDS = 60;
const SHOWN_SECOND = 0.05; // an alternative of less is told on its word alone, where one points

export class Mind {
  constructor(root) {
    this.trail = h("ol", { class: "trail", "aria-label": "Where each word sends the question" });
    this.route = part("Route", "which expert will answer", h("ul", { class: "bars" }));
    this.passages = part("Passages", "what is found for it", h("ol", { class: "passages" }));
    this.prefill = part("Cache", "computed before you ask", h("div", { class: "bar", "aria-hidden": "true" }, h("i")));
    this.drafts = part("Drafts", "begun at a pause, unseen", h("ul", { class: "drafts" }));
    this.cost = h("p", { class: "note cost" });
    this.loading = h("p", { class: "note", hidden: true });
    const parts = [this.route, this.passages, this.prefill, this.drafts].map((one) => one.root);
    root.append(this.trail, h("div", { class: "parts" }, ...parts), this.cost, this.loading);
    this.experts = new Map();
  }

  /** Draw a turn. */
  draw(turn) {
    this.#trail(turn);
    this.#route(turn.route);
    this.#passages(turn);
    this.#prefill(turn.prefill);
    this.#drafts(turn.drafts);
    const { prepared, drafts, dropped } = turn.cost;
    const told = [`${count(prepared, "token")} prepared`, count(drafts, "draft"), `${count(dropped, "token")} dropped`];
    put(this.cost, turn.began === null ? "" : `So far: ${told.join(" · ")}`);
  }

  /** Show which experts are being loaded. */
  expert(event) {
    if (event.state === "loading") this.experts.set(event.expert, event);
    else this.experts.delete(event.expert);
    const told = [...this.experts.values()].map((one) => {
      const share = one.progress === null ? "" : ` ${percent(one.progress)}`;
      return `${one.expert} is being loaded${share}`;
    });
    put(this.loading, told.join(" · "));
    this.loading.hidden = told.length === 0;
  }

  #trail(turn) {
    const words = wordsOf(turn.text).slice(-SHOWN_WORDS);
    const from = Math.max(0, wordsOf(turn.text).length - words.length);
    fit(this.trail, words.length, () => h("li", {}, h("span"), h("small"), h("small", { class: "second" })));
    words.forEach((word, place) => {
      const item = this.trail.children[place];
      const at = turn.words[from + place];
      const [text, first, second] = item.children;
      put(text, word);
      const moved = at?.expert && at.expert !== turn.words[from + place - 1]?.expert;
      put(first, at?.expert ? `${moved ? `${at.expert} ` : ""}${confidence(at.share)}` : "");
      const other = at?.others[0];
      put(second, other?.share >= SHOWN_SECOND ? `${other.expert} ${percent(other.share)}` : "");
      const told = [at?.expert ? { expert: at.expert, share: at.share } : null, ...(at?.others ?? [])].filter(Boolean);
      item.title = told.map((one) => `${one.expert} ${confidence(one.share)}`).join(", ");
      item.className = at?.expert ? colour(at.expert) : "";
    });
  }

  #route(route) {
    const list = this.route.body;
    const rated = route ? [[route.expert, route.confidence], ...route.alternatives] : [];
    const shown = rated.slice(0, SHOWN_EXPERTS);
    fit(list, shown.length, () => h("li", {}, h("span"), h("b"), h("div", { class: "bar", "aria-hidden": "true" }, h("i"))));
    shown.forEach(([expert, share], place) => {
      const [name, number, bar] = list.children[place].children;
      put(name, expert);
      put(number, place ? percent(share) : confidence(share));
      bar.firstChild.style.width = `${share * 100}%`;
      list.children[place].className = colour(expert);
    });
    this.route.say(route ? (route.stable ? "settled" : "open") : "", Boolean(route?.stable));
  }

  #passages(turn) {
    const list = this.passages.body;
    const found = turn.retrieval?.passages ?? [];
    const best = Math.max(...found.map((passage) => passage.score), 1e-9);
    fit(list, found.length, () => h("li", {}, h("span"), h("b"), h("div", { class: "bar", "aria-hidden": "true" }, h("i"))));
    found.forEach((passage, place) => {
      const item = list.children[place];
      const [name, score, bar] = item.children;
      put(name, titleOf(passage));
      put(score, passage.score.toFixed(3));
      bar.firstChild.style.width = `${Math.max(2, (passage.score / best) * 100)}%`;
      item.classList.toggle("frozen", turn.frozen.has(passage.id));
      if (item.dataset.id !== passage.id) {
        item.dataset.id = passage.id;
        item.classList.remove("new");
        void item.offsetWidth; // its appearing begins anew
        item.classList.add("new");
      }
    });
    const told = turn.retrieval?.degraded ?? (found.length ? (turn.frozen.size ? "frozen" : "looking") : "");
    this.passages.say(told, turn.frozen.size > 0);
  }

  #prefill(prefill) {
    const [ready, total] = prefill ? [prefill.tokens_ready, prefill.tokens_total] : [0, 0];
    this.prefill.body.firstChild.style.width = `${total ? (100 * ready) / total : 0}%`;
    this.prefill.body.className = `bar tall ${prefill ? colour(prefill.expert) : ""}`;
    this.prefill.say(prefill ? `${ready} / ${count(total, "token")}` : "", total > 0 && ready === total);
  }

  #drafts(drafts) {
    const list = this.drafts.body;
    const shown = [...drafts.values()].slice(-3);
    fit(list, shown.length, () => h("li", {}, h("span"), h("b")));
    shown.forEach((draft, place) => {
      const item = list.children[place];
      item.className = `${draft.state} ${colour(draft.expert)}`;
      put(item.firstChild, draft.expert);
      const told = { drafting: "drafting", dropped: `dropped · ${draft.tokens}`, adopted: `adopted · ${draft.tokens}` };
      put(item.lastChild, told[draft.state]);
      if (draft.reason) item.title = draft.reason;
    });
    const last = shown.at(-1);
    this.drafts.say(last ? last.state : "", last?.state === "adopted");
  }
}

/** Return how a passage is called: its headings and its document, or which piece of it it is. */
export function titleOf(passage) {
  if (passage.title) return `${passage.title} · ${passage.source}`;
  return `${passage.source} · ${passage.id.replace(/^p_/u, "").slice(0, 4)}`;
}

function part(title, idle, body) {
  const told = h("span", { class: "told idle", text: idle });
  const root = h("article", {}, h("h2", {}, title, told), body);
  const say = (text, firm = false) => {
    put(told, text || idle);
    told.classList.toggle("idle", !text);
    root.classList.toggle("firm", firm);
  };
  return { root, body, say };
}

function fit(list, length, make) {
  while (list.children.length > length) list.lastChild.remove();
  while (list.children.length < length) list.append(make());
}
