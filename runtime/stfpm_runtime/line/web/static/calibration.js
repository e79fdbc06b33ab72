// Where a model's threshold comes from: the scores of good pictures held out and of synthetic defects, and a limit to try.
import { $, askJson, digits, fill, post, reasonIn, personIn } from "/static/client.js";
import { local, t } from "/static/language.js";
import { shape } from "/static/yields.js";

const BINS = 48;
const MARGIN = 4;
let found = null; // what the API says of the chosen model
let inUse = ""; // the SHA-256 of the model in use, where this person may change its threshold
let shownDigest = ""; // that of the model that is shown, or asked for
let asked = 0; // the answer about an earlier choice is not shown

const share = (count, total) => local((100 * count / total).toFixed(1));
const above = (scores, limit) => scores.filter((score) => score > limit).length;
const defects = () => found.synthetic_defects.flatMap((one) => one.relative_scores);

// Offers the files that can be chosen, and keeps the choice. A limit can be used only for the model in use.
export function offer(models, active, canChange) {
  const select = $("calibrated"), before = select.value, files = models.map((model) => model.file);
  inUse = canChange ? active.sha256 : "";
  if ([...select.options].map((option) => option.value).join() !== files.join()) {
    select.replaceChildren(...files.map((file) => new Option(file)));
    select.value = files.includes(before) ? before : files.includes(active.file) ? active.file : files[0] ?? "";
  }
  const chosen = models.find((model) => model.file === select.value);
  if (chosen && chosen.sha256 !== shownDigest) choose(chosen.sha256); // also where the file was overwritten
  allow();
}

function allow() {
  $("use").disabled = !found || !inUse || found.sha256 !== inUse || !(found.threshold > 0);
}

async function choose(digest = "") {
  const file = $("calibrated").value, number = ++asked;
  found = null;
  shownDigest = digest;
  allow();
  const answer = await askJson(`/model/${encodeURIComponent(file)}`).catch((error) => ({ error }));
  if (number !== asked) return;
  found = answer.error ? null : answer;
  shownDigest = found?.sha256 ?? digest;
  allow();
  $("calibration").hidden = !found;
  $("origin").textContent = answer.error?.message ?? joinedOrigin();
  if (!found) return;
  $("limit").max = Math.max(2, Math.min(5, Math.ceil(Math.max(...found.held_out, ...defects(), 0) + 0.2)));
  $("limit").value = 1;
  fill($("kinds"), found.synthetic_defects.map((one) => [
    t("{}, {} % of the short side: {} of {} found", t(one.kind), local(String(100 * one.size)), one.found, one.drawn), "",
  ]));
  tryLimit();
}

function joinedOrigin() {
  const origin = found.threshold === null ? t("This model has no threshold.") : t("threshold {}: {}", digits(found.threshold, 4), found.threshold_set_by);
  return found.too_hard ? `${origin} ${t("The product is too hard for this model: it finds too few of the synthetic defects.")}` : origin;
}

function tryLimit() {
  const limit = Number($("limit").value), rejected = above(found.held_out, limit), all = defects();
  draw($("scores"), limit);
  const parts = [t("limit {} (threshold {})", local(limit.toFixed(2)), digits(limit * found.threshold, 4))];
  if (found.held_out.length) {
    const expected = share(rejected + 1, found.held_out.length + 1);
    parts.push(t("{} of {} good pictures held out are rejected", rejected, found.held_out.length),
      found.folds ? t("about {} % of good parts would be rejected", expected) : t("at most {} % of good parts would be rejected on average", expected));
  }
  if (all.length) parts.push(t("{} of {} synthetic defects are found", above(all, limit), all.length));
  $("tried").textContent = `${parts.join("; ")}.`;
}

function draw(svg, limit) {
  const width = svg.clientWidth || 600, height = svg.clientHeight || 150, most = Number($("limit").max);
  const bins = (scores) => {
    const counts = new Array(BINS).fill(0);
    for (const score of scores) counts[Math.min(BINS - 1, Math.floor(score / most * BINS))]++;
    return counts.map((count) => count / Math.max(1, ...counts));
  };
  const half = height / 2, step = width / BINS;
  const bars = (name, scores, place) => bins(scores).map((tall, i) =>
    shape("rect", { class: name, x: i * step + 0.5, width: step - 1, ...place(tall * (half - MARGIN)) }));
  const x = limit / most * width;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren(
    ...bars("good", found.held_out, (tall) => ({ y: half - tall, height: tall })),
    ...bars("defective", defects(), (tall) => ({ y: height - tall, height: tall })),
    shape("path", { class: "axis", d: `M0 ${half}H${width}M0 ${height}H${width}` }),
    shape("path", { class: "limit", d: `M${x} 0V${height}` }),
  );
}

async function use() {
  const who = personIn($("who"), $("used")), reason = who && reasonIn($("reason"), $("used"));
  if (!who || !reason) return;
  if ($("use").disabled) return;
  const threshold = Number($("limit").value) * found.threshold;
  $("used").textContent = await post("/api/threshold", { threshold, who, reason }).then(
    (answer) => answer.taken ? t("Every place has this threshold now.") : t("The threshold is not in force yet; look at the dashboard."),
    (error) => error.message,
  );
}

$("calibrated").addEventListener("change", () => choose());
$("limit").addEventListener("input", tryLimit);
$("use").addEventListener("click", use);
addEventListener("resize", () => { if (found) tryLimit(); });
