// Sets up a running line: regions, pictures of good parts, and a training from them.
import { $, ask, askJson, badge, clearPicture, element, keepFresh, personIn, post, reasonIn, remove, show, showPicture } from "/static/client.js";
import { changeZoom, choose, drawing, setFrame, setRegions } from "/static/regions.js";
import { t } from "/static/language.js";

const EVERY_MS = 1000;
let state = null;
let asked = 0, listed = 0; // the answer to an earlier question is older than what is shown
let shownPlace = null, shownPictures = "", isDrawn = false;

const cameraOf = () => state.cameras.find((camera) => camera.name === $("camera").value) ?? state.cameras[0];
const place = () => `${encodeURIComponent($("camera").value)}/${encodeURIComponent($("region").value)}`;

async function refreshAll() {
  const number = ++asked;
  const found = await askJson("/api/setup");
  if (number !== asked) return;
  showSetup(found);
  show();
  if (drawing.camera !== $("camera").value) showCamera();
  else if (!isDrawn && drawing.version !== cameraOf().version) showRegions();
  if (!drawing.size && cameraOf().size) await freeze();
  await refreshPictures();
}

function showSetup(found) {
  state = found;
  options($("camera"), state.cameras.map((camera) => camera.name));
  options($("region"), cameraOf().judged);
  badge($("state"), t(state.needs_restart ? "start the line again" : "running"), state.needs_restart ? "warning" : "ok");
  $("save").disabled = $("restart").disabled = !state.can_save;
  if (!state.has_model) {
    $("file").value = state.model;
    $("file").readOnly = true;
  }
  showTraining(state.training);
}

function options(select, names) {
  if ([...select.options].map((option) => option.value).join("\n") === names.join("\n")) return;
  const value = select.value;
  select.replaceChildren(...names.map((name) => new Option(name === "frame" ? t("whole frame") : name, name)));
  if (names.includes(value)) select.value = value;
}

// Shows the regions of the chosen camera, and nothing of the one before; its frame comes later.
function showCamera() {
  drawing.camera = $("camera").value;
  clearPicture($("frame"));
  setFrame(null);
  showRegions();
}

function showRegions() {
  setRegions(cameraOf());
  isDrawn = false;
}

async function freeze() {
  const answer = await showPicture($("frame"), `/api/frames/${encodeURIComponent(drawing.camera)}?width=2048`);
  if (answer) setFrame(answer.headers.get("X-Frame-Size").split("x").map(Number));
}

function showPlace() {
  if (place() === shownPlace) return;
  shownPlace = place();
  listed++;
  showPictures([]);
  $("collected").textContent = "";
}

async function refreshPictures() {
  showPlace();
  const number = ++listed, found = await askJson(`/api/collected/${shownPlace}`);
  if (number !== listed) return;
  const words = [t("{} pictures in {}", found.count, found.folder)];
  if (found.doubtful) words.push(t("{} of them blurred or like an earlier one", found.doubtful));
  if (state.collecting) words.push(t("more are being collected"));
  if (state.left_out) words.push(t("{} were left out, as the disk was too slow", state.left_out));
  $("collected").textContent = state.failure || words.join("; ");
  showPictures(found.pictures);
}

function showPictures(pictures) {
  const shown = JSON.stringify([shownPlace, pictures]);
  if (shown === shownPictures) return;
  shownPictures = shown;
  for (const image of $("pictures").querySelectorAll("img")) clearPicture(image);
  $("pictures").replaceChildren(...pictures.map(thumbnail));
}

function thumbnail(picture) {
  const figure = element("figure", "", picture.warning ? "doubtful" : ""), image = document.createElement("img");
  const button = element("button", t("Remove")), at = `/api/collected/${shownPlace}/${encodeURIComponent(picture.name)}`;
  image.alt = picture.name;
  showPicture(image, `${at}?width=320`).catch(() => {});
  button.type = "button";
  button.addEventListener("click", () => act((who) => remove(at, { who })));
  figure.append(image, element("figcaption", t(picture.warning)), button);
  return figure;
}

function showTraining(training) {
  const runs = ["training", "exporting"].includes(training.state);
  $("train").disabled = runs || Boolean(training.missing);
  $("cancel").disabled = !runs;
  $("progress").value = training.epochs ? training.epoch / training.epochs : 0;
  const words = { idle: "No training has run yet.", training: "The model is trained.", exporting: "The model is exported and compared with PyTorch.",
    done: state.has_model ? "The model is ready; see the page Models." : "The model is ready: start the line again.", cancelled: "The training was cancelled; begun again, it goes on after its last epoch.",
    failed: "The training failed; its last lines say why." };
  $("training").textContent = training.missing && !runs ?
    t("{} is not installed here: download the pictures, train on another machine, and upload the model on the page Models.", training.missing) :
    `${t(words[training.state])} ${training.epochs ? t("Epoch {} of {}.", training.epoch, training.epochs) : ""}`;
  $("lines").hidden = training.lines.length === 0;
  $("lines").textContent = training.lines.join("\n");
}

// Does something that changes the line, and says what stands in the way. Meanwhile nothing else can be changed.
async function act(action) {
  const who = personIn($("who"), $("said")), focused = document.activeElement;
  if (!who) return;
  $("said").textContent = "";
  $("main").inert = true;
  await action(who).catch((error) => { $("said").textContent = error.message; });
  await refreshAll().catch(() => {});
  $("main").inert = false;
  focused.focus();
}

// The whole number in a field; null where it is empty, NaN for everything else.
const numberIn = (field) => field.value.trim() === "" ? null : /^\d+$/.test(field.value.trim()) ? Number(field.value) : NaN;

async function save(who) {
  const { camera, version, regions } = drawing;
  showSetup(await post("/api/regions", { camera, version, regions, who, reason: $("reason").value.trim() }));
  $("reason").value = "";
  showRegions();
}

async function restart(who) {
  if (isDrawn) throw new Error(t("The drawn regions are not saved yet."));
  await post("/api/restart", { who });
  badge($("state"), t("starts again"), "warning");
  drawing.camera = null;
}

async function download() {
  const link = document.createElement("a");
  link.download = `${$("camera").value}-${$("region").value}.zip`;
  link.href = URL.createObjectURL(await (await ask(`/api/collected.zip/${place()}`)).blob());
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

$("who").value = localStorage.getItem("who") ?? "";
drawing.changed = () => { isDrawn = true; };
$("camera").addEventListener("change", () => {
  options($("region"), cameraOf().judged);
  showCamera();
  showPlace();
  refreshAll().catch(() => {});
});
$("region").addEventListener("change", () => refreshPictures().catch(() => {}));
$("freeze").addEventListener("click", () => freeze().catch((error) => { $("said").textContent = error.message; }));
$("rectangle").addEventListener("click", () => choose("rectangle"));
$("polygon").addEventListener("click", () => choose("polygon"));
$("smaller").addEventListener("click", () => changeZoom(-1));
$("larger").addEventListener("click", () => changeZoom(1));
$("save").addEventListener("click", () => { if (personIn($("who"), $("said")) && reasonIn($("reason"), $("said"))) act(save); });
$("undo").addEventListener("click", showRegions);
$("restart").addEventListener("click", () => act(restart));
$("collect").addEventListener("click", () => act((who) => post("/api/collected", { camera: $("camera").value, region: $("region").value,
  count: numberIn($("count")), every_ms: numberIn($("every")) ?? 0, who })));
$("end").addEventListener("click", () => act((who) => post("/api/collected", { camera: $("camera").value, region: $("region").value, count: 0, who })));
$("download").addEventListener("click", () => download().catch((error) => { $("said").textContent = error.message; }));
$("train").addEventListener("click", () => act((who) => post("/api/training", { camera: $("camera").value, region: $("region").value,
  file: $("file").value.trim(), teacher: $("teacher").value.trim(), epochs: numberIn($("epochs")), accept_data: $("accept").checked, who })));
$("cancel").addEventListener("click", () => act((who) => remove("/api/training", { who })));
choose("rectangle");
keepFresh(refreshAll, EVERY_MS);
