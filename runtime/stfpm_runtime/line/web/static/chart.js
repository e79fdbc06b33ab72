// Relative scores of a place as a line, and the limit, which is 1 at any threshold; rejects and faults are dots.
// An upright line stands where another model began.
const WIDTH = 300, HEIGHT = 100, MARGIN = 6;
const HIGHEST = 2; // puts the limit in the middle; higher scores are drawn at the upper edge

export function drawChart(svg, scores) {
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  const x = (index) => scores.length < 2 ? WIDTH / 2 : MARGIN + index * (WIDTH - 2 * MARGIN) / (scores.length - 1);
  const y = (value) => HEIGHT - MARGIN - Math.min(1, value / HIGHEST) * (HEIGHT - 2 * MARGIN);
  const points = scores.map((s, i) => s.relative_score === null ? "" : `${x(i).toFixed(1)},${y(s.relative_score).toFixed(1)}`);
  const dots = scores.map((s, i) => s.decision === "pass" ? "" : `M${x(i).toFixed(1)} ${y(s.relative_score ?? HIGHEST).toFixed(1)}h0`).join("");
  const changes = scores.map((s, i) => i && s.model !== scores[i - 1].model ? `M${x(i - 0.5).toFixed(1)} 0V${HEIGHT}` : "");
  svg.replaceChildren(
    shape("path", { class: "swap", d: changes.join("") }),
    shape("path", { class: "limit", d: `M0 ${y(1)}H${WIDTH}` }),
    shape("polyline", { class: "line", points: points.filter(Boolean).join(" ") }),
    shape("path", { class: "dot", d: dots }),
  );
  svg.onpointermove = (event) => {
    const place = (event.offsetX / svg.clientWidth * WIDTH - MARGIN) / (WIDTH - 2 * MARGIN);
    const nearest = scores[Math.max(0, Math.min(scores.length - 1, Math.round(place * (scores.length - 1))))];
    svg.parentElement.title = nearest ? detail(nearest) : "";
  };
}

const digits = (value) => Number(value).toPrecision(4);

// A verdict's score as it is, and the threshold that held for it.
export function rawScore(verdict) {
  return verdict.score === null ? "" : `score ${digits(verdict.score)} · threshold ${digits(verdict.threshold)}`;
}

function detail(verdict) {
  return [`verdict ${verdict.seq}`, verdict.decision, verdict.score_text, rawScore(verdict), new Date(verdict.time).toLocaleString()].filter(Boolean).join(" · ");
}

function shape(kind, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
