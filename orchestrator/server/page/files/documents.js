// Own documents: dropped or chosen, stored through /v1/documents, with how far that is.

import { authorized } from "./connection.js";
import { count, h, put } from "./dom.js";

const PICTURES = /^image\/(png|jpeg|webp|gif)$/u;
const PAGE = 100;

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
      const stored = await send(body, this.key(), (share) => this.#progress(row, share));
      const [one] = stored.documents;
      this.#told(row, one.passages ? count(one.passages, "passage") : "stored already");
      this.say(`${file.name} is stored and can be found.`);
      return true;
    } catch (error) {
      row.classList.add("failed");
      this.#told(row, error.message);
      this.say(`${file.name} was not stored: ${error.message}`);
      return false;
    } finally {
      row.classList.remove("busy");
    }
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
    const label = `Remove ${name}`;
    row.append(h("button", { type: "button", class: "quiet", text: "Remove", "aria-label": label, onclick: () => this.#remove(id, row) }));
    this.stored.set(id, row);
    return row;
  }

  #told(row, text) {
    put(row.children[1], text);
  }

  #progress(row, share) {
    row.querySelector("i").style.width = `${share * 100}%`;
    this.#told(row, share < 1 ? `sent ${Math.round(share * 100)} %` : "cut into passages, indexed");
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
    for (const [name, value] of Object.entries(authorized(key))) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    request.upload.onload = () => progress(1);
    request.onerror = () => reject(new Error("no connection"));
    request.onload = () => {
      const told = parsed(request.responseText);
      if (request.status === 200) resolve(told);
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
