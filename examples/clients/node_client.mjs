#!/usr/bin/env node
// A client in JavaScript for Node 18 and newer, without any package: starts a run and prints what
// the server tells, live.
//
//     node examples/clients/node_client.mjs [REPO] [PROMPT]
//
// The server is http://localhost:8000, or PATCHKILN_SERVER; PATCHKILN_KEY is its API key, where it
// wants one. The exit code is 0 where the run ended with a change, or with none to make, else 1.

const server = (process.env.PATCHKILN_SERVER ?? "http://localhost:8000").replace(/\/+$/, "");
const [
  repoUrl = "https://github.com/octocat/Hello-World.git",
  prompt = "Add better error handling",
] = process.argv.slice(2);

const PAUSE_MS = 1000;
const TRIES = 5;
const SIGNS = { success: "+", warning: "!", error: "x", summary: "=" };

const headers = { Accept: "text/event-stream" };
if (process.env.PATCHKILN_KEY) headers.Authorization = `Bearer ${process.env.PATCHKILN_KEY}`;

// Yields the JSON object of each frame. What is read may end in the middle of a line, or of a
// character: the rest is kept until the next read.
async function* parse(body) {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const piece of body) {
    const lines = (rest + decoder.decode(piece, { stream: true })).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data: ")) yield JSON.parse(line.slice("data: ".length));
    }
  }
}

const start = () =>
  fetch(`${server}/code`, {
    method: "POST",
    headers: { ...headers, "Content-Type": "application/json" },
    body: JSON.stringify({ repoUrl, prompt }),
  });

const resume = (id, seq) =>
  fetch(`${server}/runs/${id}/events`, { headers: { ...headers, "Last-Event-ID": String(seq) } });

// Yields every frame of a run once. Where a connection breaks, it goes on after the last frame.
async function* follow() {
  let id = null;
  let seq = 0;
  for (let tries = TRIES; tries > 0; tries--) {
    try {
      const response = id === null ? await start() : await resume(id, seq);
      id ??= response.headers.get("X-Run-Id");
      for await (const frame of parse(response.body ?? [])) {
        seq = frame.seq ?? seq;
        tries = TRIES;
        yield frame;
        if (frame.type === "summary") return;
      }
    } catch (error) {
      if (id === null) throw error;
    }
    if (id === null) return; // The server refused the request, and has said why.
    await new Promise((done) => setTimeout(done, PAUSE_MS));
  }
}

// What a repository says must not steer the terminal.
const plain = (text) => text.replace(/\p{C}/gu, " ");

function show({ type, message, step, progress, data }) {
  const sign = SIGNS[type] ?? " ";
  console.log(`[${String(progress).padStart(3)}%] ${step.padEnd(14)} ${sign} ${plain(message)}`);
  if (data?.remedy) console.log(" ".repeat(24) + plain(data.remedy));
}

let outcome = "none";
try {
  for await (const frame of follow()) {
    show(frame);
    if (frame.type === "summary") {
      outcome = frame.summary.outcome;
      console.log(JSON.stringify(frame.summary, null, 2));
    }
  }
} catch (error) {
  console.error(`No server at ${server} (${error.cause?.code ?? error.message}).`);
  console.error("Start one: python run_server.py");
}
process.exitCode = ["changed", "no_change"].includes(outcome) ? 0 : 1;
