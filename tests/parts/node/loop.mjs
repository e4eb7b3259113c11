// node loop.mjs BASE_URL MODEL...: an agent's loop of four streamed turns with the Vercel AI SDK, unmodified.
// Prints one JSON object: model -> what the client saw in its turns.

import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { stepCountIs, streamText, tool } from 'ai'
import { z } from 'zod'

const [baseURL, ...models] = process.argv.slice(2)
const provider = createOpenAICompatible({ name: 'weighbridge', baseURL, apiKey: 'none', includeUsage: true })
const place = z.object({ city: z.string() })
const tools = Object.fromEntries(
  ['get_time', 'get_weather'].map((name) => [
    name,
    tool({ description: 'Tells it.', inputSchema: place, execute: async () => '12' }),
  ]),
)

async function loop(model) {
  const turns = []
  const messages = []
  for (const question of ['What are the time and the weather in Oslo?', 'And in Lima?']) {
    messages.push({ role: 'user', content: question })
    let failed
    const answer = streamText({
      model: provider(model),
      messages,
      tools,
      maxRetries: 0,
      maxOutputTokens: 4000,
      providerOptions: { weighbridge: { reasoningEffort: 'low' } },
      stopWhen: stepCountIs(3),
      onError: ({ error }) => {
        failed = error
      },
    })
    for await (const part of answer.fullStream) if (part.type === 'error') failed = part.error
    if (failed) throw failed
    messages.push(...(await answer.response).messages)
    for (const step of await answer.steps) {
      turns.push({
        calls: step.toolCalls.map((call) => call.toolName),
        text: step.text.trim() !== '',
        tokens: step.usage.totalTokens > 0,
      })
    }
  }
  return turns
}

const told = {}
for (const model of models) {
  try {
    told[model] = await loop(model)
  } catch (error) {
    told[model] = `${error.name}: ${error.message} ${error.responseBody ?? ''}`.slice(0, 2000)
  }
}
console.log(JSON.stringify(told))
