// @ts-check
/** The data of the console. The token comes with the page's address, and stays in this tab. */

const KEY = "tritonforge-console-token";

/** An answer that is an error; `status` is 0 where the console does not answer. */
export class ApiError extends Error {
  /** @param {string} message @param {number} status */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Take the token out of the address bar, so that it is neither copied nor kept in the history. */
export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(KEY, given);
    history.replaceState(null, "", location.pathname);
  }
  return Boolean(given || sessionStorage.getItem(KEY));
}

/** @param {string} path @param {Record<string, string|number>} [query] */
export async function readJson(path, query = {}) {
  return (await request(path, query, {})).json();
}

/** @param {string} path @param {Record<string, string|number>} [query] */
export async function readBlob(path, query = {}) {
  return (await request(path, query, {})).blob();
}

/** @param {string} model @param {number} sample */
export async function sendSample(model, sample) {
  return (await request("/api/requests", { model, sample }, { method: "POST" })).json();
}

/** @param {string} model @param {File} file */
export async function sendFile(model, file) {
  const headers = { "X-File-Name": encodeURIComponent(file.name) };
  return (await request("/api/requests", { model }, { method: "POST", body: file, headers })).json();
}

async function request(path, query, options) {
  const address = `${path}?${new URLSearchParams(Object.entries(query).map(([name, value]) => [name, String(value)]))}`;
  const headers = { ...options.headers, Authorization: `Bearer ${sessionStorage.getItem(KEY) ?? ""}` };
  let response;
  try {
    response = await fetch(address, { ...options, headers });
  } catch {
    throw new ApiError("The console does not answer. Is tritonforge serve still running?", 0);
  }
  if (!response.ok) {
    const text = await response.text();
    let sentence = text || response.statusText;
    try {
      sentence = JSON.parse(text).error ?? sentence;
    } catch { /* it is a sentence already */ }
    throw new ApiError(sentence, response.status);
  }
  return response;
}
