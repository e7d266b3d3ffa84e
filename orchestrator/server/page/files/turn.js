// What one turn was: keys, events and the end, with times in milliseconds since its first key.

const MOST_EVENTS = 2000;

export class Turn {
  constructor(clock = () => performance.now()) {
    this.clock = clock;
    this.began = null;
    this.at = new Date();
    this.text = "";
    this.keys = []; // {at, length, replaces}
    this.words = []; // {word, expert, share, others}: where the text went when this was its last word
    this.lengths = new Map(); // revision -> length of the text
    this.route = null;
    this.routes = []; // {at, expert, stable}
    this.retrieval = null;
    this.retrievals = []; // {at, passages, stable, degraded}
    this.frozen = new Set();
    this.prefill = null;
    this.prefills = []; // {at, expert, ready, total}
    this.drafts = new Map(); // id -> {at, expert, state, until, tokens, reason}
    this.commit = null;
    this.first = null;
    this.end = null;
    this.answer = "";
    this.reasoning = "";
    this.done = null;
    this.cold = null;
    this.cut = null;
    this.items = { question: null, answer: null };
    this.history = [];
    this.images = 0;
    this.settings = {}; // that it was asked with
  }

  get now() {
    return this.began === null ? 0 : this.clock() - this.began;
  }

  /** Take over the text as it is after a key. */
  typed(text, revision) {
    this.began ??= this.clock();
    const replaces = !text.startsWith(this.text);
    this.text = text;
    this.keys.push({ at: this.now, length: text.length, replaces });
    this.lengths.set(revision, text.length);
    if (replaces) this.#forget(text);
  }

  /** Note that the text is final. */
  committed(text) {
    this.began ??= this.clock();
    this.text = text;
    this.commit = this.now;
  }

  /** Take over what an event of the server says; false if it changes nothing that is shown. */
  saw(event) {
    const at = this.now;
    switch (event.type) {
      case "route.updated":
        this.route = event;
        this.#note(this.routes, { at, expert: event.expert, stable: event.stable, share: event.confidence });
        this.#word(event);
        return true;
      case "retrieval.updated":
        this.retrieval = event;
        if (event.stable) this.frozen = new Set(event.passages.map((passage) => passage.id));
        this.#note(this.retrievals, {
          at, passages: event.passages.length, stable: event.stable, degraded: event.degraded,
        });
        return true;
      case "prefill.updated":
        this.prefill = event;
        this.#note(this.prefills, {
          at, expert: event.expert, ready: event.tokens_ready, total: event.tokens_total,
        });
        return true;
      case "draft.created":
        this.drafts.set(event.draft_id, { at, expert: event.expert, state: "drafting", until: null, tokens: 0 });
        return true;
      case "draft.discarded":
      case "draft.adopted": {
        const draft = this.drafts.get(event.draft_id);
        const state = event.type === "draft.adopted" ? "adopted" : "dropped";
        const told = { state, until: at, tokens: event.tokens, reason: event.reason ?? null };
        this.drafts.set(event.draft_id, { ...(draft ?? { at, expert: event.expert }), ...told });
        return true;
      }
      case "response.output_text.delta":
        this.first ??= at;
        this.answer += event.delta;
        return true;
      case "response.reasoning_text.delta":
        this.first ??= at;
        this.reasoning += event.delta;
        return true;
      case "response.done":
        this.done = event;
        if (event.documents) this.frozen = new Set([...event.documents.before, ...event.documents.behind]);
        this.end = at;
        this.lengths.clear();
        return true;
      default:
        return false;
    }
  }

  /** Milliseconds from Enter to the first text on this clock; null before it. */
  get ttft() {
    return this.first === null || this.commit === null ? null : this.first - this.commit;
  }

  /** Tokens that were prepared, drafted and dropped so far. */
  get cost() {
    const drafts = [...this.drafts.values()];
    const dropped = drafts.filter((draft) => draft.state === "dropped");
    const prepared = new Map();
    for (const step of this.prefills) {
      prepared.set(step.expert, Math.max(prepared.get(step.expert) ?? 0, step.ready));
    }
    return {
      prepared: [...prepared.values()].reduce((sum, tokens) => sum + tokens, 0),
      drafts: drafts.length,
      dropped: dropped.reduce((sum, draft) => sum + draft.tokens, 0),
    };
  }

  /** The turn as JSON-ready data; schema livemind.turn/1. */
  data() {
    return {
      schema: "livemind.turn/1",
      began: this.at.toISOString(),
      question: this.text,
      answer: this.answer,
      reasoning: this.reasoning || undefined,
      images: this.images || undefined,
      clock: "milliseconds since the first key, in the browser",
      keys: this.keys,
      words: this.words,
      routes: this.routes,
      retrievals: this.retrievals,
      passages: this.retrieval?.passages ?? [],
      prefills: this.prefills,
      drafts: [...this.drafts].map(([id, draft]) => ({ id, ...draft })),
      commit_ms: this.commit,
      first_text_ms: this.first,
      end_ms: this.end,
      ttft_ms: this.ttft,
      heard_characters: this.cut ?? undefined,
      done: this.done,
      cold: this.cold ?? undefined,
    };
  }

  #note(list, entry) {
    if (list.length < MOST_EVENTS) list.push(entry);
  }

  #word(event) {
    const length = Math.min(this.lengths.get(event.revision) ?? this.text.length, this.text.length);
    const words = wordsOf(this.text.slice(0, length));
    const last = words.length - 1;
    if (last < 0) return;
    const others = event.alternatives.map(([expert, share]) => ({ expert, share }));
    this.words[last] = { word: words[last], expert: event.expert, share: event.confidence, others };
    for (let place = last - 1; place >= 0 && !this.words[place]; place -= 1) {
      this.words[place] = { word: words[place], expert: null, share: null, others: [] };
    }
  }

  #forget(text) {
    const words = wordsOf(text);
    let same = 0;
    while (same < words.length && this.words[same]?.word === words[same]) same += 1;
    this.words.length = Math.min(this.words.length, same);
  }
}

/** Return the words of a text; of one without blanks its characters, by fours. */
export function wordsOf(text) {
  const parts = text.trim().split(/\s+/u).filter(Boolean);
  return parts.flatMap((part) => (/[\u3040-\u30ff\u4e00-\u9fff\u0e00-\u0e7f]{5,}/u.test(part) ? part.match(/.{1,4}/gsu) : [part]));
}
