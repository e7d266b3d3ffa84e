// One live session over a WebSocket: opened, kept open, configured again after it was lost.

const FIRST_WAIT_MS = 400;
const LONGEST_WAIT_MS = 8000;

/** The headers of a request with this key. */
export function authorized(key) {
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/** Return the `error` of an answer that is none of ours too; null for one that is fine. */
export async function refusal(response) {
  if (response.ok) return null;
  const body = await response.json().catch(() => ({}));
  return body.error ?? { code: "http_error", message: `the server answered ${response.status}` };
}

/** Open one socket. With a key a ticket is shown, never the key: rejects with {code, message}. */
export async function openSocket(key) {
  const protocols = key ? ["livemind", `livemind-ticket.${await ticket(key)}`] : ["livemind"];
  const socket = new WebSocket(new URL("/v1/live", location.href.replace(/^http/, "ws")), protocols);
  const open = await new Promise((told) => {
    socket.onopen = () => told(true);
    socket.onclose = socket.onerror = () => told(false);
  });
  socket.onopen = socket.onclose = socket.onerror = null;
  if (open) return socket;
  await ticket(key); // a browser does not tell why a socket was refused; this is refused likewise
  throw { code: "unreachable", message: "no connection" };
}

async function ticket(key) {
  const answer = await fetch("/v1/live/tickets", { method: "POST", headers: authorized(key) });
  const error = await refusal(answer);
  if (error) throw error;
  return (await answer.json()).ticket;
}

export class Connection {
  #socket = null;
  #wait = FIRST_WAIT_MS;
  #timer = 0;
  #closed = false;
  #number = 0;

  /**
   * @param {{key: () => string, hello: () => object, event: (e: object) => void,
   *          state: (name: string, why?: object) => void}} given
   *   `hello` returns the session.update that a new session gets.
   */
  constructor(given) {
    this.given = given;
    this.number = 0; // of sessions so far
    addEventListener("online", () => this.reopen());
  }

  get open() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** Open it now, whatever was waited for. */
  async reopen() {
    clearTimeout(this.#timer);
    const mine = ++this.#number;
    this.#drop();
    this.given.state("connecting");
    try {
      const socket = await openSocket(this.given.key());
      if (mine !== this.#number || this.#closed) return socket.close();
      this.#socket = socket;
      this.#wait = FIRST_WAIT_MS;
      this.number += 1;
      socket.onmessage = (message) => this.given.event(JSON.parse(message.data));
      socket.onclose = () => mine === this.#number && this.#again();
      this.send(this.given.hello());
      this.given.state("open");
    } catch (error) {
      if (mine === this.#number) this.#again(error);
    }
  }

  /** Send a frame; false when there is no connection. */
  send(frame) {
    if (!this.open) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#drop();
  }

  #drop() {
    const old = this.#socket;
    this.#socket = null;
    if (old) {
      old.onclose = old.onmessage = null;
      old.close();
    }
  }

  #again(error) {
    this.#drop();
    if (this.#closed) return;
    this.given.state("lost", error);
    if (error?.code?.endsWith("api_key")) return; // another one is needed first
    this.#timer = setTimeout(() => this.reopen(), this.#wait);
    this.#wait = Math.min(LONGEST_WAIT_MS, this.#wait * 1.7);
  }
}
