// The window in which a verdict's picture opens, and in which a person labels its part.
import { $, clearPicture, joined, named, personIn, post, showPicture } from "/static/client.js";
import { rawScore } from "/static/chart.js";
import { local, momentOf, t } from "/static/language.js";

let viewed = null;

export async function openViewer(verdict, kind, canChange) {
  viewed = { verdict, kind, canChange };
  const decision = `${t(verdict.decision).toUpperCase()} ${local(verdict.score_text)}`.trim();
  $("viewer-title").textContent = joined(decision, named(verdict), momentOf(verdict.time), verdict.part, verdict.reason, rawScore(verdict));
  $("viewer-map").hidden = !(verdict.picture && verdict.overlay);
  $("viewer-map").textContent = t(kind === "overlay" ? "Picture alone" : "With map");
  clearPicture($("viewer-picture"));
  $("labeller").hidden = !canChange;
  $("labeller-who").value = localStorage.getItem("who") ?? "";
  $("labeller-result").textContent = "";
  if (!$("viewer").open) $("viewer").showModal();
  if (verdict[kind]) await showPicture($("viewer-picture"), `/api/pictures/${verdict.seq}?kind=${kind}`).catch((error) => { $("viewer-title").textContent = error.message; });
}

async function labelPart(label) {
  const who = personIn($("labeller-who"), $("labeller-result")), { verdict } = viewed;
  if (!who) return;
  const result = await post("/api/labels", { seq: verdict.seq, label, who }).then(
    (answer) => t(answer.earlier ? "Labelled {}; this label counts, earlier ones stay in the journal." : "Labelled {}.", t(answer.label)),
    (error) => error.message,
  );
  if (viewed.verdict.seq === verdict.seq) $("labeller-result").textContent = result;
}

for (const button of $("labeller").querySelectorAll("button")) button.addEventListener("click", () => labelPart(button.value));
$("labeller").addEventListener("submit", (event) => event.preventDefault());
$("viewer-close").addEventListener("click", () => $("viewer").close());
$("viewer-map").addEventListener("click", () => openViewer(viewed.verdict, viewed.kind === "overlay" ? "picture" : "overlay", viewed.canChange));
