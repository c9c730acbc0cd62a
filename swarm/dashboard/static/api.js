/** The read-only API of the server that this page came from. */

const DEADLINE_MS = 10_000;
const RECONNECT_MS = 5_000;

/** Why there is no answer, in one sentence; `status` is 0 where the server was not reached. */
export class Failure extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

/** The JSON at `api/PATH`. */
export async function get(path) {
  let response;
  try {
    response = await fetch(`api/${path}`, { signal: AbortSignal.timeout(DEADLINE_MS) });
    const body = await response.json();
    if (response.ok) return body;
    throw new Failure(response.status, body.error ?? `The server answered with status ${response.status}.`);
  } catch (error) {
    if (error instanceof Failure) throw error;
    if (response && !response.ok) throw new Failure(response.status, `The server answered with status ${response.status}.`);
    throw new Failure(0, "The dashboard's server does not answer.");
  }
}

/** Call `changed` whenever a journal changed. Returns a function that says whether changes are being told. */
export function watch(changed) {
  let source;
  const connect = () => {
    source = new EventSource("api/changes");
    source.addEventListener("open", changed);
    source.addEventListener("changed", changed);
  };
  connect();
  // The browser tries again by itself after a lost connection, not after an answer that is no stream.
  setInterval(() => source.readyState === EventSource.CLOSED && connect(), RECONNECT_MS);
  return () => source.readyState === EventSource.OPEN;
}
