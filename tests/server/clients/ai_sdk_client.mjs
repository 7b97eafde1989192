// Vercel's AI SDK with its provider for compatible servers: text and stream. Prints JSON.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [, , url, folder] = process.argv;
const from = createRequire(pathToFileURL(`${folder}/`));
const load = (name) => import(pathToFileURL(from.resolve(name)));
const { generateText, streamText } = await load("ai");
const { createOpenAICompatible } = await load("@ai-sdk/openai-compatible");

const provider = createOpenAICompatible({ name: "gptcli", baseURL: url });
const asked = { model: provider.completionModel("tiny-tales"), prompt: "Who are you?", seed: 3 };
const whole = await generateText(asked);
let streamed = "";
for await (const piece of streamText(asked).textStream) streamed += piece;
const { version } = from("ai/package.json");
console.log(JSON.stringify({ version, whole: whole.text, streamed, finish: whole.finishReason }));
