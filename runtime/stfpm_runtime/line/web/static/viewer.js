// The window in which a verdict's picture opens, and in which a person labels its part.
import { $, joined, named, personIn, post, showPicture } from "/static/client.js";
import { rawScore } from "/static/chart.js";

const POINT = (1.5).toLocaleString()[1];
// A text with decimal points as the browser's language writes them.
export const local = (text) => text.replace(/(\d)\.(\d)/g, `$1${POINT}$2`);
let viewed = null;

export async function openViewer(verdict, kind, canChange) {
  viewed = { verdict, kind, canChange };
  const decision = `${verdict.decision.toUpperCase()} ${local(verdict.score_text)}`.trim();
  $("viewer-title").textContent = joined(decision, named(verdict), new Date(verdict.time).toLocaleString(), verdict.part, verdict.reason, local(rawScore(verdict)));
  $("viewer-map").hidden = !(verdict.picture && verdict.overlay);
  $("viewer-map").textContent = kind === "overlay" ? "Picture alone" : "With map";
  $("viewer-picture").hidden = true;
  $("labeller").hidden = !canChange;
  $("labeller-who").value = localStorage.getItem("who") ?? "";
  $("labeller-result").textContent = "";
  if (!$("viewer").open) $("viewer").showModal();
  if (verdict[kind]) await showPicture($("viewer-picture"), `/api/pictures/${verdict.seq}?kind=${kind}`).catch((error) => { $("viewer-title").textContent = error.message; });
}

async function labelPart(label) {
  const who = personIn($("labeller-who"), $("labeller-result"));
  if (!who) return;
  try {
    const answer = await post("/api/labels", { seq: viewed.verdict.seq, label, who });
    $("labeller-result").textContent = `Labelled ${answer.label}${answer.earlier ? "; this label counts, earlier ones stay in the journal" : ""}.`;
  } catch (error) {
    $("labeller-result").textContent = error.message;
  }
}

for (const button of $("labeller").querySelectorAll("button")) button.addEventListener("click", () => labelPart(button.value));
$("labeller").addEventListener("submit", (event) => event.preventDefault());
$("viewer-close").addEventListener("click", () => $("viewer").close());
$("viewer-map").addEventListener("click", () => openViewer(viewed.verdict, viewed.kind === "overlay" ? "picture" : "overlay", viewed.canChange));
