// The conversation of this tab: what is typed, what is being answered, what was said.

import { Card, headline } from "./card.js";
import { authorized, Connection, refusal } from "./connection.js";
import { askCold } from "./cold.js";
import { Turn } from "./turn.js";

const MOST_CARDS = 40;

export class Talk {
  #revision = 0;
  #byResponse = new Map(); // response id -> card
  #sessionId = null;

  /**
   * @param {HTMLElement} list  where the turns stand
   * @param {{key: () => string, settings: () => object, changed: () => void, state: Function,
   *          expert: Function, say: (text: string) => void, refused: (error: object) => void,
   *          restore: (text: string) => void}} given
   */
  constructor(list, given) {
    this.list = list;
    this.given = given;
    this.typing = new Turn();
    this.cards = [];
    this.waiting = []; // cards that were committed and have not ended
    this.connection = new Connection({
      key: given.key,
      hello: () => this.#hello(),
      event: (event) => this.#saw(event),
      state: (name, why) => this.#connected(name, why),
    });
  }

  get answering() {
    return this.waiting.length > 0;
  }

  /** What was said, as chat messages; `until`: before this card. */
  messages(until = null) {
    const place = until ? this.cards.indexOf(until) : this.cards.length;
    return this.cards.slice(0, place).flatMap(({ turn }) =>
      turn.answer ? [{ role: "user", content: turn.text }, { role: "assistant", content: turn.answer }] : [],
    );
  }

  /** Take over the text after a key. */
  type(text) {
    const before = this.typing.text;
    if (text === before) return;
    this.#revision += 1;
    this.typing.typed(text, this.#revision);
    if (before && text.startsWith(before)) {
      this.#send({ type: "input_text.append", text: text.slice(before.length), revision: this.#revision });
    } else {
      this.#send({ type: "input_text.replace", text, revision: this.#revision });
    }
    if (!text) this.typing = new Turn(); // begun anew, with no time of it counted
    this.given.changed();
  }

  /** Ask what was typed. Returns whether it could be sent. */
  ask(text, images = []) {
    if (!this.connection.open || !text.trim()) return false;
    const turn = this.typing;
    this.#revision += 1;
    turn.revision = this.#revision;
    turn.images = images.length;
    turn.settings = this.given.settings();
    turn.committed(text);
    if (!images.length) this.#send({ type: "input_text.commit", text, revision: this.#revision });
    const card = new Card(turn, { edit: (one) => this.edit(one), cold: (one) => this.cold(one) });
    if (images.length) this.#askWithImages(card, images);
    this.typing = new Turn();
    this.cards.push(card);
    this.waiting.push(card);
    this.list.append(card.root);
    this.#forgetOld();
    this.given.changed();
    return true;
  }

  /** Stop the running answer: the conversation keeps what was shown of it. */
  stop() {
    const card = this.waiting[0];
    if (!card) return;
    const { turn } = card;
    if (turn.items.answer && turn.answer) {
      turn.cut = [...turn.answer].length;
      this.#send({ type: "conversation.item.truncate", item_id: turn.items.answer, content_index: 0, characters: turn.cut });
    } else {
      this.#send({ type: "response.cancel" });
    }
  }

  /** Take a question back: it and all after it leave the conversation, and it can be typed on. */
  edit(card) {
    const place = this.cards.indexOf(card);
    if (place < 0) return;
    if (this.answering) this.#send({ type: "response.cancel" });
    for (const { turn, root } of this.cards.splice(place)) {
      root.remove();
      for (const id of [turn.items.answer, turn.items.question]) {
        if (id) this.#send({ type: "conversation.item.delete", item_id: id });
      }
    }
    this.waiting = this.waiting.filter((one) => this.cards.includes(one));
    this.given.restore(card.turn.text);
  }

  /** Ask a turn's question again in a session that has prepared nothing, and show both. */
  async cold(card) {
    const { turn } = card;
    turn.cold = { running: true };
    card.showCold();
    try {
      const found = await askCold(turn, this.messages(card), this.given.key());
      turn.cold = { ...found, same: found.answer === turn.answer };
      this.given.say(`Cold, the first word took ${Math.round(found.done.timings.ttft_ms)} milliseconds.`);
    } catch (error) {
      turn.cold = { error: error.message ?? String(error) };
    }
    card.showCold();
  }

  /** Put changed settings in force, from the next turn on. */
  configure() {
    this.#send({ type: "session.update", ...this.given.settings() });
  }

  #hello() {
    return { type: "session.update", ...this.given.settings(), messages: this.messages() };
  }

  #connected(name, why) {
    if (name === "lost") {
      for (const card of this.waiting.splice(0)) {
        this.#byResponse.delete(card.id);
        card.lost();
      }
    }
    if (name === "open") {
      const { text } = this.typing;
      this.typing = new Turn();
      if (text) this.type(text);
    }
    this.given.state(name, why);
    this.given.changed();
  }

  #saw(event) {
    switch (event.type) {
      case "session.created":
        this.#sessionId = event.session.id;
        return;
      case "error":
        this.given.refused(event.error);
        return;
      case "expert.updated":
        this.given.expert(event);
        return;
      case "conversation.item.added":
        this.#added(event.item);
        return;
      case "response.created":
        this.#began(event);
        return;
    }
    const card = this.#cardOf(event);
    const turn = card?.turn ?? this.typing;
    if (!turn.saw(event)) return;
    if (event.type === "response.done") this.#ended(card);
    else card?.drawSoon();
    this.given.changed();
  }

  #cardOf(event) {
    if (event.response_id) return this.#byResponse.get(event.response_id) ?? this.waiting[0];
    return this.waiting.find((card) => event.revision <= card.turn.revision);
  }

  #began(event) {
    const card = this.waiting.find((one) => one.turn.revision === event.revision) ?? this.waiting[0];
    if (!card) return;
    card.id = event.response_id;
    this.#byResponse.set(event.response_id, card);
    card.turn.items.answer = event.item_id;
  }

  #added(item) {
    const card = this.waiting.find(({ turn }) => turn.items.question === null);
    if (card && item.role === "user") card.turn.items.question = item.id;
  }

  #ended(card) {
    if (!card) return;
    this.waiting = this.waiting.filter((one) => one !== card);
    this.#byResponse.delete(card.id);
    card.end();
    const { turn } = card;
    this.given.say(turn.answer ? `${turn.answer} ${headline(turn)}` : headline(turn));
  }

  async #askWithImages(card, images) {
    const content = [
      { type: "text", text: card.turn.text },
      ...images.map((url) => ({ type: "image_url", image_url: { url } })),
    ];
    const answer = await fetch("/v1/chat/completions", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-LiveMind-Session": this.#sessionId, ...authorized(this.given.key()) },
      body: JSON.stringify({ stream: true, messages: [...this.messages(card), { role: "user", content }] }),
    }).catch((error) => ({ ok: false, json: async () => ({ error: { code: "unreachable", message: error.message } }) }));
    const error = await refusal(answer);
    if (error) {
      this.waiting = this.waiting.filter((one) => one !== card);
      card.refused(error);
      this.given.refused(error);
      this.given.changed();
    } else {
      await answer.text().catch(() => null); // its events come over the socket
    }
  }

  #forgetOld() {
    while (this.cards.length > MOST_CARDS) this.cards.shift().root.remove();
  }

  #send(frame) {
    return this.connection.send(frame);
  }
}
