// Every way of asking, against an upstream that is well.

import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { PIXEL, ask, collect, failure, finishesOf, messages, textOf, ticket, tools } from './asking.mjs';

export function answerChecks(baseURL) {
  const client = new OpenAI({ baseURL, apiKey: 'unused', maxRetries: 0 });

  return {
    async 'whole answer'() {
      const answer = await client.chat.completions.create(ask);
      assert.equal(answer.object, 'chat.completion');
      assert.equal(answer.choices[0].message.role, 'assistant');
      assert.equal(answer.choices[0].finish_reason, 'stop');
      assert.ok(answer.choices[0].message.content.length > 0);
      assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
    },

    async 'streamed answer equals the whole one'() {
      const whole = await client.chat.completions.create(ask);
      const chunks = await collect(await client.chat.completions.create({ ...ask, stream: true }));
      assert.equal(textOf(chunks), whole.choices[0].message.content);
      assert.equal(chunks[0].choices[0].delta.role, 'assistant');
      assert.deepEqual(finishesOf(chunks), ['stop']);
      assert.equal(new Set(chunks.map((chunk) => chunk.id)).size, 1);
      assert.ok(chunks.every((chunk) => chunk.choices.length === 1 && !chunk.usage), 'usage was not asked for');
    },

    async 'usage in a stream'() {
      const whole = await client.chat.completions.create(ask);
      const chunks = await collect(
        await client.chat.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } }),
      );
      const last = chunks.pop();
      assert.deepEqual(last.choices, []);
      assert.equal(last.usage.completion_tokens, whole.usage.completion_tokens);
      assert.equal(last.usage.prompt_tokens, whole.usage.prompt_tokens);
      assert.ok(chunks.every((chunk) => !chunk.usage));
    },

    async 'tool call'() {
      const answer = await client.chat.completions.create({ ...ask, tools: [tools[0]], tool_choice: 'required' });
      const [choice] = answer.choices;
      assert.equal(choice.finish_reason, 'tool_calls');
      assert.equal(choice.message.tool_calls.length, 1);
      const [call] = choice.message.tool_calls;
      assert.equal(call.type, 'function');
      assert.equal(call.function.name, 'weigh');
      assert.ok(Number.isInteger(JSON.parse(call.function.arguments).axle));
      const second = await client.chat.completions.create({
        ...ask,
        tools: [tools[0]],
        messages: [...messages, choice.message, { role: 'tool', tool_call_id: call.id, content: '7.5 t' }],
      });
      assert.equal(second.choices.length, 1);
    },

    async 'parallel tool calls, streamed'() {
      const whole = await client.chat.completions.create({ ...ask, tools, tool_choice: 'required', parallel_tool_calls: true });
      const chunks = await collect(
        await client.chat.completions.create({ ...ask, tools, tool_choice: 'required', parallel_tool_calls: true, stream: true }),
      );
      const calls = [];
      for (const part of chunks.flatMap((chunk) => chunk.choices).flatMap((choice) => choice.delta.tool_calls ?? [])) {
        calls[part.index] ??= { id: part.id, name: part.function.name, arguments: '' };
        calls[part.index].arguments += part.function.arguments ?? '';
      }
      assert.deepEqual(
        calls.map((call) => [call.name, call.arguments]),
        whole.choices[0].message.tool_calls.map((call) => [call.function.name, call.function.arguments]),
      );
      assert.deepEqual(calls.map((call) => call.name), ['weigh', 'lift']);
      assert.equal(new Set(calls.map((call) => call.id)).size, 2);
      assert.deepEqual(finishesOf(chunks), ['tool_calls']);
    },

    async 'stream runner assembles the message'() {
      const runner = client.chat.completions.stream({ ...ask, tools, tool_choice: 'required', parallel_tool_calls: true });
      const final = await runner.finalChatCompletion();
      assert.deepEqual(final.choices[0].message.tool_calls.map((call) => call.function.name), ['weigh', 'lift']);
      const text = await client.chat.completions.stream(ask).finalContent();
      assert.ok(text.length > 0);
    },

    async 'JSON schema'() {
      const answer = await client.chat.completions.parse({ ...ask, response_format: ticket });
      const value = JSON.parse(answer.choices[0].message.content);
      assert.deepEqual(Object.keys(value).sort(), ['axles', 'kg', 'plate']);
      assert.ok(Number.isInteger(value.kg) && Array.isArray(value.axles));
    },

    async 'image parts'() {
      const content = [{ type: 'text', text: 'What stands here?' }, { type: 'image_url', image_url: { url: PIXEL, detail: 'low' } }];
      const answer = await client.chat.completions.create({ ...ask, messages: [{ role: 'user', content }] });
      assert.equal(answer.choices[0].finish_reason, 'stop');
    },

    async 'logprobs'() {
      const asked = { ...ask, logprobs: true, top_logprobs: 2 };
      const [choice] = (await client.chat.completions.create(asked)).choices;
      assert.equal(choice.logprobs.content.map((entry) => entry.token).join(''), choice.message.content);
      assert.ok(choice.logprobs.content.every((entry) => entry.logprob <= 0 && entry.top_logprobs.length === 2));
      const chunks = await collect(await client.chat.completions.create({ ...asked, stream: true }));
      const entries = chunks.flatMap((chunk) => chunk.choices).flatMap((one) => one.logprobs?.content ?? []);
      assert.equal(entries.map((entry) => entry.token).join(''), choice.message.content);
    },

    async 'two choices'() {
      const whole = await client.chat.completions.create({ ...ask, n: 2 });
      assert.deepEqual(whole.choices.map((choice) => choice.index), [0, 1]);
      const chunks = await collect(await client.chat.completions.create({ ...ask, n: 2, stream: true }));
      for (const choice of whole.choices) assert.equal(textOf(chunks, choice.index), choice.message.content);
      assert.deepEqual(finishesOf(chunks), ['stop', 'stop']);
    },

    async 'stop'() {
      const full = (await client.chat.completions.create(ask)).choices[0].message.content;
      const word = full.split(' ')[3];
      const [choice] = (await client.chat.completions.create({ ...ask, stop: [word] })).choices;
      assert.equal(choice.finish_reason, 'stop');
      assert.equal(choice.message.content, full.slice(0, full.indexOf(word)));
    },

    async 'max_completion_tokens'() {
      const answer = await client.chat.completions.create({ ...ask, max_completion_tokens: 2 });
      assert.equal(answer.choices[0].finish_reason, 'length');
      assert.equal(answer.usage.completion_tokens, 2);
    },

    async 'seed'() {
      const texts = [];
      for (const seed of [1, 1, 2]) {
        texts.push((await client.chat.completions.create({ ...ask, seed })).choices[0].message.content);
      }
      assert.equal(texts[0], texts[1]);
      assert.notEqual(texts[0], texts[2]);
    },

    async 'response headers'() {
      const { data, response, request_id } = await client.chat.completions.create(ask).withResponse();
      assert.equal(data.choices.length, 1);
      assert.equal(response.status, 200);
      assert.equal(request_id, response.headers.get('x-request-id'));
      assert.ok(request_id);
      assert.equal(response.headers.get('x-weighbridge-target'), 'primary/m');
      assert.equal(response.headers.get('x-weighbridge-attempts'), '1');
      const raw = await client.chat.completions.create({ ...ask, stream: true }).asResponse();
      assert.match(raw.headers.get('content-type'), /^text\/event-stream/);
      assert.equal(raw.headers.get('x-weighbridge-target'), 'primary/m');
      assert.ok((await raw.text()).endsWith('data: [DONE]\n\n'));
    },

    async 'models'() {
      const names = [];
      for await (const model of client.models.list()) names.push(model.id);
      assert.ok(names.includes('healthy'), String(names));
    },

    async 'unknown model'() {
      const error = await failure(client.chat.completions.create({ ...ask, model: 'nobody' }), OpenAI.NotFoundError, 404);
      assert.equal(error.code, 'model_not_found');
      assert.ok(error.requestID);
    },

    async 'bad request'() {
      const error = await failure(client.chat.completions.create({ ...ask, messages: 'x' }), OpenAI.BadRequestError, 400);
      assert.equal(error.type, 'invalid_request_error');
    },
  };
}
