// Relative scores of a place over time, and the limit, which is 1 at any threshold; rejects and faults are dots.
// Upright lines stand where the threshold was changed (dashed) and where another model began (solid).
import { digits, joined } from "/static/client.js";
import { local, locale, momentOf, t } from "/static/language.js";

const HEIGHT = 150;
const HIGHEST = 2; // puts the limit in the middle; higher scores are drawn at the upper edge

// A colour of the style sheet as a canvas takes it, which knows neither variables nor light-dark().
function colour(name) {
  const probe = document.body.appendChild(document.createElement("i"));
  probe.style.color = `var(--${name})`;
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

export function drawChart(box, scores) {
  const known = scores.filter((score, index) => index === 0 || score.time >= scores[index - 1].time); // a clock set back
  const height = (score) => Math.min(HIGHEST, score.relative_score ?? HIGHEST);
  const data = [
    known.map((score) => Date.parse(score.time) / 1000),
    known.map((score) => score.relative_score === null ? null : height(score)),
    known.map((score) => score.decision === "pass" ? null : height(score)),
  ];
  box.scores = known;
  const rejected = known.filter((score) => score.decision !== "pass").length;
  box.setAttribute("aria-label", t("Relative scores of the last {} parts, {} of them not passed; the limit is 1", known.length, rejected));
  if (box.chart) box.chart.setData(data);
  else box.chart = makeChart(box, data);
}

function makeChart(box, data) {
  const axis = { stroke: () => colour("quiet"), grid: { stroke: () => colour("edge"), width: 1 }, ticks: { show: false }, font: "13px system-ui" };
  const ticks = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const seconds = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  const chart = new uPlot({
    width: box.clientWidth || 300, height: HEIGHT, legend: { show: false }, cursor: { y: false, drag: { x: false, y: false } },
    scales: { y: { range: [0, HIGHEST] } },
    axes: [
      { ...axis, space: 80, size: 28, values: (_, times, axisIndex, space, step) => times.map((time) => (step < 60 ? seconds : ticks).format(time * 1000)) },
      { ...axis, size: 36, splits: [0, 0.5, 1, 1.5, 2], values: (_, values) => values.map((value) => local(value.toFixed(1))) },
    ],
    series: [
      {},
      { stroke: () => colour("accent"), width: 1.5, points: { show: false }, spanGaps: false },
      { stroke: () => colour("reject"), paths: () => null, points: { show: true, size: 7, fill: () => colour("reject") } },
    ],
    hooks: { draw: [(drawn) => drawLines(drawn, box.scores)], setCursor: [(moved) => nameVerdict(box, moved.cursor.idx)] },
  }, data, box);
  new ResizeObserver(() => chart.setSize({ width: box.clientWidth, height: HEIGHT })).observe(box);
  return chart;
}

function drawLines(chart, scores) {
  const { ctx, bbox } = chart;
  const line = (x, y, toX, toY, name, dashes) => {
    ctx.beginPath();
    ctx.setLineDash(dashes);
    ctx.strokeStyle = colour(name);
    ctx.moveTo(x, y);
    ctx.lineTo(toX, toY);
    ctx.stroke();
  };
  ctx.save();
  ctx.lineWidth = 1.5 * devicePixelRatio;
  const limit = chart.valToPos(1, "y", true);
  line(bbox.left, limit, bbox.left + bbox.width, limit, "reject", [6, 4]);
  let before = scores[0];
  for (const score of scores.filter((one) => one.threshold !== null)) {
    const isSwap = score.model !== before.model, isChange = score.threshold !== (before.threshold ?? score.threshold);
    before = score;
    if (!isSwap && !isChange) continue;
    const x = chart.valToPos(Date.parse(score.time) / 1000, "x", true);
    line(x, bbox.top, x, bbox.top + bbox.height, "quiet", isSwap ? [] : [3, 3]);
  }
  ctx.restore();
}

// A verdict's score as it is, and the threshold that held for it.
export function rawScore(verdict) {
  return verdict.score === null ? "" : t("score {} · threshold {}", digits(verdict.score, 4), digits(verdict.threshold, 4));
}

function nameVerdict(box, index) {
  const verdict = index === null || index === undefined ? null : box.scores[index];
  box.title = verdict ? joined(t("verdict {}", verdict.seq), t(verdict.decision), local(verdict.score_text), rawScore(verdict), momentOf(verdict.time)) : "";
}
