// What every page needs: requests with the token, pictures, and the login.
export const $ = (id) => document.getElementById(id);
let token = sessionStorage.getItem("token") ?? "";

export class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

export async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const answer = await fetch(path, { ...options, headers });
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, problem.error ?? answer.statusText);
}

export const askJson = async (path) => (await ask(path)).json();
export const post = async (path, body) =>
  (await ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) })).json();
export const digits = (value, count = 3) => value === null || value === undefined ? "–" : Number(value).toPrecision(count);
export const joined = (...texts) => texts.filter(Boolean).join(" · ");
export const named = (place) => place.region === "frame" ? place.camera : `${place.camera} / ${place.region}`;

export async function showPicture(image, path) {
  const answer = await ask(path);
  const blob = await answer.blob();
  const old = image.src;
  image.src = URL.createObjectURL(blob);
  image.hidden = false;
  if (old.startsWith("blob:")) URL.revokeObjectURL(old);
  return answer;
}

export function element(kind, text = "", classes = "") {
  const made = document.createElement(kind);
  made.textContent = text;
  made.className = classes;
  return made;
}

export function fill(list, items) {
  list.replaceChildren(...items.map(([text, kind]) => element("li", text, kind)));
}

export function badge(shown, text, kind) {
  shown.textContent = text;
  shown.className = shown.className.replace(/badge.*/, `badge ${shown.classList.contains("verdict") ? "verdict " : ""}${kind}`);
}

// The name of who changes something; empty, and asked for, where there is none.
export function personIn(input, said) {
  const who = input.value.trim();
  if (who) localStorage.setItem("who", who);
  else { said.textContent = "Your name goes into the journal."; input.focus(); }
  return who;
}

// Shows the page once the token is accepted, and asks for another one where it is not.
export function show() {
  $("login").hidden = true;
  $("main").hidden = false;
}

export function logIn(error) {
  $("main").hidden = true;
  $("login").hidden = false;
  badge($("state"), "locked", "warning");
  $("login-error").textContent = token ? error.message : "";
  $("token").focus();
}

export function onLogin(refresh) {
  $("login").addEventListener("submit", (event) => {
    event.preventDefault();
    token = $("token").value;
    sessionStorage.setItem("token", token);
    refresh();
  });
}
