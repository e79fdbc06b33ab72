// What every page needs: requests with the token, pictures, fault cards, and the login.
import { local, momentOf, t } from "/static/language.js";

export const $ = (id) => document.getElementById(id);
let bearer = ""; // the name that belongs to the token, and that all changes carry; empty where the token has none
let token = sessionStorage.getItem("token") ?? "";

export class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

export async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const answer = await fetch(path, { ...options, headers });
  bearer = decodeURIComponent(answer.headers.get("X-User") ?? "");
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, problem.error ?? answer.statusText);
}

export const askJson = async (path) => (await ask(path)).json();
const send = (method) => async (path, body) =>
  (await ask(path, { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) })).json();
export const post = send("POST"), remove = send("DELETE");

// Sends files as a body, and tells again and again which share of it, 0 to 1, is sent.
export function upload(path, files, tellShare) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch tells nothing of what is sent
    request.open("PUT", path);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    if (token) request.setRequestHeader("Authorization", `Bearer ${token}`);
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => tellShare(event.loaded / event.total));
    request.addEventListener("load", () => request.status < 400 ? resolve(request.response) :
      reject(new Refused(request.status, request.response?.error ?? request.statusText)));
    request.addEventListener("error", () => reject(new Error(t("The connection was lost; nothing was changed. Try again."))));
    request.send(new Blob(files));
  });
}

export const digits = (value, count = 3) => value === null || value === undefined ? "–" : local(Number(value).toPrecision(count));
export const joined = (...texts) => texts.filter(Boolean).join(" · ");
export const named = (place) => place.region === "frame" ? place.camera : `${place.camera} / ${place.region}`;

const newest = new WeakMap(); // the newest request of each image

export function clearPicture(image) {
  newest.delete(image);
  image.hidden = true;
  if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
  image.removeAttribute("src");
}

// Shows a picture and returns its answer. Returns null where the image was cleared or asked for another picture meanwhile.
export async function showPicture(image, path) {
  const request = Symbol();
  newest.set(image, request);
  try {
    const answer = await ask(path);
    const blob = await answer.blob();
    if (newest.get(image) !== request) return null;
    if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(blob);
    image.hidden = false;
    return answer;
  } catch (error) {
    if (newest.get(image) !== request) return null;
    throw error;
  }
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
  if (bearer) input.value = bearer;
  const who = input.value.trim();
  if (who) localStorage.setItem("who", who);
  else { said.textContent = t("Your name goes into the journal."); input.focus(); }
  return who;
}

// Why something is changed; empty, and asked for, where nobody says so.
export function reasonIn(input, said) {
  const reason = input.value.trim();
  if (!reason) { said.textContent = t("The reason goes into the journal."); input.focus(); }
  return reason;
}

// A card for each fault: its cause, what to do, and who has seen it.
export function showFaults(section, faults, canChange, refresh) {
  const shown = JSON.stringify([faults, canChange]);
  if (section.dataset.shown === shown) return; // a button that is pressed stays where it is
  section.dataset.shown = shown;
  section.hidden = faults.length === 0;
  section.replaceChildren(...faults.map((fault) => faultCard(fault, canChange, refresh)));
}

function faultCard(fault, canChange, refresh) {
  const card = element("article", "", `fault-card ${fault.acknowledged_by ? "seen" : ""}`);
  card.append(element("h2", fault.cause), element("p", t(fault.advice)));
  if (fault.acknowledged_by) {
    card.append(element("p", t("Seen by {}, {}", fault.acknowledged_by, momentOf(fault.acknowledged_at)), "quiet"));
    return card;
  }
  const form = element("form", "", "buttons"), name = document.createElement("input"), said = element("p", "", "error");
  const button = element("button", t("I have seen it"));
  Object.assign(name, { maxLength: 80, autocomplete: "name", value: localStorage.getItem("who") ?? "", placeholder: t("Your name") });
  name.setAttribute("aria-label", t("Your name"));
  said.setAttribute("role", "alert");
  button.disabled = !canChange;
  form.append(name, button);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const who = personIn(name, said);
    if (!who) return;
    try {
      await post("/api/faults", { cause: fault.cause, who });
      await refresh();
    } catch (error) {
      said.textContent = error.message;
    }
  });
  card.append(form, said);
  return card;
}

// Drift in words, and the figures behind them.
export function driftWords(drift) {
  const figures = t("KS {}, p {}, median {}, held out {}", digits(drift.statistic, 2), digits(drift.p_value, 2), digits(drift.median), digits(drift.held_out_median));
  if (drift.light && drift.light !== "same") {
    const isBrighter = drift.grey_level > drift.trained_grey_level;
    const words = isBrighter ? "brighter than at training: check the lamp" : "darker than at training: check lamp and lens";
    return [t(words), t("mean grey level {}, at training {}", digits(drift.grey_level), digits(drift.trained_grey_level))];
  }
  if (!drift.alarm) return [t("scores as at training"), figures];
  const words = drift.median > drift.held_out_median ? "scores higher than at training: check lamp, lens and position" :
    "scores lower than at training: check that the camera still looks at the part";
  return [t(words), figures];
}

// Shows the page once the token is accepted, and asks for another one where it is not.
export function show() {
  $("login").hidden = true;
  $("main").hidden = false;
}

export function logIn(error) {
  $("main").hidden = true;
  $("login").hidden = false;
  badge($("state"), t("locked"), "warning");
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

// Refreshes a page that is seen, again and again, until its token is refused; `lost` is called without a connection.
export function keepFresh(refreshPage, everyMs, lost = () => {}) {
  async function refresh() {
    try {
      if (!document.hidden) await refreshPage();
    } catch (error) {
      if (error instanceof Refused && error.status === 401) { logIn(error); return; }
      badge($("state"), t("no connection"), "failing");
      lost();
    }
    setTimeout(refresh, everyMs);
  }
  onLogin(refresh);
  refresh();
}
