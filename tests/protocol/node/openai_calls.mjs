import OpenAI from "openai";
import { city, hello, report, settings } from "./report.mjs";

const baseURL = `${process.env.GATEWAY_URL}/v1`;
const client = new OpenAI({ ...settings(), baseURL });
const model = "assistant";
const tools = ["weather", "tide"].map((name) => ({
  type: "function",
  function: { name, description: name, parameters: city },
}));
const parallel = { headers: { "x-simulate-parallel-tools": "2" } };

async function streamed(options = {}, request = {}) {
  const stream = await client.chat.completions.create({ model, messages: hello, stream: true, ...options }, request);
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

async function twice(model, request = {}) {
  await client.chat.completions.create({ model, messages: hello }, request);
  return client.chat.completions.create({ model, messages: hello }, request);
}

await report({
  chat: async () => {
    const answer = await client.chat.completions.create({ model, messages: hello });
    const [choice] = answer.choices;
    return { text: choice.message.content, finish: choice.finish_reason, usage: answer.usage, requestId: answer._request_id };
  },
  stream: async () => {
    const chunks = await streamed();
    return {
      text: chunks.map((chunk) => chunk.choices[0]?.delta?.content ?? "").join(""),
      usages: chunks.filter((chunk) => chunk.usage).length,
      finish: chunks.at(-1).choices[0].finish_reason,
    };
  },
  streamWithUsage: async () => {
    const chunks = await streamed({ stream_options: { include_usage: true } });
    return { last: chunks.at(-1).usage, choices: chunks.at(-1).choices.length };
  },
  streamHelper: async () => {
    const runner = client.chat.completions.stream({ model, messages: hello });
    return { text: (await runner.finalChatCompletion()).choices[0].message.content };
  },
  tools: async () => {
    const asked = { model, messages: hello, tools, tool_choice: "required" };
    const answer = await client.chat.completions.create(asked, parallel);
    const calls = answer.choices[0].message.tool_calls;
    return calls.map((call) => ({ name: call.function.name, arguments: JSON.parse(call.function.arguments) }));
  },
  streamedTools: async () => {
    const calls = [];
    for (const chunk of await streamed({ tools, tool_choice: "required" }, parallel)) {
      for (const part of chunk.choices[0]?.delta?.tool_calls ?? []) {
        calls[part.index] ??= { name: "", arguments: "" };
        calls[part.index].name += part.function.name ?? "";
        calls[part.index].arguments += part.function.arguments ?? "";
      }
    }
    return calls.map((call) => ({ name: call.name, arguments: JSON.parse(call.arguments) }));
  },
  structured: async () => {
    const format = { type: "json_schema", json_schema: { name: "forecast", schema: city, strict: true } };
    const answer = await client.chat.completions.parse({ model, messages: hello, response_format: format });
    return JSON.parse(answer.choices[0].message.content);
  },
  response: async () => {
    const answer = await client.responses.create({ model, input: "Where?" });
    return { text: answer.output_text, status: answer.status, usage: answer.usage };
  },
  streamedResponse: async () => {
    const stream = await client.responses.create({ model, input: "Where?", stream: true });
    const events = [];
    for await (const event of stream) events.push(event);
    return {
      first: events[0].type,
      last: events.at(-1).type,
      text: events.filter((event) => event.type === "response.output_text.delta").map((event) => event.delta).join(""),
    };
  },
  embeddings: async () => {
    const asked = { model, input: ["river", "weir"], dimensions: 8 };
    const unpacked = await client.embeddings.create(asked);
    const floats = await client.embeddings.create({ ...asked, encoding_format: "float" });
    return { unpacked: unpacked.data.map((one) => one.embedding), floats: floats.data.map((one) => one.embedding) };
  },
  models: async () => {
    const names = [];
    for await (const one of client.models.list()) names.push(one.id);
    return { names, one: (await client.models.retrieve(model)).id };
  },
  wrongKey: () => new OpenAI({ ...settings(), baseURL, apiKey: "dj-wrong" }).models.list(),
  wrongKeyCall: () => new OpenAI({ ...settings(), baseURL, apiKey: "dj-wrong" }).responses.create({ model, input: "x" }),
  notAllowed: () => client.chat.completions.create({ model: "forbidden", messages: hello }),
  notFound: () => client.chat.completions.create({ model: "asistant", messages: hello }),
  badRequest: () => client.chat.completions.create({ model, messages: hello, temperature: 9 }),
  tooLarge: () => client.chat.completions.create({ model, messages: [{ role: "user", content: "x".repeat(9000) }] }),
  overloaded: () => twice("busy", { headers: { "x-dujiang-deadline-ms": "500" } }),
  rateLimited: () => twice("scarce"),
  patient: async () => {
    const patient = new OpenAI({ ...settings(), baseURL, maxRetries: 1 });
    return { text: (await patient.chat.completions.create({ model: "scarce", messages: hello })).choices[0].message.content };
  },
});
