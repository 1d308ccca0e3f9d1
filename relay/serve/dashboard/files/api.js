// Requests to the relay. The header tells it that a change comes from this page and not from a form of another site.

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

let onLoggedOut = () => {};
export function whenLoggedOut(act) { onLoggedOut = act; }

async function ask(method, path, body) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: { "X-Relay-Dash": "1", ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
    });
  } catch {
    throw new Refused(0, "The relay does not answer.");
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  if (response.status === 401 && path !== "/dash/login") onLoggedOut();
  throw new Refused(response.status, answer.message || `HTTP ${response.status}`);
}

function query(path, parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

export const get = (path, parameters = {}) => ask("GET", query(path, parameters));
export const post = (path, body, parameters = {}) => ask("POST", query(path, parameters), body);
