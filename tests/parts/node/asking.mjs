// What the checks ask, and how they read answers.

import assert from 'node:assert/strict';

export const messages = [{ role: 'user', content: 'How much does the truck weigh? é 日 🚚' }];
export const ask = { model: 'healthy', messages };
export const PIXEL =
  'data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';

function tool(name, property, schema) {
  const parameters = { type: 'object', properties: { [property]: schema }, required: [property], additionalProperties: false };
  return { type: 'function', function: { name, description: `${name} something`, strict: true, parameters } };
}
export const tools = [
  tool('weigh', 'axle', { type: 'integer', minimum: 1, maximum: 9 }),
  tool('lift', 'barrier', { type: 'boolean' }),
];
export const ticket = {
  type: 'json_schema',
  json_schema: {
    name: 'ticket',
    strict: true,
    schema: {
      type: 'object',
      properties: { kg: { type: 'integer' }, plate: { type: 'string' }, axles: { type: 'array', items: { type: 'number' } } },
      required: ['kg', 'plate', 'axles'],
      additionalProperties: false,
    },
  },
};

export async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

export const textOf = (chunks, index = 0) =>
  chunks.flatMap((chunk) => chunk.choices).filter((choice) => choice.index === index).map((choice) => choice.delta.content ?? '').join('');

export const finishesOf = (chunks) =>
  chunks.flatMap((chunk) => chunk.choices).map((choice) => choice.finish_reason).filter((reason) => reason !== null);

export async function failure(promise, kind, status) {
  const error = await promise.then(() => assert.fail('no error was thrown'), (thrown) => thrown);
  assert.ok(error instanceof kind, `${error?.constructor?.name}: ${error?.message}`);
  if (status !== undefined) assert.equal(error.status, status);
  return error;
}
