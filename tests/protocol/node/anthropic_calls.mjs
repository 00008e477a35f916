import Anthropic from "@anthropic-ai/sdk";
import { city, hello, report, settings } from "./report.mjs";

const baseURL = process.env.GATEWAY_URL;
const client = new Anthropic({ ...settings(), baseURL });
const asked = { model: "assistant", max_tokens: 200, messages: hello };
const tools = ["weather", "tide"].map((name) => ({ name, description: name, input_schema: city }));
const parallel = { headers: { "x-simulate-parallel-tools": "2" } };

async function twice(model, request = {}) {
  await client.messages.create({ ...asked, model }, request);
  return client.messages.create({ ...asked, model }, request);
}

await report({
  message: async () => {
    const answer = await client.messages.create(asked);
    return { text: answer.content[0].text, stop: answer.stop_reason, usage: answer.usage, requestId: answer._request_id };
  },
  stream: async () => {
    const events = [];
    for await (const event of await client.messages.create({ ...asked, stream: true })) events.push(event);
    return {
      first: events[0].type,
      last: events.at(-1).type,
      text: events.filter((event) => event.type === "content_block_delta").map((event) => event.delta.text).join(""),
    };
  },
  streamHelper: async () => {
    const message = await client.messages.stream(asked).finalMessage();
    return { text: message.content[0].text, usage: message.usage };
  },
  tools: async () => {
    const answer = await client.messages.create({ ...asked, tools, tool_choice: { type: "any" } }, parallel);
    return answer.content.map((block) => ({ name: block.name, arguments: block.input }));
  },
  streamedTools: async () => {
    const stream = client.messages.stream({ ...asked, tools, tool_choice: { type: "any" } }, parallel);
    return (await stream.finalMessage()).content.map((block) => ({ name: block.name, arguments: block.input }));
  },
  structured: async () => {
    const answer = await client.messages.create({
      ...asked,
      output_config: { format: { type: "json_schema", schema: city } },
    });
    return JSON.parse(answer.content[0].text);
  },
  count: () => client.messages.countTokens({ model: asked.model, messages: hello }),
  models: async () => {
    const names = [];
    for await (const one of client.models.list()) names.push(one.id);
    return { names, one: (await client.models.retrieve("assistant")).id };
  },
  wrongKey: () => new Anthropic({ ...settings(), baseURL, apiKey: "dj-wrong" }).messages.create(asked),
  notAllowed: () => client.messages.create({ ...asked, model: "forbidden" }),
  notFound: () => client.messages.create({ ...asked, model: "asistant" }),
  badRequest: () => client.messages.create({ ...asked, max_tokens: "nine" }),
  tooLarge: () => client.messages.create({ ...asked, messages: [{ role: "user", content: "x".repeat(9000) }] }),
  overloaded: () => twice("busy", { headers: { "x-dujiang-deadline-ms": "500" } }),
  rateLimited: () => twice("scarce"),
  patient: async () => {
    const patient = new Anthropic({ ...settings(), baseURL, maxRetries: 1 });
    return { text: (await patient.messages.create({ ...asked, model: "scarce" })).content[0].text };
  },
});
