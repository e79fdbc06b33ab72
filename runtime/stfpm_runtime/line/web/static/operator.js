// One camera over the whole screen: its verdict by word, colour and shape, with the pictures of this very verdict or none.
import { $, ask, askJson, badge, element, joined, keepFresh, show, showFaults } from "/static/client.js";
import { local, t, timeOf } from "/static/language.js";

const EVERY_MS = 500;
const SHAPES = { pass: "✓", reject: "✕", fault: "!", none: "–" };
const WORST_FIRST = ["fault", "reject", "pass"];
const cards = new Map();
let camera = new URLSearchParams(location.search).get("camera");
let names = [];
let asked = 0; // the answers to an earlier question may be of another camera, and are ignored

async function refreshAll() {
  const number = ++asked;
  const status = await askJson("/api/status");
  if (number !== asked) return;
  show();
  names = [...new Set(status.places.map((place) => place.camera))];
  if (!names.includes(camera)) camera = names[0];
  $("camera").textContent = camera;
  showCameras();
  const places = status.places.filter((place) => place.camera === camera);
  for (const [region, card] of cards) {
    if (!places.some((place) => place.region === region)) { card.article.remove(); cards.delete(region); }
  }
  const shown = await Promise.all(places.map((place) => refreshPlace(place, number)));
  if (number !== asked) return;
  showVerdict(shown.filter(Boolean));
  badge($("state"), t(status.problems.length ? "problem" : "running"), status.problems.length ? "failing" : "ok");
  showFaults($("faults"), status.faults, status.can_change, refreshAll);
}

// A verdict that could not be journalled has the number 0.
const isSame = (one, other) => one?.seq === other?.seq && one?.time === other?.time;

// Shows the newest verdict of a region and returns it. The picture comes with the verdict that it was drawn for.
async function refreshPlace(place, number) {
  if (!cards.has(place.region)) cards.set(place.region, addCard(place.region));
  const card = cards.get(place.region);
  let verdict = place.newest, picture = "";
  if (verdict && isSame(card.verdict, verdict)) return verdict;
  if (verdict && isSame(place.pictured, verdict)) {
    const answer = await ask(`/api/live/${encodeURIComponent(place.camera)}/${encodeURIComponent(place.region)}?width=1280`);
    const blob = await answer.blob();
    if (number !== asked) return null;
    verdict = JSON.parse(answer.headers.get("X-Verdict-Record")); // it may be newer than the status
    picture = URL.createObjectURL(blob);
  }
  showCard(card, verdict, picture);
  return verdict;
}

function addCard(region) {
  const article = element("article", "", "region"), image = document.createElement("img");
  const none = element("p", "", "quiet"), caption = element("p", "", "caption");
  image.alt = t("picture of this verdict");
  article.append(image, none, caption);
  $("regions").append(article);
  return { article, image, none, caption, region, verdict: null };
}

function showCard(card, verdict, picture) {
  if (card.image.src.startsWith("blob:")) URL.revokeObjectURL(card.image.src);
  card.verdict = verdict;
  card.image.hidden = !picture;
  if (picture) card.image.src = picture;
  else card.image.removeAttribute("src");
  card.none.hidden = Boolean(picture);
  card.none.textContent = verdict ? t("There is no picture of this verdict.") : t("no verdict yet");
  card.article.className = `region ${verdict?.decision ?? ""}`;
  const name = card.region === "frame" ? "" : card.region;
  card.caption.textContent = verdict ? joined(name, `${SHAPES[verdict.decision]} ${t(verdict.decision)}`, local(verdict.score_text), verdict.reason) : name;
}

function showVerdict(verdicts) {
  const decision = WORST_FIRST.find((one) => verdicts.some((verdict) => verdict.decision === one));
  if (!decision) { showWord("none", t("no verdict yet"), ""); return; }
  const worst = verdicts.filter((verdict) => verdict.decision === decision)
    .reduce((one, other) => (other.relative_score ?? 0) > (one.relative_score ?? 0) ? other : one);
  showWord(decision, t(decision), joined(local(worst.score_text), worst.part, timeOf(worst.time)));
}

function showWord(decision, word, details) {
  $("verdict").className = `wall ${decision}`;
  $("shape").textContent = SHAPES[decision];
  $("word").textContent = word;
  $("details").textContent = details;
  fitWord();
}

// As large as it fits: a fifth of the screen's height, or less where the word is too wide.
function fitWord() {
  const word = $("word");
  word.style.fontSize = `${innerHeight / 5}px`;
  if (word.scrollWidth > word.clientWidth) word.style.fontSize = `${Math.floor(innerHeight / 5 * word.clientWidth / word.scrollWidth)}px`;
}

// Shows this word and no verdict: an old one must not stay as if it were of now, or of the camera that is chosen.
function clearAll(word) {
  showWord("none", word, "");
  for (const card of cards.values()) showCard(card, null, "");
}

function showCameras() {
  if (names.length < 2 || $("cameras").dataset.shown === `${camera} ${names}`) return;
  $("cameras").dataset.shown = `${camera} ${names}`;
  $("cameras").replaceChildren(...names.map((name) => {
    const button = element("button", name, name === camera ? "main" : "");
    button.setAttribute("aria-pressed", name === camera);
    button.addEventListener("click", () => choose(name));
    return button;
  }));
}

function choose(name) {
  camera = name;
  history.replaceState(null, "", `?camera=${encodeURIComponent(name)}`);
  $("camera").textContent = name;
  clearAll(t("reading"));
  refreshAll().catch(() => {});
}

addEventListener("resize", fitWord);
document.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step && names.length > 1 && !["INPUT", "SELECT"].includes(event.target.tagName)) {
    choose(names[(names.indexOf(camera) + step + names.length) % names.length]);
  }
});
keepFresh(refreshAll, EVERY_MS, () => clearAll(t("no connection")));
