// Runs one client program of npm against a server and tells what worked, as one line of JSON:
// node program.mjs NAME URL MODEL. See program.py; the programs are programs/NAME.mjs.
import { readFileSync } from "node:fs";

const CHECKS = ["plain", "stream", "tools", "structured", "responses", "embeddings"];
const LIMIT_MS = 240_000;
const MOST_SHOWN = 240;

function installed(name) {
  const file = new URL(`node_modules/${name}/package.json`, import.meta.url);
  return JSON.parse(readFileSync(file, "utf8")).version;
}

async function check(run) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("too slow")), LIMIT_MS);
  });
  try {
    await Promise.race([run(), late]);
    return "yes";
  } catch (error) {
    return `${error.name}: ${error.message}`.replace(/\s+/g, " ").slice(0, MOST_SHOWN);
  } finally {
    clearTimeout(timer);
  }
}

const [name, url, model] = process.argv.slice(2);
const program = await import(new URL(`programs/${name}.mjs`, import.meta.url));
const checks = {};
const took_s = {};
for (const wanted of CHECKS) {
  if (!(wanted in program)) continue;
  const began = performance.now();
  checks[wanted] = await check(() => program[wanted](url, model));
  took_s[wanted] = Math.round((performance.now() - began) / 10) / 100;
}
const versions = Object.fromEntries(program.PACKAGES.map((one) => [one, installed(one)]));
console.log(JSON.stringify({ name, versions, checks, took_s, lines: program.LINES }));
process.exit(Object.values(checks).some((result) => result !== "yes") ? 1 : 0);
