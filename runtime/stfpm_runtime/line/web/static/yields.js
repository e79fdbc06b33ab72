// Yields over time as a line from the lowest to 1, over bars of the numbers of parts. Returns the lowest yield shown.
const MARGIN = 6;

export function drawYields(svg, counts, describe) {
  const width = svg.clientWidth, height = svg.clientHeight;
  const most = Math.max(1, ...counts.map((one) => one.total));
  const least = Math.min(0.99, ...counts.map((one) => one.yield));
  const low = Math.max(0, Math.floor(least * 20) / 20);
  const step = width / Math.max(1, counts.length);
  const y = (share) => MARGIN + (1 - share) / (1 - low) * (height - 2 * MARGIN);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const bars = counts.map((one, i) => {
    const tall = one.total / most * (height - 2 * MARGIN) / 2;
    const bar = shape("rect", { class: "parts", x: i * step + step / 10, y: height - tall, width: step * 0.8, height: tall });
    const whole = shape("rect", { class: "whole", x: i * step, y: 0, width: step, height });
    whole.append(Object.assign(shape("title", {}), { textContent: describe(one) }));
    return [bar, whole];
  });
  const points = counts.map((one, i) => `${((i + 0.5) * step).toFixed(1)},${y(one.yield).toFixed(1)}`);
  svg.replaceChildren(
    ...bars.map(([bar]) => bar),
    shape("polyline", { class: "line", points: points.join(" ") }),
    shape("path", { class: "mark", d: points.map((point) => `M${point}h0`).join("") }),
    ...bars.map(([, whole]) => whole),
  );
  return low;
}

export function shape(kind, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
