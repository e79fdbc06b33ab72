// The page asks for the status once a second, and for a picture when there is a new verdict and the page is seen.
import { $, askJson, badge, digits, driftWords, element, fill, joined, keepFresh, named, personIn, post, reasonIn, show, showFaults, showPicture } from "/static/client.js";
import { drawChart, rawScore } from "/static/chart.js";
import { openViewer } from "/static/viewer.js";
import { counted, local, momentOf, parseNumber, t, timeOf } from "/static/language.js";

const EVERY_MS = 1000;
const places = new Map();
let canChange = false, canEngineer = false;
let asked = 0;
let lastReject = -1;
let changed = null;

const fixed = (value) => value === null ? "–" : local(value.toFixed(1));
const address = (place) => `${encodeURIComponent(place.camera)}/${encodeURIComponent(place.region)}`;

async function refreshAll() {
  const status = await askJson("/api/status");
  show();
  canChange = status.can_change;
  canEngineer = status.can_engineer;
  showLine(status);
  showHealth(status);
  await Promise.all(status.places.map(refreshPlace));
  if (asked++ % 3 === 0) await Promise.all([refreshRejects(), refreshEvents()]);
}

function showLine(status) {
  const { model, totals, latency } = status;
  document.title = model.name;
  $("product").textContent = model.name;
  const recipe = status.recipe && t("recipe {}: {}", joined(status.recipe.requested, status.recipe.name), t(status.recipe.state));
  $("model").textContent = joined(recipe, model.file, model.precision, model.provider);
  $("yield").textContent = totals.yield === null ? "–" : `${fixed(100 * totals.yield)} %`;
  for (const key of ["total", "rejected", "faults", "dropped"]) $(key).textContent = counted(totals[key]);
  $("p50").textContent = fixed(latency.p50_ms);
  $("p99").textContent = fixed(latency.p99_ms);
}

function showHealth(status) {
  const drifting = status.drift.filter((drift) => drift.alarm);
  const well = status.problems.length === 0;
  badge($("state"), t(well ? (drifting.length ? "drift" : "running") : "problem"), well ? (drifting.length ? "warning" : "ok") : "failing");
  showFaults($("faults-now"), status.faults, canChange, refreshAll);
  fill($("health"), [
    ...status.cameras.map((camera) => [`${t("camera")} ${camera.name}: ${t(camera.state)}`, ["lost", "frozen"].includes(camera.state) ? "bad" : ""]),
    ...status.outputs.map((output) => [`${output.name}: ${output.failure || t("works")}`, output.works ? "" : "bad"]),
    ...(status.pictures ? [[t("pictures: {} left out, {} failed", status.pictures.dropped, status.pictures.failed), status.pictures.failed ? "bad" : ""]] : []),
    ...(status.shadow ? [[t("shadow {}: disagrees on {} of {}", status.shadow.model.file, status.shadow.disagreed, status.shadow.compared), ""]] : []),
    [t("running for {} min", counted(Math.round(status.uptime_s / 60))), ""],
  ]);
  fill($("drift"), status.drift.length ? status.drift.map((drift) => {
    const [words, figures] = driftWords(drift);
    return [`${named(drift)}: ${words} (${figures})`, drift.alarm ? "bad" : ""];
  }) : [[t("not enough passed parts yet"), ""]]);
}

async function refreshPlace(place) {
  const key = address(place);
  if (!places.has(key)) places.set(key, addPlace(place));
  const card = places.get(key);
  card.place = place;
  card.change.disabled = !canEngineer;
  card.change.title = canEngineer ? "" : t("Changes need the token of an engineer.");
  if (place.newest === null) return;
  if (!isSame(place.pictured, place.newest)) showVerdict(card, place.newest);
  const shown = `${place.newest.seq} ${place.newest.time} ${card.map}`;
  if (card.shown === shown || card.busy) return;
  card.busy = true;
  try {
    const { scores } = await askJson(`/api/scores/${key}?last=200`);
    drawChart(card.chart, scores);
    if (place.pictured) {
      const answer = await showPicture(card.image, `/api/live/${key}?map=${card.map}&width=640`);
      card.pictured = JSON.parse(answer.headers.get("X-Verdict-Record"));
      card.none.hidden = true;
    }
    card.shown = shown;
  } finally {
    card.busy = false;
    const newest = card.place.newest; // another status may have come meanwhile
    showVerdict(card, newest.seq > 0 && card.pictured?.seq > newest.seq ? card.pictured : newest);
  }
}

// A verdict that could not be journalled has the number 0.
const isSame = (one, other) => one?.seq === other?.seq && one?.time === other?.time;

// A picture that is not the verdict's own is greyed, and says of which verdict and time it is.
function showVerdict(card, verdict) {
  const { place, pictured } = card;
  badge(card.verdict, t(verdict.decision), verdict.decision);
  card.score.textContent = local(verdict.score_text);
  card.score.title = rawScore(verdict);
  const threshold = t(place.threshold_by_hand ? "threshold {} (by hand)" : "threshold {}", digits(place.threshold));
  const rejected = t("{} of {} rejected", place.rejected, place.passed + place.rejected + place.faults);
  card.numbers.textContent = joined(verdict.reason, threshold, rejected, verdict.part);
  const old = pictured !== null && !isSame(pictured, verdict);
  card.picture.classList.toggle("old", old);
  card.dated.hidden = !old;
  card.dated.textContent = old ? t("Older picture: verdict {}, {}, {}", pictured.seq, t(pictured.decision), momentOf(pictured.time)) : "";
}

function addPlace(place) {
  const article = $("place").content.firstElementChild.cloneNode(true);
  const find = (selector) => article.querySelector(selector);
  const card = {
    picture: find(".picture"), dated: find(".dated"), pictured: null,
    image: find("img"), none: find(".none"), verdict: find(".verdict"), score: find(".score"), numbers: find(".numbers"),
    chart: find(".chart"), change: find(".change"), map: true, shown: "", busy: false, place,
  };
  find("h2").textContent = named(place);
  card.image.hidden = true;
  find(".map").addEventListener("click", (event) => {
    card.map = !card.map;
    event.target.textContent = t(card.map ? "Map off" : "Map on");
    refreshPlace(card.place).catch(() => {});
  });
  card.change.addEventListener("click", () => openChanger(card.place));
  $("places").append(article);
  return card;
}

async function refreshRejects() {
  const { rejects } = await askJson("/api/rejects?last=12");
  const newest = rejects.length ? rejects[0].seq : 0;
  $("no-rejects").hidden = rejects.length > 0;
  if (newest === lastReject) return;
  lastReject = newest;
  for (const image of $("rejects").querySelectorAll("img")) URL.revokeObjectURL(image.src);
  $("rejects").replaceChildren(...rejects.map(thumbnail));
}

function thumbnail(verdict) {
  const button = element("button");
  const text = element("p", joined(local(verdict.score_text) || t("not judged"), named(verdict), timeOf(verdict.time), verdict.reason, verdict.part));
  button.type = "button";
  button.title = rawScore(verdict);
  const none = element("span", t("no picture kept"), "none");
  button.append(none, text);
  const kind = verdict.overlay ? "overlay" : "picture";
  if (verdict[kind]) {
    const image = document.createElement("img");
    image.alt = t("part of verdict {}", verdict.seq);
    showPicture(image, `/api/pictures/${verdict.seq}?kind=${kind}&width=320`).then(() => none.replaceWith(image)).catch(() => {});
  }
  button.addEventListener("click", () => openViewer(verdict, kind, canChange));
  return button;
}

async function refreshEvents() {
  const { events } = await askJson("/api/events?last=30");
  fill($("events"), events.map((event) => [`${timeOf(event.time)} ${event.camera || t("line")}: ${event.kind} ${event.detail}`, ""]));
}

function openChanger(place) {
  changed = { ...place }; // another one each time that the dialog is opened
  $("changer-place").textContent = named(place);
  $("threshold").value = digits(place.threshold, 4);
  $("who").value = localStorage.getItem("who") ?? "";
  $("reason").value = $("changer-error").textContent = "";
  $("changer").showModal();
  tryThreshold();
}

function step(factor) {
  $("threshold").value = digits(parseNumber($("threshold").value) * factor, 4);
  tryThreshold();
}

async function tryThreshold() {
  const value = parseNumber($("threshold").value), place = changed;
  const isNumber = Number.isFinite(value);
  $("apply").disabled = !isNumber;
  $("effect").textContent = isNumber ? "" : t("expected a number");
  if (!isNumber) return;
  const query = new URLSearchParams({ threshold: value, camera: place.camera, region: place.region });
  const words = await askJson(`/api/threshold?${query}`).then(
    (effect) => t("Of the last {} parts {} would be rejected; {} were. {} more, {} fewer.", effect.parts, effect.would_reject,
      effect.rejected, effect.newly_rejected.length, effect.newly_passed.length),
    (error) => error.message,
  );
  if (changed === place && parseNumber($("threshold").value) === value) $("effect").textContent = words;
}

async function applyThreshold(threshold) {
  const who = personIn($("who"), $("changer-error")), reason = who && reasonIn($("reason"), $("changer-error")), place = changed;
  if (!reason) return;
  const problem = await post("/api/threshold", { threshold, who, reason, camera: place.camera, region: place.region }).then(
    (answer) => answer.taken ? "" : t("The change is recorded; the line has not applied it yet."),
    (error) => error.message,
  );
  if (changed !== place) return; // the dialog is open for another place by now
  $("changer-error").textContent = problem;
  if (!problem) $("changer").close();
}

$("less").addEventListener("click", () => step(0.95));
$("more").addEventListener("click", () => step(1.05));
$("threshold").addEventListener("input", tryThreshold);
$("apply").addEventListener("click", () => applyThreshold(parseNumber($("threshold").value)));
$("reset").addEventListener("click", () => applyThreshold(null));
$("cancel").addEventListener("click", () => $("changer").close());
document.addEventListener("visibilitychange", () => { asked = 0; });
keepFresh(refreshAll, EVERY_MS);
