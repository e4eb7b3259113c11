// The SDK when upstreams fail: what it sees, and whether its own retries act rightly on the proxy's answers.

import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { ask, collect, failure, textOf } from './asking.mjs';

export function retryChecks(baseURL, upstream) {
  const client = new OpenAI({ baseURL, apiKey: 'unused', maxRetries: 2 });

  const post = (path, body) => fetch(upstream + path, { method: 'POST', body: JSON.stringify(body) });
  const counts = async () => (await fetch(`${upstream}/stats`)).json();
  async function fails(...faults) {
    const settings = { faults, ttft: '0', itl: '0', tokens: '20' };
    assert.equal((await post('/control', settings)).status, 200);
    await post('/stats/reset', {});
  }
  async function slow(settings) {
    await fails();
    assert.equal((await post('/control', settings)).status, 200);
  }
  async function eventually(name, wanted) {
    for (let tries = 0; (await counts())[name] !== wanted; tries += 1) {
      assert.ok(tries < 1000, `${name} is not ${wanted}: ${JSON.stringify(await counts())}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  const create = (more, options) => client.chat.completions.create({ ...ask, ...more }, options);

  return {
    async 'waits as long as Retry-After says'() {
      for (const status of ['http_429', 'http_503']) {
        await fails(`${status}=retry_after:1#1`);
        const before = performance.now();
        const answer = await create({ model: 'once' });
        // A timer never ends early; without the header the wait would be half a second at most.
        assert.ok(performance.now() - before > 950, 'it did not wait');
        assert.equal(answer.choices[0].finish_reason, 'stop');
        assert.equal((await counts()).requests, 2);
      }
    },

    async 'tries again after a failure that may pass'() {
      for (const fault of ['http_500', 'http_529', 'html_200']) {
        await fails(`${fault}#1`);
        const { data, response } = await create({ model: 'once' }).withResponse();
        assert.equal(data.choices[0].finish_reason, 'stop');
        assert.equal(response.status, 200);
        assert.equal((await counts()).requests, 2, fault);
      }
    },

    async 'gives up at once where trying again is no use'() {
      const cases = [
        ['http_400', OpenAI.BadRequestError, 400],
        ['context_length', OpenAI.BadRequestError, 400, 'context_length_exceeded'],
        ['http_404', OpenAI.NotFoundError, 404, 'model_not_found'],
        ['http_429_quota', OpenAI.RateLimitError, 429, 'insufficient_quota'],
        ['http_401', OpenAI.InternalServerError, 502, 'upstream_auth'],
      ];
      for (const [fault, kind, status, code] of cases) {
        for (const stream of [false, true]) {
          await fails(fault);
          const error = await failure(create({ model: 'once', stream }), kind, status);
          if (code !== undefined) assert.equal(error.code, code);
          assert.ok(error.requestID);
          assert.equal((await counts()).requests, 1, fault);
        }
      }
    },

    async 'raises our last answer when nothing helps'() {
      await fails('http_503');
      const error = await failure(create({ model: 'once' }, { maxRetries: 1 }), OpenAI.InternalServerError, 503);
      assert.equal(error.error.attempts.length, 1);
      assert.equal((await counts()).requests, 2);
    },

    async 'does not see a retry or a failover of the proxy'() {
      await fails('http_500#1');
      const { response } = await create({ model: 'patient' }, { maxRetries: 0 }).withResponse();
      assert.equal(response.headers.get('x-weighbridge-attempts'), '2');
      for (const fault of ['http_429=retry_after:30', 'http_401', 'garbage', 'role_then_error']) {
        await fails(fault);
        const whole = await create({ model: 'pair' }, { maxRetries: 0 }).withResponse();
        assert.equal(whole.response.headers.get('x-weighbridge-target'), 'second/m');
        const chunks = await collect(await create({ model: 'pair', stream: true }, { maxRetries: 0 }));
        assert.equal(textOf(chunks), whole.data.choices[0].message.content, fault);
      }
    },

    // The checks from here on ask `fresh-pair`: the failures above have rightly left `pair` avoiding its first target.
    async 'throws on a stream that was cut, and does not repeat it'() {
      for (const fault of ['cut_mid_stream', 'cut_clean']) {
        await fails(fault);
        const error = await failure(create({ model: 'fresh-pair', stream: true }).then(collect), OpenAI.APIError);
        assert.match(error.message, /not the whole answer/);
        assert.equal((await counts()).requests, 1, fault);
      }
    },

    async 'a timeout ends the request upstream'() {
      await fails('hang_before_headers');
      const options = { timeout: 300, maxRetries: 0 };
      await failure(create({ model: 'fresh-pair' }, options), OpenAI.APIConnectionTimeoutError);
      await eventually('cancelled', 1);
    },

    async 'an abort ends the request upstream'() {
      await slow({ itl: '20ms', tokens: '3000' });
      const stream = await create({ model: 'fresh-pair', stream: true });
      let seen = 0;
      for await (const chunk of stream) {
        assert.equal(chunk.choices.length, 1);
        seen += 1;
        stream.controller.abort();
      }
      assert.ok(seen < 100, 'chunks kept coming');
      await eventually('cancelled', 1);

      await slow({ ttft: '60s' });
      const controller = new AbortController();
      const pending = failure(create({ model: 'fresh-pair' }, { signal: controller.signal }), OpenAI.APIUserAbortError);
      await eventually('running', 1);
      controller.abort();
      await pending;
      await eventually('cancelled', 1);
    },
  };
}
