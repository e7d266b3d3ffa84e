// Wires the page: the field, the buttons, the settings, files, speech and the connection.

import { canListen, Listener } from "./speech.js";
import { dataUrl, Documents, isPicture } from "./documents.js";
import { h, oncePerFrame, put } from "./dom.js";
import { Mind } from "./mind.js";
import { readSettings } from "./settings.js";
import { refusal, authorized } from "./connection.js";
import { saveReport } from "./report.js";
import { Talk } from "./talk.js";

const KEPT_KEY = "livemind-key";
const EXAMPLES = ["What is the port of Kestrel?", "Who is the owner of the hotel Willow?", "What is the voltage of Falcon?"];
const TYPIST_MS = 75;

const $ = (id) => document.getElementById(id);
const field = $("question");
const form = $("settings-form");
let about = { needs_key: false, retrieval: false, images: false };
let pictures = [];
let typist = 0;
let spoken = false;

const key = () => form.elements.key.value.trim();
const say = (text) => put($("say"), text);

const mind = new Mind($("mind"));
const draw = oncePerFrame(() => {
  const shown = talk.answering && !talk.typing.text ? talk.waiting[0].turn : talk.typing;
  mind.draw(shown.began === null && talk.cards.length ? talk.cards.at(-1).turn : shown);
  $("ask").disabled = !talk.connection.open || !field.value.trim();
  $("stop").hidden = !talk.answering;
  $("welcome").hidden = talk.cards.length > 0;
});

const talk = new Talk($("turns"), {
  key,
  settings: () => readSettings(form, { spoken, retrieval: about.retrieval }),
  changed: () => draw(),
  state: connected,
  expert: (event) => mind.expert(event),
  say,
  refused: (error) => notice(error.message),
  restore(text) {
    write(text);
    field.focus();
  },
});

const documents = new Documents({ list: $("document-list"), key, say });
const listener = new Listener({
  heard: (text) => write(text),
  final: () => ask(),
  changed(on, why) {
    $("speak").setAttribute("aria-pressed", String(on));
    if (why) notice(why);
  },
});

// ---- the field

function write(text) {
  field.value = text;
  grow();
  talk.type(text);
}

function grow() {
  field.style.height = "auto";
  field.style.height = `${Math.min(field.scrollHeight, 240)}px`;
}

/** Where the columns stand below each other, bring what is prepared into view. */
function showMind() {
  if (matchMedia("(max-width: 63.99rem)").matches) scrollTo({ top: document.body.scrollHeight, behavior: "smooth" });
}

function ask() {
  clearInterval(typist);
  if (!talk.ask(field.value, pictures)) return;
  field.value = "";
  pictures = [];
  showPictures();
  grow();
  spoken = false;
  talk.cards.at(-1).root.scrollIntoView({ block: "nearest", behavior: "smooth" });
}

field.addEventListener("input", () => {
  clearInterval(typist);
  grow();
  if (talk.typing.began === null) showMind();
  talk.type(field.value);
});
field.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    ask();
  }
});
$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
$("stop").addEventListener("click", () => talk.stop());
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && talk.answering) talk.stop();
});

// ---- a typist, for whoever wants to watch first

function letType(text) {
  clearInterval(typist);
  write("");
  showMind();
  let length = 0;
  typist = setInterval(() => {
    length += 1;
    write(text.slice(0, length));
    if (length >= text.length) clearInterval(typist);
  }, TYPIST_MS);
  field.focus();
}

// ---- settings and key

form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("change", (event) => {
  const { name } = event.target;
  if (name === "key" || name === "keep_key") keyChanged();
  else if (form.reportValidity()) talk.configure();
});

function keyChanged() {
  if (form.elements.keep_key.checked) sessionStorage.setItem(KEPT_KEY, key());
  else sessionStorage.removeItem(KEPT_KEY);
  talk.connection.reopen();
  listExperts();
}

async function listExperts() {
  const answer = await fetch("/v1/models", { headers: authorized(key()) }).catch(() => null);
  if (!answer?.ok) return;
  const chosen = form.elements.model.value;
  const experts = (await answer.json()).data.filter((one) => one.id !== "auto");
  const options = experts.map((one) => h("option", { value: one.id, text: one.domain ? `${one.id}: ${one.domain}` : one.id }));
  form.elements.model.replaceChildren(form.elements.model.options[0], ...options);
  form.elements.model.value = chosen;
}

for (const name of ["settings", "documents"]) {
  const button = $(`${name}-button`);
  button.addEventListener("click", () => {
    const open = $(name).hidden;
    $(name).hidden = !open;
    button.setAttribute("aria-expanded", String(open));
    if (open && name === "documents") documents.refresh();
  });
}

function openDrawer(name) {
  if ($(name).hidden) $(`${name}-button`).click();
}

// ---- files

function take(files) {
  const all = [...files];
  const seen = about.images ? all.filter(isPicture) : [];
  for (const file of seen) attach(file);
  const read = all.filter((file) => !seen.includes(file));
  if (!read.length) return;
  if (!about.retrieval) {
    notice("this server has no retrieval (rag.enabled), so documents have no place");
    return;
  }
  openDrawer("documents");
  for (const file of read) documents.add(file);
}

async function attach(file) {
  try {
    pictures.push(await dataUrl(file));
    showPictures();
  } catch (error) {
    notice(error.message);
  }
}

function showPictures() {
  $("pictures").hidden = pictures.length === 0;
  $("pictures").replaceChildren(...pictures.map((url, place) =>
    h("li", {}, h("img", { src: url, alt: `Image ${place + 1}` }), h("button", {
      type: "button", class: "quiet", text: "Remove", "aria-label": `Remove image ${place + 1}`,
      onclick() {
        pictures.splice(place, 1);
        showPictures();
      },
    })),
  ));
}

$("file").addEventListener("change", (event) => {
  take(event.target.files);
  event.target.value = "";
});
addEventListener("dragover", (event) => {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  $("drop").hidden = false;
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("drop").hidden = true;
});
addEventListener("drop", (event) => {
  if (!event.dataTransfer.files.length) return;
  event.preventDefault();
  $("drop").hidden = true;
  take(event.dataTransfer.files);
});
addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (files.length) take(files);
});

// ---- speech, report

$("speak").addEventListener("click", () => {
  if (listener.on) {
    listener.stop();
    return;
  }
  spoken = true;
  talk.configure();
  listener.start(field.value);
});
$("report-button").addEventListener("click", () => saveReport(talk.cards));

// ---- what the page says

function connected(name, why) {
  const told = { open: "connected", connecting: "connecting", lost: "no connection, trying again" };
  $("link").dataset.state = name;
  put($("link"), why?.code?.endsWith("api_key") ? "needs a key" : told[name]);
  if (why?.code?.endsWith("api_key")) {
    openDrawer("settings");
    notice(key() ? why.message : "This server needs an API key: Settings.");
    form.elements.key.focus();
  }
  if (name === "open") notice("");
}

let fading = 0;
function notice(text) {
  clearTimeout(fading);
  put($("notice"), text);
  $("notice").hidden = !text;
  if (text) fading = setTimeout(() => notice(""), 8000);
}

async function start() {
  const told = await fetch("/page/about.json").catch(() => null);
  if (told && !(await refusal(told))) about = await told.json();
  $("key-field").hidden = !about.needs_key;
  $("documents-button").hidden = $("retrieval-field").hidden = !about.retrieval;
  $("speak").hidden = !canListen;
  const kept = sessionStorage.getItem(KEPT_KEY);
  if (kept) {
    form.elements.key.value = kept;
    form.elements.keep_key.checked = true;
  }
  $("examples").hidden = !about.handbook;
  $("examples").append(...EXAMPLES.map((text) => h("button", { type: "button", class: "example", text, onclick: () => letType(text) })));
  talk.connection.reopen();
  listExperts();
  if (field.value) write(field.value); // typed while the page was being loaded
  draw();
}

start();
