// A stream of Server-Sent Events with a token in its header, which EventSource
// cannot send.

const silence = 40_000; // ms without a byte; the heartbeat comes every 15 s
const longestPause = 15_000; // ms before the next try

// follow keeps a stream open until it is stopped. on.event(name, data) gets each
// event, on.open() and on.lost() the state of the connection. on.refused(status,
// code) says whether to try again later. It gives the function that stops it.
export function follow(url, token, on) {
  const run = { stopped: false, attempt: new AbortController() };
  keep(run, url, token, on);
  return () => {
    run.stopped = true;
    run.attempt.abort();
  };
}

async function keep(run, url, token, on) {
  let pause = 1000;
  while (!run.stopped) {
    try {
      run.attempt = new AbortController();
      const answer = await fetch(url, { headers: { Authorization: "Bearer " + token }, cache: "no-store", signal: run.attempt.signal });
      if (answer.ok) {
        pause = 1000;
        on.open();
        await read(answer.body, on.event, run.attempt);
      } else {
        const problem = await answer.json().catch(() => ({}));
        if (!run.stopped && !on.refused(answer.status, problem.code)) return;
      }
    } catch {
      // The connection broke, or was never there: the next try tells.
    }
    if (run.stopped) return;
    on.lost();
    await new Promise((done) => setTimeout(done, pause * (0.5 + Math.random() / 2)));
    pause = Math.min(2 * pause, longestPause);
  }
}

// read hands on events until the stream ends.
async function read(body, event, attempt) {
  const bytes = body.getReader();
  const utf8 = new TextDecoder();
  let text = "";
  for (;;) {
    const timer = setTimeout(() => attempt.abort(), silence);
    const { value, done } = await bytes.read().finally(() => clearTimeout(timer));
    if (done) return;
    const parts = (text + utf8.decode(value, { stream: true })).split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const field = (name) => part.split("\n").filter((l) => l.startsWith(name + ": ")).map((l) => l.slice(name.length + 2)).join("\n");
      if (field("event")) event(field("event"), JSON.parse(field("data")));
    }
  }
}
