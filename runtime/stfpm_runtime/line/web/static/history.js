// Search of the journal: counts over time, where rejects lie, and the verdicts, for the filters in the page's address.
import { $, Refused, ask, askJson, badge, element, joined, logIn, named, onLogin, show, showPicture } from "/static/client.js";
import { counted, language, local, locale, momentOf, t } from "/static/language.js";
import { openViewer } from "/static/viewer.js";
import { drawYields, shape } from "/static/yields.js";

const CHOICES = { decision: ["pass", "reject", "fault"], label: ["good", "defect", "unclear"] };
const percent = (share) => share === null ? "–" : share.toLocaleString(locale, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const filters = $("filters");
let canChange = false;
let places = [];
let summary = null;
let next = null;
let asked = 0;

// Moments are UTC in the address and in the API, and local time in the form.
const toLocal = (moment) => new Date(moment - moment.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
const isTime = (name) => name === "since" || name === "until";

function query(more = {}) {
  const found = [...new FormData(filters)].filter(([, value]) => value);
  return new URLSearchParams({ ...Object.fromEntries(found.map(([name, value]) => [name, isTime(name) ? new Date(value).toISOString() : value])), ...more });
}

function readAddress() {
  for (const [name, value] of new URLSearchParams(location.search)) {
    const field = filters.elements[name];
    if (field) field.value = isTime(name) ? toLocal(new Date(value)) : value;
  }
}

function fillChoices(all) {
  const names = (list, name) => [...new Set(list.map((one) => one[name]))].sort();
  const choices = { ...CHOICES, shift: all.shift_names, camera: names(all.regions, "camera"), region: names(all.regions, "region"), model: names(all.models, "model") };
  for (const [name, values] of Object.entries(choices)) $(name).replaceChildren(new Option(t("all"), ""), ...values.map((value) => new Option(name in CHOICES ? t(value) : value, value)));
}

async function start() {
  try {
    const status = await askJson("/api/status");
    canChange = status.can_change;
    places = status.places.filter((place) => place.pictured);
    fillChoices(await askJson("/api/history/summary"));
    show();
    if (location.search) readAddress();
    else setPeriod("168");
    await refresh();
  } catch (error) {
    refuse(error);
  }
}

function refuse(error) {
  if (error instanceof Refused && error.status === 401) { logIn(error); return; }
  badge($("state"), t(error instanceof Refused ? "refused" : "no connection"), "failing");
  $("said").hidden = !(error instanceof Refused);
  $("said").textContent = error.message;
}

async function refresh() {
  const number = ++asked;
  history.replaceState(null, "", `?${query()}`);
  badge($("state"), t("reading"), "warning");
  setResults("hidden");
  try {
    const [counts, page] = await Promise.all([askJson(`/api/history/summary?${query()}`), askJson(`/api/history?${query()}`)]);
    if (number !== asked) return;
    summary = counts;
    $("said").hidden = true;
    badge($("state"), t("{} parts", counted(summary.all.total)), "ok");
    setResults("");
    showSummary();
    $("verdicts").replaceChildren();
    showPage(page);
  } catch (error) {
    if (number === asked) refuse(error);
  }
}

// Hides what was found for other filters, which stays hidden where there is no answer; the page keeps its height.
function setResults(visibility) {
  for (const name of ["counts", "verdicts"]) $(name).style.visibility = visibility;
  $("more").hidden = $("none").hidden = true;
}

function showSummary() {
  $("yield").textContent = percent(summary.all.yield);
  for (const key of ["total", "rejected", "faults"]) $(key).textContent = counted(summary.all[key]);
  $("csv-note").hidden = summary.all.total <= summary.csv_rows;
  $("csv-note").textContent = t("The file has the newest {} verdicts at most; the command stfpm-journal --csv writes all.", counted(summary.csv_rows));
  showYields();
  showRegions();
  showMaps();
}

const date = (day) => new Date(`${day}T00:00`).toLocaleDateString(locale, { weekday: "short", day: "numeric", month: "numeric" });
const NAMES = {
  hour: (one) => new Date(one.hour).toLocaleString(locale, { weekday: "short", day: "numeric", month: "numeric", hour: "2-digit", minute: "2-digit" }),
  shift: (one) => `${date(one.day)} ${one.shift}`,
  day: (one) => date(one.day),
};

function showYields() {
  const per = $("per").value;
  const name = NAMES[per];
  const counts = summary[`${per}s`];
  const low = drawYields($("yields"), counts, (one) => joined(name(one), percent(one.yield), t("{} parts", counted(one.total)), t("{} rejected", counted(one.rejected))));
  $("high").textContent = percent(1);
  $("low").textContent = percent(low);
  $("first").textContent = counts.length ? name(counts[0]) : "";
  $("newest").textContent = counts.length > 1 ? name(counts[counts.length - 1]) : "";
  const rows = counts.toReversed().map((one) => [name(one), percent(one.yield), counted(one.total), counted(one.rejected), counted(one.faults)]);
  $("figures").replaceChildren(...[["", t("yield"), t("parts"), t("rejected"), t("not judged")], ...rows].map((cells, index) => {
    const line = element("tr");
    line.append(...cells.map((text) => element(index ? "td" : "th", text)));
    return line;
  }));
}

function showRegions() {
  const most = Math.max(1, ...summary.regions.map((one) => one.rejected));
  $("regions").replaceChildren(...summary.regions.map((one) => {
    const button = element("button");
    const bar = element("span", "", "bar");
    bar.style.width = `${100 * one.rejected / most}%`;
    button.type = "button";
    button.title = t("show this region alone");
    button.append(element("b", named(one)), element("span", joined(t("{} of {}", counted(one.rejected), counted(one.total)), one.cumulative === null ? "" : t("together {}", percent(one.cumulative)))), bar);
    button.addEventListener("click", () => { $("camera").value = one.camera; $("region").value = one.region; refresh(); });
    const line = element("li");
    line.append(button);
    return line;
  }));
}

function showMaps() {
  for (const image of $("maps").querySelectorAll("img")) URL.revokeObjectURL(image.src);
  $("no-maps").hidden = summary.heat_maps.length > 0;
  $("maps").replaceChildren(...summary.heat_maps.map((map) => {
    const figure = element("figure");
    const picture = element("div", "", "heat");
    const image = element("img");
    const most = Math.max(0, ...map.cells.map(([, , number]) => number));
    const svg = shape("svg", { viewBox: `0 0 ${summary.grid} ${summary.grid}`, preserveAspectRatio: "none", role: "img" });
    const [column, row] = map.cells.find(([, , number]) => number === most) ?? [0, 0];
    const place = (index) => percent((index + 0.5) / summary.grid);
    svg.setAttribute("aria-label", most ? t("most rejects lie {} from the left and {} from the top", place(column), place(row)) : t("their places are not known"));
    for (const [x, y, number] of map.cells) {
      const cell = shape("rect", { x, y, width: 1, height: 1, "fill-opacity": 0.25 + 0.75 * number / most });
      cell.append(Object.assign(shape("title", {}), { textContent: counted(number) }));
      svg.append(cell);
    }
    image.alt = "";
    image.hidden = true;
    if (places.some((one) => one.camera === map.camera && one.region === map.region))
      showPicture(image, `/api/live/${encodeURIComponent(map.camera)}/${encodeURIComponent(map.region)}?map=false&width=480`).catch(() => {});
    picture.append(image, svg);
    figure.append(picture, element("figcaption", joined(named(map), t("{} rejected", counted(map.rejected)), map.unknown ? t("{} without a place", counted(map.unknown)) : "")));
    return figure;
  }));
}

const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) { seen.unobserve(target); target.load(); }
}, { rootMargin: "50%" });

function rowOf(verdict) {
  const button = element("button", "", "row");
  const kind = verdict.overlay ? "overlay" : "picture";
  const none = element("span", verdict[kind] ? "" : t("no picture kept"), "none");
  const head = element("p", "", "head");
  head.append(element("b", t(verdict.decision), `badge ${verdict.decision}`), element("b", local(verdict.score_text)), element("span", momentOf(verdict.time)));
  const text = element("p", joined(named(verdict), verdict.part, verdict.label && t("labelled {}", t(verdict.label)), verdict.reason, t("verdict {}", verdict.seq), t("model {}", verdict.model.slice(0, 12))), "quiet");
  button.type = "button";
  button.append(none, head, text);
  button.addEventListener("click", () => openViewer(verdict, kind, canChange));
  if (verdict[kind]) {
    none.load = () => {
      const image = element("img");
      image.alt = t("part of verdict {}", verdict.seq);
      showPicture(image, `/api/pictures/${verdict.seq}?kind=${kind}&width=160`).then(() => none.replaceWith(image)).catch(() => { none.textContent = t("no picture kept"); });
    };
    seen.observe(none);
  }
  return button;
}

function showPage(page) {
  next = page.next;
  $("verdicts").append(...page.verdicts.map(rowOf));
  $("more").hidden = next === null;
  $("none").hidden = $("verdicts").childElementCount > 0;
}

async function showMore() {
  const number = asked;
  $("more").disabled = true;
  try {
    const page = await askJson(`/api/history?${query({ before: next })}`);
    if (number === asked) showPage(page);
  } catch (error) {
    if (number === asked) refuse(error);
  } finally {
    $("more").disabled = false;
  }
}

async function download(button, path, name) {
  button.disabled = true;
  try {
    const answer = await ask(path);
    const link = Object.assign(element("a"), { href: URL.createObjectURL(await answer.blob()), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  } catch (error) {
    refuse(error);
  } finally {
    button.disabled = false;
  }
}

function setPeriod(value) {
  const since = value === "today" ? new Date(new Date().setHours(0, 0)) : new Date(Date.now() - value * 3600000);
  $("since").value = value ? toLocal(since) : "";
  $("until").value = "";
}

for (const button of filters.querySelectorAll("button")) button.addEventListener("click", () => { setPeriod(button.value); refresh(); });
filters.addEventListener("change", refresh);
$("decision").addEventListener("change", refresh);
filters.addEventListener("submit", (event) => { event.preventDefault(); refresh(); });
$("per").addEventListener("change", showYields);
$("more").addEventListener("click", showMore);
$("csv").addEventListener("click", () => download($("csv"), `/api/history.csv?${query()}`, "history.csv"));
$("report").addEventListener("click", () => download($("report"), `/api/report?${query({ order: $("order").value, language })}`, "report.html"));
addEventListener("resize", () => { if (summary) showYields(); });
onLogin(start);
start();
