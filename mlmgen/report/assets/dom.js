// Elements, numbers as text, and files to download. Text only ever enters the page as text nodes.

/** Return an element; `on` are listeners, `data` a dataset, every other key an attribute (null and false: left out). */
function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "on") for (const [name, listener] of Object.entries(value)) node.addEventListener(name, listener);
    else if (key === "data") Object.assign(node.dataset, value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  append(node, children);
  return node;
}

/** Append nodes and texts, however nested; nothing for null. */
function append(node, children) {
  for (const child of [children].flat(Infinity)) {
    if (child === null || child === undefined || child === false || child === "") continue;
    node.append(child instanceof Node ? child : String(child));
  }
  return node;
}

/** Replace what is in a node. */
function fill(node, ...children) {
  node.replaceChildren();
  return append(node, children);
}

/** Return the text with `code` between backquotes as code elements. */
function prose(text) {
  return String(text)
    .split("`")
    .map((part, i) => (i % 2 ? el("code", null, part) : part));
}

const missing = (value) => value === null || value === undefined || Number.isNaN(value);
const MINUS = "\u2212";
const SUPERSCRIPT = "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079";

/** Return a whole number with commas between thousands. */
function whole(value) {
  if (missing(value)) return "\u2013";
  return String(Math.round(value))
    .replace(/\B(?=(\d{3})+$)/g, ",")
    .replace("-", MINUS);
}

/** Return a number with as many decimals as asked for, 2 by default. */
function decimal(value, digits = 2) {
  if (missing(value)) return "\u2013";
  if (!Number.isFinite(value)) return value > 0 ? "\u221e" : MINUS + "\u221e";
  const text = value.toFixed(digits);
  return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", MINUS);
}

/** Return a positive number of any size with two or three significant digits. */
function compact(value) {
  if (missing(value)) return "\u2013";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e6)) return scientific(value);
  if (size >= 1000 || Number.isInteger(value)) return whole(value);
  return decimal(value, size === 0 || size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : 3);
}

function scientific(value) {
  const [mantissa, exponent] = value.toExponential(1).split("e");
  const power = exponent
    .replace("+", "")
    .replace("-", "\u207b")
    .replace(/\d/g, (digit) => SUPERSCRIPT[digit]);
  return `${mantissa.replace("-", MINUS)}\u202f\u00d7\u202f10${power}`;
}

/** Return a p-value as text. */
function pText(value) {
  if (missing(value)) return "\u2013";
  if (value < 1e-300) return "< 10" + "\u207b\u00b3\u2070\u2070";
  if (value < 0.001) return scientific(value);
  return value.toFixed(value < 0.01 ? 4 : 3);
}

/** Return a share between 0 and 1 in percent. */
const percent = (value, digits = 0) => (missing(value) ? "\u2013" : `${decimal(100 * value, digits)}\u202f%`);

/** Return a count with its noun, in the plural unless it is one. */
const counted = (n, noun, plural = noun + "s") => `${whole(n)} ${n === 1 ? noun : plural}`;

/** Return texts as "a, b and c". */
function listed(texts) {
  if (texts.length < 2) return texts.join("");
  return `${texts.slice(0, -1).join(", ")} and ${texts[texts.length - 1]}`;
}

/** Return text cut to a length, for axes; the whole of it belongs into a tooltip. */
const cut = (text, most = 28) => (text.length > most ? `${text.slice(0, most - 1)}\u2026` : text);

/** Return a name that is safe for a file. */
const fileName = (...parts) =>
  parts
    .filter(Boolean)
    .join("_")
    .replace(/[^\w.+-]+/g, "-")
    .slice(0, 120);

/** Hand the reader a file. */
function download(name, content, type = "text/tab-separated-values;charset=utf-8") {
  const url = content.startsWith("data:") ? content : URL.createObjectURL(new Blob([content], { type }));
  const link = el("a", { href: url, download: name, hidden: true });
  document.body.append(link);
  link.click();
  link.remove();
  if (!content.startsWith("data:")) setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/** Return rows of values as tab-separated text; tabs and line ends inside a value become spaces. */
function tsv(header, rows) {
  const cell = (value) => (missing(value) ? "" : String(value).replace(/[\t\r\n]+/g, " "));
  return [header, ...rows].map((row) => row.map(cell).join("\t")).join("\n") + "\n";
}

/** Say something to screen readers. */
function announce(text) {
  const region = document.getElementById("announcements");
  if (region) region.textContent = text;
}

/** Copy a text; the button says how it went. */
async function copyText(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = el("textarea", { class: "away" }, text);
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = "Copied";
  announce("Copied");
  setTimeout(() => (button.textContent = before), 1500);
}
