// The model files next to the active one: their states, what they are able to do, and what can be done with them.
import { $, askJson, badge, fill, keepFresh, personIn, post, reasonIn, show, upload } from "/static/client.js";
import { offer } from "/static/calibration.js";
import { counted, local, momentOf, t } from "/static/language.js";

const EVERY_MS = 3000;
const COLOURS = { active: "pass", approved: "ok", shadow: "warning", refused: "reject" };
let canChange = false;
let busy = false;
let uploading = false;
let firstName = ""; // the name of the file that a line without a model waits for
let asked = 0; // the answer to an earlier question is older than what is shown

async function refreshModels() {
  const number = ++asked;
  const [status, answer] = await Promise.all([askJson("/api/status"), askJson("/model")]);
  if (number !== asked) return;
  canChange = status.can_engineer;
  show();
  badge($("state"), answer.model.file, "ok");
  $("rollback").disabled = busy || !canChange;
  $("upload").disabled = busy || uploading || !canChange;
  offer(answer.models.filter((model) => model.is_present && model.file.endsWith(".onnx")), answer.model, canChange);
  firstName = answer.model.sha256 || !answer.model.file.endsWith(".onnx") ? "" : answer.model.file;
  const open = new Set([...document.querySelectorAll("details[open]")].map((details) => details.dataset.file));
  $("models").replaceChildren(...answer.models.map((model) => card(model, open)));
}

function card(model, open) {
  const article = $("model").content.firstElementChild.cloneNode(true);
  const find = (selector) => article.querySelector(selector);
  find("h2").textContent = model.file;
  badge(find(".badge"), t(model.state), COLOURS[model.state] ?? "");
  fill(find(".list"), lines(model));
  const changed = model.ability?.changed ?? [];
  find("details").hidden = changed.length === 0;
  find("details").dataset.file = model.file;
  find("details").open = open.has(model.file);
  fill(find(".changed"), changed.map((one) => [
    `${one.picture}: ${one.old ? `${t(one.old.decision)} → ` : ""}${t(one.new.decision)}${one.must ? t(", expected {}", t(one.must)) : ""}`,
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
  if (!model.is_present) found.push([t("the file is gone, or was changed since"), "bad"]);
  if (model.time) found.push([t(model.who ? "{} since {}, by {}" : "{} since {}", t(model.state), momentOf(model.time), model.who), ""]);
  if (model.note) found.push([model.note, model.state === "refused" ? "bad" : ""]);
  const ability = model.ability;
  if (ability) {
    found.push([t("known defects passed: {} of {}", ability.escaped + ability.still_passed, ability.known_defects), ability.escaped ? "bad" : ""]);
    found.push([t("good parts rejected: {} of {}, at most {}", ability.false_alarms, ability.good, ability.false_alarms_allowed), ability.false_alarms > ability.false_alarms_allowed ? "bad" : ""]);
  } else found.push([t("its ability is not measured yet: press Check"), ""]);
  const shadow = model.shadow;
  if (shadow) found.push([t("as the shadow: {} of {} parts decided differently", shadow.disagreed, shadow.compared), ""]);
  const total = model.passed + model.rejected + model.faults;
  if (total) found.push([t("as the active model: yield {} % of {} parts", local((100 * model.passed / total).toFixed(1)), counted(total)), ""]);
  return found;
}

async function act(action, file = "") {
  const who = personIn($("who"), $("said")), isChange = action !== "check";
  const reason = who && isChange ? reasonIn($("reason"), $("said")) : "";
  if (!who || (isChange && !reason)) return;
  busy = true;
  asked++;
  for (const button of document.querySelectorAll("main button")) button.disabled = true;
  $("said").textContent = t("The model is tried …");
  try {
    const answer = await post("/model", { action, file, who, reason, override: $("override").checked ? reason : "" });
    $("said").textContent = answer.message;
    $("override").checked = false;
    if (isChange) $("reason").value = "";
  } catch (error) {
    $("said").textContent = error.message;
  }
  busy = false;
  await refreshModels().catch(() => {});
}

// The chosen file that ends like this, if there is one of them.
function chosen(ending) {
  const found = [...$("files").files].filter((file) => file.name.toLowerCase().endsWith(ending));
  return found.length === 1 ? found[0] : null;
}

async function sendModel() {
  const who = personIn($("who"), $("uploaded")), golden = chosen(".golden.npz"), model = chosen(".onnx");
  if (!who) return;
  if (!golden || !model) { $("uploaded").textContent = t("Choose both files: one that ends in .onnx, and one in .golden.npz."); return; }
  uploading = true;
  $("upload").disabled = true;
  $("sent").hidden = false;
  $("sent").value = 0;
  $("uploaded").textContent = t("The files are sent …");
  try {
    const query = new URLSearchParams({ golden_bytes: golden.size, who });
    const answer = await upload(`/model/${encodeURIComponent($("name").value.trim() || model.name)}?${query}`, [golden, model], (share) => {
      $("sent").value = share;
      if (share === 1) $("uploaded").textContent = t("The model is tried …");
    });
    $("uploaded").textContent = answer.message;
    $("files").value = $("name").value = "";
  } catch (error) {
    $("uploaded").textContent = error.message;
  }
  uploading = false;
  $("sent").hidden = true;
  await refreshModels().catch(() => {});
}

$("files").addEventListener("change", () => { $("name").value = firstName || (chosen(".onnx")?.name ?? ""); });
$("upload").addEventListener("click", sendModel);
$("who").value = localStorage.getItem("who") ?? "";
$("rollback").addEventListener("click", () => act("rollback"));
keepFresh(async () => { if (!busy) await refreshModels(); }, EVERY_MS);
