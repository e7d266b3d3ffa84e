// The same question as if nobody had typed it: another session, nothing prepared, an empty cache.

import { openSocket } from "./connection.js";

const LONGEST_MS = 300_000;

/**
 * Ask a turn's question at once, as it was asked: same settings, routed again where it was routed.
 *
 * A fresh `cache_salt` keeps the prefix cache of everybody else out of it. `ttft_ms` is this browser's;
 * `done` has the server's own times.
 * @returns {Promise<{ttft_ms: number, total_ms: number, answer: string, done: object}>}
 */
export async function askCold(turn, messages, key) {
  const socket = await openSocket(key);
  try {
    const events = eventsOf(socket);
    socket.send(JSON.stringify({
      type: "session.update",
      ...turn.settings,
      speculation: "off",
      cache_salt: crypto.getRandomValues(new Uint32Array(4)).join("-"),
      messages,
    }));
    await until(events, "session.updated");
    const began = performance.now();
    socket.send(JSON.stringify({ type: "input_text.commit", text: turn.text }));
    let first = null;
    let answer = "";
    for await (const event of events) {
      if (event.type === "response.output_text.delta" || event.type === "response.reasoning_text.delta") {
        first ??= performance.now() - began;
        if (event.type === "response.output_text.delta") answer += event.delta;
      } else if (event.type === "error") {
        throw new Error(event.error.message);
      } else if (event.type === "response.done") {
        if (event.status !== "completed" || first === null) throw new Error(event.error?.message ?? event.status);
        return { ttft_ms: first, total_ms: performance.now() - began, answer, done: event };
      }
    }
    throw new Error("the connection was lost");
  } finally {
    socket.close();
  }
}

async function until(events, kind) {
  for await (const event of events) {
    if (event.type === "error") throw new Error(event.error.message);
    if (event.type === kind) return;
  }
  throw new Error("the connection was lost");
}

function eventsOf(socket) {
  const come = [];
  let wake = () => {};
  let over = false;
  const end = () => {
    over = true;
    wake();
  };
  socket.onmessage = (message) => {
    come.push(JSON.parse(message.data));
    wake();
  };
  socket.onclose = end;
  setTimeout(end, LONGEST_MS);
  return {
    [Symbol.asyncIterator]: () => ({
      async next() {
        while (!come.length && !over) await new Promise((resolve) => (wake = resolve));
        return come.length ? { value: come.shift(), done: false } : { value: undefined, done: true };
      },
    }),
  };
}
