// Own documents: dropped or chosen, stored through /v1/documents, with how far that is.

import { authorized } from "./connection.js";
import { count, h, percent, put } from "./dom.js";

const PICTURES = /^image\/(png|jpeg|webp|gif)$/u;
const PAGE = 100;
const LOOK_MS = 300;
const MOST_FAILED_LOOKS = 10;

export class Documents {
  /** @param {{list: HTMLElement, key: () => string, say: (text: string) => void}} given */
  constructor({ list, key, say }) {
    this.list = list;
    this.key = key;
    this.say = say;
    this.stored = new Map();
  }

  /** Show what is stored. */
  async refresh() {
    const answer = await fetch(`/v1/documents?limit=${PAGE}`, { headers: authorized(this.key()) }).catch(() => null);
    if (!answer?.ok) {
      const told = await answer?.json().catch(() => null);
      this.list.replaceChildren(h("li", { class: "note", text: told?.error?.message ?? "The documents cannot be listed." }));
      return;
    }
    const { documents } = await answer.json();
    const running = [...this.list.querySelectorAll(".busy, .failed")];
    this.stored.clear();
    const rows = documents.map((one) => this.#row(one.id, one.source, count(one.passages, "passage")));
    this.list.replaceChildren(...rows, ...running);
  }

  /** Store a file; resolves when its passages can be found, or it is known why not. */
  async add(file) {
    const row = this.#row(file.name, file.name, "reading");
    row.classList.add("busy");
    this.list.append(row);
    try {
      const data = await base64(file);
      const body = JSON.stringify({ documents: [{ id: file.name, source: file.name, data }] });
      const begun = await send(body, this.key(), (share) => this.#sent(row, share));
      const job = await this.#ended(begun, row);
      if (job.status === "cancelled") throw new Error("cancelled");
      if (job.error || job.refused.length) throw new Error(job.error ?? job.refused[0]);
      this.#told(row, job.passages ? count(job.passages, "passage") : "stored already");
      this.#act(row, "Remove", file.name, () => this.#remove(file.name, row));
      this.say(`${file.name} is stored and can be found.`);
      return true;
    } catch (error) {
      const why = error.message.replace(/^documents\.0(\.\w+)?: /u, "");
      row.classList.add("failed");
      this.#told(row, why);
      this.#act(row, "Dismiss", file.name, () => row.remove());
      this.say(`${file.name} was not stored: ${why}`);
      return false;
    } finally {
      row.classList.remove("busy");
    }
  }

  /** Watch an ingest to its end, and draw how far it is; its button ends it. */
  async #ended(job, row) {
    const path = `/v1/documents/jobs/${job.id}`;
    const headers = authorized(this.key());
    this.#act(row, "Cancel", row.firstChild.textContent, () => fetch(path, { method: "DELETE", headers }).catch(() => null));
    for (let failed = 0; job.status === "waiting" || job.status === "running"; ) {
      this.#progress(row, job);
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      const answer = await fetch(path, { headers }).catch(() => null);
      if (answer?.ok) {
        failed = 0;
        job = await answer.json();
      } else if (answer?.status === 404 || ++failed > MOST_FAILED_LOOKS) {
        throw new Error("the ingest was lost: drop the file again, what is stored is kept");
      }
    }
    return job;
  }

  async #remove(id, row) {
    const answer = await fetch("/v1/documents", {
      method: "DELETE",
      headers: { "Content-Type": "application/json", ...authorized(this.key()) },
      body: JSON.stringify({ ids: [id] }),
    }).catch(() => null);
    if (answer?.ok) {
      row.remove();
      this.stored.delete(id);
    } else {
      const told = await answer?.json().catch(() => null);
      this.#told(row, told?.error?.message ?? "it cannot be removed now");
    }
  }

  #row(id, name, told) {
    this.stored.get(id)?.remove();
    const row = h("li", {}, h("span", { text: name }), h("small", { text: told }), h("div", { class: "bar", "aria-hidden": "true" }, h("i")));
    this.#act(row, "Remove", name, () => this.#remove(id, row));
    this.stored.set(id, row);
    return row;
  }

  #told(row, text) {
    put(row.children[1], text);
  }

  /** Give a row its button. */
  #act(row, text, name, onclick) {
    const button = h("button", { type: "button", class: "quiet", text, "aria-label": `${text} ${name}`, onclick });
    const old = row.querySelector("button");
    const focused = old !== null && document.activeElement === old;
    old?.remove();
    row.append(button);
    if (focused) button.focus();
  }

  #sent(row, share) {
    row.querySelector("i").style.width = `${share * 100}%`;
    this.#told(row, share < 1 ? `sent ${percent(share)}` : "sent");
  }

  #progress(row, job) {
    const { current_encoded: done, current_passages: all } = job;
    row.querySelector("i").style.width = `${all ? (100 * done) / all : 0}%`;
    const told = all ? `${done.toLocaleString("en")} of ${count(all, "passage")} indexed` : "being cut into passages";
    this.#told(row, job.status === "waiting" ? "waits for another file" : told);
  }
}

/** Return whether a file is a picture that a question can hold. */
export function isPicture(file) {
  return PICTURES.test(file.type);
}

/** Return a file as a data URL. */
export function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error("the file cannot be read"));
    reader.readAsDataURL(file);
  });
}

async function base64(file) {
  if (!file.size) throw new Error("the file is empty");
  const url = await dataUrl(file);
  return url.slice(url.indexOf(",") + 1);
}

// fetch does not tell how much of a body was sent.
function send(body, key, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", "/v1/documents");
    request.setRequestHeader("Content-Type", "application/json");
    request.setRequestHeader("Prefer", "respond-async"); // how far it is can then be seen
    for (const [name, value] of Object.entries(authorized(key))) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    request.upload.onload = () => progress(1);
    request.onerror = () => reject(new Error("no connection"));
    request.onload = () => {
      const told = parsed(request.responseText);
      if (request.status === 202) resolve(told);
      else reject(new Error(told?.error?.message ?? `the server answered ${request.status}`));
    };
    request.send(body);
  });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
