// Vercel's AI SDK: its provider for OpenAI (the Responses API, chat) and that for compatible servers.
import assert from "node:assert/strict";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateObject, generateText, streamText, tool } from "ai";
import { z } from "zod";

export const PACKAGES = ["ai", "@ai-sdk/openai", "@ai-sdk/openai-compatible"];
export const LINES =
  'createOpenAICompatible({ name: "livemind", baseURL: "http://HOST:8000/v1", ' +
  "supportsStructuredOutputs: true, includeUsage: true }), or createOpenAI({ baseURL, apiKey })";
const Answer = z.object({ capital: z.enum(["Paris", "Rome"]) });
const weather = tool({
  description: "Tells the weather of a city.",
  inputSchema: z.object({ city: z.enum(["Oslo", "Rome"]) }),
  execute: async ({ city }) => `It rains in ${city}.`,
});
const limits = { maxOutputTokens: 160, maxRetries: 0 };
const oneCall = { openai: { parallelToolCalls: false }, livemind: { parallel_tool_calls: false } };

function models(url, model) {
  const openai = createOpenAI({ baseURL: url, apiKey: "any" });
  const told = { supportsStructuredOutputs: true, includeUsage: true };
  const options = { name: "livemind", baseURL: url, ...told };
  const compatible = createOpenAICompatible(options);
  return [openai(model), openai.chat(model), compatible(model)];
}

export async function plain(url, model) {
  for (const one of models(url, model)) {
    const { text } = await generateText({ ...limits, model: one, prompt: "Hello?" });
    assert.ok(text);
  }
}

export async function stream(url, model) {
  for (const one of models(url, model)) {
    const result = streamText({ ...limits, model: one, prompt: "Count to five." });
    let text = "";
    for await (const piece of result.textStream) text += piece;
    assert.ok(text);
    assert.ok((await result.usage).outputTokens > 0);
  }
}

export async function tools(url, model) {
  for (const one of models(url, model)) {
    const prompt = "How is the weather in Oslo?";
    const asked = { ...limits, model: one, prompt, tools: { weather }, providerOptions: oneCall };
    const { toolCalls, toolResults } = await generateText({ ...asked, toolChoice: "required" });
    assert.equal(toolCalls[0].toolName, "weather");
    assert.match(toolResults[0].output, /rains/);
  }
}

export async function structured(url, model) {
  for (const one of models(url, model)) {
    const prompt = "What is the capital of France? Answer as JSON.";
    const { object } = await generateObject({ ...limits, model: one, schema: Answer, prompt });
    assert.ok(object.capital);
  }
}

export async function embeddings(url, model) {
  const openai = createOpenAI({ baseURL: url, apiKey: "any" });
  const values = ["a ship", "a boat"];
  const found = await embedMany({ model: openai.embeddingModel(model), values, maxRetries: 0 });
  assert.equal(found.embeddings.length, 2);
}
