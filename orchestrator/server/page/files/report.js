// The page as one file that needs nothing else: the turns as they stand, with their data.

import { h, save } from "./dom.js";

/** Save the conversation of this tab as a self-contained HTML file. */
export async function saveReport(cards) {
  const style = await (await fetch("/page/style.css")).text();
  const turns = h("ol", { id: "turns" });
  for (const card of cards) {
    const copy = card.root.cloneNode(true);
    for (const gone of copy.querySelectorAll("button, .acts")) gone.remove();
    for (const bar of copy.querySelectorAll("i[style]")) bar.setAttribute("style", `width:${bar.style.width}`);
    turns.append(copy);
  }
  const data = JSON.stringify(cards.map((card) => card.turn.data())).replaceAll("<", "\\u003c");
  const when = new Date();
  const text = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>LiveMind, ${when.toLocaleString("en")}</title>
<style>${style}</style></head>
<body class="report"><header><h1>LiveMind</h1><p>${cards.length} turns, ${when.toISOString()}</p></header>
<main><section id="talk">${turns.outerHTML}</section></main>
<script type="application/json" id="turns-data">${data}</script>
</body></html>
`;
  save(`livemind-${when.toISOString().slice(0, 19).replaceAll(":", "-")}.html`, text, "text/html");
}
