// The texts of the pages in the language of their reader. English is in the pages; each further one is a file like de.json.
import codes from "/static/languages.js";

const wanted = localStorage.getItem("language") ?? navigator.language.split("-")[0];
export const language = codes.includes(wanted) ? wanted : "en";
const texts = language === "en" ? {} : await (await fetch(`/static/${language}.json`)).json();
// The reader's own form of dates and numbers, where it belongs to that language.
export const locale = navigator.language.split("-")[0] === language ? navigator.language : language;

// The text in the page's language; each {} is replaced by the next value.
export const t = (text, ...values) => (texts[text] ?? text).replace(/\{\}/g, () => values.shift());

const mark = new Intl.NumberFormat(locale).formatToParts(0.5).find((part) => part.type === "decimal").value;
// A number that came as text, with the reader's decimal mark.
export const local = (text) => text.replace(/(\d)\.(\d)/g, `$1${mark}$2`);
// The number in a text with a decimal point or comma; NaN for everything else.
export const parseNumber = (text) => text.trim() === "" ? NaN : Number(text.trim().replace(",", "."));
export const timeOf = (moment) => new Date(moment).toLocaleTimeString(locale);
export const momentOf = (moment) => new Date(moment).toLocaleString(locale);
export const counted = (value) => value.toLocaleString(locale);

const ATTRIBUTES = ["aria-label", "alt", "title", "placeholder"];

function translate(root) {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.data, key = text.trim();
    if (texts[key]) walker.currentNode.data = text.replace(key, texts[key]);
  }
  for (const name of ATTRIBUTES) {
    for (const element of root.querySelectorAll(`[${name}]`)) element.setAttribute(name, t(element.getAttribute(name)));
  }
  for (const template of root.querySelectorAll("template")) translate(template.content);
}

document.documentElement.lang = language;
translate(document);
document.title = t(document.title);
const select = document.getElementById("language");
for (const code of ["en", ...codes]) {
  select.append(new Option(new Intl.DisplayNames([code], { type: "language" }).of(code), code, false, code === language));
}
select.addEventListener("change", () => {
  localStorage.setItem("language", select.value);
  location.reload();
});
