// One part after the other, the most worth first; a label takes it from the queue.
import { $, Refused, askJson, badge, clearPicture, fill, joined, logIn, named, onLogin, personIn, post, show, showPicture } from "/static/client.js";
import { rawScore } from "/static/chart.js";
import { local, momentOf, t } from "/static/language.js";

let queue = [];
let withMap = true;
let canChange = false;
const later = new Set();
const kinds = new Set();

async function refresh() {
  try {
    const status = await askJson("/api/status");
    const review = await askJson("/api/review?last=60");
    queue = review.queue.filter((part) => !later.has(part.seq));
    show();
    badge($("state"), t("{} to look at", queue.length), queue.length ? "warning" : "ok");
    fill($("confusion"), review.confusion.map((text) => [text, ""]));
    canChange = status.can_change;
    if (!canChange) $("said").textContent = t("Labels need a token; set the key token in the table [dashboard].");
    await oneAtATime(showPart);
  } catch (error) {
    if (error instanceof Refused && error.status === 401) logIn(error);
    else badge($("state"), t("no connection"), "failing");
  }
}

// No button works until the next part's own picture is shown: a click must not meet a part that nobody has seen.
async function oneAtATime(action) {
  const buttons = [...document.querySelectorAll("#part button")];
  for (const button of buttons) button.disabled = true;
  try {
    await action();
  } finally {
    for (const button of buttons) button.disabled = button.value !== "" && !canChange;
  }
}

async function showPart() {
  const part = queue[0];
  clearPicture($("picture"));
  $("part").hidden = !part;
  $("none").hidden = Boolean(part);
  if (!part) return;
  $("why").textContent = part.why;
  badge($("verdict"), t(part.decision), part.decision);
  $("score").textContent = local(part.score_text);
  $("numbers").textContent = joined(t("verdict {}", part.seq), named(part), momentOf(part.time), rawScore(part), part.part);
  $("map").hidden = !(part.picture && part.overlay);
  $("map").textContent = t(withMap ? "Picture alone" : "With map");
  const kind = part.overlay && (withMap || !part.picture) ? "overlay" : "picture";
  await showPicture($("picture"), `/api/pictures/${part.seq}?kind=${kind}&width=1600`).catch((error) => { $("said").textContent = error.message; });
}

async function label(value) {
  const who = personIn($("who"), $("said"));
  if (!who || !queue.length) return;
  const kind = value === "defect" ? $("kind").value.trim() : "";
  try {
    await post("/api/labels", { seq: queue[0].seq, label: value, who, kind });
  } catch (error) {
    $("said").textContent = error.message;
    return;
  }
  $("said").textContent = "";
  if (kind && !kinds.has(kind)) {
    kinds.add(kind);
    $("kinds").append(new Option(kind));
  }
  await refresh();
}

$("who").value = localStorage.getItem("who") ?? "";
for (const button of document.querySelectorAll("#part button[value]")) button.addEventListener("click", () => oneAtATime(() => label(button.value)));
$("skip").addEventListener("click", () => { later.add(queue.shift().seq); oneAtATime(showPart); });
$("map").addEventListener("click", () => { withMap = !withMap; oneAtATime(showPart); });
onLogin(refresh);
refresh();
