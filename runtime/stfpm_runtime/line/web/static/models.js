// The model files next to the active one: their states, what they are able to do, and what can be done with them.
import { $, Refused, askJson, badge, fill, logIn, onLogin, personIn, post, show } from "/static/client.js";

const EVERY_MS = 3000;
const COLOURS = { active: "pass", approved: "ok", shadow: "warning", refused: "reject" };
let canChange = false;
let busy = false;

async function refresh() {
  try {
    if (!document.hidden && !busy) await refreshModels();
  } catch (error) {
    if (error instanceof Refused && error.status === 401) { logIn(error); return; }
    badge($("state"), "no connection", "failing");
  }
  setTimeout(refresh, EVERY_MS);
}

async function refreshModels() {
  const [status, answer] = await Promise.all([askJson("/api/status"), askJson("/model")]);
  canChange = status.can_change;
  show();
  badge($("state"), answer.model.file, "ok");
  $("rollback").disabled = !canChange;
  const open = new Set([...document.querySelectorAll("details[open]")].map((details) => details.dataset.file));
  $("models").replaceChildren(...answer.models.map((model) => card(model, open)));
}

function card(model, open) {
  const article = $("model").content.firstElementChild.cloneNode(true);
  const find = (selector) => article.querySelector(selector);
  find("h2").textContent = model.file;
  badge(find(".badge"), model.state, COLOURS[model.state] ?? "");
  fill(find(".list"), lines(model));
  const changed = model.ability?.changed ?? [];
  find("details").hidden = changed.length === 0;
  find("details").dataset.file = model.file;
  find("details").open = open.has(model.file);
  fill(find(".changed"), changed.map((one) => [
    `${one.picture}: ${one.old ? `${one.old.decision} → ` : ""}${one.new.decision}${one.must ? `, must ${one.must}` : ""}`,
    one.must && one.new.decision !== one.must ? "bad" : "",
  ]));
  for (const button of article.querySelectorAll("button")) {
    const isActive = model.state === "active";
    button.disabled = busy || !canChange || !model.is_present || (isActive && button.value !== "check");
    button.addEventListener("click", () => act(button.value, model.file));
  }
  return article;
}

function lines(model) {
  const found = [];
  if (!model.is_present) found.push(["the file is gone, or was changed since", "bad"]);
  if (model.time) found.push([`${model.state} since ${new Date(model.time).toLocaleString()}${model.who ? `, by ${model.who}` : ""}`, ""]);
  if (model.note) found.push([model.note, model.state === "refused" ? "bad" : ""]);
  const ability = model.ability;
  if (ability) {
    found.push([`known defects passed: ${ability.escaped + ability.still_passed} of ${ability.known_defects}`, ability.escaped ? "bad" : ""]);
    found.push([`good parts rejected: ${ability.false_alarms} of ${ability.good}, at most ${ability.false_alarms_allowed}`, ability.false_alarms > ability.false_alarms_allowed ? "bad" : ""]);
  } else found.push(["its ability is not measured yet: press Check", ""]);
  const shadow = model.shadow;
  if (shadow) found.push([`as the shadow: ${shadow.disagreed} of ${shadow.compared} parts decided differently`, ""]);
  const total = model.passed + model.rejected + model.faults;
  if (total) found.push([`as the active model: yield ${(100 * model.passed / total).toFixed(1)} % of ${total.toLocaleString()} parts`, ""]);
  return found;
}

async function act(action, file = "") {
  const who = personIn($("who"), $("said"));
  if (!who) return;
  busy = true;
  for (const button of document.querySelectorAll("main button")) button.disabled = true;
  $("said").textContent = "The model is tried …";
  try {
    const answer = await post("/model", { action, file, who, override: $("override").value.trim() });
    $("said").textContent = answer.message;
    $("override").value = "";
  } catch (error) {
    $("said").textContent = error.message;
  }
  busy = false;
  await refreshModels().catch(() => {});
}

$("who").value = localStorage.getItem("who") ?? "";
$("rollback").addEventListener("click", () => act("rollback"));
onLogin(refresh);
refresh();
