// OpenAI's own package for Node: models, a whole answer, its stream, errors. Prints JSON.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [, , url, folder] = process.argv;
const require = createRequire(pathToFileURL(`${folder}/`));
const OpenAI = require("openai").default;
const client = new OpenAI({ baseURL: url, apiKey: "none" });
const asked = { model: "tiny-tales", prompt: "Once upon a time", max_tokens: 12, temperature: 0 };

const models = [];
for await (const model of client.models.list()) models.push(model.id);
const whole = await client.completions.create({ ...asked, logprobs: 1, n: 2 });
let streamed = "";
let usage = null;
const options = { stream: true, stream_options: { include_usage: true } };
for await (const event of await client.completions.create({ ...asked, ...options })) {
  streamed += event.choices[0]?.text ?? "";
  usage = event.usage ?? usage;
}
let error = null;
try {
  await client.completions.create({ ...asked, suffix: "end" });
} catch (caught) {
  error = [caught.constructor.name, caught.status, caught.param];
}
const { VERSION } = require("openai/version");
console.log(
  JSON.stringify({
    version: VERSION,
    models,
    whole: whole.choices[0].text,
    choices: whole.choices.length,
    logprobs: whole.choices[1].logprobs.tokens.length,
    streamed,
    usage,
    error,
  }),
);
