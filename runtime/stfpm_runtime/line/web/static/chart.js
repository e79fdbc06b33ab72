// Scores of a place as a line, with the threshold that held at each of them; rejects and faults are dots.
const WIDTH = 300, HEIGHT = 100, MARGIN = 6;

export function drawChart(svg, scores) {
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  const judged = scores.filter((s) => s.score !== null);
  const highest = Math.max(...judged.map((s) => s.threshold * 1.6), 1e-12);
  const x = (index) => scores.length < 2 ? WIDTH / 2 : MARGIN + index * (WIDTH - 2 * MARGIN) / (scores.length - 1);
  const y = (value) => HEIGHT - MARGIN - Math.min(1, value / highest) * (HEIGHT - 2 * MARGIN);
  const points = (of) => scores.map((s, i) => of(s) === null ? "" : `${x(i).toFixed(1)},${y(of(s)).toFixed(1)}`).filter(Boolean).join(" ");
  const dots = scores.map((s, i) => s.decision === "pass" ? "" : `M${x(i).toFixed(1)} ${y(s.score ?? highest).toFixed(1)}h0`).join("");
  svg.replaceChildren(
    shape("polyline", { class: "threshold", points: points((s) => s.threshold) }),
    shape("polyline", { class: "line", points: points((s) => s.score) }),
    shape("path", { class: "dot", d: dots }),
  );
}

function shape(kind, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
