// Asks for the page's modules once its first frame is shown: what is seen first waits for none of them.

const MODULES = [
  "./main.js", "./talk.js", "./card.js", "./turn.js", "./mind.js", "./timeline.js", "./connection.js", "./dom.js",
];

function start() {
  for (const name of MODULES) import(name);
}

if (document.hidden) start(); // a page that is not seen has no frames
else requestAnimationFrame(() => setTimeout(start));
