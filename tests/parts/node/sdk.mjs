// The official Node SDK against a proxy, unmodified but for its base URL.
//
//   node sdk.mjs PROXY UPSTREAM
//
// with the base URL of a proxy (ending in /v1) that has the routes of ../test_node_sdk.py, and the address of the
// simulated upstream that is its first target. Prints one JSON object: name of a check -> null, or what went wrong.

import { answerChecks } from './answers.mjs';
import { retryChecks } from './retries.mjs';

const [proxy, upstream] = process.argv.slice(2);
const outcome = {};
for (const [name, check] of Object.entries({ ...answerChecks(proxy), ...retryChecks(proxy, upstream) })) {
  try {
    await check();
    outcome[name] = null;
  } catch (error) {
    outcome[name] = error.stack;
  }
}
console.log(JSON.stringify(outcome, null, 1));
