// The server's routes, relative to the page, so that they are found behind a path prefix too.
"use strict";

const KEY = `gptcli key ${location.pathname}`;

class Refused extends Error {
  constructor(status, message, code = null, wait = null) {
    super(message);
    Object.assign(this, { status, code, wait });
  }
}
const refusedBy = async (response) => {
  const text = await response.text();
  let error = {};
  try {
    error = JSON.parse(text).error ?? {};
  } catch {
    // a proxy's page, perhaps
  }
  const wait = Number(response.headers.get("retry-after"));
  const said = typeof error.message === "string" ? error.message : `${response.status} ${response.statusText}`.trim();
  return new Refused(response.status, said, error.code, Number.isFinite(wait) ? Math.max(wait, 1) : 1);
};

const ask = async (path, body, signal) => {
  const headers = {};
  const key = sessionStorage.getItem(KEY);
  if (key) headers.authorization = `Bearer ${key}`;
  if (body) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method: body ? "POST" : "GET", headers, signal, cache: "no-store", body: body && JSON.stringify(body),
    });
  } catch (error) {
    if (signal?.aborted || !(error instanceof TypeError)) throw error;
    throw new Refused(0, "The server does not answer. It has stopped, or the network has.");
  }
  if (!response.ok) throw await refusedBy(response);
  return response;
};

const models = async () => (await (await ask("v1/models")).json()).data;
const complete = async (body, signal) => (await ask("v1/completions", body, signal)).json();

// The objects of a streamed completion, one by one.
const stream = async function* (body, signal) {
  const response = await ask("v1/completions", { ...body, stream: true, stream_options: { include_usage: true } }, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      let read;
      try {
        read = await reader.read();
      } catch (error) {
        if (signal?.aborted) throw error;
        throw new Refused(0, "The connection broke off before the end.");
      }
      if (read.done) throw new Refused(0, "The connection ended before the end of the text.");
      const lines = (rest + read.value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const data = /^data: ?(.*?)\r?$/.exec(line)?.[1];
        if (!data) continue;
        if (data === "[DONE]") return;
        const piece = JSON.parse(data);
        if (piece.error) throw new Refused(500, piece.error.message, piece.error.code);
        yield piece;
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // closes the connection, which frees the engine
  }
};
