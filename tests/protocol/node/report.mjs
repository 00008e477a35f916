// Runs named checks one after the other and prints what each returned, or the error it ended with, as one JSON object.

export async function report(checks) {
  const results = {};
  for (const [name, check] of Object.entries(checks)) {
    try {
      results[name] = await check();
    } catch (error) {
      results[name] = {
        error: error.constructor.name,
        status: error.status ?? null,
        code: error.code ?? null,
        param: error.param ?? null,
        type: error.type ?? error.error?.error?.type ?? null,
        requestId: error.requestID ?? null,
        retryAfterMs: error.headers?.get?.("retry-after-ms") ?? null,
        message: String(error.message),
      };
    }
  }
  process.stdout.write(JSON.stringify(results));
}

export const hello = [{ role: "user", content: "Where does the river divide?" }];

export const city = {
  type: "object",
  properties: {
    city: { type: "string", minLength: 3 },
    days: { type: "integer", minimum: 2, maximum: 5 },
  },
  required: ["city", "days"],
  additionalProperties: false,
};

export function settings() {
  return { apiKey: process.env.GATEWAY_KEY, maxRetries: 0, timeout: 10_000 };
}
