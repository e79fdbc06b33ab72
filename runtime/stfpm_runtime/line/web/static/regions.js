// Draws the regions of a camera on its frozen frame, by mouse, finger or pen.
import { $, element } from "/static/client.js";
import { t } from "/static/language.js";

const SVG = "http://www.w3.org/2000/svg";
const LEAST_PX = 8; // a shorter drag is a tap
const ZOOMS = [1, 1.5, 2, 3, 4];
const SHARE = 0.65; // of the screen's height, which the whole frame takes at most

// `camera` is the one whose regions are drawn, `version` that of its regions in the file, `size` null without a frame.
export const drawing = { camera: null, version: "", size: null, regions: [], kind: "rectangle", corners: [], changed: () => {} };
let zoom = 0, dragged = null;

export function setFrame(size) {
  drawing.size = size;
  $("stage").hidden = !size;
  $("no-frame").hidden = Boolean(size);
  for (const name of ["rectangle", "polygon", "smaller", "larger"]) $(name).disabled = !size;
  if (size) $("shapes").setAttribute("viewBox", `0 0 ${size[0]} ${size[1]}`);
  changeZoom(0);
  show();
}

// Draws the regions that a camera has in the file; each keeps the name that it has there, whatever it is called from now on.
export function setRegions({ regions, version }) {
  drawing.regions = regions.map((region) => ({ ...structuredClone(region), original: region.name }));
  drawing.version = version;
  drawing.corners = [];
  dragged = null;
  show();
}

export function choose(kind) {
  drawing.kind = kind;
  drawing.corners = [];
  for (const name of ["rectangle", "polygon"]) $(name).setAttribute("aria-pressed", name === kind);
  $("hint").textContent = t(kind === "rectangle" ? "Draw a rectangle around the part." : "Tap the corners one after the other, and the first one again to close the polygon.");
  show();
}

export function changeZoom(step) {
  if (!drawing.size) return;
  zoom = Math.max(0, Math.min(ZOOMS.length - 1, zoom + step));
  const [width, height] = drawing.size, whole = Math.min($("canvas").clientWidth, innerHeight * SHARE * width / height);
  $("stage").style.width = `${ZOOMS[zoom] * whole}px`;
}

function position(event) {
  const box = $("shapes").getBoundingClientRect();
  return [0, 1].map((axis) => {
    const share = axis ? (event.clientY - box.top) / box.height : (event.clientX - box.left) / box.width;
    return Math.round(Math.max(0, Math.min(1, share)) * drawing.size[axis]);
  });
}

const distance = (one, other) => Math.hypot(one[0] - other[0], one[1] - other[1]) / drawing.size[0] * $("shapes").clientWidth;

function begin(event) {
  event.preventDefault();
  if (drawing.kind === "rectangle") {
    $("shapes").setPointerCapture(event.pointerId);
    dragged = [position(event), position(event)];
  }
}

function move(event) {
  if (!dragged) return;
  dragged[1] = position(event);
  show();
}

function end(event) {
  const at = position(event);
  if (drawing.kind === "polygon") addCorner(at);
  else if (dragged) {
    const [from] = dragged;
    dragged = null;
    if (distance(from, at) >= LEAST_PX) add({ rectangle: rectangleOf(from, at), polygon: [] });
  }
  show();
}

function rectangleOf(from, to) {
  const [left, top] = [0, 1].map((axis) => Math.min(from[axis], to[axis]));
  return [left, top, Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1])];
}

function addCorner(at) {
  const { corners } = drawing;
  if (corners.length >= 3 && distance(corners[0], at) < 2 * LEAST_PX) {
    add({ rectangle: null, polygon: corners });
    drawing.corners = [];
  } else corners.push(at);
}

function add(shape) {
  let number = drawing.regions.length + 1;
  while (drawing.regions.some((region) => region.name === `region${number}`)) number++;
  drawing.regions.push({ original: null, name: `region${number}`, ...shape });
  drawing.changed();
}

function show() {
  const shapes = !drawing.size ? [] : drawing.regions.flatMap((region) => [outline(cornersOf(region), "region-shape"), label(region)]);
  if (dragged) shapes.push(outline(cornersOf({ rectangle: rectangleOf(...dragged), polygon: [] }), "region-shape new"));
  if (drawing.corners.length) shapes.push(outline(drawing.corners, "region-shape new"));
  $("shapes").replaceChildren(...shapes);
  $("whole").hidden = drawing.regions.length > 0;
  $("regions").replaceChildren(...drawing.regions.map(row));
}

function cornersOf({ rectangle, polygon }) {
  if (!rectangle) return polygon;
  const [x, y, width, height] = rectangle;
  return [[x, y], [x + width, y], [x + width, y + height], [x, y + height]];
}

function outline(corners, classes) {
  const shape = document.createElementNS(SVG, "polygon");
  shape.setAttribute("points", corners.map((corner) => corner.join()).join(" "));
  shape.setAttribute("class", classes);
  return shape;
}

function label(region) {
  const text = document.createElementNS(SVG, "text"), [x, y] = cornersOf(region)[0];
  text.setAttribute("x", x + drawing.size[0] / 150);
  text.setAttribute("y", y + drawing.size[0] / 35);
  text.setAttribute("font-size", drawing.size[0] / 40);
  text.textContent = region.name;
  return text;
}

function row(region) {
  const item = element("li"), name = document.createElement("input"), remove = element("button", t("Remove"));
  name.value = region.name;
  name.maxLength = 80;
  name.setAttribute("aria-label", t("Name of the region"));
  name.addEventListener("change", () => { region.name = name.value.trim(); drawing.changed(); show(); });
  remove.type = "button";
  remove.addEventListener("click", () => {
    drawing.regions.splice(drawing.regions.indexOf(region), 1);
    drawing.changed();
    show();
  });
  item.append(name, element("span", region.rectangle ? region.rectangle.join(", ") : t("{} corners", region.polygon.length), "quiet"), remove);
  return item;
}

addEventListener("resize", () => changeZoom(0));
$("shapes").addEventListener("pointerdown", begin);
$("shapes").addEventListener("pointermove", move);
$("shapes").addEventListener("pointerup", end);
$("shapes").addEventListener("pointercancel", () => { dragged = null; show(); });
