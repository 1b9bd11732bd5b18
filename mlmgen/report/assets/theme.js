// Colours: Okabe and Ito's palette, which people with any colour vision can tell apart, in light and dark.

const theme = { name: "light", printing: false };

const PALETTES = {
  light: {
    ink: "#1d2329",
    soft: "#59636e",
    faint: "#8a939d",
    line: "#d5dae0",
    grid: "#e8ebef",
    paper: "#ffffff",
    panel: "#f6f7f9",
    up: "#c04a00",
    down: "#0067a5",
    neutral: "#a3abb4",
    focus: "#7b3294",
    accent: "#0067a5",
    first: "#0067a5",
    second: "#c04a00",
    heat: ["#f1f5f9", "#a6cbe3", "#4a97c5", "#0067a5", "#003c66"],
    series: ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a6a00", "#4d4d4d"],
  },
  dark: {
    ink: "#e6e9ed",
    soft: "#a7b0ba",
    faint: "#7d8792",
    line: "#3b434c",
    grid: "#2a3138",
    paper: "#14181d",
    panel: "#1c2127",
    up: "#f08a4b",
    down: "#5cb3ec",
    neutral: "#66707b",
    focus: "#d9a6ee",
    accent: "#6bbcf0",
    first: "#5cb3ec",
    second: "#f08a4b",
    heat: ["#1c2530", "#1f4a6b", "#2f78a8", "#5cb3ec", "#c4e4fa"],
    series: ["#5cb3ec", "#f08a4b", "#3ccf9f", "#e6a3c8", "#f2bd4a", "#8fd0f5", "#e6dc6a", "#b9bfc6"],
  },
};

/** Return the colours of the moment. */
const colours = () => PALETTES[theme.printing ? "light" : theme.name];

/** Return a colour of the series, repeated from the eighth on; the symbols then differ. */
const seriesColour = (i) => colours().series[i % colours().series.length];
const SYMBOLS = ["circle", "triangle", "rect", "diamond", "pin", "roundRect", "arrow"];
const seriesSymbol = (i) => SYMBOLS[i % SYMBOLS.length];

const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif';

/** Return what all axes share. */
function axis(name, more = {}) {
  const c = colours();
  return {
    name,
    nameLocation: "middle",
    nameGap: 30,
    nameTextStyle: { color: c.soft, fontSize: 12 },
    axisLine: { show: true, onZero: false, lineStyle: { color: c.line } },
    axisTick: { lineStyle: { color: c.line } },
    axisLabel: {
      color: c.soft,
      fontSize: 11,
      formatter: (value) => (typeof value === "number" ? tickText(value) : value),
    },
    splitLine: { lineStyle: { color: c.grid } },
    scale: true,
    ...more,
  };
}

/** Return the axis of a logarithm (base 10) between two ends, labelled with the numbers themselves at 1, 2 and 5. */
function logAxis(name, low, high, more = {}) {
  const span = high - low;
  const steps = span > 2.6 ? [1] : span > 1.3 ? [1, 3] : [1, 2, 5];
  const customValues = [];
  for (let power = Math.floor(low); power <= Math.ceil(high); power += span > 9 ? 2 : 1) {
    for (const step of steps) {
      const at = power + Math.log10(step);
      if (at >= low && at <= high) customValues.push(at);
    }
  }
  const c = colours();
  const label = {
    color: c.soft,
    fontSize: 11,
    customValues,
    formatter: (value) => tickText(Number((10 ** value).toPrecision(1))),
  };
  const line = { customValues, lineStyle: { color: c.grid } };
  return axis(name, {
    type: "value",
    min: low,
    max: high,
    axisLabel: label,
    splitLine: line,
    axisTick: { customValues, lineStyle: { color: c.line } },
    ...more,
  });
}

/** Return the least and the largest of the numbers, a little apart. */
function ends(values, pad = 0.04) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values)
    if (Number.isFinite(value)) ((low = Math.min(low, value)), (high = Math.max(high, value)));
  if (low > high) return [0, 1];
  const more = Math.max(0.02, (high - low) * pad);
  return [low - more, high + more];
}

/** Return the text of a tick, with a true minus. */
function tickText(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e6)) return scientific(value);
  return String(Number(value.toPrecision(6))).replace("-", MINUS);
}

/** Return what all charts share. */
function frame(more = {}) {
  const c = colours();
  return {
    animation: false,
    backgroundColor: "transparent",
    textStyle: { fontFamily: FONT, color: c.ink },
    grid: { left: 56, right: 20, top: 20, bottom: 48 },
    ...more,
    tooltip: {
      trigger: "item",
      confine: true,
      backgroundColor: c.paper,
      borderColor: c.line,
      padding: [8, 10],
      textStyle: { color: c.ink, fontSize: 12.5, fontFamily: FONT },
      extraCssText: "max-width:340px;white-space:normal;",
      ...more.tooltip,
    },
  };
}

/** Return a tooltip's content: a heading and rows of label and value. */
function tip(heading, rows, note) {
  return el(
    "div",
    { class: "tip" },
    el("strong", null, heading),
    rows.map(([label, value]) => el("div", { class: "tip-row" }, el("span", null, label), el("b", null, value))),
    note ? el("div", { class: "tip-note" }, note) : null,
  );
}

const listeners = [];
/** Call the function whenever the colours change. */
const onThemeChange = (listener) => listeners.push(listener);

function setTheme(name) {
  theme.name = name;
  document.documentElement.dataset.theme = name;
  for (const listener of listeners) listener();
}

/** Follow the system until the reader chooses. */
function startTheme(button) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  const apply = () => {
    setTheme(chosen || (system.matches ? "dark" : "light"));
    button.setAttribute("aria-pressed", String(theme.name === "dark"));
    button.textContent = theme.name === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-label", `Use ${theme.name === "dark" ? "light" : "dark"} colours`);
  };
  system.addEventListener("change", apply);
  button.addEventListener("click", () => {
    chosen = theme.name === "dark" ? "light" : "dark";
    apply();
  });
  apply();
}
