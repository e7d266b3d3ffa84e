// The microphone, where the browser recognises speech: its partial transcripts as they come.

const Recognition = globalThis.SpeechRecognition ?? globalThis.webkitSpeechRecognition;

/** Whether this browser can. */
export const canListen = Boolean(Recognition);

export class Listener {
  #running = null;

  /** @param {{heard: (text: string) => void, final: () => void, changed: (on: boolean, why?: string) => void}} given */
  constructor(given) {
    this.given = given;
  }

  get on() {
    return this.#running !== null;
  }

  /** Begin behind `before`, what stands in the field already. */
  start(before) {
    const recognition = new Recognition();
    recognition.interimResults = true;
    recognition.continuous = false;
    recognition.lang = document.documentElement.lang === "en" ? navigator.language : document.documentElement.lang;
    let why;
    let final = false;
    recognition.onresult = (event) => {
      const results = [...event.results];
      const said = results.map((result) => result[0].transcript).join("");
      this.given.heard(before ? `${before.trimEnd()} ${said.trimStart()}` : said);
      final = results.every((result) => result.isFinal);
    };
    recognition.onerror = (event) => {
      why = event.error === "not-allowed" ? "the microphone is not allowed here" : `speech: ${event.error}`;
    };
    recognition.onend = () => {
      this.#running = null;
      this.given.changed(false, why);
      if (final && !why) this.given.final();
    };
    this.#running = recognition;
    recognition.start();
    this.given.changed(true);
  }

  /** End it; what was heard so far comes as final. */
  stop() {
    this.#running?.stop();
  }
}
