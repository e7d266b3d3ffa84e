// The official client for JavaScript.
import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

export const PACKAGES = ["openai"];
export const LINES = 'new OpenAI({ baseURL: "http://HOST:8000/v1", apiKey: "any" })';
const ASKED = "What is the capital of France? Answer as JSON.";
const Answer = z.object({ capital: z.enum(["Paris", "Rome"]) });
const TOOL = {
  type: "function",
  function: {
    name: "weather",
    parameters: {
      type: "object",
      properties: { city: { type: "string", enum: ["Oslo", "Rome"] } },
      required: ["city"],
    },
  },
};

const client = (url) => new OpenAI({ baseURL: url, apiKey: "any", maxRetries: 0 });
const said = (content) => [{ role: "user", content }];

export async function plain(url, model) {
  const api = client(url).chat.completions;
  const messages = said("What is the capital of France?");
  const first = await api.create({ model, messages, max_tokens: 16 });
  messages.push(first.choices[0].message, ...said("And of Norway?"));
  const second = await api.create({ model, messages, max_tokens: 16 });
  assert.ok(second.choices[0].message.content);
}

export async function stream(url, model) {
  const options = { model, messages: said("Count to five."), max_tokens: 16 };
  const pieces = client(url).chat.completions.stream(options);
  let text = "";
  pieces.on("content", (piece) => { text += piece; });
  assert.equal(await pieces.finalContent(), text);
  assert.ok(text);
}

export async function tools(url, model) {
  const options = { model, messages: said("How is the weather in Oslo?"), tools: [TOOL] };
  const pieces = client(url).chat.completions.stream({
    ...options, max_tokens: 160, tool_choice: "required",
  });
  const answer = await pieces.finalMessage();
  assert.equal(answer.tool_calls[0].function.name, "weather");
  JSON.parse(answer.tool_calls[0].function.arguments);
}

export async function structured(url, model) {
  const response_format = zodResponseFormat(Answer, "answer");
  const options = { model, messages: said(ASKED), max_tokens: 160, response_format };
  const answer = await client(url).chat.completions.parse(options);
  assert.ok(answer.choices[0].message.parsed.capital);
}

export async function responses(url, model) {
  const api = client(url).responses;
  const first = await api.create({ model, input: "Hello?", max_output_tokens: 16 });
  assert.ok(first.output_text);
  const text = { format: zodTextFormat(Answer, "answer") };
  const events = api.stream({ model, input: ASKED, text, previous_response_id: first.id });
  assert.ok((await events.finalResponse()).output_parsed.capital);
}

export async function embeddings(url, model) {
  const answer = await client(url).embeddings.create({ model, input: ["a ship", "a boat"] });
  assert.equal(answer.data.length, 2);
}
